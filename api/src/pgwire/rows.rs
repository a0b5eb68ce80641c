//! Rows in the words of the protocol.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::Schema;
use datafusion_postgres::arrow_pg::datatypes::arrow_schema_to_pg_fields;
use datafusion_postgres::arrow_pg::encoder::encode_value;
use datafusion_postgres::pgwire::api::portal::Format;
use datafusion_postgres::pgwire::api::results::{DataRowEncoder, FieldInfo};
use datafusion_postgres::pgwire::error::{PgWireError, PgWireResult};
use datafusion_postgres::pgwire::messages::data::DataRow;

use crate::carried::{Carried, as_postgres};

/// The columns of a result.
pub fn columns(schema: &Schema, format: &Format) -> PgWireResult<Vec<FieldInfo>> {
    arrow_schema_to_pg_fields(&Carried::new(schema, as_postgres).schema, format, None)
}

/// The rows of a batch for the `columns` of `schema`. The first that cannot be written is the last.
pub fn rows(columns: Arc<Vec<FieldInfo>>, schema: &Schema, batch: &RecordBatch) -> Vec<PgWireResult<DataRow>> {
    let batch = match Carried::new(schema, as_postgres).rows(batch) {
        Ok(batch) => batch,
        Err(error) => return vec![Err(PgWireError::ApiError(Box::new(error)))],
    };
    let mut encoder = DataRowEncoder::new(Arc::clone(&columns));
    let mut rows = Vec::with_capacity(batch.num_rows());
    for row in 0..batch.num_rows() {
        let written = write(&mut encoder, &columns, &batch, row);
        let is_last = written.is_err();
        rows.push(written.map(|()| encoder.take_row()));
        if is_last {
            break;
        }
    }
    rows
}

fn write(encoder: &mut DataRowEncoder, columns: &[FieldInfo], batch: &RecordBatch, row: usize) -> PgWireResult<()> {
    let schema = batch.schema_ref();
    for (place, (array, column)) in batch.columns().iter().zip(columns).enumerate() {
        // The library writes what stands below a null for some types.
        if array.is_null(row) {
            encoder.encode_field(&None::<i8>)?;
        } else {
            encode_value(encoder, array, row, schema.field(place), column)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Int64Array, IntervalMonthDayNanoArray};
    use arrow::compute::cast;
    use arrow::datatypes::{DataType, IntervalMonthDayNano};

    use super::*;

    fn written(array: ArrayRef) -> Vec<PgWireResult<DataRow>> {
        let batch = RecordBatch::try_from_iter([("a", array)]).unwrap();
        rows(Arc::new(columns(&batch.schema(), &Format::UnifiedText).unwrap()), &batch.schema(), &batch)
    }

    #[test]
    fn what_cannot_be_written_ends_the_rows() {
        // No result has this type; whatever else the library refuses ends as this does.
        let halves = cast(&Int64Array::from(vec![1, 2, 3]), &DataType::Float16).unwrap();
        let given = written(halves);
        assert!(matches!(given[..], [Err(_)]), "{given:?}");
        assert_eq!(written(Arc::new(Int64Array::from(vec![1, 2, 3]))).len(), 3);
    }

    #[test]
    fn an_interval_that_is_null_is_null() {
        let given = written(Arc::new(IntervalMonthDayNanoArray::from(vec![Some(IntervalMonthDayNano::new(0, 1, 0)), None])));
        let lengths: Vec<i32> = given.into_iter().map(|row| i32::from_be_bytes(row.unwrap().data[..4].try_into().unwrap())).collect();
        assert!(lengths[0] > 0 && lengths[1] == -1, "{lengths:?}");
    }
}
