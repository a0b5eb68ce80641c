//! No row stops the sink: what cannot be stored is in the dead letters, counted, a warning, and all others arrive.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::{DataType, Field, Schema};
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_model::status::MarkStatus;
use rollcall_store::Engine;
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::{EventBatch, Log, mark, schema};

use crate::database::Database;
use crate::sink::{Running, a_mark, scans};

/// The batch with other values in one column.
fn with_column(batch: &EventBatch, column: usize, values: ArrayRef) -> EventBatch {
    let mut columns = batch.rows.columns().to_vec();
    columns[column] = values;
    EventBatch::new(batch.kind, RecordBatch::try_new(batch.rows.schema(), columns).unwrap())
}

#[tokio::test]
async fn a_mark_with_an_unknown_code_is_a_dead_letter_of_its_district() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let marks = [a_mark(&district, MarkStatus::Tardy), a_mark(&district, MarkStatus::Present)];
    let codes = UInt8Array::from(vec![200, MarkStatus::Present.code()]);
    log.append(vec![scans(&district, 0, 5), with_column(&mark::encode(district.id, &marks), schema::COMMON + 5, Arc::new(codes))]).unwrap();
    log.append(vec![scans(&district, 5, 5)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    let status = running.until(|status| status.unstorable > 0).await;
    assert_eq!(status.unstorable, 1);
    assert!(status.warning().is_some_and(|warning| warning.contains("status code 200")));
    assert_eq!(database.count("event.scan").await, 10);
    assert_eq!(database.count_where("rollcall.mark", "status = 'present'").await, 1);
    assert_eq!(database.count("rollcall.mark").await, 1);
    let letter = "code = 'unstorable' and topic = 'log/mark' and log_offset = 5 and payload is not null and convert_from(payload, 'UTF8')::jsonb ->> 'reason' = 'dentist'";
    assert_eq!(database.count_where("rollcall.dead_letter", letter).await, 1);
    running.stop().await;
}

#[tokio::test]
async fn a_batch_without_the_columns_of_its_kind_is_set_aside() {
    let database = Database::start().await;
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    let fields = Arc::new(Schema::new(vec![Field::new("nonsense", DataType::Utf8, false)]));
    let rows = RecordBatch::try_new(fields, vec![Arc::new(StringArray::from(vec!["a", "b"]))]).unwrap();
    let nonsense = EventBatch { kind: Kind::Telemetry, first: Offset(0), rows: Arc::new(rows) };
    log.append(vec![scans(&district, 0, 3), nonsense, scans(&district, 3, 3)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    assert_eq!(database.count("event.scan").await, 6);
    assert_eq!(database.count_where("rollcall.dead_letter", "topic = 'log/telemetry' and log_offset = 3").await, 1);
    assert_eq!(running.until(|status| status.unstorable > 0).await.unstorable, 2);
    running.stop().await;
}

#[tokio::test]
async fn rows_that_the_database_refuses_are_found_and_set_aside() {
    let database = Database::start().await;
    let district = database.district("One").await;
    // Refused by a check, and by the calendar: a mark of a year that PostgreSQL does not know.
    database.as_owner("alter table event.scan add constraint superstition check (seq not in (13, 666))").await;
    let log = Arc::new(MemoryLog::new());
    log.append(vec![scans(&district, 0, 1000)]).unwrap();
    let ancient = with_column(
        &mark::encode(district.id, &[a_mark(&district, MarkStatus::Tardy)]),
        schema::COMMON + 9,
        Arc::new(Int64Array::from(vec![-8_000_000_000_000_000])),
    );
    log.append(vec![ancient, mark::encode(district.id, &[a_mark(&district, MarkStatus::Present)])]).unwrap();
    log.append(vec![scans(&district, 1000, 100)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    assert_eq!(database.count("event.scan").await, 1098);
    assert_eq!(database.count("rollcall.mark").await, 1);
    assert_eq!(running.until(|status| status.unstorable == 3).await.error, None);
    for offset in ["log_offset = 13", "log_offset = 666", "log_offset = 1000"] {
        assert_eq!(database.count_where("rollcall.dead_letter", offset).await, 1, "{offset}");
    }
    running.stop().await;
}

#[tokio::test]
async fn a_database_that_takes_nothing_empties_no_log_into_the_dead_letters() {
    let database = Database::start().await;
    let district = database.district("One").await;
    database.as_owner("alter table event.scan add constraint nothing check (false)").await;
    let log = Arc::new(MemoryLog::new());
    log.append(vec![scans(&district, 0, 500)]).unwrap();
    let mut running = Running::start(&database, &log);
    let status = running.until(|status| status.error.is_some()).await;
    assert!(status.error.is_some_and(|error| error.contains("nothing")));
    assert!(status.next < Offset(50), "stopped at {}", status.next);
    database.as_owner("alter table event.scan drop constraint nothing").await;
    running.drained(&log).await;
    let set_aside = database.count("rollcall.dead_letter").await;
    assert_eq!(database.count("event.scan").await + set_aside, 500);
    running.stop().await;
}

/// TimescaleDB falls back from compressing to rows with a notice that no client sees.
#[tokio::test]
async fn rows_that_should_have_been_compressed_are_a_warning() {
    let database = Database::start().await;
    if *database.store.engine() == Engine::Plain {
        return;
    }
    let district = database.district("One").await;
    let log = Arc::new(MemoryLog::new());
    log.append(vec![scans(&district, 0, 600), scans(&district, 0, 600)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    assert!(!running.until(|_| true).await.compress_fell_back);
    let compressed = "timescaledb_information.chunks where hypertable_name = 'scan' and is_compressed";
    assert_eq!(database.count(compressed).await, 1);
    running.stop().await;

    database
        .as_owner(
            "create function public.nothing() returns trigger language plpgsql as 'begin return new; end';
             create trigger nothing before insert on event.scan for each row execute function public.nothing()",
        )
        .await;
    log.append(vec![scans(&district, 0, 600), scans(&district, 0, 600)]).unwrap();
    let mut running = Running::start(&database, &log);
    running.drained(&log).await;
    let status = running.until(|status| status.compress_fell_back).await;
    assert!(status.warning().is_some_and(|warning| warning.contains("instead of compressing")));
    assert_eq!(database.count("event.scan").await, 2400);
    running.stop().await;
}
