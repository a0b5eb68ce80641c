//! The views of the reports for who gets figures of groups only.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;
use chrono::{Days, NaiveDate};
use datafusion::catalog::TableProvider;
use datafusion::datasource::MemTable;
use datafusion::prelude::SessionContext;
use rollcall_model::ids::{DistrictId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::reports::day::{Absence, AttendanceDay, AttendancePeriod, Basis, DayValue, week_of};
use rollcall_model::status::{Rule, Status};
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;

use super::world::{caller, id, rows};
use crate::facts::{Facts, VIEWS, columns};
use crate::query::tables::views_of;
use crate::query::{About, EngineConfig, Place, QueryEngine, QueryError, ScopeColumns, TableSource};

/// Students of a grade, who have all lessons together.
const OF_A_GRADE: u8 = 60;

/// Two schools of two grades, and two weeks of which the second has four days.
fn attendance() -> (Vec<AttendanceDay>, Vec<AttendancePeriod>) {
    let monday = NaiveDate::from_ymd_opt(2026, 3, 2).unwrap();
    let dates: Vec<NaiveDate> = [0, 1, 2, 3, 4, 7, 8, 9, 10].map(|days| monday + Days::new(days)).to_vec();
    let in_session = |date| dates.iter().filter(|other| week_of(**other) == week_of(date)).count() as u32;
    let (mut days, mut periods) = (Vec::new(), Vec::new());
    for student in 0..OF_A_GRADE * 4 {
        let class = student / OF_A_GRADE;
        for (number, date) in dates.iter().enumerate() {
            let turn = usize::from(student) * 5 + number * 3;
            let (status, value, late_min) = match turn % 11 {
                0..=2 => {
                    let absence = if turn % 3 == 0 { Absence::Excused } else { Absence::Unexplained };
                    let value = DayValue { absent_half_days: 2, unknown_half_days: 0, absence: Some(absence), tardy: false };
                    (Status::Absent, value, None)
                }
                3 | 4 => (Status::Tardy, of_attended(true), Some(turn as u32 % 50)),
                _ => (Status::Present, of_attended(false), None),
            };
            let day = AttendanceDay {
                district: DistrictId::from_bytes(id(1, 1)),
                school: SchoolId::from_bytes(id(2, class / 2)),
                student: PersonId::from_bytes(id(4, student)),
                grade: Some(format!("0{}", class % 2).into()),
                date: *date,
                home: true,
                closed: true,
                days_in_session: in_session(*date),
                status,
                rule: Rule::ArrivedByGrace,
                value,
                scheduled_min: 300,
                present_min: 300,
                arrival: None,
                late_min,
                mark: None,
                basis: Basis::Recorded,
                known: UtcMillis(0),
            };
            periods.push(AttendancePeriod {
                district: day.district,
                school: day.school,
                section: SectionId::from_bytes(id(3, class)),
                period: PeriodId::from_bytes(id(5, 1)),
                student: day.student,
                grade: day.grade.clone(),
                date: day.date,
                closed: true,
                meetings_held: day.days_in_session,
                status,
                rule: day.rule,
                value,
                scheduled_min: 45,
                arrival: None,
                late_min,
                mark: None,
                basis: Basis::Recorded,
                known: UtcMillis(0),
            });
            days.push(day);
        }
    }
    (days, periods)
}

fn of_attended(tardy: bool) -> DayValue {
    DayValue { absent_half_days: 0, unknown_half_days: 0, absence: None, tardy }
}

/// The facts of a made-up district, as the engine knows them.
struct Made {
    facts: Facts,
    rows: RecordBatch,
}

impl TableSource for Made {
    fn name(&self) -> &str {
        self.facts.name()
    }
    fn schema(&self) -> SchemaRef {
        self.rows.schema()
    }
    fn documentation(&self) -> &str {
        self.facts.documentation()
    }
    fn column_documentation(&self, _: &str) -> Option<&str> {
        None
    }
    fn scope(&self) -> ScopeColumns {
        ScopeColumns {
            about: About::Students,
            district: "district",
            school: (self.facts != Facts::AbsenceInDistrict).then_some("school"),
            section: matches!(self.facts, Facts::Periods | Facts::AbsenceInSection).then_some("section"),
            person: Some("student"),
            identifying: &["mark"],
        }
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(MemTable::try_new(self.rows.schema(), vec![vec![self.rows.clone()]]).unwrap())
    }
}

/// An engine with the views over a made-up district; those about spans of dates have no rows.
async fn engine() -> QueryEngine {
    let (days, periods) = attendance();
    let context = SessionContext::new();
    let engine = QueryEngine::new(EngineConfig { threads: 2, ..EngineConfig::default() }).unwrap();
    for facts in Facts::ALL {
        let rows = match facts {
            Facts::Days => columns::days(&days, UtcMillis(0)).unwrap(),
            Facts::Periods => columns::periods(&periods, UtcMillis(0)).unwrap(),
            other => RecordBatch::new_empty(columns::schema(other.columns())),
        };
        let made = Arc::new(Made { facts, rows });
        context.register_table(facts.name(), made.provider()).unwrap();
        engine.register(made);
    }
    views_of(&context).await.unwrap().into_iter().for_each(|view| engine.register(view));
    engine
}

/// Figures of one line by name, the office's or the analyst's; the columns that a line is told by are left out.
fn line(columns: &[String], row: &[String]) -> Vec<(String, Option<f64>)> {
    let figures = columns.iter().zip(row).filter(|(column, _)| !BY.contains(&column.as_str()));
    figures.map(|(column, value)| (column.clone(), value.parse().ok())).collect()
}

const BY: [&str; 7] = ["district", "school", "grade", "section", "week", "as_of", "from_min"];

async fn all(engine: &QueryEngine, role: Role, view: &str) -> BTreeMap<Vec<String>, Vec<(String, Option<f64>)>> {
    let columns = engine.catalog(&caller(role)).into_iter().find(|table| table.name == view).unwrap().columns;
    let columns: Vec<String> = columns.into_iter().map(|column| column.name).collect();
    let rows = rows(engine, &caller(role), &format!("select * from {view}")).await.unwrap_or_else(|error| panic!("{view}: {error:?}"));
    let key = |row: &[String]| {
        columns.iter().zip(row).filter(|(column, _)| BY.contains(&column.as_str())).map(|(_, value)| value.clone()).collect()
    };
    rows.iter().map(|row| (key(row), line(&columns, row))).collect()
}

/// Every view that the catalog shows is answered, and near what the office reads.
#[tokio::test]
async fn an_analyst_has_the_offices_figures_but_for_the_noise() {
    let engine = engine().await;
    for view in &VIEWS {
        let (exact, near) = (all(&engine, Role::Office, view.name).await, all(&engine, Role::Analyst, view.name).await);
        if view.name.starts_with("chronic_absence") {
            assert!(exact.is_empty() && near.is_empty(), "{}", view.name);
            continue;
        }
        // Classes of minutes have few students each.
        let least = match view.name {
            "late_arrivals_by_week" => 1,
            "late_arrivals_by_grade" | "late_arrivals_by_section" => 0,
            _ => exact.len() - 1,
        };
        assert!(near.len() >= least && !exact.is_empty(), "{}: {} of {} lines", view.name, near.len(), exact.len());
        for (by, figures) in near {
            let of_office = &exact[&by];
            for (name, told) in figures {
                let (_, exact) = of_office.iter().find(|(other, _)| *other == name).unwrap();
                // Nobody contributes to a sum of nothing, so it is not told.
                let (exact, told) = (exact.unwrap(), told.or(exact.filter(|exact| *exact == 0.0)));
                let told = told.unwrap_or_else(|| panic!("{} has no {name}", view.name));
                let off = match name.as_str() {
                    "days_in_session" => 0.0,
                    "rate" => 0.35,
                    // Two half-days a student and day, of ten days, with noise of about a student's.
                    _ => 25.0 + exact * 0.3,
                };
                assert!((told - exact).abs() <= off, "{} {by:?} {name}: {told} and {exact}", view.name);
            }
        }
    }
}

#[tokio::test]
async fn the_median_is_the_offices_only() {
    let engine = engine().await;
    let columns = |role| {
        let table = engine.catalog(&caller(role)).into_iter().find(|table| table.name == "tardies_by_week").unwrap();
        table.columns.into_iter().map(|column| column.name).collect::<Vec<_>>()
    };
    assert!(columns(Role::Office).contains(&"median_min".to_owned()) && !columns(Role::Analyst).contains(&"median_min".to_owned()));
    let asked = "select median_min from tardies_by_week";
    assert_eq!(rows(&engine, &caller(Role::Office), asked).await.unwrap().len(), 4);
    let answer = rows(&engine, &caller(Role::Analyst), asked).await;
    assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
}

/// Classes of any size, with names of no student.
struct Classes(Arc<Made>);

impl TableSource for Classes {
    fn name(&self) -> &str {
        "meetings"
    }
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
    fn documentation(&self) -> &str {
        "One row a class."
    }
    fn column_documentation(&self, _: &str) -> Option<&str> {
        None
    }
    fn scope(&self) -> ScopeColumns {
        ScopeColumns { about: About::Classes, person: None, ..self.0.scope() }
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        self.0.provider()
    }
}

#[tokio::test]
async fn a_table_of_classes_is_not_there_for_who_gets_figures_of_groups() {
    let engine = engine().await;
    let rows_of_classes = columns::periods(&attendance().1, UtcMillis(0)).unwrap();
    engine.register(Arc::new(Classes(Arc::new(Made { facts: Facts::Periods, rows: rows_of_classes }))));
    let lists = |role| engine.catalog(&caller(role)).iter().any(|table| table.name == "meetings");
    assert!(lists(Role::Office) && !lists(Role::Analyst) && !lists(Role::It));
    let answer = rows(&engine, &caller(Role::Analyst), "select count(*)\nfrom meetings").await;
    let Err(QueryError::Refused { message, place }) = answer else { panic!("{answer:?}") };
    assert!(message.contains("classes of any size") && place == Some(Place { line: 2, column: 6 }), "{message} {place:?}");
    let answer = rows(&engine, &caller(Role::It), "select count(*) from meetings").await;
    assert!(matches!(answer, Err(QueryError::Invalid { .. })), "{answer:?}");
}
