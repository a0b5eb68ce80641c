//! Each count of a report against what its explanation gives, on the district of `hand_worked.sql`: the line of students without a grade, the
//! distribution of late arrivals, and the tiers of chronic absence.

use std::collections::BTreeSet;

use rollcall_model::ids::PersonId;
use serde_json::{Value, json};

use crate::reports::{EAST, EAST_CLASS, RANGE, WEST, counts, get, hand_worked, line};
use crate::town::{As, Town};

/// In the order of `counts`.
const FIGURES: [&str; 8] = ["enrolled", "attended", "absent", "excused", "unexcused", "unexplained", "unknown", "tardy"];
const WEST_CLASS: &str = "c0000000-0000-4000-8000-000000000002";
const TIERS: [&str; 5] = ["satisfactory", "at_risk", "moderate", "severe", "chronic"];
/// Before Ada's excuse and Cyd's late scan were there, and now.
const INSTANTS: [&str; 2] = ["", "&as_of=2026-03-14T00:00:00Z"];

/// Ben of East and Eli of West have no grade in the directory.
async fn without_grades(town: &Town) {
    let [ben, eli] = [2, 5].map(|number| format!("'a0000000-0000-4000-8000-00000000000{number}'"));
    town.as_owner(&format!("update rollcall.person set grade = null where id in ({ben}, {eli})")).await;
    town.cache.refresh_now().await.unwrap();
}

/// All rows of all pages, and the last page.
async fn pages(town: &Town, cookie: &str, path: &str, limit: usize) -> (Vec<Value>, Value) {
    let (mut rows, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = get(town, cookie, &format!("{path}&limit={limit}{cursor}")).await;
        rows.extend(page["items"].as_array().unwrap().iter().cloned());
        match page["next"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return (rows, page),
        }
    }
}

/// The part of a report that a line of it is about, as parameters.
fn part(report: &Value, line: &Value, total: bool) -> String {
    match report["by"].as_str().unwrap() {
        _ if total => String::new(),
        "grade" => line["grade"].as_str().map_or("&no_grade=true".to_owned(), |grade| format!("&grade={grade}")),
        by => format!("&{by}={}", line[by].as_str().unwrap()),
    }
}

/// Every line of a report and its total, with the part that each is about.
fn lines(report: &Value) -> Vec<(&Value, String)> {
    let items = report["items"].as_array().unwrap().iter().map(|line| (line, part(report, line, false)));
    let total = Some(&report["total"]).filter(|total| !total.is_null());
    items.chain(total.map(|line| (line, part(report, line, true)))).collect()
}

#[tokio::test]
async fn the_line_without_a_grade_is_what_its_explanation_adds_up_to() {
    let (town, office, _) = hand_worked().await;
    without_grades(&town).await;
    for scope in [String::new(), format!("&school={EAST}"), format!("&school={WEST}")] {
        for then in INSTANTS {
            let report = get(&town, &office, &format!("/api/v1/reports/attendance?by=grade&{RANGE}{scope}{then}")).await;
            let lacking = report["items"].as_array().unwrap().iter().filter(|line| line["grade"].is_null());
            assert_eq!(lacking.count(), 1, "{report}");
            for (line, part) in lines(&report) {
                for (figure, count) in FIGURES.iter().zip(counts(line)) {
                    let path = format!("/api/v1/reports/explain?figure={figure}&{RANGE}{scope}{then}{part}");
                    let (rows, page) = pages(&town, &office, &path, 200).await;
                    assert_eq!(page["sum"], count, "{path}: {line}");
                    assert_eq!(rows.iter().map(|row| row["adds"].as_u64().unwrap()).sum::<u64>(), count, "{path}");
                }
            }
        }
    }
    // Ben's half a day, by name.
    let path = format!("/api/v1/reports/explain?figure=absent&{RANGE}&school={EAST}&no_grade=true");
    let absent = get(&town, &office, &path).await;
    assert_eq!((&absent["sum"], &absent["items"][0]["student"]), (&json!(1), &json!("a0000000-0000-4000-8000-000000000002")));
}

#[tokio::test]
async fn each_class_of_late_arrivals_is_what_its_explanation_adds_up_to() {
    let (town, office, _) = hand_worked().await;
    // The office knows that Eli came on the day of which the gate knows nothing, but not when.
    town.as_owner(&format!(
        "insert into rollcall.mark (district, id, school, student, date, status, authority, author, recorded_at, log_offset) values
         ('d0000000-0000-4000-8000-000000000000', gen_random_uuid(), '{WEST}', 'a0000000-0000-4000-8000-000000000005', '2026-03-04', 'tardy',
          'office', gen_random_uuid(), '2026-03-04 20:00Z', 1000003000)"
    ))
    .await;
    let mut explained = Vec::new();
    for by in ["school", "grade", "week", "section"] {
        let report = get(&town, &office, &format!("/api/v1/reports/late-arrivals?by={by}&{RANGE}")).await;
        for (line, part) in lines(&report) {
            let classes = line["classes"].as_array().unwrap().iter();
            let classes = classes.map(|class| (class["from_min"].to_string(), &class["arrivals"], &class["to_min"]));
            for (from, count, to) in classes.chain([("unknown".to_owned(), &line["time_unknown"], &Value::Null)]) {
                let path = format!("/api/v1/reports/explain?figure=tardy&late_from={from}&{RANGE}{part}");
                let (rows, page) = pages(&town, &office, &path, 1).await;
                assert_eq!((&page["sum"], &json!(rows.len())), (count, count), "{path}: {line}");
                for row in rows {
                    let minute = row["late_min"].as_u64();
                    let is_within = from
                        .parse()
                        .is_ok_and(|from: u64| minute.is_some_and(|late| late >= from && to.as_u64().is_none_or(|to| late < to)));
                    assert!(is_within || (from == "unknown" && minute.is_none()), "{path}: {row}");
                    explained.push((by, from.clone(), row["student"].as_str().unwrap().chars().last().unwrap()));
                }
            }
        }
    }
    explained.sort();
    explained.dedup();
    let of_days = ["10", "120", "unknown"].into_iter().zip(['4', '1', '5']);
    let mut expected: Vec<_> =
        ["grade", "school", "week"].into_iter().flat_map(|by| of_days.clone().map(move |(from, who)| (by, from.to_owned(), who))).collect();
    // Of a lesson of three hours two are too many for a tardy, so Ada was absent from it.
    expected.extend([("section", "10".to_owned(), '4'), ("section", "unknown".to_owned(), '5')]);
    expected.sort();
    assert_eq!(explained, expected);
}

/// Compares each count of the lines of a report of chronic absence with the students behind it, and each student with the days behind.
async fn check_tiers(town: &Town, cookie: &str, by: &str, scope: &str, then: &str) {
    let report = get(town, cookie, &format!("/api/v1/reports/chronic-absence?by={by}&{RANGE}{scope}{then}")).await;
    for (line, part) in lines(&report) {
        for tier in TIERS.into_iter().chain(["students"]) {
            let asked = if tier == "students" { String::new() } else { format!("&tier={tier}") };
            let path = format!("/api/v1/reports/chronic-absence/students?{RANGE}{scope}{then}{part}{asked}");
            let (rows, page) = pages(town, cookie, &path, 1).await;
            assert_eq!((&page["count"], &json!(rows.len())), (&line[tier], &line[tier]), "{path}: {line}");
            let half_days = |row: &Value, name: &str| row[name].as_u64().unwrap();
            let share = |row: &Value| half_days(row, "absent_half_days") as f64 / half_days(row, "enrolled_half_days") as f64;
            assert!(rows.is_sorted_by(|a, b| share(a) >= share(b)), "{path}");
            for row in &rows {
                let (shares, names) = ([0.05, 0.1, 0.2], &TIERS[..4]);
                assert_eq!(row["tier"], names[shares.iter().filter(|from| share(row) >= **from).count()], "{row}");
                assert!(tier == "students" || tier == "chronic" || row["tier"] == tier, "{path}: {row}");
                // The days at the school of the line; of a line of several schools each day once.
                let school = line["school"].as_str().map(|school| format!("&school={school}")).unwrap_or_else(|| scope.to_owned());
                for (figure, name) in [("enrolled", "enrolled_half_days"), ("absent", "absent_half_days")] {
                    let student = row["student"].as_str().unwrap();
                    let path = format!("/api/v1/reports/explain?figure={figure}&student={student}&{RANGE}{school}{then}");
                    assert_eq!(get(town, cookie, &path).await["sum"], row[name], "{path}: {row}");
                }
            }
        }
    }
}

#[tokio::test]
async fn each_count_of_a_tier_is_the_students_that_are_named_for_it() {
    let (town, office, _) = hand_worked().await;
    without_grades(&town).await;
    let [east, west] = [EAST, WEST].map(|school| format!("&school={school}"));
    for (by, scope, then) in [
        ("school", "", ""),
        ("school", "", INSTANTS[1]),
        ("grade", "", INSTANTS[1]),
        ("grade", &east, ""),
        ("grade", &west, ""),
        ("section", "", ""),
        ("section", &west, ""),
    ] {
        check_tiers(&town, &office, by, scope, then).await;
    }
    // A section's line is the same alone and among others, and has Dee's ten half-days at West, on none of which Dee was absent.
    for class in [EAST_CLASS, WEST_CLASS] {
        let [alone, all] =
            [format!("&section={class}"), String::new()].map(|part| format!("/api/v1/reports/chronic-absence?by=section&{RANGE}{part}"));
        let (alone, all) = (get(&town, &office, &alone).await, get(&town, &office, &all).await);
        assert_eq!(line(&alone, "section", class), line(&all, "section", class));
    }
    // Dee's two of ten half-days at East are severe, but of five days only; in the district they are two of twenty.
    let ask = async |rest: &str| get(&town, &office, &format!("/api/v1/reports/chronic-absence/students?{RANGE}{rest}")).await;
    let severe = ask(&format!("&school={EAST}&tier=severe")).await;
    let dee = &severe["items"][0];
    assert_eq!((&severe["count"], &dee["absent_half_days"], &dee["enrolled_half_days"]), (&json!(1), &json!(2), &json!(10)), "{severe}");
    assert_eq!(dee["student"], "a0000000-0000-4000-8000-000000000004");
    let report = get(&town, &office, &format!("/api/v1/reports/chronic-absence?by=school&{RANGE}")).await;
    assert_eq!(ask("&tier=chronic").await["items"], report["chronic_students"]);
    assert_eq!(line(&report, "school", EAST)["chronic"], ask(&format!("&school={EAST}&tier=chronic")).await["count"]);
}

#[tokio::test]
async fn what_cannot_be_explained_is_refused() {
    let (town, office, analyst) = hand_worked().await;
    let refused = async |cookie: &str, path: &str, status: u16| {
        let answer = town.send(axum::http::Method::GET, &format!("/api/v1/reports/{path}"), Some(cookie), None, &[]).await;
        assert_eq!(answer.status, status, "{path}: {}", answer.body);
    };
    for path in [
        "explain?figure=absent&grade=09&no_grade=true",
        "explain?figure=absent&late_from=10",
        "explain?figure=tardy&late_from=7",
        "explain?figure=tardy&late_from=",
        "explain?figure=tardy&late_from=soon",
        "chronic-absence/students?grade=09&no_grade=true",
        "chronic-absence/students?limit=0",
        "chronic-absence/students?as_of=2999-01-01T00:00:00Z",
    ] {
        refused(&office, path, 422).await;
    }
    refused(&office, "chronic-absence/students?tier=lowest", 400).await;
    refused(&office, "explain?figure=absent&grade=09&no_grade=false", 200).await;
    for path in [
        "explain?figure=absent&no_grade=true",
        "explain?figure=tardy&late_from=10",
        "explain?figure=tardy&late_from=unknown",
        "chronic-absence/students",
        "chronic-absence/students?tier=severe",
        "chronic-absence/students?tier=chronic&no_grade=true",
    ] {
        refused(&analyst, &format!("{path}{}{RANGE}", if path.contains('?') { '&' } else { '?' }), 403).await;
    }
    // An office asks about its own school only, a teacher about the own students only.
    for (who, path, status) in [
        (As::Office, format!("chronic-absence/students?school={}", town.other_school), 403),
        (As::Teacher, format!("chronic-absence/students?section={}", town.other_section), 403),
        (As::Teacher, format!("chronic-absence/students?section={}", town.own.section), 200),
        (As::Foreign, format!("chronic-absence/students?school={}", town.own.school), 404),
    ] {
        let answer = town.get(who, &format!("/api/v1/reports/{path}")).await;
        assert_eq!(answer.status, status, "{who:?} {path}: {}", answer.body);
    }
    // A page that is far behind the end is empty.
    let far = base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, u64::MAX.to_string());
    for path in ["explain?figure=absent&limit=1", "chronic-absence/students?limit=1"] {
        let page = get(&town, &office, &format!("/api/v1/reports/{path}&{RANGE}&cursor={far}")).await;
        assert_eq!((&page["items"], &page["next"]), (&json!([]), &Value::Null), "{path}");
    }
}

#[tokio::test]
async fn a_teacher_is_told_of_the_own_students() {
    let town = Town::start().await;
    let (day, section) = (town.date.pred_opt().unwrap(), town.own.section);
    let path = format!("/api/v1/reports/chronic-absence/students?from={day}&to={day}&limit=1000&section={section}");
    let answer = town.get(As::Teacher, &path).await.body;
    let listed = answer["items"].as_array().unwrap().iter();
    assert!(listed.clone().all(|student| student["family"] != ""), "{answer}");
    let listed: BTreeSet<PersonId> = listed.map(|student| student["student"].as_str().unwrap().parse().unwrap()).collect();
    assert_eq!((&listed, &answer["count"]), (&town.students().into_iter().collect(), &json!(listed.len())), "{answer}");
    assert_eq!(town.get(As::Office, &path).await.body, answer);
}
