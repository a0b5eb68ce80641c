//! How many rows a second the log on local files makes durable, and what that costs.
//!
//! `cargo run --release -p rollcall-stream --example throughput -- [appenders] [rows per batch] [seconds]`
//!
//! Every appender waits until its rows are durable whenever it has 32 batches outstanding, as a connection would that
//! owes acknowledgements. One reader follows from memory. Then the log is opened again and read from the files.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{BooleanArray, FixedSizeBinaryArray, Float64Array, Int64Array, StringArray, UInt64Array};
use arrow::record_batch::RecordBatch;
use prometheus::Registry;
use rollcall_model::event::Kind;
use rollcall_model::ids::Offset;
use rollcall_stream::embedded::{EmbeddedLog, LogConfig};
use rollcall_stream::schema::schema;
use rollcall_stream::{AppendError, EventBatch, Log, LogError, Tail};

const OUTSTANDING_BATCHES_MAX: usize = 32;
const READ_BYTES: usize = 4 * 1024 * 1024;

/// Telemetry of one device, about 110 bytes a row.
fn batch(rows: usize) -> EventBatch {
    let id = |byte: u8| {
        let ids = FixedSizeBinaryArray::try_from_iter(std::iter::repeat_n([byte; 16], rows));
        Arc::new(ids.expect("every id is sixteen bytes wide"))
    };
    let columns = RecordBatch::try_new(
        Arc::clone(schema(Kind::Telemetry)),
        vec![
            id(1),
            id(2),
            id(3),
            Arc::new(UInt64Array::from_iter_values(0..rows as u64)),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(Int64Array::from_iter_values(0..rows as i64)),
            Arc::new(BooleanArray::from(vec![false; rows])),
            id(4),
            Arc::new(StringArray::from_iter_values(std::iter::repeat_n("heart_rate", rows))),
            Arc::new(Float64Array::from_iter_values((0..rows).map(|row| row as f64))),
        ],
    );
    EventBatch::new(Kind::Telemetry, columns.expect("the columns are those of telemetry"))
}

/// Seconds of processor time of the whole process, or of the calling thread.
fn cpu_seconds(who: libc::c_int) -> f64 {
    // SAFETY: a zeroed rusage is valid, and the call only writes into it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(who, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}

async fn append_until(log: Arc<EmbeddedLog>, template: EventBatch, deadline: Instant) {
    let mut durable = log.durable();
    let mut owed = std::collections::VecDeque::new();
    while Instant::now() < deadline {
        match log.append(vec![template.clone()]) {
            Ok(end) => owed.push_back(end),
            Err(AppendError::Busy) => {
                let _ = durable.changed().await;
            }
            Err(error) => panic!("{error}"),
        }
        if owed.len() >= OUTSTANDING_BATCHES_MAX
            && let Some(due) = owed.pop_front()
        {
            let _ = durable.wait_for(|durable| *durable >= due).await;
        }
    }
}

async fn follow(log: Arc<dyn Log>) -> u64 {
    let mut tail = Tail::new(Arc::clone(&log), Offset(0));
    let mut rows = 0;
    loop {
        match tail.next(READ_BYTES).await {
            Ok(read) => rows += read.batches.iter().map(|batch| batch.len() as u64).sum::<u64>(),
            Err(LogError::Stopped(_)) => return rows,
            Err(error) => panic!("{error}"),
        }
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).map(|number| number.parse().expect("a whole number"));
    let (appenders, rows, seconds) = (numbers.next().unwrap_or(50), numbers.next().unwrap_or(100), numbers.next().unwrap_or(5));
    let dir = tempfile::tempdir_in(".").expect("the current directory can be written to");
    let open = || EmbeddedLog::open(dir.path(), LogConfig::default(), &Registry::new()).expect("the log opens");
    let log = open();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().expect("a runtime");
    let (started, cpu) = (Instant::now(), cpu_seconds(libc::RUSAGE_SELF));
    let reader = runtime.spawn(follow(Arc::clone(&log) as Arc<dyn Log>));
    runtime.block_on(async {
        let deadline = started + Duration::from_secs(seconds as u64);
        let template = batch(rows);
        let tasks = (0..appenders).map(|_| tokio::spawn(append_until(Arc::clone(&log), template.clone(), deadline)));
        for task in tasks.collect::<Vec<_>>() {
            task.await.expect("an appender panicked");
        }
    });
    log.close();
    let (took, used) = (started.elapsed().as_secs_f64(), cpu_seconds(libc::RUSAGE_SELF) - cpu);
    let (end, bytes) = (log.end().0, log.status().disk_bytes);
    let read = runtime.block_on(reader).expect("the reader panicked");
    drop(log);
    println!("appended  {end} rows in {took:.2} s: {:.2} million rows/s durable", end as f64 / took / 1e6);
    println!("on disk   {} bytes a row, {:.0} MB/s", bytes / end.max(1), bytes as f64 / took / 1e6);
    println!("cpu       {used:.2} s: {:.2} cores, {:.0} ns a row, with {read} rows followed", used / took, used / end as f64 * 1e9);
    let started = Instant::now();
    let log = open();
    println!("reopened  in {:.3} s", started.elapsed().as_secs_f64());
    let (started, mut next) = (Instant::now(), Offset(0));
    while next < log.end() {
        next = log.read(next, READ_BYTES).expect("every row can be read").next;
    }
    let took = started.elapsed().as_secs_f64();
    println!("replayed  {next} rows in {took:.2} s: {:.2} million rows/s", next.0 as f64 / took / 1e6);
}
