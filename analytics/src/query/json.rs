//! Rows as JSON arrays.

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows of one batch, to be written one by one.
pub struct JsonRows<'a> {
    columns: Vec<(&'a ArrayRef, ArrayFormatter<'a>)>,
}

impl<'a> JsonRows<'a> {
    /// All columns of a batch whose options live as long.
    pub fn new(rows: &'a RecordBatch, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        Self::of(rows.columns().iter(), options)
    }

    /// Some columns of a batch.
    pub fn of(columns: impl Iterator<Item = &'a ArrayRef>, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        let columns = columns.map(|column| Ok((column, ArrayFormatter::try_new(column.as_ref(), options)?)));
        Ok(Self { columns: columns.collect::<Result<_, ArrowError>>()? })
    }

    /// Writes a row as an array. Numbers and truth values stand as such, what JSON has no number for as null, everything
    /// else as text.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.push(b'[');
        for (place, (column, formatter)) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            if column.is_null(row) || column.data_type() == &DataType::Null {
                out.extend_from_slice(b"null");
                continue;
            }
            let text = formatter.value(row).try_to_string()?;
            let is_bare = column.data_type().is_numeric() || column.data_type() == &DataType::Boolean;
            if !is_bare {
                serde_json::to_writer(&mut *out, &text).map_err(|error| ArrowError::JsonError(error.to_string()))?;
            } else if text.ends_with(|end: char| end.is_ascii_digit()) || text.ends_with(['e', '.']) {
                // `true` and `false` end in e; an infinity or "NaN" is no JSON.
                out.extend_from_slice(text.as_bytes());
            } else {
                out.extend_from_slice(b"null");
            }
        }
        out.push(b']');
        Ok(())
    }
}
