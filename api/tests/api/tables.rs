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

const SPAN: &str = "first_date = date '2026-03-01' and last_date = date '2026-03-31'";

/// [satisfactory, at_risk, moderate, severe, chronic] of a line of the report.
fn tiers(line: &Value) -> [u64; 5] {
    ["satisfactory", "at_risk", "moderate", "severe", "chronic"]
        .map(|tier| line[tier].as_u64().unwrap_or_else(|| panic!("no {tier} in {line}")))
}

/// The same of rows of a group, a tier, students and chronic ones.
fn tiers_in_sql(rows: &[Value], group: &Value) -> [u64; 5] {
    let mut found = [0; 5];
    for row in rows.iter().filter(|row| row[0] == *group) {
        let tier = ["satisfactory", "at_risk", "moderate", "severe"].iter().position(|tier| row[1] == *tier).unwrap();
        found[tier] += row[2].as_u64().unwrap();
        found[4] += row[3].as_u64().unwrap();
    }
    found
}

#[tokio::test]
async fn chronic_absence_in_sql_is_the_report() {
    let (town, office, analyst) = hand_worked().await;
    let mut chronic_at_east = Vec::new();
    // The second time East's policy asks for five enrolled days, so that Dee's five count.
    for _ in 0..2 {
        for (by, view, table, group) in [
            ("school", "chronic_absence_by_school", "absence_at_school", "school"),
            ("grade", "chronic_absence_by_grade", "absence_in_district", "grade"),
            ("section", "chronic_absence_by_section", "absence_in_section", "section"),
        ] {
            let of_table = format!("select {group}, tier, count(student), sum(case when chronic then 1 else 0 end) from {table}");
            for (rest, from) in [
                (String::new(), format!("select {group}, tier, students, chronic from {view} where {SPAN}")),
                (String::new(), format!("{of_table} where {SPAN} group by 1, 2")),
                (
                    "&as_of=2026-03-14T00:00:00Z".to_owned(),
                    format!(
                        "select {group}, tier, students, chronic from {view} where {SPAN} and as_of = timestamp '2026-03-14T00:00:00Z'"
                    ),
                ),
                (
                    "&as_of=2026-03-14T00:00:00Z".to_owned(),
                    format!("{of_table} where {SPAN} and as_of = timestamp '2026-03-14T00:00:00Z' group by 1, 2"),
                ),
            ] {
                let report = get(&town, &office, &format!("/api/v1/reports/chronic-absence?by={by}&{RANGE}{rest}")).await;
                let answer = ask(&town, &office, &from).await;
                let items = report["items"].as_array().unwrap();
                assert!(items.len() == 2, "{report}");
                for item in items {
                    assert_eq!(tiers_in_sql(rows(&answer), &item[by]), tiers(item), "{from}: {answer} and {item}");
                }
            }
        }
        let report = get(&town, &office, &format!("/api/v1/reports/chronic-absence?by=school&{RANGE}")).await;
        let all = "select 'all', tier, sum(students), sum(chronic) from chronic_absence_by_grade";
        let all = ask(&town, &office, &format!("{all} where {SPAN} group by tier")).await;
        assert_eq!(tiers_in_sql(rows(&all), &json!("all")), tiers(&report["total"]), "{all}");
        let share = "select cast(sum(unknown_half_days) as double) / sum(enrolled_half_days) from chronic_absence_by_grade";
        assert_eq!(ask(&town, &office, &format!("{share} where {SPAN}")).await["rows"], json!([[report["unknown_share"]]]));
        chronic_at_east.push(line(&report, "school", "e0000000-0000-4000-8000-000000000000")["chronic"].clone());
        town.as_owner(
            "insert into rollcall.policy (district, school, valid_from, policy) values ('d0000000-0000-4000-8000-000000000000',
             'e0000000-0000-4000-8000-000000000000', '2026-01-01', '{\"chronic_days_min\": 5}') on conflict do nothing",
        )
        .await;
        town.cache.refresh_now().await.unwrap();
    }
    assert_eq!(chronic_at_east, [json!(1), json!(2)]);

    // Without a first date the range begins with the school year, on the 2nd of March; without a last one it ends today.
    let summer =
        "select school, tier, students, chronic, first_date, last_date from chronic_absence_by_school where last_date = date '2026-06-30'";
    let answer = ask(&town, &office, summer).await;
    assert!(rows(&answer).iter().all(|row| row[4] == "2026-03-02" && row[5] == "2026-06-30"), "{answer}");
    let report = get(&town, &office, "/api/v1/reports/chronic-absence?by=school&from=2026-03-02&to=2026-06-30").await;
    for item in report["items"].as_array().unwrap() {
        assert_eq!(tiers_in_sql(rows(&answer), &item["school"]), tiers(item), "{answer} and {item}");
    }
    let then = "select distinct first_date, last_date from absence_in_district where as_of = timestamp '2026-04-01T00:00:00Z'";
    assert_eq!(ask(&town, &office, then).await["rows"], json!([["2026-03-02", "2026-03-31"]]));
    // Five students are a small group in every tier.
    for sql in ["select * from chronic_absence_by_school", "select * from chronic_absence_by_grade"] {
        let few = ask(&town, &analyst, &format!("{sql} where {SPAN}")).await;
        assert_eq!(few["rows"], json!([]), "{few}");
    }
    let single = town.send(Method::POST, "/api/v1/sql", Some(&analyst), Some(json!({"sql": "select * from absence_at_school"})), &[]).await;
    assert_eq!(single.body["code"], "sql_refused", "{}", single.body);
}

#[tokio::test]
async fn absence_is_shown_to_whom_the_days_are_shown() {
    let town = Town::start().await;
    let yesterday = town.date.pred_opt().unwrap();
    let span = format!("first_date = date '{yesterday}' and last_date = date '{yesterday}'");
    let days = format!("select count(distinct student) from attendance_day where date = date '{yesterday}' and closed");
    for who in [As::Teacher, As::Office, As::DistrictOffice, As::Foreign] {
        let cookie = &town.cookies[&who];
        let expected = ask(&town, cookie, &days).await["rows"].clone();
        let at_school = ask(&town, cookie, &format!("select count(*) from absence_at_school where {span}")).await;
        assert_eq!(at_school["rows"], expected, "{who:?}");
        let in_district = format!("select count(*) from absence_in_district where {span}");
        let view = format!("select sum(students) from chronic_absence_by_grade where {span}");
        for sql in [in_district, view] {
            if matches!(who, As::DistrictOffice | As::Foreign) {
                assert_eq!(ask(&town, cookie, &sql).await["rows"], expected, "{who:?}: {sql}");
            } else {
                let hidden = town.post(who, "/api/v1/sql", json!({"sql": sql})).await;
                assert_eq!((hidden.status.as_u16(), &hidden.body["code"]), (422, &json!("sql_invalid")), "{who:?}: {sql}: {}", hidden.body);
            }
        }
    }
    // An analyst has the tiers of large groups: eighty students, none of whom has a scan.
    let sql = format!("select tier, sum(students) from chronic_absence_by_school where {span} group by tier");
    let about = ask(&town, &town.cookies[&As::Analyst], &sql).await;
    let students: f64 = rows(&about).iter().map(|row| row[1].as_f64().unwrap()).sum();
    assert!((students - 80.0).abs() < 30.0, "{about}");
    for view in ["chronic_absence_by_school", "chronic_absence_by_grade"] {
        let catalog = town.get(As::Analyst, "/api/v1/sql/catalog").await.body;
        assert!(catalog["tables"].as_array().unwrap().iter().any(|table| table["name"] == view), "{view}");
        ask(&town, &town.cookies[&As::Analyst], &format!("select * from {view} where {span}")).await;
    }
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
async fn analysts_get_no_class_and_no_student_out_of_engagement() {
    let town = Town::start().await;
    for sql in ["select * from engagement", "select count(*) from engagement", "select * from engagement_student"] {
        let refused = town.post(As::Analyst, "/api/v1/sql", json!({"sql": sql})).await;
        assert_eq!((refused.status.as_u16(), &refused.body["code"]), (422, &json!("sql_refused")), "{sql}: {}", refused.body);
        let said = refused.body["detail"].as_str().unwrap();
        assert!(sql.ends_with("_student") || said.contains("engagement_student"), "{said}");
    }
    ask(&town, &town.cookies[&As::Analyst], "select count(*) from engagement_student").await;
}

/// What the catalog lists is answered, whoever asks: tables in figures, views as they are.
#[tokio::test]
async fn everything_that_a_catalog_lists_is_answered() {
    let town = Town::start().await;
    let views: BTreeSet<&str> = rollcall_analytics::facts::VIEWS.iter().map(|view| view.name).collect();
    for who in [As::Analyst, As::Teacher, As::Office, As::DistrictOffice] {
        let cookie = &town.cookies[&who];
        let catalog = get(&town, cookie, "/api/v1/sql/catalog").await;
        let tables: Vec<&str> = catalog["tables"].as_array().unwrap().iter().map(|table| table["name"].as_str().unwrap()).collect();
        for table in &tables {
            let what = if views.contains(table) { "*" } else { "count(*)" };
            ask(&town, cookie, &format!("select {what} from {table}")).await;
        }
        let listed = views.iter().filter(|view| tables.contains(*view)).count();
        let is_of_district = matches!(who, As::Analyst | As::DistrictOffice);
        assert!(listed == views.len() || !is_of_district, "{who:?}: {tables:?}");
        assert_eq!(tables.contains(&"engagement"), who != As::Analyst, "{who:?}: {tables:?}");
    }
    // Of forty students in each school, with the days of a week as they were.
    let sql = "select school, week, students, days_in_session, adm from attendance_by_week order by week desc";
    let (office, analyst) = (ask(&town, &town.cookies[&As::DistrictOffice], sql).await, ask(&town, &town.cookies[&As::Analyst], sql).await);
    assert!(!rows(&analyst).is_empty(), "{analyst}");
    for told in rows(&analyst) {
        let exact = rows(&office).iter().find(|exact| exact[0] == told[0] && exact[1] == told[1]).unwrap();
        assert_eq!(told[3], exact[3], "{told} and {exact}");
        for figure in [2, 4] {
            let (told, exact) = (told[figure].as_f64().unwrap(), exact[figure].as_f64().unwrap());
            assert!((told - exact).abs() < 20.0, "{told} and {exact}");
        }
    }
    let median = town.post(As::Analyst, "/api/v1/sql", json!({"sql": "select median_min from tardies_by_week"})).await;
    assert_eq!(median.body["code"], "sql_invalid", "{}", median.body);
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

/// A condition of the text is never evaluated for rows of others: a cast that fails would say their values.
#[tokio::test]
async fn no_condition_meets_a_row_of_another_district_or_school() {
    let town = Town::start().await;
    for who in [As::Teacher, As::Office, As::DistrictOffice, As::Foreign] {
        let cookie = &town.cookies[&who];
        let limits: &[&str] = if matches!(who, As::Teacher | As::Office) { &["district", "school"] } else { &["district"] };
        let catalog = get(&town, cookie, "/api/v1/sql/catalog").await;
        let mut asked = 0;
        for limit in limits {
            let own = ask(&town, cookie, &format!("select distinct substr(id_text({limit}), 1, 23) from students")).await;
            let own: Vec<String> = rows(&own).iter().map(|row| format!("'{}'", row[0].as_str().unwrap())).collect();
            assert!(!own.is_empty());
            for table in catalog["tables"].as_array().unwrap() {
                if !table["columns"].as_array().unwrap().iter().any(|column| column["name"] == *limit) {
                    continue;
                }
                let name = table["name"].as_str().unwrap();
                let id = format!("substr(id_text({limit}), 1, 23)");
                let foreign =
                    format!("case when {id} not in ({}) then cast(concat('FOREIGN ', {id}) as int) else 1 end > 0", own.join(", "));
                for sql in [
                    format!("select count(*) from {name} where {foreign}"),
                    format!("select count(*) from (select * from {name} where {foreign}) x join schools s on s.school = x.{limit}"),
                ] {
                    ask(&town, cookie, &sql).await;
                    asked += 1;
                }
            }
        }
        assert!(asked > 20, "{who:?}: {asked}");
    }
}
