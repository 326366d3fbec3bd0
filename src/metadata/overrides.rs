//! `--override-kv KEY=TYPE:VALUE`, as llama.cpp's tools take it.

use std::str::FromStr;

use crate::error::{Error, Result, shortened};
use crate::gguf::{Metadata, Value};

/// Keys that the file's own bytes rest on, or say what made it.
const FIXED: [&str; 4] = ["general.alignment", "general.architecture", "split.", "glm2llama."];

/// A key and its value, in the place of what the file would say or beside it.
#[derive(Clone, Debug, PartialEq)]
pub struct Override {
    /// As it was given, for messages.
    text: String,
    pub(crate) key: String,
    value: Scalar,
}

/// Whole numbers take the type of the value that is replaced, which the file alone knows.
#[derive(Clone, Debug, PartialEq)]
enum Scalar {
    Int(i128),
    Float(f32),
    Bool(bool),
    Str(String),
}

fn refused(text: &str, found: &str, expected: &str) -> Error {
    Error::Usage(format!("--override-kv {}: found {found}, expected {expected}", shortened(text, 100)))
}

impl FromStr for Override {
    type Err = Error;

    /// Refuses what cannot be read, and keys that must not change.
    fn from_str(text: &str) -> Result<Override> {
        let wrong = |found: &str, expected: &str| refused(text, found, expected);
        let known = "KEY=TYPE:VALUE with the type int, float, bool or str";
        let (key, typed) = text.split_once('=').ok_or_else(|| wrong("no `=`", known))?;
        let (kind, value) = typed.split_once(':').ok_or_else(|| wrong("no `:`", known))?;
        let bad_key = |expected: &str| Err(wrong(&format!("the key `{}`", shortened(key, 100)), expected));
        if FIXED.iter().any(|fixed| key == *fixed || (fixed.ends_with('.') && key.starts_with(fixed))) {
            return bad_key("one that may be changed");
        }
        let in_snake_case = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '.');
        if key.is_empty() || !key.chars().all(in_snake_case) {
            return bad_key("small letters, digits, _ and .");
        }
        let bad = |expected: &str| wrong(&format!("`{}`", shortened(value, 100)), expected);
        let value = match kind {
            "int" => Scalar::Int(value.parse().map_err(|_| bad(WHOLE))?),
            "float" => {
                let number = value.parse().ok().filter(|number: &f32| number.is_finite());
                Scalar::Float(number.ok_or_else(|| bad("a finite number that fits F32"))?)
            }
            "bool" => Scalar::Bool(value.parse().map_err(|_| bad("true or false"))?),
            "str" => Scalar::Str(value.to_owned()),
            _ => return Err(wrong(&format!("the type `{}`", shortened(kind, 100)), known)),
        };
        Ok(Override { text: text.to_owned(), key: key.to_owned(), value })
    }
}

impl Override {
    /// Refuses a type or a number that does not fit the value which the key has.
    pub(super) fn apply(&self, keys: &mut Metadata) -> Result<()> {
        let old = keys.iter().find(|(key, _)| *key == self.key).map(|(_, old)| old);
        let kind = match self.value {
            Scalar::Int(_) => "int",
            Scalar::Float(_) => "float",
            Scalar::Bool(_) => "bool",
            Scalar::Str(_) => "str",
        };
        if let Some(old) = old.filter(|old| type_name(old) != kind) {
            return Err(refused(&self.text, kind, type_name(old)));
        }
        let value = match &self.value {
            Scalar::Int(number) => integer(*number, old).map_err(|expected| {
                let given = self.text.split_once(':').map_or("", |(_, value)| value);
                refused(&self.text, &format!("`{}`", shortened(given, 100)), &expected)
            })?,
            Scalar::Float(number) => Value::F32(*number),
            Scalar::Bool(flag) => Value::Bool(*flag),
            Scalar::Str(text) => Value::String(text.clone()),
        };
        super::set(keys, vec![(self.key.clone(), value)]);
        Ok(())
    }
}

const WHOLE: &str = "a whole number of at most 64 bits";

/// Takes the type of the value that is replaced, or else 32 bits without sign as llama.cpp writes, or the first that
/// fits; or says what was expected.
fn integer(number: i128, old: Option<&Value>) -> Result<Value, String> {
    let fitted = |kind: &Value| match kind {
        Value::U64(_) => number.try_into().map(Value::U64).ok(),
        Value::I32(_) => number.try_into().map(Value::I32).ok(),
        Value::I64(_) => number.try_into().map(Value::I64).ok(),
        _ => number.try_into().map(Value::U32).ok(),
    };
    let range = match old {
        None => {
            let kinds = [Value::U32(0), Value::U64(0), Value::I32(0), Value::I64(0)];
            return kinds.iter().find_map(fitted).ok_or_else(|| WHOLE.to_owned());
        }
        Some(Value::U64(_)) => format!("0 to {} (u64)", u64::MAX),
        Some(Value::I32(_)) => format!("{} to {} (i32)", i32::MIN, i32::MAX),
        Some(Value::I64(_)) => format!("{} to {} (i64)", i64::MIN, i64::MAX),
        Some(_) => format!("0 to {} (u32)", u32::MAX), // no key has fewer bits
    };
    old.and_then(fitted).ok_or_else(|| format!("a whole number from {range}"))
}

/// The types of `--override-kv`.
fn type_name(value: &Value) -> &'static str {
    match value {
        Value::U8(_) | Value::I8(_) | Value::U16(_) | Value::I16(_) => "int",
        Value::U32(_) | Value::I32(_) | Value::U64(_) | Value::I64(_) => "int",
        Value::F32(_) | Value::F64(_) => "float",
        Value::Bool(_) => "bool",
        Value::String(_) => "str",
        Value::Strings(_) | Value::F32s(_) | Value::I32s(_) | Value::Array(_) => {
            "a list, which cannot be given here"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn override_kv(keys: &mut Metadata, text: &str) -> Result<()> {
        text.parse::<Override>()?.apply(keys)
    }

    #[test]
    fn overrides_replace_values_of_their_type() {
        let mut keys = vec![("a.b".to_owned(), Value::U32(1)), ("l".to_owned(), Value::Strings(vec![]))];
        for text in ["a.b=int:7", "c=float:1e6", "d=bool:true", "e=str:x:y=z", "f=int:-3"] {
            override_kv(&mut keys, text).unwrap();
        }
        let get =
            |key: &str| keys.iter().find(|(other, _)| other == key).map(|(_, value)| value.clone()).unwrap();
        assert_eq!(get("a.b"), Value::U32(7));
        assert_eq!(get("c"), Value::F32(1e6));
        assert_eq!(get("e"), Value::String("x:y=z".to_owned()));
        assert_eq!(get("f"), Value::I32(-3));
        // A value keeps its type, whatever the new one would need.
        override_kv(&mut keys, "f=int:7").unwrap();
        assert_eq!(keys.iter().find(|(key, _)| key == "f").unwrap().1, Value::I32(7));
        let long = format!("a.b=int:{}", "9".repeat(1000));
        let shown = format!("--override-kv a.b=int:{}...: found `{}...`,", "9".repeat(92), "9".repeat(100));
        assert!(override_kv(&mut keys, &long).unwrap_err().to_string().starts_with(&shown));
        let cases = [
            ("a.b", "found no `=`"),
            ("a.b=7", "found no `:`"),
            (
                "a.b=u32:7",
                "found the type `u32`, expected KEY=TYPE:VALUE with the type int, float, bool or str",
            ),
            ("a.b=int:x", "found `x`, expected a whole number"),
            ("d=bool:1", "found `1`, expected true or false"),
            ("a.b=str:x", "found str, expected int"),
            ("l=str:x", "expected a list, which cannot be given here"),
            ("a.b=int:5000000000", "found `5000000000`, expected a whole number from 0 to 4294967295 (u32)"),
            ("a.b=int:-1", "found `-1`, expected a whole number from 0 to 4294967295 (u32)"),
            ("f=int:2147483648", "expected a whole number from -2147483648 to 2147483647 (i32)"),
            ("n=int:18446744073709551616", "expected a whole number of at most 64 bits"),
            ("c=float:inf", "found `inf`, expected a finite number that fits F32"),
            ("n=float:NaN", "found `NaN`, expected a finite number that fits F32"),
            ("n=float:1e300", "found `1e300`, expected a finite number that fits F32"),
            ("a-b=int:1", "found the key `a-b`, expected small letters, digits, _ and ."),
            ("=int:1", "found the key ``, expected small letters, digits, _ and ."),
            (
                "general.alignment=int:64",
                "found the key `general.alignment`, expected one that may be changed",
            ),
            ("split.count=int:2", "found the key `split.count`, expected one that may be changed"),
            (
                "glm2llama.version=str:x",
                "found the key `glm2llama.version`, expected one that may be changed",
            ),
        ];
        for (text, expected) in cases {
            let error = override_kv(&mut keys, text).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}, expected {expected}");
        }
    }
}
