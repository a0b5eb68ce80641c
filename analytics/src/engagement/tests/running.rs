//! Engagement as it runs: live windows, corrections, attendance, consent, and that a kill neither loses nor doubles.

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_model::ids::{Offset, PeriodId};
use rollcall_model::schedule::Span;
use rollcall_stream::Log;
use serde_json::{Value, json};

use super::school::{PERIOD, School, at, next, section};

fn key(seconds: i64) -> String {
    at(seconds).to_chrono().unwrap().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

#[tokio::test]
async fn a_window_goes_from_no_data_to_open_to_settled_and_is_corrected_by_what_comes_late() {
    let school = School::new();
    let running = school.start();
    school.clock_at(10);
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    let first = &state["windows"][key(0)];
    assert_eq!((&first["data"], &first["active_min"], &first["state"]), (&json!(false), &Value::Null, &json!("open")), "{first}");
    assert_eq!((&first["present"], &first["coverage"]), (&json!(3), &json!(0.0)));
    assert_eq!(
        (&state["meta"]["state"], &state["meta"]["consented"], &state["meta"]["definition"]),
        (&json!("running"), &json!(3), &json!(1))
    );

    school.acts(0, 10);
    school.acts(0, 70);
    assert!(running.handle.turn().await);
    let delta = next(&mut topic, &mut state).await;
    assert_eq!(delta["windows"].as_object().unwrap().len(), 1, "only what changed is sent");
    assert_eq!(state["windows"][key(0)]["active_ms"], 60_000);
    assert_eq!(state["windows"][key(0)]["data"], true);
    assert_eq!(school.history.lock().rows.len(), 0, "a window that is open is not history");

    school.clock_at(361);
    running.until("the window is in history", || school.history.lock().rows.len() == 1).await;
    next(&mut topic, &mut state).await;
    assert_eq!((&state["windows"][key(0)]["state"], &state["windows"][key(0)]["corrections"]), (&json!("settled"), &json!(0)));
    assert_eq!(state["windows"][key(300)]["data"], false, "the second window has no data yet");

    school.clock_at(500);
    school.acts(0, 130);
    running.until("the correction is in history", || school.history.lock().rows.len() == 2).await;
    let corrected = &state["windows"][key(0)]["corrections"].clone();
    assert_eq!(corrected, 0);
    while state["windows"][key(0)]["corrections"] != 1 {
        next(&mut topic, &mut state).await;
    }
    assert_eq!((&state["windows"][key(0)]["active_ms"], &state["windows"][key(0)]["late_events"]), (&json!(120_000), &json!(1)));
    let rows = school.history.lock().rows.clone();
    assert_eq!((rows[0].value.active_ms, rows[1].value.active_ms), (60_000, 120_000), "both are kept");
    assert_eq!(rows[1].students[0].active_ms, 120_000);
    running.stop().await;
}

#[tokio::test]
async fn the_log_is_held_until_its_windows_are_history() {
    let school = School::new();
    let running = school.start();
    school.clock_at(20);
    school.acts(0, 10);
    let committed = || school.log.status().readers.iter().find(|(name, _)| name == "engagement").map(|(_, at)| *at).unwrap();
    assert!(running.handle.turn().await && running.handle.turn().await);
    assert_eq!(committed(), Offset(0), "the window is open");
    school.clock_at(400);
    running.until("the window is in history and the log is let go", || committed() == Offset(1)).await;
    assert_eq!(school.history.lock().next, Some(Offset(1)));
    running.stop().await;
}

#[tokio::test]
async fn attendance_changes_what_was_calculated() {
    let school = School::new();
    let running = school.start();
    school.clock_at(100);
    school.acts(0, 10);
    school.acts(0, 70);
    school.acts(1, 20);
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    while state["windows"][key(0)]["with_data"] != 2 {
        next(&mut topic, &mut state).await;
    }
    school.only_present(&[1]);
    assert!(running.handle.turn().await);
    while state["windows"][key(0)]["present"] != 1 {
        next(&mut topic, &mut state).await;
    }
    let window = &state["windows"][key(0)];
    assert_eq!((&window["with_data"], &window["active_ms"], &window["coverage"]), (&json!(1), &json!(0), &json!(1.0)), "{window}");
    running.stop().await;
}

#[tokio::test]
async fn withdrawn_consent_takes_the_data_away_live_and_in_history() {
    let school = School::new();
    let running = school.start();
    school.clock_at(100);
    school.acts(0, 10);
    school.acts(0, 70);
    school.clock_at(400);
    running.until("the window is in history", || school.history.lock().rows.len() == 1).await;
    school.set_consent(false);
    running.until("history says that there is no data", || school.history.lock().rows.len() == 2).await;
    let row = school.history.lock().rows[1].clone();
    assert_eq!((row.value.with_data, row.value.active_min, row.students.len()), (0, None, 0));
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    while state["meta"]["consented"] != 0 || state["windows"][key(0)]["data"] != false {
        next(&mut topic, &mut state).await;
    }
    running.stop().await;
}

/// Attendance did not change meanwhile, and says so.
#[tokio::test]
async fn a_meeting_that_is_planned_anew_hears_who_is_present() {
    let school = School::new();
    let running = school.start();
    school.clock_at(100);
    school.acts(0, 10);
    school.acts(0, 70);
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    let there = |state: &Value| {
        let window = &state["windows"][key(0)];
        (window["present"].clone(), window["active_ms"].clone())
    };
    for (consent, active_ms) in [(true, json!(60_000)), (false, json!(0)), (true, json!(60_000))] {
        school.set_consent(consent);
        while there(&state) != (json!(3), active_ms.clone()) {
            next(&mut topic, &mut state).await;
        }
    }
    running.stop().await;
}

/// What was done counts once, in the meetings that the day has in the end.
#[tokio::test]
async fn windows_that_another_schedule_has_no_longer_are_withdrawn_from_history() {
    let school = School::new();
    let running = school.start();
    school.clock_at(400);
    school.acts(0, 310);
    school.acts(0, 370);
    school.clock_at(700);
    let later = PeriodId::from_bytes([8; 16]);
    // Active milliseconds of the second window, by its period; `None`: there is no row, or it says that there is no data.
    let newest = |period: PeriodId| {
        let history = school.history.lock();
        let row = history.rows.iter().rev().find(|row| (row.section, row.period, row.slot) == (section(0), period, at(300)));
        row.filter(|row| row.value.with_data > 0).map(|row| (row.value.active_ms, row.students.len()))
    };
    let (done, nothing) = (Some((60_000, 1)), None);
    running.until("the window is in history", || newest(PERIOD) == done).await;
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    let whole = [(PERIOD, Span::new(at(0), at(1200)))];
    // The one that runs stands where the one before stood in the plan.
    let parts = [(later, Span::new(at(300), at(1200))), (PERIOD, Span::new(at(0), at(300)))];
    school.ring(&parts);
    running.until("it is the other period's", || (newest(PERIOD), newest(later)) == (nothing, done)).await;
    while state["meta"]["period"] != json!(later) || state["windows"][key(300)]["active_ms"] != 60_000 {
        next(&mut topic, &mut state).await;
    }
    assert_eq!(state["windows"][key(0)], Value::Null, "that window is of the meeting before");
    school.ring(&whole);
    running.until("it is the first one's again", || (newest(PERIOD), newest(later)) == (done, nothing)).await;
    running.stop().await;
}

#[tokio::test]
async fn a_database_that_is_away_stops_no_live_window() {
    let school = School::new();
    let running = school.start();
    school.history.lock().is_away = true;
    school.clock_at(100);
    school.acts(0, 10);
    school.acts(0, 70);
    let (mut topic, mut state) = (running.follow(0), Value::Null);
    next(&mut topic, &mut state).await;
    school.clock_at(400);
    assert!(running.handle.turn().await);
    while state["windows"][key(0)]["state"] != "settled" {
        next(&mut topic, &mut state).await;
    }
    assert_eq!(state["windows"][key(0)]["active_ms"], 60_000);
    school.history.lock().is_away = false;
    running.until("it is written when the database is back", || school.history.lock().rows.len() == 1).await;
    running.stop().await;
}

#[tokio::test]
async fn unknown_sections_have_no_topic() {
    let school = School::new();
    let running = school.start();
    let mut topic = running.follow(7);
    assert_eq!(tokio::time::timeout(super::school::PATIENCE, topic.next()).await.unwrap(), None);
    running.stop().await;
}

const KILL_SEEDS: u64 = 8;

/// Histories of events, each once in peace and once with kills at random moments, torn saves included.
#[tokio::test]
async fn kills_at_any_moment_neither_lose_nor_double_a_window() {
    for seed in 0..KILL_SEEDS {
        let calm = play(seed, false).await;
        let killed = play(seed, true).await;
        let newest = |rows: &std::collections::BTreeMap<_, (u64, usize)>| rows.iter().map(|(key, row)| (*key, row.0)).collect::<Vec<_>>();
        assert_eq!(newest(&calm), newest(&killed), "seed {seed}");
        assert!(!calm.is_empty(), "seed {seed}");
    }
}

async fn play(seed: u64, with_kills: bool) -> std::collections::BTreeMap<(rollcall_model::ids::SectionId, i64), (u64, usize)> {
    let mut events = StdRng::seed_from_u64(seed);
    let mut kills = StdRng::seed_from_u64(seed ^ 0x5eed);
    let school = School::new();
    let mut running = school.start();
    let mut now = -60;
    while now < 1500 {
        now += events.random_range(5..60);
        school.clock_at(now);
        for _ in 0..events.random_range(0..4) {
            // Some come minutes late.
            let late_s = if events.random_bool(0.2) { events.random_range(0..900) } else { 0 };
            school.acts(events.random_range(0..6), (now - late_s).clamp(0, 1190));
        }
        if events.random_bool(0.3) && with_kills {
            assert!(running.handle.turn().await);
        }
        if with_kills && kills.random_bool(0.2) {
            if kills.random_bool(0.5) {
                school.history.lock().torn = 1;
            }
            running.kill().await;
            running = school.start();
        }
    }
    school.clock_at(3000);
    school.history.lock().torn = 0;
    let end = school.log.end();
    running.until("everything is in history", || school.history.lock().next == Some(end)).await;
    // Two equal revisions in a row would be a window that was written twice.
    let history = school.history.lock();
    for number in 0..2 {
        let mut of_section: Vec<_> = history.rows.iter().filter(|row| row.section == section(number)).collect();
        of_section.sort_by_key(|row| row.slot);
        for pair in of_section.windows(2).filter(|pair| pair[0].slot == pair[1].slot) {
            assert_ne!((&pair[0].value, &pair[0].students), (&pair[1].value, &pair[1].students), "seed {seed}");
        }
    }
    drop(history);
    let rows = school.history();
    running.stop().await;
    rows
}
