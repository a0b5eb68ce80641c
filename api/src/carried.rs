//! Results through doors that do not have every type: what a door has no type for goes through it as text.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, StringBuilder};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use arrow::error::ArrowError;
use arrow::util::display::FormatOptions;
use rollcall_analytics::query::json::Column;

/// Whether columns that were told of before the values of parameters were known are those that came: as many, each under its name. A
/// column that is named after a parameter has another name with its value.
pub fn become_of(told: &Schema, given: &Schema) -> bool {
    let is_same = |(told, given): (&Arc<Field>, &Arc<Field>)| told.name() == given.name() || told.name().contains('$');
    told.fields().len() == given.fields().len() && told.fields().iter().zip(given.fields()).all(is_same)
}

/// How a column goes through.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum As {
    Itself,
    /// As it is shown.
    Text,
    /// Lists and structures, which would not be told apart otherwise.
    Json,
}

/// The columns of a result as a door has them.
pub struct Carried {
    pub schema: SchemaRef,
    columns: Vec<As>,
}

impl Carried {
    pub fn new(schema: &Schema, how: impl Fn(&DataType) -> As) -> Self {
        let columns: Vec<As> = schema.fields().iter().map(|field| how(field.data_type())).collect();
        let carried = schema.fields().iter().zip(&columns).map(|(field, how)| match how {
            As::Itself => field.as_ref().clone(),
            As::Text | As::Json => Field::new(field.name(), DataType::Utf8, field.is_nullable()),
        });
        Self { schema: Arc::new(Schema::new_with_metadata(carried.collect::<Vec<_>>(), schema.metadata().clone())), columns }
    }

    /// The rows of a result with these columns, or with as many others that become them.
    pub fn rows(&self, batch: &RecordBatch) -> Result<RecordBatch, ArrowError> {
        if batch.num_columns() != self.columns.len() {
            return Err(ArrowError::SchemaError(format!("{} columns came for {}", batch.num_columns(), self.columns.len())));
        }
        let columns = batch.columns().iter().zip(&self.columns).zip(self.schema.fields()).map(|((column, how), field)| match how {
            As::Itself if column.data_type() == field.data_type() => Ok(Arc::clone(column)),
            As::Itself => cast(column, field.data_type()),
            As::Text => cast(column, &DataType::Utf8),
            As::Json => json(column),
        });
        let options = RecordBatchOptions::new().with_row_count(Some(batch.num_rows()));
        RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns.collect::<Result<_, _>>()?, &options)
    }
}

/// Each value as JSON; none stays none.
fn json(column: &ArrayRef) -> Result<ArrayRef, ArrowError> {
    let options = FormatOptions::default();
    let values = Column::new(column.as_ref(), &options)?;
    let mut texts = StringBuilder::new();
    for row in 0..column.len() {
        if column.is_null(row) {
            texts.append_null();
            continue;
        }
        let mut text = Vec::new();
        values.write(row, &mut text)?;
        texts.append_value(String::from_utf8(text).map_err(|error| ArrowError::JsonError(error.to_string()))?);
    }
    Ok(Arc::new(texts.finish()))
}

/// In a file of lines.
pub fn as_csv(data_type: &DataType) -> As {
    if data_type.is_nested() { As::Json } else { As::Itself }
}

/// In Parquet, which has no interval of months, days and nanoseconds.
pub fn as_parquet(data_type: &DataType) -> As {
    fn has_interval(data_type: &DataType) -> bool {
        match data_type {
            DataType::Interval(_) => true,
            DataType::List(inner) | DataType::Map(inner, _) => has_interval(inner.data_type()),
            DataType::Struct(parts) => parts.iter().any(|part| has_interval(part.data_type())),
            _ => false,
        }
    }
    match data_type {
        DataType::Interval(_) => As::Text,
        other if has_interval(other) => As::Json,
        _ => As::Itself,
    }
}

/// In the PostgreSQL protocol, whose library writes decimals of 96 bits, and lists of values that are simple.
pub fn as_postgres(data_type: &DataType) -> As {
    const DIGITS_MAX: u8 = 28;
    let is_simple = |inner: &DataType| {
        inner.is_integer()
            || inner.is_floating()
            || inner.is_string()
            || matches!(inner, DataType::Boolean | DataType::Null | DataType::Date32)
    };
    match data_type {
        DataType::Decimal128(digits, scale) if *digits > DIGITS_MAX || *scale < 0 => As::Text,
        DataType::List(inner) if is_simple(inner.data_type()) || matches!(inner.data_type(), DataType::Timestamp(..)) => As::Itself,
        other if other.is_nested() => As::Json,
        _ => As::Itself,
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{AsArray, Int64Array, ListArray, StructArray};
    use arrow::datatypes::Int64Type;

    use super::*;

    #[test]
    fn columns_that_came_are_told_from_others_by_their_names() {
        let schema = |names: &[&str]| Schema::new(names.iter().map(|name| Field::new(*name, DataType::Int64, true)).collect::<Vec<_>>());
        assert!(become_of(&schema(&["a", "$1 + b"]), &schema(&["a", "Int64(1) + b"])));
        assert!(!become_of(&schema(&["a", "b"]), &schema(&["b", "a"])));
        assert!(!become_of(&schema(&["a"]), &schema(&["a", "b"])));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let wide = RecordBatch::try_from_iter([("a", numbers.clone()), ("b", numbers)]).unwrap();
        assert!(Carried::new(&schema(&["a"]), as_csv).rows(&wide).is_err());
    }

    #[test]
    fn what_a_door_has_no_type_for_is_json_in_text() {
        let lists: ArrayRef = Arc::new(ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]));
        let numbers: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
        let parts: ArrayRef = Arc::new(StructArray::try_from(vec![("a \"b\"", numbers.clone()), ("c", lists.clone())]).unwrap());
        let batch = RecordBatch::try_from_iter([("n", numbers), ("l", lists), ("s", parts)]).unwrap();
        let carried = Carried::new(&batch.schema(), as_csv);
        let rows = carried.rows(&batch).unwrap();
        let text = |column: usize, row: usize| rows.column(column).as_string::<i32>().value(row).to_owned();
        assert_eq!((text(1, 0).as_str(), text(1, 2).as_str()), ("[1,null]", "[]"));
        assert!(rows.column(1).is_null(1));
        assert_eq!(text(2, 1), r#"{"a \"b\"":2,"c":null}"#);
        assert_eq!(rows.column(0).data_type(), &DataType::Int64);
        assert_eq!(as_parquet(batch.schema().field(1).data_type()), As::Itself);
    }
}
