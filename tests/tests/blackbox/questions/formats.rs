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

/// What a format has no type for is text in it.
#[tokio::test(flavor = "multi_thread")]
async fn every_format_takes_every_type() -> Result<()> {
    let asked = Asked::launch(&[]).await?;
    let office = &asked.office;
    let sql = "select make_array('a,b', 'c\"d', null, '') as texts, [[1], []] as lists, named_struct('x', 1, 'y', 'z') as parts,
        interval '1 day' as span, to_timestamp_seconds(0) as at, arrow_cast(0, 'Date64') as day, array_agg(distinct school) as schools, max(id_text(school)) as school from scans";
    let as_json: Value = serde_json::from_slice(&fetch(&asked, office, sql, "application/json").await?)?;
    let school = as_json["rows"][0][7].as_str().unwrap_or_default().to_owned();
    ensure!(school.len() == 36, "{as_json}");
    let expected = json!([[["a,b", "c\"d", null, ""], [[1], []], {"x": 1, "y": "z"}, "1 days", "1970-01-01T00:00:00", "1970-01-01", [school], school]]);
    ensure!(as_json["rows"] == expected, "{as_json}");
    let csv = String::from_utf8(fetch(&asked, office, sql, "text/csv").await?)?;
    ensure!(csv.contains(r#""[""a,b"",""c\""d"",null,""""]","[[1],[]]""#), "{csv}");
    let stream = fetch(&asked, office, sql, "application/vnd.apache.arrow.stream").await?;
    let batches = StreamReader::try_new(stream.as_slice(), None)?.collect::<Result<Vec<_>, _>>()?;
    ensure!(batches[0].column(6).as_list::<i32>().value(0).as_string::<i32>().value(0) == school.as_str(), "{batches:?}");
    let path = tempfile::NamedTempFile::new()?;
    std::fs::write(&path, fetch(&asked, office, sql, "application/vnd.apache.parquet").await?)?;
    let reader = ParquetRecordBatchReaderBuilder::try_new(path.reopen()?)?;
    let types: Vec<_> = reader.parquet_schema().columns().iter().map(|column| column.logical_type_ref().is_some()).collect();
    ensure!(
        types.iter().filter(|is_named| !**is_named).count() == 2,
        "all but the numbers of lists and parts have a type of their own: {types:?}"
    );
    Ok(())
}

/// Before the first row an error is an answer of its own, in whatever format the rows were wanted.
#[tokio::test(flavor = "multi_thread")]
async fn what_fails_before_its_first_row_is_told() -> Result<()> {
    let asked = Asked::launch(&[]).await?;
    for accept in ["text/csv", "application/vnd.apache.arrow.stream", "application/vnd.apache.parquet"] {
        let sql = "select 1 / (count(*) - count(*)) as a from scans";
        let request = reqwest::Client::new().post(format!("{}/api/v1/sql", asked.instance.http)).json(&json!({"sql": sql}));
        let request = request.header("cookie", &asked.office.cookie).header("sec-fetch-site", "same-origin").header("accept", accept);
        let response = request.send().await?;
        let status = response.status().as_u16();
        let problem: Value = response.json().await?;
        ensure!(status == 422 && problem["code"] == "sql_data", "{accept}: {status} {problem}");
    }
    Ok(())
}
