//! A metadata value for people and for JSON.

use serde_json::Value as Json;

use glm2llama::gguf::Value;

/// A value's kind, length and JSON, with at most so many values of an array.
pub(in crate::cli) fn describe(value: &Value, most: usize) -> (&'static str, Option<usize>, Json) {
    fn array<'a, T: 'a>(
        kind: &'static str,
        values: &'a [T],
        most: usize,
        to_json: impl Fn(&'a T) -> Json,
    ) -> (&'static str, Option<usize>, Json) {
        (kind, Some(values.len()), Json::Array(values.iter().take(most).map(to_json).collect()))
    }
    match value {
        Value::U8(x) => ("u8", None, (*x).into()),
        Value::I8(x) => ("i8", None, (*x).into()),
        Value::U16(x) => ("u16", None, (*x).into()),
        Value::I16(x) => ("i16", None, (*x).into()),
        Value::U32(x) => ("u32", None, (*x).into()),
        Value::I32(x) => ("i32", None, (*x).into()),
        Value::U64(x) => ("u64", None, (*x).into()),
        Value::I64(x) => ("i64", None, (*x).into()),
        Value::F32(x) => ("f32", None, float(*x)),
        Value::F64(x) => ("f64", None, (*x).into()),
        Value::Bool(x) => ("bool", None, (*x).into()),
        Value::String(x) => ("string", None, x.as_str().into()),
        Value::Strings(x) => array("string", x, most, |text| text.as_str().into()),
        Value::F32s(x) => array("f32", x, most, |number| float(*number)),
        Value::I32s(x) => array("i32", x, most, |number| (*number).into()),
        Value::Array(x) => {
            let kind = x.first().map_or("value", |first| describe(first, most).0);
            array(kind, x, most, |value| describe(value, most).2)
        }
    }
}

/// The shortest decimal that is this f32, which its f64 would not print as.
fn float(x: f32) -> Json {
    let shortest = x.to_string().parse::<f64>().unwrap_or(f64::from(x));
    serde_json::Number::from_f64(shortest).map_or_else(|| x.to_string().into(), Json::Number)
}
