//! Telemetry of one device as whole columns: the usual stream of a gateway or of a device that was offline. What all rows must
//! satisfy is checked over each column at once, and then the columns are appended at once. Whenever any row is not plain, nothing
//! is written and the caller goes row by row, which says what is wrong with which event.

use rollcall_model::limits;

use super::{Columns, Seq, Text};
use crate::decode::columns::Rows;
use crate::decode::event::Speaker;
use crate::decode::intake::{Intake, Taken};
use arrow::array::Array;
use rollcall_model::event::Kind;

/// Takes all rows, or none and returns false.
pub fn telemetry(columns: &Columns<'_>, rows: usize, speaker: &Speaker<'_>, intake: &mut Intake) -> bool {
    let (Some(metric), Some(value)) = (&columns.metric, columns.value) else { return false };
    if columns.device.is_some() || columns.map.is_some() || rows == 0 {
        return false;
    }
    let Some(seq) = numbers(&columns.seq) else { return false };
    let Some(ts) = times(columns, speaker) else { return false };
    let one_row_each = seq.windows(2).all(|pair| pair[0] != pair[1]);
    let finite = value.null_count() == 0 && value.values().iter().all(|value| value.is_finite());
    if !one_row_each || !finite || !metric.all_sized(rows, limits::METRIC_BYTES_MAX) {
        return false;
    }
    let Some(people) = people(columns, rows, speaker, intake) else { return false };
    let offline = columns.offline;
    let offline = (0..rows).map(|row| offline.is_some_and(|column| column.is_valid(row) && column.value(row)));
    let names = (0..rows).map(|row| metric.get(row).unwrap_or_default());
    let who = speaker.identity;
    intake.readings.extend(who, Rows { received: speaker.now.0, seq: &seq, ts: &ts }, offline, &people, names, value.values());
    let taken = seq.iter().zip(&*ts).map(|(&seq, &ts)| Taken { device: who.device, seq, ts, kind: Kind::Telemetry, rows: 1 });
    intake.events.extend(taken);
    true
}

fn numbers(seq: &Seq<'_>) -> Option<Vec<u64>> {
    match seq {
        Seq::Unsigned(array) => (array.null_count() == 0).then(|| array.values().to_vec()),
        Seq::Signed(array) if array.null_count() > 0 => None,
        Seq::Signed(array) => array.values().iter().map(|&seq| u64::try_from(seq).ok()).collect(),
    }
}

/// Event times in milliseconds, all of them within what the device's school permits.
fn times(columns: &Columns<'_>, speaker: &Speaker<'_>) -> Option<Vec<i64>> {
    if columns.ts.null_count() > 0 {
        return None;
    }
    let (times, per) = columns.scale;
    let ts: Vec<i64> = match columns.scale {
        (1, 1) => columns.ts.values().to_vec(),
        _ => columns.ts.values().iter().map(|ts| ts.saturating_mul(times).div_euclid(per)).collect(),
    };
    let earliest = speaker.now.0.saturating_sub(speaker.identity.late_max_ms);
    let latest = speaker.now.0.saturating_add(speaker.identity.clock_skew_max_ms);
    ts.iter().all(|ts| (earliest..=latest).contains(ts)).then_some(ts)
}

/// Whom each row is about; `None` when a badge is not known.
fn people(columns: &Columns<'_>, rows: usize, speaker: &Speaker<'_>, intake: &mut Intake) -> Option<Vec<Option<i128>>> {
    let own = speaker.own_person();
    let Some(badges) = &columns.badge else { return Some(vec![own; rows]) };
    let person = |row| match badges.get(row) {
        None => Some(own),
        Some(badge) => speaker.holder(speaker.identity, Some(badge), &mut intake.last_badge).ok()?.map(|(person, _)| Some(person)),
    };
    (0..rows).map(person).collect()
}

impl Text<'_> {
    /// Whether no row is null and every value has 1 to `max` bytes. Of a dictionary all values must, even unused ones.
    fn all_sized(&self, rows: usize, max: usize) -> bool {
        let sized = |text: Option<&str>| text.is_some_and(|text| (1..=max).contains(&text.len()));
        match self {
            Self::Dictionary { array, values, .. } => array.null_count() == 0 && values.all_sized(values.len(), max),
            _ => (0..rows).all(|row| sized(self.get(row))),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Utf8(array) => array.len(),
            Self::Large(array) => array.len(),
            Self::View(array) => array.len(),
            Self::Dictionary { array, .. } => array.len(),
        }
    }
}
