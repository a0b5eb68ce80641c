//! Batches as bytes of the format that the client accepts.

use arrow::array::RecordBatch;
use arrow::csv;
use arrow::datatypes::SchemaRef;
use arrow::error::ArrowError;
use arrow::ipc::writer::StreamWriter;
use arrow::util::display::FormatOptions;
use axum::http::{HeaderMap, header};
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use rollcall_analytics::query::json::JsonRows;
use rollcall_analytics::query::{Bound, QueryError};
use serde_json::json;

use crate::carried::{Carried, as_csv, as_parquet};
use crate::query;

/// Rows of one row group of a Parquet answer.
const ROW_GROUP_ROWS_MAX: usize = 131_072;

/// Bytes that the writer of a Parquet answer holds before it ends a row group: with many columns they are more than the rows.
const ROW_GROUP_BYTES_MAX: usize = 32 * 1024 * 1024;

/// Values that the writer of a Parquet answer takes before it is asked how much it holds.
const PARQUET_STEP_VALUES: usize = 1024 * 1024;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Format {
    Json,
    Csv,
    ArrowStream,
    Parquet,
}

impl Format {
    /// The known type of `Accept` that is wanted most, of equal ones the first; JSON when there is none.
    pub fn accepted(headers: &HeaderMap) -> Self {
        let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let wanted = accept.split(',').filter_map(|range| {
            let mut parts = range.split(';').map(str::trim);
            let name = parts.next()?.to_ascii_lowercase();
            let format =
                [Self::Json, Self::Csv, Self::ArrowStream, Self::Parquet].into_iter().find(|format| format.content_type() == name)?;
            let weight =
                parts.find_map(|part| part.to_ascii_lowercase().strip_prefix("q=").map(|weight| weight.parse::<f32>().unwrap_or(0.0)));
            Some((weight.unwrap_or(1.0), format)).filter(|(weight, _)| *weight > 0.0)
        });
        wanted.reduce(|best, one| if one.0 > best.0 { one } else { best }).map_or(Self::Json, |(_, format)| format)
    }

    pub const fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/json",
            Self::Csv => "text/csv",
            Self::ArrowStream => "application/vnd.apache.arrow.stream",
            Self::Parquet => "application/vnd.apache.parquet",
        }
    }
}

/// Why a body ends before it is complete.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    #[error("the query ended early: {0}")]
    Query(#[from] QueryError),
    #[error("the rows could not be encoded: {0}")]
    Arrow(#[from] ArrowError),
    #[error("the rows could not be encoded: {0}")]
    Parquet(#[from] parquet::errors::ParquetError),
}

/// One answer on its way into bytes. Each call gives the bytes that are ready.
pub enum Encoder {
    Json { started: bool, any: bool, head: Vec<u8>, warnings: Vec<String> },
    Csv { head: bool, carried: Carried },
    Arrow(StreamWriter<Vec<u8>>),
    Parquet { writer: Box<ArrowWriter<Vec<u8>>>, carried: Carried, warnings: Vec<String> },
}

impl Encoder {
    pub fn new(format: Format, schema: &SchemaRef, warnings: Vec<String>) -> Result<Self, Broken> {
        Ok(match format {
            Format::Json => {
                let columns = schema.fields().iter().map(|field| json!({"name": field.name(), "type": field.data_type().to_string()}));
                let columns = serde_json::Value::Array(columns.collect());
                Self::Json { started: false, any: false, head: format!("{{\"columns\":{columns},\"rows\":[").into_bytes(), warnings }
            }
            Format::Csv => Self::Csv { head: true, carried: Carried::new(schema, as_csv) },
            Format::ArrowStream => Self::Arrow(StreamWriter::try_new(Vec::new(), &query::told(schema, &warnings))?),
            Format::Parquet => {
                let properties = WriterProperties::builder()
                    .set_compression(Compression::ZSTD(ZstdLevel::default()))
                    .set_max_row_group_row_count(Some(ROW_GROUP_ROWS_MAX))
                    .build();
                let carried = Carried::new(schema, as_parquet);
                let writer = Box::new(ArrowWriter::try_new(Vec::new(), query::told(&carried.schema, &warnings), Some(properties))?);
                Self::Parquet { writer, carried, warnings }
            }
        })
    }

    pub fn rows(&mut self, batch: &RecordBatch) -> Result<Bytes, Broken> {
        match self {
            Self::Json { started, any, head, .. } => {
                let mut out = if *started { Vec::new() } else { std::mem::take(head) };
                *started = true;
                write_rows(batch, any, &mut out)?;
                Ok(out.into())
            }
            Self::Csv { head, carried } => {
                let mut out = Vec::new();
                csv::WriterBuilder::new().with_header(std::mem::take(head)).build(&mut out).write(&carried.rows(batch)?)?;
                Ok(out.into())
            }
            Self::Arrow(writer) => {
                writer.write(batch)?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Self::Parquet { writer, carried, .. } => {
                // A few rows at a time, because each column of a group has buffers and a dictionary from its first row on.
                let step = (PARQUET_STEP_VALUES / batch.num_columns().max(1)).max(1);
                for from in (0..batch.num_rows()).step_by(step) {
                    writer.write(&carried.rows(&batch.slice(from, step.min(batch.num_rows() - from)))?)?;
                    if writer.memory_size() > ROW_GROUP_BYTES_MAX {
                        writer.flush()?;
                    }
                }
                Ok(std::mem::take(writer.inner_mut()).into())
            }
        }
    }

    /// What was found while the rows came. Formats without an end that could say it leave it to whoever carries them.
    pub fn warn(&mut self, later: Vec<String>) {
        if let Self::Json { warnings, .. } | Self::Parquet { warnings, .. } = self {
            warnings.extend(later);
        }
    }

    /// The rest. An error that the format has no words for breaks the body off.
    pub fn end(&mut self, error: Option<QueryError>) -> Result<Bytes, Broken> {
        match self {
            Self::Json { started, head, warnings, .. } => {
                let mut out = if *started { Vec::new() } else { std::mem::take(head) };
                let cut = matches!(error, Some(QueryError::Limit { bound: Bound::Rows | Bound::Bytes, .. }));
                if let (true, Some(error)) = (cut, &error) {
                    warnings.push(error.to_string());
                }
                let error = error.filter(|_| !cut).map(|error| error.to_string());
                let rest = json!({"warnings": warnings, "truncated": cut, "error": error}).to_string();
                out.extend_from_slice(b"],");
                out.extend_from_slice(&rest.as_bytes()[1..]);
                Ok(out.into())
            }
            _ if error.is_some() => Err(error.map_or_else(|| Broken::Query(QueryError::Stopped), Broken::Query)),
            Self::Csv { head, carried } => {
                let mut out = Vec::new();
                if *head {
                    csv::WriterBuilder::new().with_header(true).build(&mut out).write(&RecordBatch::new_empty(carried.schema.clone()))?;
                }
                Ok(out.into())
            }
            Self::Arrow(writer) => {
                writer.finish()?;
                Ok(std::mem::take(writer.get_mut()).into())
            }
            Self::Parquet { writer, warnings, .. } => {
                // Not only in the schema, which Parquet keeps in a form of Arrow's own, and which does not know what came later.
                if !warnings.is_empty() {
                    writer.append_key_value_metadata(KeyValue::new(query::WARNINGS_KEY.to_owned(), json!(warnings).to_string()));
                }
                writer.finish()?;
                Ok(std::mem::take(writer.inner_mut()).into())
            }
        }
    }
}

/// Rows as arrays, each but the very first after a comma.
fn write_rows(batch: &RecordBatch, any: &mut bool, out: &mut Vec<u8>) -> Result<(), ArrowError> {
    let options = FormatOptions::default();
    let rows = JsonRows::new(batch, &options)?;
    for row in 0..batch.num_rows() {
        if std::mem::replace(any, true) {
            out.push(b',');
        }
        rows.write(row, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, BooleanArray, Float64Array, StringArray};
    use std::sync::Arc;

    fn batch() -> RecordBatch {
        let columns: Vec<(&str, ArrayRef)> = vec![
            ("number", Arc::new(Float64Array::from(vec![Some(1.5), Some(f64::NAN), None]))),
            ("flag", Arc::new(BooleanArray::from(vec![true, false, true]))),
            ("text", Arc::new(StringArray::from(vec![Some("a\"b"), None, Some("ü")]))),
        ];
        RecordBatch::try_from_iter(columns).unwrap()
    }

    #[test]
    fn json_is_json_whatever_comes() {
        let batch = batch();
        for batches in 0..3 {
            let mut encoder = Encoder::new(Format::Json, &batch.schema(), vec!["w".to_owned()]).unwrap();
            let mut text = Vec::new();
            for _ in 0..batches {
                text.extend_from_slice(&encoder.rows(&batch).unwrap());
            }
            text.extend_from_slice(&encoder.end(None).unwrap());
            let value: serde_json::Value = serde_json::from_slice(&text).unwrap();
            assert_eq!(value["rows"].as_array().unwrap().len(), 3 * batches);
            if batches > 0 {
                assert_eq!(value["rows"][0], json!([1.5, true, "a\"b"]));
                assert_eq!(value["rows"][1], json!([null, false, null]));
            }
            assert_eq!((&value["truncated"], &value["warnings"]), (&json!(false), &json!(["w"])));
        }
    }

    #[test]
    fn a_cut_answer_says_so_and_another_error_is_told() {
        let batch = batch();
        let end = |error| {
            let mut encoder = Encoder::new(Format::Json, &batch.schema(), Vec::new()).unwrap();
            let text = encoder.end(Some(error)).unwrap();
            serde_json::from_slice::<serde_json::Value>(&text).unwrap()
        };
        let cut = end(QueryError::Limit { bound: Bound::Rows, message: "too many".to_owned() });
        assert_eq!((&cut["truncated"], &cut["warnings"], &cut["error"]), (&json!(true), &json!(["too many"]), &json!(null)));
        let failed = end(QueryError::Data { message: "divide by zero".to_owned() });
        assert_eq!((&failed["truncated"], &failed["error"]), (&json!(false), &json!("divide by zero")));
        let mut csv = Encoder::new(Format::Csv, &batch.schema(), Vec::new()).unwrap();
        assert!(csv.end(Some(QueryError::Busy)).is_err());
    }

    #[test]
    fn a_wide_parquet_answer_is_written_in_small_groups() {
        let rows = 8 * 8_192;
        let number = |column: usize| (0..rows).map(move |row| (row as f64 * 1.000_1 + column as f64).sin());
        let columns: Vec<(String, ArrayRef)> =
            (0..100).map(|column| (format!("c{column}"), Arc::new(Float64Array::from_iter_values(number(column))) as ArrayRef)).collect();
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let mut encoder = Encoder::new(Format::Parquet, &batch.schema(), Vec::new()).unwrap();
        let (mut bytes, mut held) = (Vec::new(), 0);
        for part in 0..8 {
            bytes.extend_from_slice(&encoder.rows(&batch.slice(part * 8_192, 8_192)).unwrap());
            if let Encoder::Parquet { writer, .. } = &encoder {
                held = held.max(writer.memory_size());
            }
        }
        bytes.extend_from_slice(&encoder.end(None).unwrap());
        assert!(held < 2 * ROW_GROUP_BYTES_MAX, "{held}");
        let read = parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(Bytes::from(bytes)).unwrap();
        assert_eq!(read.metadata().file_metadata().num_rows(), rows as i64);
        assert!(read.metadata().num_row_groups() > 1);
    }

    #[test]
    fn the_first_known_type_is_taken() {
        let accepted = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, text.parse().unwrap());
            Format::accepted(&headers)
        };
        assert_eq!(accepted("text/csv"), Format::Csv);
        assert_eq!(accepted("text/html, application/vnd.apache.arrow.stream;q=0.9, */*"), Format::ArrowStream);
        assert_eq!(accepted("*/*"), Format::Json);
        assert_eq!(accepted("text/csv;q=0, application/json"), Format::Json);
        assert_eq!(accepted("application/json;q=0.5, Text/CSV;q=0.8"), Format::Csv);
    }
}
