//! How results are shown: ids and words of codes as text, also in lists, and few types, so that every door gives the same.
//!
//! What no door or only some have a type for is given as the next wider one: small integers as 16 bits, half floats as 32, instants in seconds as
//! milliseconds, decimals of 32 and 64 bits as of 128, those of 256 as text, and every interval in months, days and nanoseconds.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray, RecordBatch, RecordBatchOptions, StructArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, Field, FieldRef, IntervalUnit, Schema, SchemaRef, TimeUnit};
use datafusion::common::Result;

use super::ids::text_of;

/// The columns of a result.
pub fn schema(schema: &Schema) -> SchemaRef {
    Arc::new(Schema::new(schema.fields().iter().map(field).collect::<Vec<_>>()))
}

fn field(field: &FieldRef) -> FieldRef {
    let shown = shown(field.data_type());
    if shown == *field.data_type() { Arc::clone(field) } else { Arc::new(field.as_ref().clone().with_data_type(shown)) }
}

fn shown(data_type: &DataType) -> DataType {
    match data_type {
        DataType::FixedSizeBinary(16) | DataType::Decimal256(..) => DataType::Utf8,
        DataType::Dictionary(_, values) => shown(values),
        DataType::Int8 => DataType::Int16,
        DataType::Float16 => DataType::Float32,
        DataType::Decimal32(precision, scale) | DataType::Decimal64(precision, scale) => DataType::Decimal128(*precision, *scale),
        DataType::Timestamp(TimeUnit::Second, zone) => DataType::Timestamp(TimeUnit::Millisecond, zone.clone()),
        DataType::Date64 => DataType::Date32,
        DataType::Interval(_) => DataType::Interval(IntervalUnit::MonthDayNano),
        DataType::List(inner) | DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => DataType::List(field(inner)),
        DataType::Struct(fields) => DataType::Struct(fields.iter().map(field).collect()),
        other => other.clone(),
    }
}

/// Its rows; columns that are shown as they are, are shared.
pub fn rows(rows: &RecordBatch, schema: &SchemaRef) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(column).collect::<Result<Vec<_>>>()?;
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    Ok(RecordBatch::try_new_with_options(Arc::clone(schema), columns, &options)?)
}

fn column(array: &ArrayRef) -> Result<ArrayRef> {
    let to = shown(array.data_type());
    Ok(match array.data_type() {
        known if *known == to => Arc::clone(array),
        DataType::FixedSizeBinary(16) => text_of(array),
        DataType::Dictionary(_, values) => column(&cast(array, values)?)?,
        DataType::List(inner) => {
            let list = array.as_list::<i32>();
            Arc::new(ListArray::try_new(field(inner), list.offsets().clone(), column(list.values())?, list.nulls().cloned())?)
        }
        DataType::LargeList(inner) | DataType::FixedSizeList(inner, _) => column(&cast(array, &DataType::List(Arc::clone(inner)))?)?,
        DataType::Struct(fields) => {
            let parts = array.as_struct();
            let columns = parts.columns().iter().map(column).collect::<Result<Vec<_>>>()?;
            let fields: Vec<Field> = fields.iter().map(|inner| field(inner).as_ref().clone()).collect();
            Arc::new(StructArray::try_new(fields.into(), columns, parts.nulls().cloned())?)
        }
        _ => cast(array, &to)?,
    })
}
