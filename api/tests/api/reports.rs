//! Reports on a district that is small enough to be worked out by hand (`hand_worked.sql`), and who gets what of them.
//!
//! Half-days of the ten days in session, `.` attended, in the order 2 3 4 5 6 | 9 10 11 12 13 March 2026. A regular day has
//! 360 minutes, at East from 9 March on 300; 120 absent minutes are half a day, 240 a whole one. East's 13 March has 180
//! minutes and is a half-day, on which 60 and 120 count instead.
//!
//! | student | grade | East          | West          | worked out                                                        |
//! | ------- | ----- | ------------- | ------------- | ----------------------------------------------------------------- |
//! | Ada     | 09    | . 1 . . . \| . . . . 2 |      | 3rd: came 10:00, 120 of 360 missed: 1, tardy by 120, unexplained. 13th: 180 of 180 missed on a half-day: 2, excused on the 14th |
//! | Ben     | 09    | . . . . . \| . . 1 . . |      | 11th: left 10:00, 180 of 300 missed: 1, unexplained               |
//! | Cyd     | 10    | entered \| . . . . .   |      | 9th: no scan until the 20th, then 07:50                            |
//! | Dee     | 10    | . . . 2 . \| moved     | . . . . . | East 5th: the office gives a reason that does not excuse: 2. West 10th: came 08:12, tardy by 12 |
//! | Eli     | 10    |               | . . ? . not \| . . . . . | 4th: West's gate sent nothing at all: 2 unknown; 6th not in session |
//!
//! East, 10 days: enrolled 20 + 20 + 10 + 10 = 60 half-days, absent 3 + 1 + 0 + 2 = 6, attended 54.
//! ADM 60 / 2 / 10 = 3, ADA 54 / 2 / 10 = 2.7, rate 54 / 60 = 0.9.
//! West, 9 days: enrolled 10 + 18 = 28, unknown 2, attended 26. ADM 14 / 9, ADA 13 / 9, rate 26 / 28.
//! District: ADM 3 + 14 / 9, ADA 2.7 + 13 / 9, rate ADA / ADM.

use arrow::util::display::{ArrayFormatter, FormatOptions};
use datafusion::prelude::SessionContext;
use rollcall_analytics::facts::{Facts, FactsTable, VIEWS};
use rollcall_model::ids::DistrictId;
use rollcall_store::Store;
use rollcall_store::admin::{self, NewAccount};
use rollcall_store::password::Passwords;
use serde_json::Value;

use crate::town::{As, PASSWORD, Town};

pub(crate) const EAST: &str = "e0000000-0000-4000-8000-000000000000";
pub(crate) const WEST: &str = "f0000000-0000-4000-8000-000000000000";
pub(crate) const EAST_CLASS: &str = "c0000000-0000-4000-8000-000000000001";
pub(crate) const RANGE: &str = "from=2026-03-01&to=2026-03-31";

/// The town with the hand-worked district in it, and the cookies of its office and its analyst.
pub(crate) async fn hand_worked() -> (Town, String, String) {
    let town = Town::start().await;
    town.as_owner(include_str!("hand_worked.sql")).await;
    town.cache.refresh_now().await.unwrap();
    let hash = Passwords::new(2).unwrap().hash(PASSWORD.to_owned()).await.unwrap();
    let store = Store::connect(&town.config).await.unwrap();
    let district: DistrictId = "d0000000-0000-4000-8000-000000000000".parse().unwrap();
    let mut tenant = store.tenant(district).await.unwrap();
    for role in ["office", "analyst"] {
        let email = format!("{role}@hand.example");
        let account = NewAccount { email, role: role.to_owned(), person: None, school: None, password_hash: hash.clone() };
        admin::add_account(&mut tenant, &account).await.unwrap();
    }
    tenant.commit().await.unwrap();
    let (office, analyst) = (town.sign_in("office@hand.example").await, town.sign_in("analyst@hand.example").await);
    (town, office, analyst)
}

pub(crate) async fn get(town: &Town, cookie: &str, path: &str) -> Value {
    let answer = town.send(axum::http::Method::GET, path, Some(cookie), None, &[]).await;
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.body
}

pub(crate) fn line<'a>(report: &'a Value, key: &str, value: &str) -> &'a Value {
    let items = report["items"].as_array().unwrap();
    items.iter().find(|item| item[key] == value).unwrap_or_else(|| panic!("no {key} {value} in {report}"))
}

/// [enrolled, attended, absent, excused, unexcused, unexplained, unknown, tardies].
pub(crate) fn counts(line: &Value) -> [u64; 8] {
    [
        "enrolled_half_days",
        "attended_half_days",
        "absent_half_days",
        "excused_half_days",
        "unexcused_half_days",
        "unexplained_half_days",
        "unknown_half_days",
        "tardies",
    ]
    .map(|name| line[name].as_u64().unwrap_or_else(|| panic!("no {name} in {line}")))
}

fn averages(line: &Value, adm: f64, ada: f64, rate: f64) {
    for (name, expected) in [("adm", adm), ("ada", ada), ("rate", rate)] {
        let got = line[name].as_f64().unwrap();
        assert!((got - expected).abs() < 1e-12, "{name} is {got}, not {expected}: {line}");
    }
}

#[tokio::test]
async fn every_figure_is_the_one_worked_out_by_hand() {
    let (town, office, _) = hand_worked().await;
    let ask = async |what: &str| get(&town, &office, &format!("/api/v1/reports/{what}&{RANGE}")).await;

    let report = ask("attendance?by=school").await;
    let (east, west) = (line(&report, "school", EAST), line(&report, "school", WEST));
    assert_eq!((counts(east), &east["days_in_session"], &east["students"]), ([60, 54, 6, 2, 2, 2, 0, 1], &10.into(), &4.into()));
    averages(east, 3.0, 2.7, 0.9);
    assert_eq!((counts(west), &west["days_in_session"], &west["students"]), ([28, 26, 0, 0, 0, 0, 2, 1], &9.into(), &2.into()));
    averages(west, 14.0 / 9.0, 13.0 / 9.0, 26.0 / 28.0);
    let total = &report["total"];
    // Dee counts once; the calendars differ, so there is no one number of days.
    assert_eq!((counts(total), &total["days_in_session"], &total["students"]), ([88, 80, 6, 2, 2, 2, 2, 2], &Value::Null, &5.into()));
    let (adm, ada) = (3.0 + 14.0 / 9.0, 2.7 + 13.0 / 9.0);
    averages(total, adm, ada, ada / adm);

    let report = ask("attendance?by=grade").await;
    assert_eq!(counts(line(&report, "grade", "09")), [40, 36, 4, 2, 0, 2, 0, 1]);
    averages(line(&report, "grade", "09"), 2.0, 1.8, 0.9);
    assert_eq!(counts(line(&report, "grade", "10")), [48, 44, 2, 0, 2, 0, 2, 1]);

    // 2 to 6 March: East 30 - 3 of 5 days, West 8 - 2 of 4. 9 to 13 March: East 30 - 3 and West 20 of 5 days.
    let report = ask("attendance?by=week").await;
    assert_eq!(counts(line(&report, "week", "2026-03-02")), [38, 33, 3, 0, 2, 1, 2, 1]);
    averages(line(&report, "week", "2026-03-02"), 4.0, 3.45, 3.45 / 4.0);
    assert_eq!(counts(line(&report, "week", "2026-03-09")), [50, 47, 3, 2, 0, 1, 0, 1]);
    averages(line(&report, "week", "2026-03-09"), 5.0, 4.7, 0.94);

    // 9 days with two meetings and one with one. Ada misses the mornings of the 3rd and the 13th, Ben the afternoon of
    // the 11th, Dee both of the 5th: 5 of 19 + 19 + 9 + 10 = 57 meetings.
    let report = ask("attendance?by=section").await;
    let class = line(&report, "section", EAST_CLASS);
    assert_eq!((counts(class), &class["days_in_session"]), ([114, 104, 10, 2, 4, 4, 0, 0], &19.into()));
    averages(class, 3.0, 52.0 / 19.0, 52.0 / 57.0);
    assert_eq!(report["total"], Value::Null);

    let report = ask("late-arrivals?by=school").await;
    let total = &report["total"];
    let arrivals: Vec<u64> = total["classes"].as_array().unwrap().iter().map(|class| class["arrivals"].as_u64().unwrap()).collect();
    assert_eq!(arrivals, [0, 0, 1, 0, 0, 0, 0, 0, 1]);
    assert_eq!((&total["median_min"], &total["p90_min"], &total["time_unknown"]), (&12.into(), &120.into(), &0.into()));
    let tardies = ask("tardies?by=school").await;
    assert_eq!(line(&tardies, "school", EAST)["rate"], 1.0 / 27.0);
    let unexplained = ask("unexplained-absences?by=school").await;
    assert_eq!((&unexplained["total"]["absent_half_days"], &unexplained["total"]["unexplained_half_days"]), (&6.into(), &2.into()));
    let nothing = get(&town, &office, "/api/v1/reports/attendance?from=2026-04-01&to=2026-04-05").await;
    assert_eq!((&nothing["total"]["rate"], &nothing["total"]["adm"]), (&Value::Null, &Value::Null));
}

#[tokio::test]
async fn chronic_absence_has_a_school_grain_and_a_district_grain() {
    let (town, office, _) = hand_worked().await;
    let report = get(&town, &office, &format!("/api/v1/reports/chronic-absence?by=school&{RANGE}")).await;
    let tiers = |line: &Value| ["satisfactory", "at_risk", "moderate", "severe", "chronic"].map(|tier| line[tier].as_u64().unwrap());
    // East: Cyd 0 of 10; Ben 1 of 20; Ada 3 of 20; Dee 2 of 10, but of 5 days only, fewer than a chronic absence needs.
    assert_eq!(tiers(line(&report, "school", EAST)), [1, 1, 1, 1, 1]);
    assert_eq!(tiers(line(&report, "school", WEST)), [2, 0, 0, 0, 0]);
    // District: Dee 2 of 20, exactly a tenth.
    assert_eq!(tiers(&report["total"]), [2, 1, 2, 0, 2]);
    // Eli's day without anything from the gate, of 88 half-days in all.
    assert_eq!(report["unknown_share"], 2.0 / 88.0);
    let students: Vec<&str> =
        report["chronic_students"].as_array().unwrap().iter().map(|student| student["student"].as_str().unwrap()).collect();
    assert_eq!(students, ["a0000000-0000-4000-8000-000000000001", "a0000000-0000-4000-8000-000000000004"]);
}

#[tokio::test]
async fn a_report_is_as_it_was_known_and_leads_to_scans_and_marks() {
    let (town, office, _) = hand_worked().await;
    let ask = async |path: &str| get(&town, &office, &format!("/api/v1/reports/{path}&school={EAST}&{RANGE}")).await;
    // On the evening of the 13th neither Ada's excuse nor Cyd's late scan was there.
    let then = ask("attendance?by=school&as_of=2026-03-14T00:00:00Z").await;
    assert_eq!(counts(line(&then, "school", EAST)), [60, 52, 8, 0, 2, 6, 0, 1]);
    // In the middle of the 3rd only the 2nd was closed: Ada, Ben and Dee.
    let early = ask("attendance?by=school&as_of=2026-03-03T17:00:00Z").await;
    assert_eq!((counts(line(&early, "school", EAST)), &early["items"][0]["days_in_session"]), ([6, 6, 0, 0, 0, 0, 0, 0], &1.into()));

    let absent = ask("explain?figure=absent").await;
    assert_eq!((&absent["sum"], absent["items"].as_array().unwrap().len()), (&6.into(), 4));
    let excused = absent["items"].as_array().unwrap().iter().find(|row| row["absence"] == "excused").unwrap();
    assert_eq!((&excused["mark"], &excused["basis"]), (&"b0000000-0000-4000-8000-000000000001".into(), &"evidence".into()));
    let attended = ask("explain?figure=attended&student=a0000000-0000-4000-8000-000000000001&limit=1").await;
    assert_eq!((&attended["sum"], &attended["items"][0]["basis"]), (&17.into(), &"recorded".into()));
    let day = get(&town, &office, attended["items"][0]["day"].as_str().unwrap()).await;
    assert_eq!(
        (&day["date"], &day["day"]["status"], &day["day"]["detail"]["absent_half_days"]),
        (&"2026-03-02".into(), &"present".into(), &0.into())
    );

    // Behind Ada's unexplained half-day stands the scan by which she came at ten, though nothing was on record of that day; behind the
    // excused day no scan but the office's mark, and nothing at all as it was known before the mark.
    let of_ada =
        async |figure: &str, also: &str| ask(&format!("explain?figure={figure}&student=a0000000-0000-4000-8000-000000000001{also}")).await;
    let late = of_ada("unexplained", "").await;
    let row = &late["items"][0];
    assert_eq!(
        (&row["date"], &row["basis"], &row["scans"][0]["ts"]),
        (&"2026-03-03".into(), &"evidence".into(), &"2026-03-03T16:00:00.000Z".into())
    );
    assert_eq!((row["scans"].as_array().unwrap().len(), &row["marks"]), (1, &serde_json::json!([])), "{row}");
    let ill = of_ada("excused", "").await;
    let row = &ill["items"][0];
    assert_eq!(
        (&row["scans"], &row["marks"][0]["reason"], &row["marks"][0]["id"]),
        (&serde_json::json!([]), &"flu".into(), &row["mark"]),
        "{row}"
    );
    let before = of_ada("absent", "&as_of=2026-03-14T00:00:00Z").await;
    let row = before["items"].as_array().unwrap().iter().find(|row| row["date"] == "2026-03-13").unwrap();
    assert_eq!((&row["scans"], &row["marks"]), (&serde_json::json!([]), &serde_json::json!([])), "{row}");

    // Pages cover the rows without gap or repetition.
    let (mut seen, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = ask(&format!("explain?figure=enrolled&limit=7{cursor}")).await;
        seen.extend(page["items"].as_array().unwrap().iter().map(|row| (row["date"].to_string(), row["student"].to_string())));
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!((seen.len(), seen.iter().collect::<std::collections::BTreeSet<_>>().len()), (30, 30));
}

/// Sixty more scans of Ada's 3rd, after the one by which she came, and sixty teachers' marks about her 13th, which the office has decided.
const MANY: &str = "
    insert into event.scan (district, school, device, seq, ts, received, offline, person, badge, dir, method, log_offset)
        select district, school, device, seq + 10000 + n, ts + n * interval '1 minute', received + n * interval '1 minute', offline, person, badge,
            dir, method, log_offset + 10000 + n
        from event.scan, generate_series(1, 60) n
        where person = 'a0000000-0000-4000-8000-000000000001' and ts = '2026-03-03 16:00Z';
    insert into rollcall.mark (district, id, school, student, date, status, authority, author, recorded_at, log_offset)
        select district, gen_random_uuid(), school, student, date, 'present', 'teacher', gen_random_uuid(), recorded_at + n * interval '1 minute',
            log_offset + 10000 + n
        from rollcall.mark, generate_series(1, 60) n where id = 'b0000000-0000-4000-8000-000000000001'";

#[tokio::test]
async fn an_explanation_names_people_and_scanners_and_says_what_it_does_not_list() {
    let (town, office, _) = hand_worked().await;
    town.as_owner(MANY).await;
    // The scans by hand have their school's id in the place of a device's.
    let device = "insert into rollcall.device (district, id, school, kind, name, token_hash)";
    let hand = "d0000000-0000-4000-8000-000000000000";
    town.as_owner(&format!("{device} values ('{hand}', '{EAST}', '{EAST}', 'gate', 'Main gate', sha256('hand'))")).await;
    town.cache.refresh_now().await.unwrap();
    let of_ada = async |figure: &str, date: &str| {
        let path = format!(
            "/api/v1/reports/explain?figure={figure}&school={EAST}&student=a0000000-0000-4000-8000-000000000001&from={date}&to={date}"
        );
        get(&town, &office, &path).await["items"][0].clone()
    };
    let late = of_ada("unexplained", "2026-03-03").await;
    assert_eq!((late["scans"].as_array().unwrap().len(), &late["scans_unlisted"]), (50, &11.into()));
    assert_eq!((&late["scans"][0]["ts"], &late["marks_unlisted"]), (&"2026-03-03T16:00:00.000Z".into(), &0.into()));
    assert_eq!((&late["scans"][0]["device_name"], &late["zone"]), (&"Main gate".into(), &"America/Chicago".into()));
    let ill = of_ada("excused", "2026-03-13").await;
    let marks = ill["marks"].as_array().unwrap();
    assert_eq!((marks.len(), &ill["marks_unlisted"], &ill["scans_unlisted"]), (50, &11.into(), &0.into()));
    // The one that decided is among those that are listed, though it is the oldest.
    assert_eq!((&marks[0]["id"], &marks[0]["section_title"]), (&ill["mark"], &Value::Null));
    assert_eq!((&late["given"], &late["family"]), (&"".into(), &"".into()), "the district by hand has no names");

    let town_day = town.date.pred_opt().unwrap();
    let path = format!("/api/v1/reports/explain?figure=enrolled&section={}&from={town_day}&to={town_day}&limit=1", town.own.section);
    for who in [As::Office, As::Teacher] {
        let answer = town.get(who, &path).await.body;
        let row = &answer["items"][0];
        assert!(row["family"].as_str().is_some_and(|name| !name.is_empty()) && row["period_name"].is_string(), "{answer}");
    }
}

/// Ada came at ten on the 3rd and missed the rest of the first period; Ben left at ten on the 11th and missed the rest of it and the afternoon.
#[tokio::test]
async fn periods_that_are_excused_excuse_the_half_days_that_they_are() {
    let (town, office, _) = hand_worked().await;
    let mark = async |student: u8, date: &str, period: u8, status: &str, at: &str| {
        town.as_owner(&format!(
            "insert into rollcall.mark (district, id, school, student, section, period, date, status, authority, author, reason, recorded_at, log_offset)
             select p.district, gen_random_uuid(), p.school, 'a0000000-0000-4000-8000-00000000000{student}', '{EAST_CLASS}', p.id, '{date}', '{status}',
                 'office', gen_random_uuid(), 'dentist', '{at}', 1000003000 + extract(epoch from timestamptz '{at}')::bigint % 100000 + {period}
             from rollcall.period p where p.school = '{EAST}' and p.ordinal = {period}"
        ))
        .await;
    };
    let of = async |student: u8, date: &str, as_of: &str| {
        let student = format!("a0000000-0000-4000-8000-00000000000{student}");
        let path = format!("/api/v1/reports/explain?figure=absent&school={EAST}&student={student}&from={date}&to={date}{as_of}");
        let found = get(&town, &office, &path).await;
        (found["sum"].clone(), found["items"][0]["absence"].clone())
    };
    let (one, unexplained): (Value, Value) = (1.into(), "unexplained".into());
    assert_eq!(of(1, "2026-03-03", "").await, (one.clone(), unexplained.clone()));
    mark(1, "2026-03-03", 1, "absent_excused", "2026-03-20 15:00Z").await;
    assert_eq!(of(1, "2026-03-03", "").await, (one.clone(), "excused".into()));
    assert_eq!(of(1, "2026-03-03", "&as_of=2026-03-20T14:00:00Z").await, (one.clone(), unexplained.clone()));
    assert_eq!(of(2, "2026-03-11", "").await, (one.clone(), unexplained.clone()));
    mark(2, "2026-03-11", 1, "absent_excused", "2026-03-21 15:00Z").await;
    // 120 minutes of the afternoon are still missed without a word, which is half a day by itself.
    let (_, absence) = of(2, "2026-03-11", "").await;
    assert_eq!(absence, unexplained);
    mark(2, "2026-03-11", 2, "absent_unexcused", "2026-03-22 15:00Z").await;
    assert_eq!(of(2, "2026-03-11", "").await.1, Value::from("unexcused"));
    let report = get(&town, &office, &format!("/api/v1/reports/attendance?by=school&{RANGE}")).await;
    let east = line(&report, "school", EAST);
    assert_eq!(
        (&east["unexplained_half_days"], &east["excused_half_days"]),
        (&0.into(), &3.into()),
        "Ada's 13th and 3rd are excused, Ben's 11th and Dee's 5th are not: {east}"
    );
}

#[tokio::test]
async fn an_analyst_gets_groups_of_ten_and_no_student() {
    let (town, _, analyst) = hand_worked().await;
    for by in ["school", "grade", "week", "section"] {
        let report = get(&town, &analyst, &format!("/api/v1/reports/attendance?by={by}&{RANGE}")).await;
        let items = report["items"].as_array().unwrap();
        let hidden = |line: &Value| line["suppressed"] == true && line["rate"].is_null() && line["students"].is_null();
        assert!(!items.is_empty() && items.iter().all(hidden), "{report}");
        assert!(report["total"].is_null() || hidden(&report["total"]), "{report}");
    }
    let chronic = get(&town, &analyst, &format!("/api/v1/reports/chronic-absence?by=school&{RANGE}")).await;
    assert!(
        chronic["chronic_students"].is_null() && chronic["total"]["students"].is_null() && chronic["unknown_share"].is_null(),
        "{chronic}"
    );

    // Forty students in one school of the town are enough.
    let path = format!("/api/v1/reports/attendance?by=school&from={0}&to={0}&school={1}", town.date.pred_opt().unwrap(), town.own.school);
    let report = town.get(As::Analyst, &path).await.body;
    assert_eq!((&report["items"][0]["suppressed"], &report["items"][0]["students"]), (&false.into(), &40.into()), "{report}");
    for (who, path, status) in [
        (As::Teacher, "/api/v1/reports/attendance?by=school".to_owned(), 403),
        (As::Teacher, format!("/api/v1/reports/attendance?by=section&section={}", town.other_section), 403),
        (As::Office, format!("/api/v1/reports/attendance?school={}", town.other_school), 403),
        (As::Office, "/api/v1/reports/attendance?as_of=2999-01-01T00:00:00Z".to_owned(), 422),
        (As::Office, "/api/v1/reports/attendance?from=2020-01-01&to=2026-01-01".to_owned(), 422),
    ] {
        let answer = town.get(who, &path).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    }
    let office = town.get(As::Office, "/api/v1/reports/attendance?by=school").await.body;
    assert_eq!(office["items"].as_array().unwrap().len(), 1, "an office gets its own school only: {office}");
}

#[tokio::test]
async fn todays_counts_are_those_of_the_live_topic() {
    let town = Town::start().await;
    let answer = town.get(As::Analyst, &format!("/api/v1/districts/{}/attendance", town.own.district)).await;
    assert_eq!(answer.status, 200, "{}", answer.body);
    let schools = answer.body["data"]["schools"].as_object().unwrap();
    assert_eq!(schools.len(), 2);
    let counts = schools[&town.own.school.to_string()]["counts"].as_object().unwrap();
    assert_eq!(counts.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), 40, "{}", answer.body);
}

/// The hand-worked district's tables and views in a query engine, and one query's rows as text.
async fn sql(town: &Town, query: &str) -> Vec<Vec<String>> {
    let context = SessionContext::new();
    let store = Store::connect(&town.config).await.unwrap();
    for facts in Facts::ALL {
        let table = FactsTable::new(facts, store.clone(), town.cache.clone(), town.clock.clone());
        context.register_table(facts.name(), table.provider()).unwrap();
    }
    for view in &VIEWS {
        context.sql(&format!("create view {} as {}", view.name, view.sql)).await.unwrap().collect().await.unwrap();
    }
    let batches = context.sql(query).await.unwrap().collect().await.unwrap();
    let mut rows = Vec::new();
    for batch in &batches {
        let columns: Vec<ArrayFormatter<'_>> =
            batch.columns().iter().map(|column| ArrayFormatter::try_new(column, &FormatOptions::default()).unwrap()).collect();
        rows.extend((0..batch.num_rows()).map(|row| columns.iter().map(|column| column.value(row).to_string()).collect::<Vec<_>>()));
    }
    rows
}

#[tokio::test]
async fn sql_and_rest_give_the_same_numbers() {
    let (town, office, _) = hand_worked().await;
    let district = "district = X'd0000000000040008000000000000000'";
    let weeks = sql(
        &town,
        &format!(
            "select week, days_in_session, enrolled_half_days, attended_half_days, adm, ada, rate from attendance_by_week
             where {district} and school = X'e0000000000040008000000000000000' and week between date '2026-03-02' and date '2026-03-09' order by week"
        ),
    )
    .await;
    let report = get(&town, &office, &format!("/api/v1/reports/attendance?by=week&school={EAST}&{RANGE}")).await;
    assert_eq!(weeks.len(), 2, "{weeks:?}");
    for row in &weeks {
        let line = line(&report, "week", &row[0]);
        for (name, text) in ["days_in_session", "enrolled_half_days", "attended_half_days"].iter().zip(&row[1..4]) {
            assert_eq!(line[*name].to_string(), *text, "{name} of {row:?}");
        }
        for (name, text) in ["adm", "ada", "rate"].iter().zip(&row[4..]) {
            let (rest, sql) = (line[*name].as_f64().unwrap(), text.parse::<f64>().unwrap());
            assert!((rest - sql).abs() < 1e-12, "{name}: {rest} and {sql}");
        }
    }
    // By the home alone each student counts once a day, and as of an instant what was not known is not there.
    let sums = "sum(enrolled_half_days), sum(absent_half_days), sum(unknown_half_days), count(distinct student)";
    let whole = format!("select {sums} from attendance_day where {district} and home and closed and date < date '2026-04-01'");
    assert_eq!(sql(&town, &whole).await, [["88", "6", "2", "5"]]);
    let then = format!("{whole} and as_of = timestamp '2026-03-14T00:00:00Z'");
    assert_eq!(sql(&town, &then).await, [["88", "8", "2", "5"]]);
    let meetings = format!(
        "select sum(enrolled_half_days), sum(absent_half_days) from attendance_period where {district} and section = X'c0000000000040008000000000000001'"
    );
    assert_eq!(sql(&town, &meetings).await, [["114", "10"]]);
    let members = format!("select count(*), count(distinct student) from membership where {district} and date <= date '2026-03-31'");
    assert_eq!(sql(&town, &members).await, [["44", "5"]]);
    let grades = "select grade, sum(enrolled_half_days), sum(absent_half_days), sum(unknown_half_days) from attendance_by_grade";
    let grades = format!("{grades} where {district} and school = X'e0000000000040008000000000000000' group by grade order by grade");
    let by_grade = sql(&town, &grades).await;
    assert_eq!(by_grade, [["09", "40", "4", "0"], ["10", "20", "2", "0"]]);
    let report = get(&town, &office, &format!("/api/v1/reports/attendance?by=grade&school={EAST}&{RANGE}")).await;
    for row in &by_grade {
        let line = line(&report, "grade", &row[0]);
        for (name, text) in ["enrolled_half_days", "absent_half_days", "unknown_half_days"].iter().zip(&row[1..]) {
            assert_eq!(line[*name].to_string(), *text, "{name} of {row:?}");
        }
    }
    let section = format!(
        "select sum(enrolled_half_days), sum(absent_half_days) from attendance_by_section where {district} and section = X'c0000000000040008000000000000001'"
    );
    assert_eq!(sql(&town, &section).await, [["114", "10"]]);
    let late = format!("select from_min, arrivals, students from late_arrivals_by_week where {district} order by from_min");
    assert_eq!(sql(&town, &late).await, [["10", "1", "1"], ["120", "1", "1"]]);
    let unexplained = format!(
        "select grade, sum(unexplained_half_days), sum(students) from unexplained_absences_by_week where {district} group by grade order by grade"
    );
    assert_eq!(sql(&town, &unexplained).await, [["09", "2", "2"], ["10", "0", "0"]]);
    let tardies = format!("select sum(tardies), max(median_min) from tardies_by_week where {district}");
    assert_eq!(sql(&town, &tardies).await[0][0], "2");
}
