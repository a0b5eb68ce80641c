//! A result as entries of a topic, and what changes from one result to the next.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use serde_json::json;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

use crate::hub::Changes;
use crate::query::json::JsonRows;
use crate::query::stream::RowKey;

/// A key longer than this is replaced by its hash.
const KEY_BYTES_MAX: usize = 160;

/// Collection of the rows, by key.
pub const ROWS: &str = "rows";
/// Collection of what belongs to the whole result: `columns`, `order` when the text asks for one, `warnings`.
pub const RESULT: &str = "result";

/// A whole result, in the shape of a topic.
#[derive(Default)]
pub struct Rows {
    about: BTreeMap<&'static str, serde_json::Value>,
    rows: BTreeMap<Arc<str>, Arc<RawValue>>,
    order: Vec<Arc<str>>,
    is_ordered: bool,
}

impl Rows {
    pub fn new(schema: &arrow::datatypes::Schema, warnings: &[String], is_ordered: bool) -> Self {
        let columns = schema.fields().iter().map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}));
        let about = BTreeMap::from([("columns", columns.collect()), ("warnings", json!(warnings))]);
        Self { about, is_ordered, ..Self::default() }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Adds what was found while the rows came.
    pub fn warn(&mut self, later: Vec<String>) {
        if let Some(serde_json::Value::Array(warnings)) = self.about.get_mut("warnings") {
            warnings.extend(later.into_iter().map(serde_json::Value::String));
        }
    }

    /// Adds the rows of a batch.
    pub fn add(&mut self, batch: &RecordBatch, key: &RowKey) -> Result<(), ArrowError> {
        let options = FormatOptions::default();
        let rows = JsonRows::new(batch, &options)?;
        let keys = match key {
            RowKey::Columns(columns) => Some(JsonRows::of(columns.iter().filter_map(|place| batch.columns().get(*place)), &options)?),
            RowKey::Single => Some(JsonRows::of(std::iter::empty(), &options)?),
            RowKey::Whole => None,
        };
        for row in 0..batch.num_rows() {
            let mut value = Vec::new();
            rows.write(row, &mut value)?;
            let name = match &keys {
                Some(keys) => {
                    let mut name = Vec::new();
                    keys.write(row, &mut name)?;
                    if name.len() > KEY_BYTES_MAX { hash(&name) } else { text(name)? }
                }
                None => hash(&value),
            };
            let value = RawValue::from_string(text(value)?).map_err(|error| ArrowError::JsonError(error.to_string()))?;
            self.put(&name, Arc::from(value));
        }
        Ok(())
    }

    /// Equal keys are told apart by a number: rows that are equal in everything, or a grouping by something that may be null.
    fn put(&mut self, name: &str, value: Arc<RawValue>) {
        let mut key: Arc<str> = name.into();
        let mut number = 1;
        while self.rows.contains_key(&key) {
            number += 1;
            key = format!("{name}#{number}").into();
        }
        if self.is_ordered {
            self.order.push(key.clone());
        }
        self.rows.insert(key, value);
    }

    /// What makes this result of an earlier one; all of it for the first.
    pub fn since(&self, earlier: Option<&Self>) -> Changes {
        let mut changes = Changes::new();
        if earlier.is_none() {
            changes.declare(RESULT).declare(ROWS);
        }
        for (name, value) in &self.about {
            if earlier.is_none_or(|earlier| earlier.about.get(name) != Some(value)) {
                changes.set(RESULT, *name, value.clone());
            }
        }
        if self.is_ordered && earlier.is_none_or(|earlier| earlier.order != self.order) {
            changes.set(RESULT, "order", self.order.clone());
        }
        for (key, value) in &self.rows {
            if earlier.and_then(|earlier| earlier.rows.get(key)).is_none_or(|known| known.get() != value.get()) {
                changes.set(ROWS, key.clone(), value.clone());
            }
        }
        for key in earlier.into_iter().flat_map(|earlier| earlier.rows.keys()) {
            if !self.rows.contains_key(key) {
                changes.remove(ROWS, key.clone());
            }
        }
        changes
    }
}

fn text(bytes: Vec<u8>) -> Result<String, ArrowError> {
    String::from_utf8(bytes).map_err(|error| ArrowError::JsonError(error.to_string()))
}

/// Half of a SHA-256, in hexadecimal digits: no two rows of any result have the same.
fn hash(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};

    fn result(words: &[&str], counts: &[i64], key: &RowKey, is_ordered: bool) -> Rows {
        let columns: [(&str, ArrayRef); 2] =
            [("word", Arc::new(StringArray::from(words.to_vec()))), ("n", Arc::new(Int64Array::from(counts.to_vec())))];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut rows = Rows::new(&batch.schema(), &[], is_ordered);
        rows.add(&batch, key).unwrap();
        rows
    }

    fn encoded(changes: &Changes) -> serde_json::Value {
        serde_json::from_slice(&changes.encode()).unwrap()
    }

    #[test]
    fn a_keyed_row_is_replaced_and_others_stay_unsaid() {
        let key = RowKey::Columns(vec![0]);
        let first = result(&["a", "b"], &[1, 2], &key, false);
        let second = result(&["a", "c"], &[5, 2], &key, false);
        assert_eq!(encoded(&first.since(None))["rows"], json!({"[\"a\"]": ["a", 1], "[\"b\"]": ["b", 2]}));
        assert_eq!(encoded(&second.since(Some(&first))), json!({"rows": {"[\"a\"]": ["a", 5], "[\"b\"]": null, "[\"c\"]": ["c", 2]}}));
        assert!(second.since(Some(&result(&["c", "a"], &[2, 5], &key, false))).is_empty());
    }

    #[test]
    fn equal_rows_are_counted_and_an_order_is_said() {
        let first = result(&["a", "a", "b"], &[1, 1, 1], &RowKey::Whole, true);
        assert_eq!(first.len(), 3);
        let order = encoded(&first.since(None))["result"]["order"].clone();
        let second = result(&["b", "a"], &[1, 1], &RowKey::Whole, true);
        let changes = encoded(&second.since(Some(&first)));
        assert_eq!(changes["rows"], json!({order[1].as_str().unwrap(): null}));
        assert_eq!(changes["result"]["order"], json!([order[2], order[0]]));
    }

    #[test]
    fn a_single_row_keeps_its_key() {
        let first = result(&["a"], &[1], &RowKey::Single, false);
        let second = result(&["b"], &[2], &RowKey::Single, false);
        assert_eq!(encoded(&second.since(Some(&first))), json!({"rows": {"[]": ["b", 2]}}));
    }
}
