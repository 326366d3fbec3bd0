//! Lists and maps of JSON that end early: one too many is an error, before it takes any memory.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};

/// At most `N` values.
pub(super) struct List<T, const N: usize>(pub Vec<T>);

/// At most `N` entries, with keys that all differ.
pub(super) struct Map<T, const N: usize>(pub BTreeMap<String, T>);

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
        write!(f, "an object of at most {N} different keys")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Self::Value, A::Error> {
        let mut entries = BTreeMap::new();
        while let Some((key, value)) = access.next_entry()? {
            if entries.len() == N {
                return Err(A::Error::invalid_length(N + 1, &self));
            }
            if entries.insert(key, value).is_some() {
                return Err(A::Error::custom("a key stands in it twice"));
            }
        }
        Ok(entries)
    }
}
