//! An answer as the messages of a call, with what is said about it.

use std::sync::{Arc, OnceLock};

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use arrow_flight::FlightData;
use arrow_flight::encode::FlightDataEncoderBuilder;
use arrow_flight::error::FlightError;
use arrow_flight::utils::batches_to_flight_data;
use futures_util::{Stream, StreamExt, stream};
use serde_json::json;
use tonic::metadata::{MetadataMap, MetadataValue};
use tonic::{Code, Status};

use super::auth;
use crate::query::{Answer, WARNINGS_KEY, told};

/// What is said with a result, as UTF-8, in the head of the answer, and in its trailer what is found while the rows come: for clients
/// that look there. Drivers do not, so the schema's metadata and the last batch's have it too.
pub const WARNING: &str = "rollcall-warning-bin";

/// The rows as they come, then the end of [`end`].
pub fn data(answer: Answer) -> impl Stream<Item = Result<FlightData, Status>> + Send + 'static {
    let (schema, late) = (answer.schema.clone(), Arc::new(OnceLock::new()));
    let with_warnings = told(&schema, &answer.warnings);
    let rows = stream::unfold(Some((answer, Arc::clone(&late))), |running| async move {
        let (mut answer, late) = running?;
        match answer.next().await {
            Some(Ok(batch)) => Some((Ok(batch), Some((answer, late)))),
            Some(Err(error)) => Some((Err(FlightError::Tonic(Box::new(auth::status(&error.into())))), None)),
            None => {
                late.get_or_init(|| answer.later_warnings());
                None
            }
        }
    });
    let rows = FlightDataEncoderBuilder::new().with_schema(with_warnings).build(rows).map(|data| data.map_err(Status::from));
    let end = stream::once(async move { stream::iter(end(&schema, late.get().map_or(&[], Vec::as_slice))) });
    rows.chain(end.flatten())
}

/// Nothing, or a batch without rows whose `app_metadata` has the warnings as JSON, and after it the status of a call that went well, with
/// the same as trailers. A message without any batch would be legal too, but drivers take it for a broken one.
fn end(schema: &SchemaRef, warnings: &[String]) -> Vec<Result<FlightData, Status>> {
    if warnings.is_empty() {
        return Vec::new();
    }
    let said = json!({ WARNINGS_KEY: warnings }).to_string();
    let batch = match batches_to_flight_data(schema, vec![RecordBatch::new_empty(schema.clone())]) {
        Ok(mut data) => data.pop().map(|batch| Ok(batch.with_app_metadata(said))),
        Err(error) => Some(Err(Status::internal(error.to_string()))),
    };
    let mut metadata = MetadataMap::new();
    for warning in warnings {
        metadata.append_bin(WARNING, MetadataValue::from_bytes(warning.as_bytes()));
    }
    batch.into_iter().chain([Err(Status::with_metadata(Code::Ok, "", metadata))]).collect()
}
