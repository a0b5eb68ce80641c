//! The row of values that a driver sends for a prepared statement, looked at before it is read.
//!
//! The reader of Arrow makes room for what a message claims to have and panics at a buffer that is not there, and a value of a few bytes
//! may stand for any number of elements. So what is sent is bounded in bytes, compressed batches are refused, every buffer must stand in
//! its message, and the values are of types of which no element is smaller than what it is made of.

use arrow::array::RecordBatch;
use arrow::datatypes::DataType;
use arrow::ipc::root_as_message;
use arrow_flight::FlightData;
use arrow_flight::decode::FlightRecordBatchStream;
use arrow_flight::error::FlightError;
use arrow_flight::sql::server::PeekableFlightDataStream;
use futures_util::{StreamExt, TryStreamExt};
use tonic::Status;

/// Most bytes that a driver sends to bind one row, over all messages: the values, their schema, and the words of a dictionary.
const SENT_BYTES_MAX: usize = 1024 * 1024;

/// The one row of values that a driver sends.
pub async fn row(sent: PeekableFlightDataStream) -> Result<RecordBatch, Status> {
    let mut taken = 0_usize;
    let checked = sent.into_peekable().map(move |data| {
        let data = data?;
        taken = taken.saturating_add(data.data_header.len()).saturating_add(data.data_body.len());
        if taken > SENT_BYTES_MAX {
            return Err(Status::invalid_argument(format!("the values of a statement are sent in at most {SENT_BYTES_MAX} bytes")));
        }
        check(&data).map_err(Status::invalid_argument)?;
        Ok(data)
    });
    let mut rows = FlightRecordBatchStream::new_from_flight_data(checked.map_err(|status| FlightError::Tonic(Box::new(status))));
    let mut found: Option<RecordBatch> = None;
    while let Some(batch) = rows.try_next().await.map_err(unreadable)? {
        match &found {
            _ if batch.num_rows() == 0 => {}
            None => found = Some(batch),
            Some(_) => return Err(Status::invalid_argument("bind one row of values at a time")),
        }
    }
    let found = found.ok_or_else(|| Status::invalid_argument("there are no values to bind"))?;
    match found.schema().fields().iter().find(|field| !is_value(field.data_type())) {
        Some(other) => Err(Status::invalid_argument(format!("a parameter cannot be of the type {}", other.data_type()))),
        None => Ok(found),
    }
}

fn unreadable(error: FlightError) -> Status {
    match error {
        FlightError::Tonic(status) => *status,
        other => Status::invalid_argument(format!("the values cannot be read: {other}")),
    }
}

/// What a message claims, against the bytes that came with it.
fn check(data: &FlightData) -> Result<(), &'static str> {
    let message = root_as_message(&data.data_header).map_err(|_| "a message is none of Arrow's")?;
    let dictionary = message.header_as_dictionary_batch().and_then(|dictionary| dictionary.data());
    let Some(batch) = message.header_as_record_batch().or(dictionary) else { return Ok(()) };
    if batch.compression().is_some() {
        return Err("values are not to be compressed");
    }
    let body = data.data_body.len() as u64;
    let stands = |offset: i64, length: i64| {
        let end = u64::try_from(offset).ok().zip(u64::try_from(length).ok()).and_then(|(offset, length)| offset.checked_add(length));
        end.is_some_and(|end| end <= body)
    };
    if !batch.buffers().into_iter().flatten().all(|buffer| stands(buffer.offset(), buffer.length())) {
        return Err("a buffer of the values is not in its message");
    }
    // One value without bytes is null; a list of nulls would have elements without end.
    let fits = |length: i64| u64::try_from(length).is_ok_and(|length| length <= body + 1);
    if !fits(batch.length()) || !batch.nodes().into_iter().flatten().all(|node| fits(node.length())) {
        return Err("there are more values than bytes of them");
    }
    Ok(())
}

/// Whether a value of this type is not larger when it is written out than when it was sent; lists of words that are sent once and meant
/// many times are.
fn is_value(data_type: &DataType) -> bool {
    let is_plain = |plain: &DataType| {
        use DataType as T;
        plain.is_primitive()
            || matches!(plain, T::Null | T::Boolean | T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary | T::FixedSizeBinary(_))
    };
    match data_type {
        DataType::Utf8View | DataType::BinaryView => true,
        DataType::Dictionary(_, word) => is_plain(word),
        DataType::List(element) => is_plain(element.data_type()),
        other => is_plain(other),
    }
}
