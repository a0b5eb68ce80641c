//! Values and sets of changes, encoded as late as possible.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;

/// One value of a topic. Holds the data itself; JSON is made of it only when a subscriber needs it.
#[derive(Clone)]
pub struct Value(Arc<dyn Encode>);

trait Encode: Send + Sync {
    fn encode(&self, out: &mut Vec<u8>);
}

impl<T: Serialize + Send + Sync> Encode for T {
    fn encode(&self, out: &mut Vec<u8>) {
        serde_json::to_writer(out, self).expect("values of topics are plain data with text keys, which always encode");
    }
}

impl Value {
    pub fn new<T: Serialize + Send + Sync + 'static>(data: T) -> Self {
        Self(Arc::new(data))
    }

    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        self.0.encode(out);
    }
}

/// Keys that changed, by collection: a value replaces, `None` removes. Also the whole state, when given to `replace`.
#[derive(Clone, Default)]
pub struct Changes {
    pub(super) collections: BTreeMap<&'static str, BTreeMap<Arc<str>, Option<Value>>>,
}

impl Changes {
    pub fn new() -> Self {
        Self::default()
    }

    /// Makes the collection exist even when it has no key.
    pub fn declare(&mut self, collection: &'static str) -> &mut Self {
        self.collections.entry(collection).or_default();
        self
    }

    pub fn set<T: Serialize + Send + Sync + 'static>(&mut self, collection: &'static str, key: impl Into<Arc<str>>, data: T) -> &mut Self {
        self.put(collection, key.into(), Some(Value::new(data)))
    }

    pub fn remove(&mut self, collection: &'static str, key: impl Into<Arc<str>>) -> &mut Self {
        self.put(collection, key.into(), None)
    }

    pub(super) fn put(&mut self, collection: &'static str, key: Arc<str>, value: Option<Value>) -> &mut Self {
        self.collections.entry(collection).or_default().insert(key, value);
        self
    }

    /// Adds newer changes, which go over older ones of the same key.
    pub fn extend(&mut self, newer: Self) {
        for (name, keys) in newer.collections {
            self.collections.entry(name).or_default().extend(keys);
        }
    }

    pub fn is_empty(&self) -> bool {
        self.collections.is_empty()
    }

    /// How many keys change.
    pub fn len(&self) -> usize {
        self.collections.values().map(BTreeMap::len).sum()
    }

    pub(crate) fn encode(&self) -> Bytes {
        let keys = |keys: &BTreeMap<Arc<str>, Option<Value>>, out: &mut Vec<u8>| {
            let entries = keys.iter().map(|(key, value)| (key, value.as_ref()));
            object(entries, out, |value, out| match value {
                Some(value) => value.encode(out),
                None => out.extend_from_slice(b"null"),
            });
        };
        let mut out = Vec::with_capacity(64 + self.len() * 128);
        object(self.collections.iter().map(|(name, values)| (name, values)), &mut out, keys);
        Bytes::from(out)
    }
}

/// Writes `{"key": value, ...}`.
fn object<K: AsRef<str>, V>(entries: impl Iterator<Item = (K, V)>, out: &mut Vec<u8>, mut value: impl FnMut(V, &mut Vec<u8>)) {
    out.push(b'{');
    for (index, (key, data)) in entries.enumerate() {
        if index > 0 {
            out.push(b',');
        }
        key.as_ref().encode(out);
        out.push(b':');
        value(data, out);
    }
    out.push(b'}');
}
