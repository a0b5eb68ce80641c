//! Facts, engagement and the statuses of now as SQL tables: the numbers of the reports and boards, for what a role may see.

use std::collections::BTreeSet;

use axum::http::Method;
use rollcall_model::event::Direction;
use serde_json::{Value, json};

use crate::reports::{counts, get, hand_worked, line};
use crate::town::{As, Town};

const RANGE: &str = "from=2026-03-01&to=2026-03-31";
const DATES: &str = "closed and date between date '2026-03-01' and date '2026-03-31'";

/// The figures in the order of [`counts`].
const COUNTED: &str = "sum(enrolled_half_days), sum(attended_half_days), sum(absent_half_days),
    sum(case when absence = 'excused' then absent_half_days else 0 end),
    sum(case when absence = 'unexcused' then absent_half_days else 0 end),
    sum(case when absence = 'unexplained' then absent_half_days else 0 end),
    sum(unknown_half_days), sum(case when tardy then 1 else 0 end)";

async fn ask(town: &Town, cookie: &str, sql: &str) -> Value {
    let answer = town.send(Method::POST, "/api/v1/sql", Some(cookie), Some(json!({"sql": sql})), &[]).await;
    assert_eq!(answer.status, 200, "{sql}: {}", answer.body);
    answer.body
}

fn rows(answer: &Value) -> &Vec<Value> {
    answer["rows"].as_array().unwrap()
}

#[tokio::test]
async fn sql_gives_the_figures_of_the_reports() {
    let (town, office, analyst) = hand_worked().await;
    // A student of two schools counts in the district once, at home; sections have meetings in place of days.
    let cases = [
        ("school", "attendance_day", "true"),
        ("grade", "attendance_day", "home"),
        ("week", "attendance_day", "home"),
        ("section", "attendance_period", "true"),
    ];
    for (by, table, also) in cases {
        let report = get(&town, &office, &format!("/api/v1/reports/attendance?by={by}&{RANGE}")).await;
        let sql = format!("select {by}, {COUNTED} from {table} where {DATES} and {also} group by {by} order by {by}");
        let answer = ask(&town, &office, &sql).await;
        assert_eq!(rows(&answer).len(), report["items"].as_array().unwrap().len(), "{by}: {answer}");
        for row in rows(&answer) {
            let figures: Vec<u64> = row.as_array().unwrap()[1..].iter().map(|figure| figure.as_u64().unwrap()).collect();
            assert_eq!(figures, counts(line(&report, by, row[0].as_str().unwrap())), "{by} {}", row[0]);
        }
    }
    let (sql, rest) = ("as_of = timestamp '2026-03-14T00:00:00Z'", "as_of=2026-03-14T00:00:00Z");
    let then = ask(&town, &office, &format!("select {COUNTED} from attendance_day where {DATES} and home and {sql}")).await;
    let report = get(&town, &office, &format!("/api/v1/reports/attendance?by=school&{RANGE}&{rest}")).await;
    let figures: Vec<u64> = rows(&then)[0].as_array().unwrap().iter().map(|figure| figure.as_u64().unwrap()).collect();
    assert_eq!(figures, counts(&report["total"]));
    let weeks = "select week, enrolled_half_days, attended_half_days, adm, ada, rate from attendance_by_week
        where school = 'e0000000-0000-4000-8000-000000000000' and week between date '2026-03-02' and date '2026-03-09' order by week";
    let report =
        get(&town, &office, &format!("/api/v1/reports/attendance?by=week&school=e0000000-0000-4000-8000-000000000000&{RANGE}")).await;
    let shown = ask(&town, &office, weeks).await;
    assert_eq!(rows(&shown).len(), 2, "{shown}");
    for row in rows(&shown) {
        let line = line(&report, "week", row[0].as_str().unwrap());
        for (at, name) in ["enrolled_half_days", "attended_half_days", "adm", "ada", "rate"].iter().enumerate() {
            let (sql, rest) = (row[at + 1].as_f64().unwrap(), line[*name].as_f64().unwrap());
            assert!((sql - rest).abs() < 1e-12, "{name}: {sql} and {rest}");
        }
    }
    let members = "select count(*), count(distinct student) from membership where date <= date '2026-03-31'";
    assert_eq!(ask(&town, &office, members).await["rows"], json!([[44, 5]]));
    // Five students are a small group.
    let few =
        ask(&town, &analyst, &format!("select school, count(distinct student) from attendance_day where {DATES} group by school")).await;
    assert_eq!(few["rows"], json!([]), "{few}");
}

#[tokio::test]
async fn every_role_has_its_own_part_of_the_facts() {
    let town = Town::start().await;
    let directory = town.cache.current().district(town.own.district).unwrap().clone();
    let taught: BTreeSet<_> = directory
        .roster
        .sections
        .keys()
        .filter(|section| directory.teachers_of(**section, town.date).any(|teacher| teacher == town.own.teacher))
        .collect();
    let classes: BTreeSet<_> = taught.iter().flat_map(|section| directory.students_of(**section, town.date)).collect();
    let cases = [(As::Teacher, classes.len()), (As::Office, 40), (As::DistrictOffice, 80), (As::Foreign, 40)];
    for table in ["attendance_day", "attendance_period", "membership", "attendance_now"] {
        let sql = format!("select count(distinct student) from {table} where date = date '{}'", town.date);
        for (who, students) in cases {
            let answer = ask(&town, &town.cookies[&who], &sql).await;
            assert_eq!(answer["rows"], json!([[students]]), "{table} for {who:?}");
        }
        let about = ask(&town, &town.cookies[&As::Analyst], &sql).await;
        let near = rows(&about)[0][0].as_f64().unwrap();
        assert!((near - 80.0).abs() < 20.0, "{table}: {about}");
        let one = format!("select student from {table} where date = date '{}'", town.date);
        let refused = town.post(As::Analyst, "/api/v1/sql", json!({"sql": one})).await;
        assert_eq!(refused.body["code"], "sql_refused", "{table}: {}", refused.body);
        for who in [As::Guardian, As::It] {
            assert_ne!(town.post(who, "/api/v1/sql", json!({"sql": sql})).await.status, 200, "{table} for {who:?}");
        }
    }
    let sections = format!("select distinct section from attendance_period where date = date '{}'", town.date);
    let seen = ask(&town, &town.cookies[&As::Teacher], &sections).await;
    let seen: BTreeSet<String> = rows(&seen).iter().map(|row| row[0].as_str().unwrap().to_owned()).collect();
    assert!(!seen.is_empty() && seen.is_subset(&taught.iter().map(ToString::to_string).collect()), "{seen:?}");
    let others = format!("select count(*) from attendance_day where school = '{}'", town.own.school);
    assert_eq!(ask(&town, &town.cookies[&As::Foreign], &others).await["rows"], json!([[0]]));
    let catalog = town.get(As::Office, "/api/v1/sql/catalog").await.body;
    for table in catalog["tables"].as_array().unwrap() {
        let silent = |item: &Value| item["documentation"].as_str().is_none_or(str::is_empty);
        assert!(!silent(table) && !table["columns"].as_array().unwrap().iter().any(silent), "{table}");
    }
}

#[tokio::test]
async fn analysts_get_no_class_and_no_student_out_of_engagement_and_the_views() {
    let town = Town::start().await;
    for sql in [
        "select * from engagement",
        "select count(*) from engagement",
        "select * from engagement_student",
        "select * from attendance_by_week",
        "select * from tardies_by_week",
        "select * from attendance_by_grade",
        "select * from attendance_by_section",
        "select * from unexplained_absences_by_week",
    ] {
        let refused = town.post(As::Analyst, "/api/v1/sql", json!({"sql": sql})).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!("sql_refused")), "{sql}: {}", refused.body);
    }
    // Sums over groups are what there is for them.
    for sql in [
        "select count(*) from engagement_student",
        "select week, sum(students) from attendance_by_week group by week",
        "select * from late_arrivals_by_week",
    ] {
        ask(&town, &town.cookies[&As::Analyst], sql).await;
    }
}

#[tokio::test]
async fn attendance_now_says_what_the_boards_say() {
    let town = Town::start().await;
    let office = &town.cookies[&As::DistrictOffice];
    let by_status = "select school, status, count(*) from attendance_now where section is null group by school, status";
    for (seq, student) in (1..).zip(town.students().into_iter().take(3)) {
        // Each turn somebody else arrives, and what was kept of the turn before must not be shown again.
        town.scan(seq, student, town.clock.now().plus_ms(-60_000), Direction::In).await;
        let now = ask(&town, office, by_status).await;
        let board = get(&town, office, &format!("/api/v1/districts/{}/attendance", town.own.district)).await;
        let counted: u64 = rows(&now).iter().map(|row| row[2].as_u64().unwrap()).sum();
        assert_eq!(counted, 80, "{now}");
        for row in rows(&now) {
            let (school, status) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
            assert_eq!(board["data"]["schools"][school]["counts"][status], row[2], "{status} at {school}: {board}");
        }
    }
    let student = town.students()[0];
    let today = town.engine.student_day(town.own.district, student).await.unwrap();
    let sql = format!("select section, period, status, rule from attendance_now where student = '{student}' order by starts nulls last");
    let shown = ask(&town, office, &sql).await;
    let expected: Vec<Value> =
        today.periods.iter().chain(&today.day).map(|window| json!([window.section, window.period, window.status, window.rule])).collect();
    assert_eq!(shown["rows"], Value::Array(expected));
}
