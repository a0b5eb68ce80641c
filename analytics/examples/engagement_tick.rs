//! What one turn of engagement costs when every class of a district has something new: 3,000 sections of 25 students,
//! each of whom does something every 20 seconds. Prints processor time of taking the events of a turn of ten seconds and
//! of calculating every running window, at the beginning, in the middle and at the end of a window.
//!
//! `cargo run --release --example engagement_tick -p rollcall-analytics [SECTIONS] [STUDENTS_OF_A_SECTION]`

use std::collections::BTreeSet;
use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use rollcall_analytics::engagement::calculate::calculate;
use rollcall_analytics::engagement::definition::{Parameters, WINDOW_MS};
use rollcall_analytics::engagement::input::Input;
use rollcall_analytics::engagement::meeting::{Allowed, Meeting, MeetingPlan, Numbers, Student};
use rollcall_model::event::ActivityKind;
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::Span;
use rollcall_model::time::UtcMillis;
use rollcall_stream::activity::{self, ActivityRow};
use uuid::Uuid;

/// A multiple of five minutes.
const STARTS: i64 = 1_795_165_200_000;
const TURN_MS: i64 = 10_000;
const EVENT_EVERY_MS: i64 = 20_000;
/// What a turn of 3,000 sections may take.
const TURN_CPU_MS_MAX: f64 = 200.0;

fn person(section: u32, student: u32) -> PersonId {
    PersonId(Uuid::from_u128(u128::from(section) << 32 | u128::from(student) | 1 << 100))
}

fn meeting(section: u32, students: u32) -> Meeting {
    let span = Span::new(UtcMillis(STARTS), UtcMillis(STARTS + 50 * 60_000));
    let plan = MeetingPlan {
        section: SectionId(Uuid::from_u128(u128::from(section))),
        period: PeriodId(Uuid::from_u128(1)),
        period_name: "1".into(),
        span,
        hours: span,
        students: (0..students).map(|n| Student { person: person(section, n), activity: true, wearable: false }).collect(),
        teachers: Vec::new(),
        allowed: Some(Allowed(vec!["reader".to_owned(), "quiz:*".to_owned()].into())),
        parameters: Parameters::from(&AttendancePolicy::default()),
    };
    let mut meeting = Meeting::new(Arc::new(plan));
    meeting.set_presence((0..students).map(|student| (student, span)).collect());
    meeting
}

/// Nanoseconds that this thread has run.
fn processor_ns() -> u64 {
    let stat = std::fs::read_to_string("/proc/thread-self/schedstat").expect("the kernel tells how long a thread has run");
    stat.split(' ').next().and_then(|text| text.parse().ok()).expect("its first number is nanoseconds")
}

fn main() {
    let mut args = std::env::args().skip(1).map(|arg| arg.parse::<u32>().expect("a number"));
    let (sections, students) = (args.next().unwrap_or(3_000), args.next().unwrap_or(25));
    let mut meetings: Vec<Meeting> = (0..sections).map(|section| meeting(section, students)).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let mut random = StdRng::seed_from_u64(1);
    let as_json = std::env::var_os("ROLLCALL_BENCH_JSON").is_some();
    if !as_json {
        println!("{sections} sections of {students}, an event of each student every {} s", EVENT_EVERY_MS / 1000);
        println!("| s of the window | steps | take ms | gather ms | SQL ms | keep ms | turn ms |");
        println!("| --- | --- | --- | --- | --- | --- | --- |");
    }
    let mut seq = 0;
    for turn in 0..(2 * WINDOW_MS / TURN_MS) {
        let from = STARTS + turn * TURN_MS;
        // The log's batches are one a read; what is measured is taking them, not making them.
        let mut batches = Vec::new();
        for section in 0..sections {
            let busy: Vec<u32> = (0..students).filter(|_| random.random_range(0..EVENT_EVERY_MS) < TURN_MS).collect();
            let rows: Vec<ActivityRow<'_>> = busy
                .into_iter()
                .map(|student| {
                    seq += 1;
                    let ts = UtcMillis(from + random.random_range(0..TURN_MS));
                    ActivityRow {
                        district: DistrictId(Uuid::from_u128(1)),
                        school: SchoolId(Uuid::from_u128(2)),
                        device: DeviceId(person(section, student).0),
                        seq,
                        ts,
                        received: ts,
                        offline: false,
                        person: person(section, student),
                        kind: ActivityKind::ALL[random.random_range(0..ActivityKind::ALL.len())],
                        resource: if student % 7 == 0 { "quiz:fractions" } else { "reader" },
                        section: None,
                        dur_ms: None,
                        offset: Offset(seq),
                    }
                })
                .collect();
            batches.push(activity::encode(&rows));
        }
        let begun = processor_ns();
        for (meeting, batch) in meetings.iter_mut().zip(&batches) {
            activity::decode(batch).for_each(|row| {
                meeting.add_activity(&row);
            });
        }
        let taken = processor_ns();
        let (mut input, mut numbers, mut windows) = (Input::default(), Numbers::default(), Vec::new());
        for (place, meeting) in meetings.iter_mut().enumerate() {
            let touched: BTreeSet<UtcMillis> = std::mem::take(&mut meeting.touched).into_keys().collect();
            let base = meeting.gather(&touched, &mut input, &mut numbers);
            windows.extend(touched.into_iter().map(|slot| (place, slot, base)));
        }
        let gathered = processor_ns();
        let output = runtime.block_on(calculate(&input)).expect("the SQL runs");
        let calculated = processor_ns();
        assert_eq!(output.windows.len(), windows.len());
        for rows in output.students.chunk_by(|one, other| one.window == other.window) {
            let (place, slot, base) = windows[rows[0].window as usize];
            meetings[place].count(slot, base, rows);
        }
        let kept = processor_ns();
        let second = (from - STARTS) % WINDOW_MS / 1000 + TURN_MS / 1000;
        if turn >= WINDOW_MS / TURN_MS && [10, 60, 150, 300].contains(&second) {
            let ms = |from: u64, to: u64| (to - from) as f64 / 1e6;
            let turn_ms = ms(begun, kept);
            if as_json {
                // What `bench/src/scenarios/analytics.rs` reads.
                let measured = serde_json::json!({
                    "what": format!("a turn of {sections} sections, {second} s into a window"),
                    "events": input.steps.len(), "ms": turn_ms, "cpu_ms": turn_ms, "against": null,
                    "bar": [format!("{TURN_CPU_MS_MAX} ms of processor time"), turn_ms <= TURN_CPU_MS_MAX],
                    "notes": [format!("{:.0} ms of it in SQL", ms(gathered, calculated))],
                });
                println!("{measured}");
            } else {
                println!(
                    "| {second} | {} | {:.0} | {:.0} | {:.0} | {:.0} | {:.0} |",
                    input.steps.len(),
                    ms(begun, taken),
                    ms(taken, gathered),
                    ms(gathered, calculated),
                    ms(calculated, kept),
                    turn_ms
                );
            }
        }
    }
}
