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

    /// This many milliseconds later (earlier when negative); saturates at the ends of the range.
    pub const fn plus_ms(self, ms: i64) -> Self {
        Self(self.0.saturating_add(ms))
    }

    /// This many minutes later; saturates.
    pub const fn plus_min(self, min: u32) -> Self {
        self.plus_ms(min as i64 * 60_000)
    }
}

/// Serde adapters for JSON that people and clients read: RFC 3339, UTC, milliseconds ("2026-11-20T07:58:03.412Z").
///
/// Use with `#[serde(with = "rollcall_model::time::rfc3339")]`; [`UtcMillis`] alone serialises as an integer. An
/// instant outside chrono's range of years is an error, never a wrong text.
pub mod rfc3339 {
    use chrono::{DateTime, SecondsFormat};
    use serde::{Deserialize, Deserializer, Serializer, de, ser};

    use super::UtcMillis;

    pub fn serialize<S: Serializer>(instant: &UtcMillis, serializer: S) -> Result<S::Ok, S::Error> {
        let instant = instant.to_chrono().ok_or_else(|| ser::Error::custom("instant out of range"))?;
        serializer.serialize_str(&instant.to_rfc3339_opts(SecondsFormat::Millis, true))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<UtcMillis, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        DateTime::parse_from_rfc3339(&text).map(|t| UtcMillis(t.timestamp_millis())).map_err(de::Error::custom)
    }

    /// The same for an instant that may be missing (`null`).
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        use super::UtcMillis;

        #[derive(Deserialize)]
        struct Wrapped(#[serde(with = "super")] UtcMillis);

        pub fn serialize<S: Serializer>(instant: &Option<UtcMillis>, serializer: S) -> Result<S::Ok, S::Error> {
            match instant {
                Some(instant) => super::serialize(instant, serializer),
                None => serializer.serialize_none(),
            }
        }

        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<UtcMillis>, D::Error> {
            Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
        }
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
