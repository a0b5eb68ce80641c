//! Asking the engine as its doors do, and taking the time.

use std::time::Instant;

use rollcall_analytics::query::{Caller, GROUP_MIN, Limits, PrivacyKey, QueryEngine};
use rollcall_model::ids::AccountId;
use rollcall_store::account::Role;

use crate::{Result, data};

/// Longer than any query here may take.
const TIME_LIMIT: std::time::Duration = std::time::Duration::from_secs(120);

pub fn caller(role: Role) -> Caller {
    Caller {
        district: data::district(),
        account: AccountId::from_bytes([9; 16]),
        role,
        schools: None,
        sections: None,
        students: None,
        privacy: PrivacyKey([7; 32]),
        group_min: GROUP_MIN,
    }
}

/// Runs the query to its last row; milliseconds from the text to the end, and the number of rows.
pub async fn ask(engine: &QueryEngine, caller: &Caller, sql: &str) -> Result<(f64, usize)> {
    let limits = Limits { time: TIME_LIMIT, ..Limits::default() };
    let begun = Instant::now();
    let batches = engine.run(caller, sql, &limits).await?.collect().await?;
    let ms = begun.elapsed().as_secs_f64() * 1e3;
    let rows = batches.iter().map(|batch| batch.num_rows()).sum();
    if rows == 0 {
        return Err(format!("no rows for {sql}").into());
    }
    Ok((ms, rows))
}

/// The median of repeated measurements.
pub fn median(mut ms: Vec<f64>) -> f64 {
    ms.sort_by(f64::total_cmp);
    ms[ms.len() / 2]
}

/// Milliseconds of processor time that this program has used.
pub fn processor_ms() -> f64 {
    // SAFETY: the call fills the struct that it is given, which is plain numbers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    ms(usage.ru_utime) + ms(usage.ru_stime)
}

/// Bytes of memory that the program holds now.
pub fn resident_bytes() -> usize {
    let pages = std::fs::read_to_string("/proc/self/statm").ok().and_then(|text| text.split(' ').nth(1)?.parse::<usize>().ok());
    pages.unwrap_or(0) * 4096
}
