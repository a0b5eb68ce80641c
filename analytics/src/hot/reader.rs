//! The reader that keeps the hot tables up with the log.

use std::sync::Arc;

use rollcall_model::ids::Offset;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_stream::schema::RECEIVED;
use rollcall_stream::{Log, LogError, Tail};
use tokio_util::sync::CancellationToken;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;

use super::table::KINDS;
use super::{HotError, HotTables};

/// Bytes of columns read from the log at a time.
const READ_BYTES_MAX: usize = 8 * 1024 * 1024;

impl HotTables {
    /// Reads back the configured hours, then follows the log until `stop` or until the log has stopped, which is an
    /// error. Never registered as a reader: what the log trims meanwhile is skipped.
    pub async fn run(self: Arc<Self>, log: Arc<dyn Log>, clock: Clock, stop: CancellationToken) -> Result<(), HotError> {
        let oldest = UtcMillis(clock.now().0.saturating_sub(self.config.keep.as_millis() as i64));
        let start = {
            let log = Arc::clone(&log);
            // A panic of the search costs the past, not the present.
            tokio::task::spawn_blocking(move || start_at(log.as_ref(), oldest)).await.unwrap_or_else(|_| Ok(Offset(0)))?
        };
        let start = start.max(log.oldest());
        self.begin_at(start);
        let mut tail = Tail::new(Arc::clone(&log), start).only(&KINDS);
        loop {
            let read = tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                read = tail.next(READ_BYTES_MAX) => read,
            };
            match read {
                Ok(read) => self.take(&read.batches, read.next, clock.now()),
                Err(LogError::Trimmed { asked, oldest }) => {
                    tracing::warn!(%asked, %oldest, "the log was trimmed past the hot tables; they begin again");
                    self.begin_at(oldest);
                    tail = Tail::new(Arc::clone(&log), oldest).only(&KINDS);
                }
                Err(_) if stop.is_cancelled() => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// The first offset whose row was received at `oldest` or later, give or take one batch: rows are received in the order of
/// the log but for milliseconds. Blocking.
fn start_at(log: &dyn Log, oldest: UtcMillis) -> Result<Offset, LogError> {
    let (mut low, mut high) = (log.oldest().0, log.durable().borrow().0);
    while low < high {
        let middle = low + (high - low) / 2;
        let read = match log.read(Offset(middle), 1) {
            Ok(read) => read,
            Err(LogError::Trimmed { oldest, .. }) => {
                low = oldest.0;
                high = high.max(low);
                continue;
            }
            Err(error) => return Err(error),
        };
        let Some(batch) = read.batches.first() else { return Ok(Offset(low)) };
        let received = batch.rows.column(RECEIVED).as_primitive::<Int64Type>().value(0);
        if received < oldest.0 {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    Ok(Offset(low))
}
