//! Values of prepared statements that no driver would send. A claim that the server believed would end this whole program.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, ListArray, NullArray, RecordBatch, StringArray};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field};
use arrow::ipc::CompressionType;
use arrow::ipc::writer::IpcWriteOptions;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::sql::client::FlightSqlServiceClient;
use arrow_flight::sql::{CommandPreparedStatementQuery, DoPutPreparedStatementResult, ProstMessageExt};
use arrow_flight::utils::batches_to_flight_data;
use arrow_flight::{FlightData, FlightDescriptor, Ticket};
use bytes::Bytes;
use futures_util::{TryStreamExt, stream};
use prost::Message;
use tonic::transport::Channel;
use tonic::{Code, Request, Status};

use crate::doors::Doors;
use crate::town::{As, Town};

/// Bytes that no machine has.
const HUGE: u64 = 1 << 46;

/// A handle as the server writes one, without a seal.
#[derive(Clone, PartialEq, Message)]
struct Handle {
    #[prost(string, tag = "1")]
    sql: String,
    #[prost(bytes = "bytes", optional, tag = "2")]
    values: Option<Bytes>,
}

fn row(name: &str, column: ArrayRef) -> RecordBatch {
    RecordBatch::try_from_iter([(name, column)]).unwrap()
}

fn text() -> RecordBatch {
    row("1", Arc::new(StringArray::from(vec!["x".repeat(5_000)])))
}

/// Replaces a number wherever it stands in some bytes.
fn claim(bytes: &[u8], said: u64, claimed: u64) -> Bytes {
    let mut bytes = bytes.to_vec();
    let found: Vec<usize> = (0..bytes.len() - 7).filter(|at| bytes[*at..at + 8] == said.to_le_bytes()).collect();
    assert!(!found.is_empty(), "{said} is not said");
    for at in found {
        bytes[at..at + 8].copy_from_slice(&claimed.to_le_bytes());
    }
    bytes.into()
}

/// A handle whose values begin with a message of a body that is said to be huge.
fn forged() -> Bytes {
    let batch = text();
    let data = batches_to_flight_data(&batch.schema(), vec![batch]).unwrap().pop().unwrap();
    let header = claim(&data.data_header, data.data_body.len() as u64, HUGE);
    let values = [&[0xff; 4][..], &(header.len() as u32).to_le_bytes(), &header].concat();
    Handle { sql: "SELECT ?".to_owned(), values: Some(values.into()) }.encode_to_vec().into()
}

async fn fetch(client: &mut FlightSqlServiceClient<Channel>, handle: Bytes, bearer: Option<&str>) -> Result<usize, Status> {
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle }.as_any().encode_to_vec();
    let mut request = Request::new(Ticket::new(command));
    if let Some(token) = bearer {
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    }
    let data = client.inner_mut().do_get(request).await?.into_inner();
    Ok(data.try_collect::<Vec<FlightData>>().await?.len())
}

/// Sends values for `SELECT ?` and returns the handle with them.
async fn bind(client: &mut FlightSqlServiceClient<Channel>, mut data: Vec<FlightData>, token: &str) -> Result<Bytes, Status> {
    let handle = Handle { sql: "SELECT ? AS a".to_owned(), values: None }.encode_to_vec().into();
    let command = CommandPreparedStatementQuery { prepared_statement_handle: handle }.as_any().encode_to_vec();
    data[0].flight_descriptor = Some(FlightDescriptor::new_cmd(command));
    let mut request = Request::new(stream::iter(data));
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    let answer = client.inner_mut().do_put(request).await?.into_inner().message().await?.unwrap();
    Ok(DoPutPreparedStatementResult::decode(answer.app_metadata).unwrap().prepared_statement_handle.unwrap())
}

#[tokio::test]
async fn a_forged_handle_is_not_read() {
    let doors = Doors::open().await;
    let mut stranger = doors.stranger_over_flight().await;
    for bearer in [None, Some("rf_nobody")] {
        assert_eq!(fetch(&mut stranger, forged(), bearer).await.unwrap_err().code(), Code::Unauthenticated);
        let torn = fetch(&mut stranger, Bytes::from_static(b"x"), bearer).await.unwrap_err();
        assert_eq!(torn.code(), Code::Unauthenticated, "who asks comes before what is asked");
    }
    let (mut client, token) = doors.over_flight(Town::email(As::DistrictOffice)).await;
    let refused = fetch(&mut client, forged(), Some(&token)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");

    // What one account has bound is its own.
    let data = batches_to_flight_data(&text().schema(), vec![text()]).unwrap();
    let bound = bind(&mut client, data, &token).await.unwrap();
    assert!(fetch(&mut client, bound.clone(), Some(&token)).await.unwrap() >= 2, "a schema and rows");
    let (mut other, others) = doors.over_flight(Town::email(As::Office)).await;
    let refused = fetch(&mut other, bound, Some(&others)).await.unwrap_err();
    assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
}

#[tokio::test]
async fn values_that_claim_more_than_they_are_are_refused() {
    let doors = Doors::open().await;
    let (mut client, token) = doors.over_flight(Town::email(As::DistrictOffice)).await;

    let options = IpcWriteOptions::default().try_with_compression(Some(CompressionType::LZ4_FRAME)).unwrap();
    let encoder = FlightDataEncoderBuilder::new().with_options(options).build(stream::iter([Ok(text())]));
    let mut compressed: Vec<FlightData> = encoder.try_collect().await.unwrap();
    let last = compressed.last_mut().unwrap();
    last.data_body = claim(&last.data_body, 5_000, HUGE);

    let sent = |batch: &RecordBatch| batches_to_flight_data(&batch.schema(), vec![batch.clone()]).unwrap();
    let mut outside = sent(&text());
    let last = outside.last_mut().unwrap();
    last.data_header = claim(&last.data_header, 5_000, HUGE);

    let nulls = ListArray::new(
        Arc::new(Field::new_list_field(DataType::Null, true)),
        OffsetBuffer::from_lengths([i32::MAX as usize]),
        Arc::new(NullArray::new(i32::MAX as usize)),
        None,
    );
    let views = |words: usize| {
        let word = arrow::array::StringViewArray::from(vec!["x".repeat(5_000).as_str()]);
        let words = arrow::compute::take(&word, &Int64Array::from(vec![0; words]), None).unwrap();
        let field = Arc::new(Field::new_list_field(DataType::Utf8View, true));
        let lengths = OffsetBuffer::from_lengths([words.len()]);
        row("1", Arc::new(ListArray::new(field, lengths, words, None)))
    };
    let long = row("1", Arc::new(StringArray::from(vec!["x".repeat(300_000)])));
    let twice = [sent(&text()).remove(0), sent(&text()).remove(0), sent(&text()).remove(1)];
    let mut padded = sent(&text().slice(0, 0)).remove(1);
    padded.data_body = vec![0; 300_000].into();
    let padded = [&[sent(&text()).remove(0)][..], &vec![padded; 4], &[sent(&text()).remove(1)]].concat();

    for (what, data) in [
        ("compressed", compressed),
        ("outside of its message", outside),
        ("a list of nulls", sent(&row("1", Arc::new(nulls)))),
        ("one word many times", sent(&views(1_000))),
        ("long", sent(&long)),
        ("two schemas", twice.to_vec()),
        ("long together", padded),
    ] {
        let refused = bind(&mut client, data, &token).await.unwrap_err();
        assert_eq!(refused.code(), Code::InvalidArgument, "{what}: {refused}");
    }
    let bound = bind(&mut client, sent(&text()), &token).await.unwrap();
    assert!(fetch(&mut client, bound, Some(&token)).await.unwrap() >= 2, "the door goes on");
}
