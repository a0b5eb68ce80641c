//! The views of the reports in SQL give what REST gives, to the digit, week by week and also as of a past instant.

use axum::http::Method;
use serde_json::{Value, json};

use crate::reports::{EAST, EAST_CLASS, WEST, get, hand_worked, line};
use crate::town::Town;

/// Fay, the only one of grade 11, enters East on Thursday the 12th and comes on that day at 07:50; on Friday the 13th, a half-day, nobody sees
/// her. East is in session on the five days of that week, and its class meets nine times.
///
/// Grade 11: enrolled 2 days, attended 1. ADM 2 / 5 = 0.4, ADA 1 / 5 = 0.2, rate 1 / 2. By the days of her own it would be 1 and 0.5.
/// East class: Fay adds three meetings, of which she attends two.
const FAY: &str = "
    insert into rollcall.person (district, id, kind, grade) values
        ('d0000000-0000-4000-8000-000000000000', 'a0000000-0000-4000-8000-000000000006', 'student', '11');
    insert into rollcall.membership (district, person, school, starts, ends) values ('d0000000-0000-4000-8000-000000000000',
        'a0000000-0000-4000-8000-000000000006', 'e0000000-0000-4000-8000-000000000000', '2026-03-12', 'infinity');
    insert into rollcall.enrolment (district, section, person, role, starts, ends) values ('d0000000-0000-4000-8000-000000000000',
        'c0000000-0000-4000-8000-000000000001', 'a0000000-0000-4000-8000-000000000006', 'student', '2026-03-12', 'infinity');
    insert into event.scan (district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset) values
        ('d0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 'e0000000-0000-4000-8000-000000000000', 2000,
        '2026-03-12 12:50Z', '2026-03-12 12:50Z', false, 'a0000000-0000-4000-8000-000000000006', 'a0000000-0000-4000-8000-000000000006',
        1, 1, 1000003000)";

/// Mondays and Sundays of the two weeks.
const WEEKS: [(&str, &str); 2] = [("2026-03-02", "2026-03-08"), ("2026-03-09", "2026-03-15")];

/// Of REST and of SQL: now, and before Ada's excuse and Cyd's late scan were known.
const INSTANTS: [(&str, &str); 2] = [("", ""), ("&as_of=2026-03-14T00:00:00Z", "and as_of = timestamp '2026-03-14T00:00:00Z'")];

async fn with_fay() -> (Town, String) {
    let (town, office, _) = hand_worked().await;
    town.as_owner(FAY).await;
    town.cache.refresh_now().await.unwrap();
    (town, office)
}

async fn ask(town: &Town, cookie: &str, sql: &str) -> Vec<Value> {
    let answer = town.send(Method::POST, "/api/v1/sql", Some(cookie), Some(json!({"sql": sql})), &[]).await;
    assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
    answer.body["rows"].as_array().unwrap().clone()
}

#[tokio::test]
async fn a_week_is_divided_by_the_days_of_the_school() {
    let (town, office) = with_fay().await;
    let figures = ["days_in_session", "adm", "ada", "rate", "enrolled_half_days", "attended_half_days"];
    let columns = figures.join(", ");
    let at_east = format!("school = '{EAST}' and week = date '2026-03-09'");
    let grade = format!("select {columns} from attendance_by_grade where {at_east} and grade = '11'");
    assert_eq!(ask(&town, &office, &grade).await, [json!([5, 0.4, 0.2, 0.5, 4, 2])]);
    // Without Fay 9 meetings of 3 students, of which Ada misses the 13th's and Ben the 11th's second one.
    let section = format!("select {columns} from attendance_by_section where {at_east} and section = '{EAST_CLASS}'");
    assert_eq!(ask(&town, &office, &section).await, [json!([9, 30.0 / 9.0, 27.0 / 9.0, 54.0 / 60.0, 60, 54])]);
    let membership = format!("select distinct days_in_session from membership where {at_east}");
    assert_eq!(ask(&town, &office, &membership).await, [json!([5])]);
    // A Thursday's rows alone are of a week of five days too, and of one of three before its last bell.
    let thursday = format!("select distinct days_in_session from attendance_day where {at_east} and date = date '2026-03-12'");
    assert_eq!(ask(&town, &office, &thursday).await, [json!([5])]);
    let before = format!("{thursday} and as_of = timestamp '2026-03-12T15:00:00Z'");
    assert_eq!(ask(&town, &office, &before).await, [json!([3])]);
}

#[tokio::test]
async fn every_average_of_a_view_is_the_reports() {
    let (town, office) = with_fay().await;
    let figures = [
        "students",
        "days_in_session",
        "enrolled_half_days",
        "attended_half_days",
        "absent_half_days",
        "unknown_half_days",
        "adm",
        "ada",
        "rate",
    ];
    let mut compared = 0;
    for (by, view) in [
        ("school", "attendance_by_week"),
        ("week", "attendance_by_week"),
        ("grade", "attendance_by_grade"),
        ("section", "attendance_by_section"),
    ] {
        for ((from, to), (rest, sql)) in WEEKS.into_iter().flat_map(|week| INSTANTS.map(|instant| (week, instant))) {
            for school in [EAST, WEST] {
                let path = format!("/api/v1/reports/attendance?by={by}&school={school}&from={from}&to={to}{rest}");
                let report = get(&town, &office, &path).await;
                let asked =
                    format!("select {by}, {} from {view} where school = '{school}' and week = date '{from}' {sql}", figures.join(", "));
                let rows = ask(&town, &office, &asked).await;
                assert_eq!(rows.len(), report["items"].as_array().unwrap().len(), "{asked}: {rows:?} and {report}");
                for row in rows {
                    let line = line(&report, by, row[0].as_str().unwrap());
                    for (at, name) in figures.iter().enumerate() {
                        assert_eq!(row[at + 1].as_f64(), line[*name].as_f64(), "{name} of {asked}: {row} and {line}");
                        compared += 1;
                    }
                }
            }
        }
    }
    assert_eq!(compared, figures.len() * (8 + 8 + 14 + 8), "every school, week, grade and section at both instants");
}

#[tokio::test]
async fn tardies_late_arrivals_and_unexplained_absences_are_the_reports() {
    let (town, office) = with_fay().await;
    for (by, suffix) in [("school", "week"), ("grade", "grade"), ("section", "section")] {
        for ((from, to), (rest, sql)) in WEEKS.into_iter().flat_map(|week| INSTANTS.map(|instant| (week, instant))) {
            for school in [EAST, WEST] {
                let report = async |what: &str| {
                    get(&town, &office, &format!("/api/v1/reports/{what}?by={by}&school={school}&from={from}&to={to}{rest}")).await
                };
                let shown = async |what: &str, columns: &str| {
                    let of = format!("from {what}_by_{suffix} where school = '{school}' and week = date '{from}' {sql}");
                    ask(&town, &office, &format!("select {by}, {columns} {of}")).await
                };
                let of_line = |rows: &[Value], line: &Value, at: usize| -> u64 {
                    let own = rows.iter().filter(|row| row[0] == line[by]);
                    own.map(|row| row[at].as_f64().unwrap() as u64).sum()
                };
                let rows = shown("tardies", "tardies").await;
                for line in report("tardies").await["items"].as_array().unwrap() {
                    assert_eq!(line["tardies"], of_line(&rows, line, 1), "{rows:?} and {line}");
                }
                // The view of weeks has the grades.
                let suffix = if by == "section" { "section" } else { "week" };
                let of = format!("from unexplained_absences_by_{suffix} where school = '{school}' and week = date '{from}' {sql}");
                let rows = ask(&town, &office, &format!("select {by}, absent_half_days, unexplained_half_days {of}")).await;
                for line in report("unexplained-absences").await["items"].as_array().unwrap() {
                    assert_eq!(line["absent_half_days"], of_line(&rows, line, 1), "{rows:?} and {line}");
                    assert_eq!(line["unexplained_half_days"], of_line(&rows, line, 2), "{rows:?} and {line}");
                }
                let rows = shown("late_arrivals", "from_min, arrivals").await;
                for line in report("late-arrivals").await["items"].as_array().unwrap() {
                    for class in line["classes"].as_array().unwrap() {
                        let own: Vec<Value> = rows.iter().filter(|row| row[1] == class["from_min"]).cloned().collect();
                        assert_eq!(class["arrivals"], of_line(&own, line, 2), "{rows:?} and {line}");
                    }
                }
            }
        }
    }
    let tardies = async |by: &str| ask(&town, &office, &format!("select sum(tardies), sum(with_time) from tardies_by_{by}")).await;
    assert_eq!(tardies("grade").await, [json!([2, 2])], "Ada's of the 3rd and Dee's of the 10th");
    assert_eq!(tardies("section").await, [json!([1, 1])], "by the section Ada missed all of the morning");
}

#[tokio::test]
async fn another_condition_on_as_of_says_how_to_ask() {
    let (town, office, analyst) = hand_worked().await;
    for sql in [
        "select count(*) from attendance_day where as_of <= timestamp '2026-03-14T00:00:00Z'",
        "select sum(students) from attendance_by_grade where as_of > now() - interval '1 day'",
        "select sum(tardies) from tardies_by_section where as_of in (timestamp '2026-03-14T00:00:00Z', now())",
        "select count(student) from membership where cast(as_of as date) = date '2026-03-14'",
        "select count(student) from absence_at_school where as_of between timestamp '2026-03-14' and timestamp '2026-03-15'",
        "select count(student) from attendance_period where as_of = timestamp '2026-03-14' or tardy",
    ] {
        let column = sql.find("as_of").unwrap() + 1;
        for cookie in [&office, &analyst] {
            let answer = town.send(Method::POST, "/api/v1/sql", Some(cookie), Some(json!({"sql": sql})), &[]).await;
            assert_eq!((answer.status.as_u16(), &answer.body["code"]), (422, &json!("sql_invalid")), "{sql}: {}", answer.body);
            assert!(answer.body["detail"].as_str().unwrap().contains("as_of = timestamp '"), "{sql}: {}", answer.body);
            assert_eq!((&answer.body["line"], &answer.body["column"]), (&json!(1), &json!(column)), "{sql}: {}", answer.body);
        }
    }
    let rows = "select count(*) > 0 from attendance_day where known_at <= as_of and as_of = timestamp '2026-03-14T00:00:00Z'";
    assert_eq!(ask(&town, &office, rows).await, [json!([true])]);
}
