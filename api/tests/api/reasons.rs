//! Reasons of absence, tardies and tiers of few students are nobody's who sees groups only.

use chrono::NaiveDate;
use rollcall_model::ids::PersonId;
use serde_json::Value;

use crate::town::{As, Town};

/// A day of which the gates sent nothing: unknown, but for whom the office has marked.
fn day(town: &Town) -> NaiveDate {
    town.date.pred_opt().unwrap()
}

/// All students of the own school.
pub(crate) fn students(town: &Town) -> Vec<PersonId> {
    let directory = town.cache.current();
    let district = directory.district(town.own.district).unwrap();
    let sections = district.roster.sections.values().filter(|section| section.school == town.own.school);
    let mut students: Vec<PersonId> = sections.flat_map(|section| district.students_of(section.id, day(town))).collect();
    students.sort_unstable();
    students.dedup();
    students
}

async fn mark(town: &Town, students: &[PersonId], status: &str) {
    let values = students.iter().map(|student| {
        format!(
            "('{}', gen_random_uuid(), '{}', '{}', '{}', '{status}', 'office', gen_random_uuid(), '{}', 1000003000 + {})",
            town.own.district,
            town.own.school,
            student,
            day(town),
            town.clock.now().to_chrono().unwrap(),
            student.0.as_u128() % 100_000
        )
    });
    let values = values.collect::<Vec<_>>().join(", ");
    town.as_owner(&format!(
        "insert into rollcall.mark (district, id, school, student, date, status, authority, author, recorded_at, log_offset) values {values}"
    ))
    .await;
}

/// The line of the own school.
async fn line(town: &Town, who: As, report: &str) -> Value {
    let path = format!("/api/v1/reports/{report}?from={0}&to={0}&school={1}", day(town), town.own.school);
    let report = town.get(who, &path).await;
    assert_eq!((report.status.as_u16(), &report.body["approximate"]), (200, &Value::from(who == As::Analyst)), "{}", report.body);
    report.body["items"][0].clone()
}

#[tokio::test]
async fn an_analyst_does_not_see_what_was_marked_of_one_student() {
    let town = Town::start().await;
    let all = students(&town);
    assert_eq!(all.len(), 40);
    const FIGURES: [&str; 8] = [
        "absent_half_days",
        "excused_half_days",
        "unexcused_half_days",
        "unexplained_half_days",
        "unknown_half_days",
        "tardies",
        "attended_half_days",
        "rate",
    ];
    let figures = async |who: As| {
        let line = line(&town, who, "attendance").await;
        FIGURES.map(|figure| line[figure].clone())
    };
    let before = figures(As::Analyst).await;
    // Nine students, one after the other, of whom each one's reason is told to the office and none to the analyst.
    for (number, student) in all.iter().take(9).enumerate() {
        mark(&town, &[*student], ["absent_excused", "absent_unexcused", "tardy"][number % 3]).await;
        assert_eq!(figures(As::Analyst).await, before, "{number}");
    }
    let exact = figures(As::Office).await;
    assert_eq!([&exact[0], &exact[1], &exact[2], &exact[5]].map(Value::as_u64), [12, 6, 6, 3].map(Some), "{exact:?}");
    assert!(before[1..4].iter().chain([&before[5]]).all(Value::is_null), "{before:?}");
    // What is true of many is told, nearly.
    mark(&town, &all[9..40], "absent_excused").await;
    let (exact, near) = (figures(As::Office).await, figures(As::Analyst).await);
    assert_eq!((&exact[0], &exact[1]), (&74.into(), &68.into()), "{exact:?}");
    assert_eq!(near[0], exact[0], "{near:?}");
    let excused = near[1].as_u64().unwrap_or_else(|| panic!("{near:?}"));
    assert!(excused.abs_diff(68) < 30, "{near:?}");
    assert!(near[2].is_null() && near[5].is_null(), "{near:?}");
}

#[tokio::test]
async fn an_analyst_sees_no_class_of_late_arrivals_and_no_tier_of_few() {
    let town = Town::start().await;
    let all = students(&town);
    mark(&town, &all[..3], "tardy").await;
    mark(&town, &all[3..8], "absent_unexcused").await;
    mark(&town, &all[8..], "present").await;
    let (late, tiers) = (line(&town, As::Analyst, "late-arrivals").await, line(&town, As::Analyst, "chronic-absence").await);
    for figure in [&late["time_unknown"], &late["arrivals"], &late["median_min"], &tiers["severe"], &tiers["chronic"]] {
        assert!(figure.is_null(), "{late} {tiers}");
    }
    assert_eq!((&tiers["suppressed"], &tiers["students"]), (&true.into(), &40.into()), "{tiers}");
    assert!(tiers["satisfactory"].as_u64().is_some_and(|students| students.abs_diff(35) < 12), "{tiers}");
    let (late, tiers) = (line(&town, As::Office, "late-arrivals").await, line(&town, As::Office, "chronic-absence").await);
    assert_eq!((&late["time_unknown"], &tiers["severe"], &tiers["satisfactory"]), (&3.into(), &5.into(), &35.into()), "{late} {tiers}");
}
