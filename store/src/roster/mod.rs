//! Loading a roster: one transaction, in bulk, all or nothing, and the same file twice changes nothing.
//!
//! Ids are v5 UUIDs of district, kind and sourcedId, so that they survive any number of imports. A bulk file is the
//! whole truth about people and classes that came from one: who is no longer in it becomes inactive, and memberships,
//! enrolments and meetings end today with their history kept (see [`reconcile`](self)). A guardian's tie to a student
//! that is gone is deleted, because it is a right of access. What was added by hand, without a sourcedId, is left
//! alone; so are bells and calendars of schools for which the import brings no timetable.
//!
//! Names are compared after opening them and sealed again only when they changed.

mod people;
mod reconcile;
mod spans;
mod structure;

use std::collections::HashMap;

use chrono::{NaiveDate, NaiveTime};
use rollcall_model::ids::DistrictId;
use rollcall_roster::Roster;
use serde::Serialize;
use sqlx::Row as _;
use uuid::Uuid;

use crate::vault::Vault;
use crate::{Store, StoreError, Tenant};

/// Rows of one statement. Large enough that round trips do not count, small enough for the server's memory.
const CHUNK_ROWS: usize = 10_000;

/// Share of the district's active people above which their leaving in one import is worth a warning.
const LEAVING_SHARE_WARNED: f64 = 0.2;

/// Rows added, changed in place, and ended (made inactive, given an end date, or removed).
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug, Serialize)]
pub struct Tally {
    pub added: u64,
    pub changed: u64,
    pub ended: u64,
}

/// What an import did.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct ImportReport {
    pub district: DistrictId,
    pub schools: Tally,
    pub people: Tally,
    pub memberships: Tally,
    pub guardians: Tally,
    pub sections: Tally,
    pub enrolments: Tally,
    pub periods: Tally,
    pub bells: Tally,
    pub calendar: Tally,
    pub meetings: Tally,
    pub warnings: Vec<String>,
}

impl ImportReport {
    /// Whether the directory is as it was.
    pub fn unchanged(&self) -> bool {
        [
            self.schools,
            self.people,
            self.memberships,
            self.guardians,
            self.sections,
            self.enrolments,
            self.periods,
            self.bells,
            self.calendar,
            self.meetings,
        ]
        .iter()
        .all(|tally| *tally == Tally::default())
    }
}

/// How far an import is, for a progress bar.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Progress {
    /// What is being loaded now.
    pub step: &'static str,
    /// Rows of the roster that are done, of `total`.
    pub done: u64,
    pub total: u64,
}

/// Loads `roster` into the district of this name, which is made if there is none. `today` is the district's local
/// date, from which on what is gone is gone. Nothing is stored unless the whole import succeeds.
pub async fn import(
    store: &Store,
    vault: &Vault,
    district_name: &str,
    roster: &Roster,
    today: NaiveDate,
    progress: &mut (dyn FnMut(Progress) + Send),
) -> Result<ImportReport, StoreError> {
    let mut tenant = open_district(store, district_name).await?;
    let district = tenant.district();
    let mut loading = Loading { ids: Ids::new(district, roster), roster, district, today, progress, done: 0 };
    let mut report = ImportReport {
        district,
        schools: Tally::default(),
        people: Tally::default(),
        memberships: Tally::default(),
        guardians: Tally::default(),
        sections: Tally::default(),
        enrolments: Tally::default(),
        periods: Tally::default(),
        bells: Tally::default(),
        calendar: Tally::default(),
        meetings: Tally::default(),
        warnings: Vec::new(),
    };
    // Before anything is added: what had been imported earlier, for which a missing start date means today.
    let known = structure::known(&mut tenant, district).await?;
    report.schools = structure::schools(&mut tenant, &mut loading).await?;
    report.people = people::people(&mut tenant, &mut loading, vault, &mut report.warnings).await?;
    report.memberships = spans::memberships(&mut tenant, &mut loading, &known).await?;
    report.guardians = people::guardians(&mut tenant, &mut loading).await?;
    report.sections = structure::sections(&mut tenant, &mut loading).await?;
    report.enrolments = spans::enrolments(&mut tenant, &mut loading, &known).await?;
    report.periods = structure::periods(&mut tenant, &mut loading).await?;
    report.bells = structure::bells(&mut tenant, &mut loading, &mut report.warnings).await?;
    report.calendar = structure::calendar(&mut tenant, &mut loading).await?;
    report.meetings = spans::meetings(&mut tenant, &mut loading, &known).await?;
    tenant.commit().await?;
    Ok(report)
}

/// A transaction on the district of this name, which is added when there is none; one import at a time.
async fn open_district(store: &Store, name: &str) -> Result<Tenant, StoreError> {
    let known = sqlx::query("select district from rollcall.districts() where name = $1").bind(name).fetch_optional(store.pool()).await?;
    let (district, new) = match known {
        Some(row) => (DistrictId(row.try_get(0)?), false),
        None => (DistrictId::random(), true),
    };
    let mut tenant = store.tenant(district).await?;
    if new {
        // Two first imports of one name: the second waits here and then fails on the unique name, having done nothing.
        sqlx::query("insert into rollcall.district (district, name) values ($1, $2)")
            .bind(district.0)
            .bind(name)
            .execute(&mut *tenant)
            .await?;
    } else {
        sqlx::query("select pg_advisory_xact_lock(hashtextextended('rollcall.roster.' || $1::text, 0))")
            .bind(district.0)
            .execute(&mut *tenant)
            .await?;
    }
    Ok(tenant)
}

/// What every step needs.
struct Loading<'a> {
    roster: &'a Roster,
    ids: Ids,
    district: DistrictId,
    today: NaiveDate,
    progress: &'a mut (dyn FnMut(Progress) + Send),
    done: u64,
}

impl Loading<'_> {
    fn advance(&mut self, step: &'static str, rows: usize) {
        self.done += rows as u64;
        let r = self.roster;
        let total = r.schools.len()
            + r.people.len()
            + r.memberships.len()
            + r.guardians.len()
            + r.sections.len()
            + r.enrolments.len()
            + r.timetable.calendar.len()
            + r.timetable.meetings.len();
        (self.progress)(Progress { step, done: self.done, total: total as u64 });
    }
}

/// The ids of everything in the roster, by position.
struct Ids {
    namespace: Uuid,
    schools: Vec<Uuid>,
    people: Vec<Uuid>,
    sections: Vec<Uuid>,
    /// By school and name.
    periods: HashMap<(usize, String), Uuid>,
}

impl Ids {
    fn new(district: DistrictId, roster: &Roster) -> Self {
        let namespace = district.0;
        let id = |kind: &str, name: &str| Uuid::new_v5(&namespace, format!("{kind}:{name}").as_bytes());
        let periods = roster.timetable.periods.iter().map(|p| {
            let name = format!("{}:{}", roster.schools[p.school].source_id, p.name);
            ((p.school, p.name.clone()), id("period", &name))
        });
        Self {
            schools: roster.schools.iter().map(|s| id("school", &s.source_id)).collect(),
            people: roster.people.iter().map(|p| id("person", &p.source_id)).collect(),
            sections: roster.sections.iter().map(|s| id("section", &s.source_id)).collect(),
            periods: periods.collect(),
            namespace,
        }
    }

    fn period(&self, school: usize, name: &str) -> Option<Uuid> {
        self.periods.get(&(school, name.to_owned())).copied()
    }

    fn schedule(&self, school: usize, name: &str, valid_from: NaiveDate) -> Uuid {
        let school = self.schools[school];
        Uuid::new_v5(&self.namespace, format!("schedule:{school}:{valid_from}:{name}").as_bytes())
    }
}

/// One bell as the database holds it.
type BellRow = (NaiveTime, NaiveTime, bool);

/// What a statement that inserts or updates did: `returning (xmax = 0)` is true for a row that is new.
fn tally(new: &[bool]) -> Tally {
    let added = new.iter().filter(|new| **new).count() as u64;
    Tally { added, changed: new.len() as u64 - added, ended: 0 }
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.added += other.added;
        self.changed += other.changed;
        self.ended += other.ended;
    }
}
