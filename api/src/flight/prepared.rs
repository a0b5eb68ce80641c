//! Prepared statements without a place to keep them: the handle that a driver holds is the statement.
//!
//! # Format of a handle
//! Protobuf: `sql` (1), and `values` (2), an Arrow IPC stream of one row, one column a parameter; absent until values are
//! bound. It grants nothing: whoever presents it runs its text with the own rights.

use arrow::array::RecordBatch;
use arrow::error::ArrowError;
use arrow::ipc::reader::StreamReader;
use arrow::ipc::writer::StreamWriter;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use bytes::Bytes;
use datafusion::common::ScalarValue;
use futures_util::TryStreamExt;
use prost::Message;
use tonic::Status;

/// Most bytes of the values of one statement.
const VALUES_BYTES_MAX: usize = 256 * 1024;

#[derive(Clone, PartialEq, Message)]
pub struct Statement {
    #[prost(string, tag = "1")]
    pub sql: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    values: Option<Bytes>,
}

impl Statement {
    pub fn new(sql: String) -> Self {
        Self { sql, values: None }
    }

    pub fn read(handle: &Bytes) -> Result<Self, Status> {
        Self::decode(handle.clone()).map_err(|_| Status::invalid_argument("this is no handle of a prepared statement"))
    }

    pub fn handle(&self) -> Bytes {
        Bytes::from(self.encode_to_vec())
    }

    /// The bound values in order.
    pub fn bound(&self) -> Result<Vec<ScalarValue>, Status> {
        let Some(bytes) = &self.values else { return Ok(Vec::new()) };
        let read = || -> Result<Vec<ScalarValue>, ArrowError> {
            let mut values = Vec::new();
            for row in StreamReader::try_new(bytes.as_ref(), None)? {
                for column in row?.columns() {
                    values.push(ScalarValue::try_from_array(column, 0)?);
                }
            }
            Ok(values)
        };
        read().map_err(|_| Status::invalid_argument("the values of the prepared statement cannot be read"))
    }

    /// The same statement with these values.
    pub fn bind(self, row: &RecordBatch) -> Result<Self, Status> {
        if row.num_rows() != 1 {
            let message = format!("bind one row of values at a time; there are {}", row.num_rows());
            return Err(Status::invalid_argument(message));
        }
        let write = || -> Result<Vec<u8>, ArrowError> {
            let mut writer = StreamWriter::try_new(Vec::new(), &row.schema())?;
            writer.write(row)?;
            writer.into_inner()
        };
        let bytes = write().map_err(|error| Status::invalid_argument(error.to_string()))?;
        if bytes.len() > VALUES_BYTES_MAX {
            return Err(Status::invalid_argument(format!("the values of a statement have at most {VALUES_BYTES_MAX} bytes")));
        }
        Ok(Self { values: Some(Bytes::from(bytes)), ..self })
    }
}

/// The one row of values that a driver sends.
pub async fn row(sent: PeekableFlightDataStream) -> Result<RecordBatch, Status> {
    let data = sent.into_peekable().map_err(|status| FlightError::Tonic(Box::new(status)));
    let mut rows = FlightRecordBatchStream::new_from_flight_data(data);
    let mut found: Option<RecordBatch> = None;
    while let Some(batch) = rows.try_next().await? {
        match &found {
            _ if batch.num_rows() == 0 => {}
            None => found = Some(batch),
            Some(_) => return Err(Status::invalid_argument("bind one row of values at a time")),
        }
    }
    found.ok_or_else(|| Status::invalid_argument("there are no values to bind"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, Int64Array, StringArray};
    use std::sync::Arc;

    fn rows(count: usize) -> RecordBatch {
        let numbers: ArrayRef = Arc::new(Int64Array::from_iter_values(0..count as i64));
        let texts: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>; count]));
        RecordBatch::try_from_iter([("1", numbers), ("2", texts)]).unwrap()
    }

    #[test]
    fn a_handle_holds_the_text_and_one_row_of_values() {
        let statement = Statement::new("select ?, ?".to_owned());
        assert!(statement.bound().unwrap().is_empty());
        let bound = Statement::read(&statement.clone().bind(&rows(1)).unwrap().handle()).unwrap();
        assert_eq!(bound.sql, "select ?, ?");
        assert_eq!(bound.bound().unwrap(), [ScalarValue::Int64(Some(0)), ScalarValue::Utf8(None)]);
        for count in [0, 2] {
            assert!(statement.clone().bind(&rows(count)).is_err(), "{count}");
        }
    }

    #[test]
    fn a_foreign_handle_is_refused() {
        assert!(Statement::read(&Bytes::from_static(b"select 1")).is_err());
        let torn = Statement { sql: String::new(), values: Some(Bytes::from_static(b"x")) };
        assert!(torn.bound().is_err());
    }
}
