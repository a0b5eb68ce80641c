//! Rows as JSON arrays.

use arrow::array::{Array, ArrayRef, AsArray, MapArray, RecordBatch};
use arrow::datatypes::DataType;
use arrow::error::ArrowError;
use arrow::util::display::{ArrayFormatter, FormatOptions};

/// The rows of one batch, to be written one by one.
pub struct JsonRows<'a> {
    columns: Vec<Column<'a>>,
}

impl<'a> JsonRows<'a> {
    /// All columns of a batch whose options live as long.
    pub fn new(rows: &'a RecordBatch, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        Self::of(rows.columns().iter(), options)
    }

    /// Some columns of a batch.
    pub fn of(columns: impl Iterator<Item = &'a ArrayRef>, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        Ok(Self { columns: columns.map(|column| Column::new(column.as_ref(), options)).collect::<Result<_, _>>()? })
    }

    /// Writes a row as an array. Numbers and truth values stand as such, what JSON has no number for as null, lists as arrays,
    /// structures and maps as objects, everything else as text.
    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        out.push(b'[');
        for (place, column) in self.columns.iter().enumerate() {
            if place > 0 {
                out.push(b',');
            }
            column.write(row, out)?;
        }
        out.push(b']');
        Ok(())
    }
}

/// The values of one column, to be written one by one as JSON.
pub struct Column<'a> {
    array: &'a dyn Array,
    values: Values<'a>,
}

enum Values<'a> {
    Text(ArrayFormatter<'a>),
    /// Numbers and truth values.
    Bare(ArrayFormatter<'a>),
    List(Box<Column<'a>>),
    Struct(Vec<(String, Column<'a>)>),
    Map {
        keys: ArrayFormatter<'a>,
        values: Box<Column<'a>>,
    },
}

impl<'a> Column<'a> {
    pub fn new(array: &'a dyn Array, options: &'a FormatOptions<'a>) -> Result<Self, ArrowError> {
        let values = match array.data_type() {
            DataType::List(_) => Values::List(Box::new(Self::new(array.as_list::<i32>().values().as_ref(), options)?)),
            DataType::Struct(fields) => {
                let parts = fields.iter().zip(array.as_struct().columns());
                let parts = parts.map(|(field, part)| Ok((name(field.name())?, Self::new(part.as_ref(), options)?)));
                Values::Struct(parts.collect::<Result<_, ArrowError>>()?)
            }
            DataType::Map(..) => {
                let map = array.as_map();
                let keys = ArrayFormatter::try_new(map.keys().as_ref(), options)?;
                Values::Map { keys, values: Box::new(Self::new(map.values().as_ref(), options)?) }
            }
            DataType::Boolean => Values::Bare(ArrayFormatter::try_new(array, options)?),
            other if other.is_numeric() => Values::Bare(ArrayFormatter::try_new(array, options)?),
            _ => Values::Text(ArrayFormatter::try_new(array, options)?),
        };
        Ok(Self { array, values })
    }

    pub fn write(&self, row: usize, out: &mut Vec<u8>) -> Result<(), ArrowError> {
        if self.array.is_null(row) || self.array.data_type() == &DataType::Null {
            out.extend_from_slice(b"null");
            return Ok(());
        }
        match &self.values {
            Values::Text(formatter) => out.extend_from_slice(name(&formatter.value(row).try_to_string()?)?.as_bytes()),
            Values::Bare(formatter) => {
                let text = formatter.value(row).try_to_string()?;
                // `true` and `false` end in e; an infinity or "NaN" is no JSON.
                let is_json = text.ends_with(|end: char| end.is_ascii_digit()) || text.ends_with(['e', '.']);
                out.extend_from_slice(if is_json { text.as_bytes() } else { b"null" });
            }
            Values::List(inner) => {
                let offsets = self.array.as_list::<i32>().value_offsets();
                between(b"[]", offsets[row]..offsets[row + 1], out, |row, out| inner.write(row, out))?;
            }
            Values::Struct(parts) => between(b"{}", 0..parts.len() as i32, out, |place, out| {
                let (name, part) = &parts[place];
                out.extend_from_slice(name.as_bytes());
                out.push(b':');
                part.write(row, out)
            })?,
            Values::Map { keys, values } => {
                let map: &MapArray = self.array.as_map();
                let offsets = map.value_offsets();
                between(b"{}", offsets[row]..offsets[row + 1], out, |row, out| {
                    out.extend_from_slice(name(&keys.value(row).try_to_string()?)?.as_bytes());
                    out.push(b':');
                    values.write(row, out)
                })?;
            }
        }
        Ok(())
    }
}

/// A text as JSON has it.
fn name(text: &str) -> Result<String, ArrowError> {
    serde_json::to_string(text).map_err(|error| ArrowError::JsonError(error.to_string()))
}

/// Items with commas in brackets.
fn between(
    brackets: &[u8; 2],
    places: std::ops::Range<i32>,
    out: &mut Vec<u8>,
    mut item: impl FnMut(usize, &mut Vec<u8>) -> Result<(), ArrowError>,
) -> Result<(), ArrowError> {
    out.push(brackets[0]);
    for (nth, place) in places.enumerate() {
        if nth > 0 {
            out.push(b',');
        }
        item(place as usize, out)?;
    }
    out.push(brackets[1]);
    Ok(())
}
