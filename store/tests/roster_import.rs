//! Rosters into a real PostgreSQL: the whole of it, twice without a change, and what happens when somebody leaves.

use std::path::Path;

use chrono::NaiveDate;
use rollcall_model::ids::DistrictId;
use rollcall_roster::roster::{PersonKind, Roster};
use rollcall_roster::synthetic::{Plan, generate};
use rollcall_roster::{LoadOptions, load};
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_store::roster::{ImportReport, Tally, import};
use rollcall_store::vault::Vault;
use rollcall_store::{DatabaseConfig, Store};

const TABLES: [&str; 12] = [
    "district",
    "school",
    "period",
    "bell_schedule",
    "bell",
    "calendar_day",
    "person",
    "membership",
    "section",
    "meeting",
    "enrolment",
    "guardian",
];

struct Database {
    store: Store,
    vault: Vault,
    _postgres: EmbeddedPostgres,
    dir: tempfile::TempDir,
}

impl Database {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let postgres = EmbeddedPostgres::start(dir.path()).await.unwrap();
        let config = DatabaseConfig::new(postgres.url());
        Store::migrate(&config).await.unwrap();
        let store = Store::connect(&config).await.unwrap();
        Self { store, vault: Vault::new(&[7; 32]), _postgres: postgres, dir }
    }

    async fn import(&self, roster: &Roster, today: NaiveDate) -> ImportReport {
        import(&self.store, &self.vault, "Test district", roster, today, &mut |_| ()).await.unwrap()
    }

    /// Every row of every table with the transaction that wrote it.
    async fn rows(&self, district: DistrictId) -> Vec<String> {
        let mut tenant = self.store.tenant(district).await.unwrap();
        let mut all = Vec::new();
        for table in TABLES {
            let sql = sqlx::AssertSqlSafe(format!(
                "select '{table} ' || t.xmin::text || ' ' || t::text from rollcall.{table} t order by t::text"
            ));
            let rows: Vec<String> = sqlx::query_scalar(sql).fetch_all(&mut *tenant).await.unwrap();
            assert!(!rows.is_empty(), "{table}");
            all.extend(rows);
        }
        all
    }

    async fn count(&self, district: DistrictId, condition: &'static str) -> i64 {
        let mut tenant = self.store.tenant(district).await.unwrap();
        let sql = sqlx::AssertSqlSafe(format!("select count(*) from rollcall.{condition}"));
        sqlx::query_scalar(sql).fetch_one(&mut *tenant).await.unwrap()
    }
}

fn day(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn synthetic(dir: &Path, plan: &Plan) -> Roster {
    let district = generate(plan).unwrap();
    district.write_package(&dir.join("roster.zip")).unwrap();
    district.write_timetable(&dir.join("timetable")).unwrap();
    load(&dir.join("roster.zip"), Some(&dir.join("timetable")), &LoadOptions::default()).unwrap().roster
}

/// Without the person at this position: as an export looks after they left.
fn without(roster: &Roster, gone: usize) -> Roster {
    let mut left = roster.clone();
    left.people.remove(gone);
    let shift = |at: usize| if at > gone { at - 1 } else { at };
    left.memberships.retain(|m| m.person != gone);
    left.memberships.iter_mut().for_each(|m| m.person = shift(m.person));
    left.enrolments.retain(|e| e.person != gone);
    left.enrolments.iter_mut().for_each(|e| e.person = shift(e.person));
    left.guardians.retain(|g| g.guardian != gone && g.student != gone);
    left.guardians.iter_mut().for_each(|g| (g.guardian, g.student) = (shift(g.guardian), shift(g.student)));
    left
}

#[tokio::test]
async fn importing_twice_changes_no_row_and_leaving_keeps_history() {
    let database = Database::start().await;
    let today = day("2026-11-21");
    let plan = Plan { schools: 2, students_per_school: 60, ..Plan::new("Test district", today) };
    let roster = synthetic(database.dir.path(), &plan);

    let mut last = None;
    let first = import(&database.store, &database.vault, "Test district", &roster, today, &mut |p| last = Some(p)).await.unwrap();
    let new = |added: usize| Tally { added: added as u64, ..Tally::default() };
    assert_eq!(first.people, new(roster.people.len()));
    assert_eq!(first.enrolments, new(roster.enrolments.len()));
    assert_eq!(first.memberships, new(roster.memberships.len()));
    assert_eq!(first.guardians, new(roster.guardians.len()));
    assert_eq!(first.meetings, new(roster.timetable.meetings.len()));
    assert_eq!(first.calendar, new(roster.timetable.calendar.len()));
    assert_eq!(last.map(|p| p.done), last.map(|p| p.total), "the bar reaches its end");
    let district = first.district;

    let before = database.rows(district).await;
    let again = database.import(&roster, day("2026-11-22")).await;
    assert!(again.unchanged(), "{again:?}");
    assert_eq!(database.rows(district).await, before, "not one row was written");
    let shown = before.join("\n");
    let student = roster.people.iter().position(|p| p.kind == PersonKind::Student).unwrap();
    assert!(!shown.contains("@example.org"), "contacts are sealed");

    let classes = roster.enrolments.iter().filter(|e| e.person == student).count() as i64;
    let left = without(&roster, student);
    let third = database.import(&left, day("2026-12-01")).await;
    assert_eq!((third.people.ended, third.people.added, third.people.changed), (1, 0, 0));
    assert_eq!(third.enrolments.ended as i64, classes);
    assert_eq!(database.count(district, "enrolment where ends = '2026-12-01'").await, classes);
    assert_eq!(database.count(district, "membership where ends = '2026-12-01'").await, 1);
    assert_eq!(database.count(district, "person where not active").await, 1);
    assert_eq!(database.count(district, "guardian").await as usize, left.guardians.len());
    assert!(database.import(&left, day("2026-12-02")).await.unchanged());

    let back = database.import(&roster, day("2026-12-10")).await;
    assert_eq!(back.people.changed, 1);
    assert_eq!(database.count(district, "person where not active").await, 0);
    assert!(database.import(&roster, day("2026-12-11")).await.unchanged());
}

#[tokio::test]
async fn a_changed_name_is_one_changed_row_and_a_failed_import_none() {
    let database = Database::start().await;
    let today = day("2026-11-21");
    let roster = synthetic(database.dir.path(), &Plan { students_per_school: 10, ..Plan::new("Test district", today) });
    let district = database.import(&roster, today).await.district;

    let mut renamed = roster.clone();
    renamed.people[3].family = "Newname".to_owned();
    renamed.sections[0].room = Some("Annex".to_owned());
    let report = database.import(&renamed, today).await;
    assert_eq!(report.people, Tally { changed: 1, ..Tally::default() });
    assert_eq!(report.sections, Tally { changed: 1, ..Tally::default() });

    // The last table refuses the last row: everything before it must be gone too.
    let before = database.rows(district).await;
    let mut broken = renamed.clone();
    broken.people[4].family = "Never stored".to_owned();
    let bell = &mut broken.timetable.schedules[0].bells[0];
    (bell.starts, bell.ends) = (bell.ends, bell.starts);
    let failed = import(&database.store, &database.vault, "Test district", &broken, today, &mut |_| ()).await;
    assert!(failed.is_err());
    assert_eq!(database.rows(district).await, before);
}

#[tokio::test]
async fn a_bell_schedule_that_is_gone_is_taken_out_before_it_rings_and_kept_afterwards() {
    let database = Database::start().await;
    let today = day("2026-11-21");
    let roster = synthetic(database.dir.path(), &Plan { students_per_school: 10, ..Plan::new("Test district", today) });
    let mut announced = roster.clone();
    for from in ["2026-11-01", "2026-12-01"] {
        let schedule = rollcall_roster::roster::BellSchedule { valid_from: day(from), ..roster.timetable.schedules[0].clone() };
        announced.timetable.schedules.push(schedule);
    }
    let district = database.import(&announced, today).await.district;
    let bells = announced.timetable.schedules[0].bells.len() as u64;
    let report = database.import(&roster, today).await;
    assert_eq!(report.bells, Tally { ended: bells, ..Tally::default() }, "the one to come");
    assert_eq!(database.count(district, "bell_schedule where valid_from = '2026-12-01'").await, 0);
    assert_eq!(database.count(district, "bell_schedule where valid_from = '2026-11-01'").await, 1);
    assert!(report.warnings.iter().any(|w| w.contains("2026-11-01") && w.contains("still rings")), "{:?}", report.warnings);
    assert!(database.import(&roster, today).await.unchanged());
}
