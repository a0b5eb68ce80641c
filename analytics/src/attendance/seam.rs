//! What live attendance needs of the directory and the database, so that it runs without either in tests.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;

use chrono::NaiveDate;
use chrono_tz::Tz;
use rollcall_model::attendance::StatusDetail;
use rollcall_model::event::DeviceKind;
use rollcall_model::ids::{DeviceId, DistrictId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Meeting, Span};
use rollcall_model::status::{Mark, Rule, ScanEvidence, Status};
use rollcall_model::time::UtcMillis;
use rollcall_stream::heartbeat::HeartbeatRow;
use tokio::sync::watch;

pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// One local date of one school.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DayKey {
    pub district: DistrictId,
    pub school: SchoolId,
    pub date: NaiveDate,
}

/// Everything the database knows of a day at one consistent instant.
#[derive(Clone, Default, Debug)]
pub struct Cut {
    pub scans: Vec<ScanEvidence>,
    pub marks: Vec<Mark>,
    /// The newest row of each student and window.
    pub last: Vec<LastStatus>,
    /// Every event of the log before this offset, and none after it, is in `scans` and `marks`.
    pub next_offset: Offset,
}

/// The status last written for one student and one window.
#[derive(Clone, Debug)]
pub struct LastStatus {
    pub student: PersonId,
    /// `None`: the day.
    pub meeting: Option<(SectionId, PeriodId)>,
    pub status: Status,
    pub rule: Rule,
    pub since: Option<UtcMillis>,
    pub detail: StatusDetail,
    pub recorded: UtcMillis,
}

/// A conclusion that changed, to be written.
#[derive(Clone, Debug)]
pub struct Transition {
    pub day: DayKey,
    pub student: PersonId,
    /// `None`: the day.
    pub meeting: Option<(SectionId, PeriodId)>,
    pub status: Status,
    pub rule: Rule,
    pub since: Option<UtcMillis>,
    pub detail: StatusDetail,
    pub recorded: UtcMillis,
}

/// The database is away or refused; the caller waits and tries again.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SeamError(#[source] pub Box<dyn std::error::Error + Send + Sync>);

/// Where days are loaded from and transitions are written to.
pub trait AttendanceStore: Send + Sync + 'static {
    /// `span` is the date from midnight to midnight at the school.
    fn load_cut(&self, day: DayKey, span: Span) -> BoxFuture<'_, Result<Cut, SeamError>>;

    /// The newest words of every device, oldest first: connection and heartbeat. All that is known of device health
    /// before the log's rows that are still to be read.
    fn last_words(&self) -> BoxFuture<'_, Result<Vec<HeartbeatRow>, SeamError>>;

    /// All rows or none. Called again with the same rows when it failed, so rows that are there already (same day,
    /// student, meeting and recorded instant) are left alone.
    fn append(&self, rows: Arc<Vec<Transition>>) -> BoxFuture<'_, Result<(), SeamError>>;
}

/// Where the directory comes from.
pub trait DirectorySource: Send + Sync + 'static {
    fn current(&self) -> Arc<dyn DirectoryView>;
    /// Moves whenever `current` would answer something new.
    fn changed(&self) -> watch::Receiver<u64>;
}

/// One immutable state of the directory, of all districts.
pub trait DirectoryView: Send + Sync {
    fn schools(&self) -> Vec<SchoolInfo>;
    fn devices(&self) -> Vec<DeviceInfo>;
    fn school_of(&self, section: SectionId) -> Option<(DistrictId, SchoolId)>;
    /// The timetable and roster of a date; without meetings when it is not in session. `None`: no such school.
    fn plan(&self, day: DayKey) -> Option<DayPlan>;
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchoolInfo {
    pub district: DistrictId,
    pub id: SchoolId,
    pub name: String,
    pub zone: Tz,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DeviceInfo {
    pub district: DistrictId,
    pub school: SchoolId,
    pub id: DeviceId,
    pub kind: DeviceKind,
    pub name: String,
    pub disabled: bool,
    /// The gateway it is registered behind, whose connection is its own.
    pub gateway: Option<DeviceId>,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SectionInfo {
    pub title: String,
    pub room: Option<String>,
}

/// A meeting and the name of its period.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct PlannedMeeting {
    pub meeting: Meeting,
    pub period_name: Arc<str>,
}

/// Who is to be where and when on one date of one school.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DayPlan {
    /// From midnight to midnight.
    pub span: Span,
    pub policy: AttendancePolicy,
    /// In the order of `rollcall_model::schedule::sort_meetings`.
    pub meetings: Vec<PlannedMeeting>,
    /// All sections that are active on the date, whether they meet or not.
    pub sections: BTreeMap<SectionId, SectionInfo>,
    /// Places in `meetings` of each student of the school, ascending; empty for one who has none that day.
    pub students: HashMap<PersonId, Box<[u32]>>,
}
