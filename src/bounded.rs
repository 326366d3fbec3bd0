//! Lists and maps of JSON that end early: one too many is an error, before it takes any memory. So is a key that
//! stands there twice, of which serde's own maps let the last win in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// At most `N` values.
pub(crate) struct List<T, const N: usize>(pub Vec<T>);

/// At most `N` entries, with keys that all differ.
pub(crate) struct Map<T, const N: usize = { usize::MAX }>(pub BTreeMap<String, T>);

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        List(Vec::new())
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Most::<T, N>(PhantomData)).map(List)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for Map<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(MostEntries::<T, N>(PhantomData)).map(Map)
    }
}

struct Most<T, const N: usize>(PhantomData<T>);
struct MostEntries<T, const N: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Most<T, N> {
    type Value = Vec<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a list of at most {N} values")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut values = Vec::new();
        while let Some(value) = access.next_element()? {
            if values.len() == N {
                return Err(A::Error::invalid_length(N + 1, &self));
            }
            values.push(value);
        }
        Ok(values)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for MostEntries<T, N> {
    type Value = BTreeMap<String, T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match N {
            usize::MAX => f.write_str("an object"),
            _ => write!(f, "an object of at most {N} different keys"),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some(key) = access.next_key::<String>()? {
            if entries.contains_key(&key) {
                return Err(A::Error::custom(format!("`{key}` stands in it twice")));
            }
            let value = access.next_value()?;
            if entries.len() == N {
                return Err(A::Error::invalid_length(entries.len() + 1, &self));
            }
            entries.insert(key, value);
        }
        Ok(entries)
    }
}
