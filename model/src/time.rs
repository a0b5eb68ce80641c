//! Instants and the injected clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An instant in milliseconds since the Unix epoch, UTC.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct UtcMillis(pub i64);

impl UtcMillis {
    /// The instant for libraries that format or convert; `None` outside chrono's range of years.
    pub fn to_chrono(self) -> Option<DateTime<Utc>> {
        DateTime::from_timestamp_millis(self.0)
    }

    pub fn from_chrono(instant: DateTime<Utc>) -> Self {
        Self(instant.timestamp_millis())
    }
}

/// The only source of "now" below the binary. The real one follows the system; tests and replays step theirs.
#[derive(Clone)]
pub enum Clock {
    System,
    Stepped(Arc<AtomicI64>),
}

impl Clock {
    pub fn stepped(start: UtcMillis) -> Self {
        Self::Stepped(Arc::new(AtomicI64::new(start.0)))
    }

    pub fn now(&self) -> UtcMillis {
        match self {
            Self::System => UtcMillis::from_chrono(Utc::now()),
            Self::Stepped(ms) => UtcMillis(ms.load(Ordering::Acquire)),
        }
    }

    /// Sets a stepped clock; the system's clock is left alone.
    pub fn set(&self, instant: UtcMillis) {
        if let Self::Stepped(ms) = self {
            ms.store(instant.0, Ordering::Release);
        }
    }
}
