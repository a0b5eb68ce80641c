//! The shapes of answers that other crates make, restated for the OpenAPI document and the dashboard's types. A test
//! holds them against what is really sent.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;

/// What the system concludes for a student and a period or day.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StatusName {
    Expected,
    Present,
    Tardy,
    Absent,
    EarlyDeparture,
    Unknown,
}

/// What a person may state. `cleared` withdraws the mark that it supersedes.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum MarkStatusName {
    Present,
    Tardy,
    AbsentUnexcused,
    AbsentExcused,
    EarlyDeparture,
    Cleared,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthorityName {
    Teacher,
    Office,
}

#[derive(Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum DirectionName {
    In,
    Out,
    Auto,
}

/// One scan that decided.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    pub device: Uuid,
    pub seq: u64,
    /// Event time, by the device's clock.
    #[schema(format = DateTime)]
    pub ts: String,
    /// When the server accepted it.
    #[schema(format = DateTime)]
    pub received: String,
    pub dir: DirectionName,
    /// It waited in the device's queue.
    pub offline: bool,
    pub offset: u64,
}

/// The mark that decided.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DecidingMark {
    pub id: Uuid,
    pub status: MarkStatusName,
    pub authority: AuthorityName,
    pub author: Uuid,
    pub reason: Option<String>,
    #[schema(format = DateTime)]
    pub recorded: String,
    #[schema(format = DateTime)]
    pub at: Option<String>,
}

/// A device whose missing evidence makes a status unknown.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BehindDevice {
    pub device: Uuid,
    /// `offline`, `queued` or `silent`.
    pub reason: String,
    #[schema(format = DateTime)]
    pub since: String,
}

/// Why a status holds.
#[derive(Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Detail {
    /// At most 8 scans, in order of event time.
    pub evidence: Vec<Evidence>,
    pub mark: Option<DecidingMark>,
    pub behind: Vec<BehindDevice>,
    /// `in_but_marked_absent`, `missed_scan`, `reentry_gap`, `late_evidence`, `left_after_mark`.
    pub flags: Vec<String>,
    pub present_min: u32,
    pub scheduled_min: u32,
    /// Of a day that is over: the half-days that are lacking, 0 to 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub absent_half_days: Option<u32>,
    #[schema(format = DateTime)]
    pub starts: Option<String>,
    #[schema(format = DateTime)]
    pub ends: Option<String>,
    /// By evidence, also where a mark decided otherwise.
    #[schema(format = DateTime)]
    pub arrival: Option<String>,
    #[schema(format = DateTime)]
    pub departure: Option<String>,
    pub grace_min: u32,
    pub tardy_cutoff_min: u32,
}

/// One student of a section's board.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct BoardEntry {
    pub status: StatusName,
    /// Arrival for present and tardy, departure for early departure.
    #[schema(format = DateTime)]
    pub since: Option<String>,
    pub rule: String,
    pub detail: Detail,
    pub day_status: Option<StatusName>,
}

/// Which meeting a board shows: the one now, else the next one today, else the last one.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct BoardMeeting {
    #[schema(format = Date)]
    pub date: String,
    /// `before`, `running`, `over`, or `none`: the section does not meet today.
    pub state: String,
    pub period: Option<Uuid>,
    pub period_name: Option<String>,
    #[schema(format = DateTime)]
    pub starts: Option<String>,
    #[schema(format = DateTime)]
    pub ends: Option<String>,
}

/// The data of the topic `section/<id>/attendance`.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct BoardData {
    /// By student.
    pub students: HashMap<Uuid, BoardEntry>,
    /// By status.
    pub counts: HashMap<String, u64>,
    pub meta: BoardMeeting,
}

/// A section's board at a version of its topic; subscribe with `since` = `version` to follow it.
#[derive(Serialize, Deserialize, ToSchema)]
pub struct Board {
    pub version: u64,
    pub data: BoardData,
}

#[cfg(test)]
mod tests {
    use rollcall_model::attendance::{EvidenceDetail, Flags, MarkDetail, StatusDetail};
    use rollcall_model::event::Direction;
    use rollcall_model::ids::{AccountId, DeviceId, MarkId, Offset};
    use rollcall_model::status::{Authority, Mark, MarkStatus};
    use rollcall_model::time::UtcMillis;

    use super::*;

    #[test]
    fn the_detail_that_is_sent_is_the_detail_that_is_described() {
        let mark = Mark {
            id: MarkId::random(),
            school: rollcall_model::ids::SchoolId::random(),
            student: rollcall_model::ids::PersonId::random(),
            section: None,
            period: None,
            date: chrono::NaiveDate::default(),
            status: MarkStatus::Tardy,
            authority: Authority::Office,
            author: AccountId::random(),
            reason: None,
            supersedes: None,
            recorded: UtcMillis(1),
            at: Some(UtcMillis(2)),
        };
        let scan = EvidenceDetail {
            device: DeviceId::random(),
            seq: 1,
            ts: UtcMillis(1),
            received: UtcMillis(2),
            dir: Direction::Auto,
            offline: true,
            offset: Offset(3),
        };
        let sent = StatusDetail {
            evidence: vec![scan],
            mark: Some(MarkDetail::from(&mark)),
            flags: Flags::NONE,
            starts: Some(UtcMillis(0)),
            ..StatusDetail::default()
        };
        let sent = serde_json::to_value(sent).unwrap();
        let described: Detail = serde_json::from_value(sent.clone()).unwrap();
        assert_eq!(serde_json::to_value(described).unwrap(), sent);
    }
}
