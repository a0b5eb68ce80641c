//! The formats of an answer over HTTP.

use anyhow::{Result, ensure};
use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::ipc::reader::StreamReader;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use serde_json::{Value, json};

use super::{Asked, QUESTION, STUDENTS};
use rollcall_tests::session::Session;

/// The answer's bytes in a format.
pub async fn fetch(asked: &Asked, session: &Session, sql: &str, accept: &str) -> Result<Vec<u8>> {
    let request = reqwest::Client::new().post(format!("{}/api/v1/sql", asked.instance.http)).json(&json!({"sql": sql}));
    let request = request.header("cookie", &session.cookie).header("sec-fetch-site", "same-origin").header("accept", accept);
    let response = request.send().await?.error_for_status()?;
    let given = response.headers().get("content-type").and_then(|value| value.to_str().ok()).unwrap_or_default().to_owned();
    ensure!(given == accept, "{given} instead of {accept}");
    Ok(response.bytes().await?.to_vec())
}

/// Rows of the question's shape: a text and a number.
fn rows(batches: &[RecordBatch]) -> Value {
    let mut rows = Vec::new();
    for batch in batches {
        let (texts, numbers) = (batch.column(0).as_string::<i32>(), batch.column(1).as_primitive::<Int64Type>());
        rows.extend((0..batch.num_rows()).map(|row| json!([texts.value(row), numbers.value(row)])));
    }
    Value::Array(rows)
}

#[tokio::test(flavor = "multi_thread")]
async fn every_format_has_the_same_rows() -> Result<()> {
    let asked = Asked::launch(&[]).await?;
    let office = &asked.office;
    let expected = json!([["in", STUDENTS]]);
    let as_json: Value = serde_json::from_slice(&fetch(&asked, office, QUESTION, "application/json").await?)?;
    ensure!(as_json["rows"] == expected && as_json["truncated"] == false, "{as_json}");
    let csv = String::from_utf8(fetch(&asked, office, QUESTION, "text/csv").await?)?;
    ensure!(csv == format!("dir,scans\nin,{STUDENTS}\n"), "{csv}");
    let stream = fetch(&asked, office, QUESTION, "application/vnd.apache.arrow.stream").await?;
    let batches = StreamReader::try_new(stream.as_slice(), None)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(rows(&batches) == expected, "{batches:?}");
    let file = fetch(&asked, office, QUESTION, "application/vnd.apache.parquet").await?;
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(&path, file)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(path.reopen()?)?.build()?;
    let batches = reader.collect::<Result<Vec<_>, _>>()?;
    ensure!(rows(&batches) == expected, "{batches:?}");
    Ok(())
}
