//! Golden tests of the definition: events as Arrow batches in, rows of the SQL out. Times read minutes and seconds
//! after the beginning of the meeting, which lasts from 9:02 to 9:14: its windows are 9:02, 9:05 and 9:10.

use std::collections::BTreeSet;
use std::sync::Arc;

use rollcall_model::event::ActivityKind::{self, *};
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::Span;
use rollcall_model::time::UtcMillis;
use rollcall_stream::activity::{self, ActivityRow};
use rollcall_stream::telemetry::{self, TelemetryRow};

use crate::engagement::calculate::{Output, StudentValue, WindowValue, calculate};
use crate::engagement::definition::{Parameters, WINDOW_MS};
use crate::engagement::input::{Input, Sums};
use crate::engagement::meeting::{Allowed, Meeting, MeetingPlan, Numbers, Student};

/// 2026-11-20 at 9:02 UTC.
const STARTS: i64 = 1_795_165_320_000;
const ENDS: i64 = STARTS + 12 * 60_000;

fn person(number: u8) -> PersonId {
    PersonId::from_bytes([number; 16])
}

const TEACHER: u8 = 99;

fn sums(events: i64, meaningful: i64, active_ms: i64) -> Sums {
    Sums { events, late_events: 0, meaningful, active_ms, allowed_ms: 0 }
}

/// Calculates windows of a meeting as a turn does: what it gives is carried into the next calculation.
pub fn calculated(meeting: &mut Meeting, slots: &BTreeSet<UtcMillis>) -> Output {
    let mut input = Input::default();
    let base = meeting.gather(slots, &mut input, &mut Numbers::default());
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let output = runtime.block_on(calculate(&input)).unwrap();
    for rows in output.students.chunk_by(|one, other| one.window == other.window) {
        meeting.count(*slots.iter().nth(rows[0].window as usize).unwrap(), base, rows);
    }
    output
}

/// A class of which all are present from beginning to end.
struct Class {
    meeting: Meeting,
    seq: u64,
}

impl Class {
    fn of(students: u8) -> Self {
        Self::planned(students, |_| ())
    }

    fn planned(students: u8, change: impl FnOnce(&mut MeetingPlan)) -> Self {
        let span = Span::new(UtcMillis(STARTS), UtcMillis(ENDS));
        let mut plan = MeetingPlan {
            section: SectionId::from_bytes([7; 16]),
            period: PeriodId::from_bytes([8; 16]),
            period_name: "1".into(),
            span,
            hours: Span::new(UtcMillis(STARTS - 3_600_000), UtcMillis(ENDS + 3_600_000)),
            students: (0..students).map(|n| Student { person: person(n), activity: true, wearable: true }).collect(),
            teachers: vec![person(TEACHER)],
            allowed: None,
            parameters: Parameters::from(&AttendancePolicy::default()),
        };
        change(&mut plan);
        let present = (0..u32::from(students)).map(|student| (student, plan.span)).collect();
        let mut meeting = Meeting::new(Arc::new(plan));
        meeting.set_presence(present);
        Self { meeting, seq: 0 }
    }

    fn says(mut self, student: u8, at_s: i64, kind: ActivityKind, resource: &str) -> Self {
        self.seq += 1;
        self.hear(student, self.seq, at_s, at_s, kind, resource);
        self
    }

    /// Interactions of one student at these seconds.
    fn acts(self, student: u8, at_s: &[i64]) -> Self {
        at_s.iter().fold(self, |class, at_s| class.says(student, *at_s, Interacted, "reader"))
    }

    fn hear(&mut self, student: u8, seq: u64, at_s: i64, received_s: i64, kind: ActivityKind, resource: &str) -> bool {
        let batch = activity::encode(&[ActivityRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([student; 16]),
            seq,
            ts: UtcMillis(STARTS + at_s * 1000),
            received: UtcMillis(STARTS + received_s * 1000),
            offline: false,
            person: person(student),
            kind,
            resource,
            section: None,
            dur_ms: None,
            offset: Offset(0),
        }]);
        activity::decode(&batch).map(|row| self.meeting.add_activity(&row)).any(|taken| taken)
    }

    fn wears(&mut self, student: u8, at_s: i64, metric: &str, value: f64) -> bool {
        self.seq += 1;
        let batch = telemetry::encode(&[TelemetryRow {
            district: DistrictId::from_bytes([1; 16]),
            school: SchoolId::from_bytes([2; 16]),
            device: DeviceId::from_bytes([student; 16]),
            seq: self.seq,
            ts: UtcMillis(STARTS + at_s * 1000),
            received: UtcMillis(STARTS + at_s * 1000),
            offline: false,
            person: Some(person(student)),
            metric,
            value,
            offset: Offset(0),
        }]);
        telemetry::decode(&batch).map(|row| self.meeting.add_reading(&row)).any(|taken| taken)
    }

    fn calculated(&mut self) -> Output {
        let slots: BTreeSet<UtcMillis> = self.meeting.plan.slots().collect();
        calculated(&mut self.meeting, &slots)
    }

    /// The windows of the whole meeting.
    fn windows(&mut self) -> Vec<WindowValue> {
        self.calculated().windows
    }

    fn students(&mut self) -> Vec<StudentValue> {
        self.calculated().students
    }

    fn active_s(&mut self) -> Vec<u64> {
        self.windows().iter().map(|window| window.active_ms / 1000).collect()
    }
}

fn close(got: Option<f64>, expected: f64) {
    assert!(got.is_some_and(|got| (got - expected).abs() < 1e-9), "{got:?} is not {expected}");
}

#[test]
fn the_meeting_is_cut_into_windows_at_multiples_of_five_minutes() {
    let class = Class::of(1);
    let plan = &class.meeting.plan;
    let spans: Vec<(i64, i64)> = plan.slots().map(|slot| plan.window(slot)).map(|s| (s.starts.0 - STARTS, s.ends.0 - STARTS)).collect();
    assert_eq!(spans, [(0, 180_000), (180_000, 480_000), (480_000, 720_000)]);
    assert!(plan.slots().all(|slot| slot.0 % WINDOW_MS == 0));
}

#[test]
fn nothing_at_all_is_no_data_in_every_window() {
    for window in Class::of(25).windows() {
        assert_eq!(window, WindowValue { present: 25, coverage: Some(0.0), ..WindowValue::default() });
    }
}

#[test]
fn nobody_present_has_no_coverage_either() {
    let mut class = Class::of(3).acts(0, &[10, 20]);
    class.meeting.set_presence(Vec::new());
    assert_eq!(class.windows()[0], WindowValue::default());
}

#[test]
fn one_event_is_data_but_no_active_time() {
    let windows = Class::of(4).says(0, 30, Opened, "reader").windows();
    let first = &windows[0];
    assert_eq!((first.with_data, first.events, first.meaningful, first.active_ms), (1, 1, 1, 0));
    assert_eq!((first.active_min, first.interaction_rate), (Some(0.0), None));
    close(first.coverage, 0.25);
    assert_eq!(windows[1], WindowValue { present: 4, coverage: Some(0.0), ..WindowValue::default() });
}

#[test]
fn a_gap_of_exactly_theta_is_activity_and_a_millisecond_more_is_not() {
    assert_eq!(Class::of(1).acts(0, &[10, 130]).active_s(), [120, 0, 0]);
    let mut longer = Class::of(1).acts(0, &[10]);
    let span = longer.meeting.plan.span;
    longer.meeting.add_activity(&ActivityRow { ts: span.starts.plus_ms(130_001), ..row_of(0, 2) });
    assert_eq!(longer.active_s(), [0, 0, 0]);
}

fn row_of(student: u8, seq: u64) -> ActivityRow<'static> {
    ActivityRow {
        district: DistrictId::from_bytes([1; 16]),
        school: SchoolId::from_bytes([2; 16]),
        device: DeviceId::from_bytes([student; 16]),
        seq,
        ts: UtcMillis(STARTS),
        received: UtcMillis(STARTS),
        offline: false,
        person: person(student),
        kind: Interacted,
        resource: "reader",
        section: None,
        dur_ms: None,
        offset: Offset(0),
    }
}

#[test]
fn theta_is_the_policys() {
    let mut class = Class::planned(1, |plan| plan.parameters.theta_ms = 60_000).acts(0, &[0, 60, 121]);
    assert_eq!(class.active_s(), [60, 0, 0]);
}

#[test]
fn a_gap_across_a_windows_edge_is_split_there() {
    let mut class = Class::of(1).acts(0, &[150, 200, 470, 500]);
    assert_eq!(class.active_s(), [30, 20 + 10, 20]);
    assert_eq!(class.windows().iter().map(|window| window.events).collect::<Vec<_>>(), [1, 2, 1]);
}

#[test]
fn an_event_on_the_edge_belongs_to_the_window_that_begins_there() {
    let mut class = Class::of(1).acts(0, &[170, 180]);
    let windows = class.windows();
    assert_eq!((windows[0].events, windows[1].events), (1, 1));
    assert_eq!(class.active_s(), [10, 0, 0], "the gap ends where the window does");
    // The first instant of the meeting is in it, the last is not.
    let windows = Class::of(1).acts(0, &[0, 720]).windows();
    assert_eq!(windows.iter().map(|window| window.events).collect::<Vec<_>>(), [1, 0, 0]);
}

#[test]
fn gaps_are_clipped_to_the_meeting() {
    let mut class = Class::of(1).acts(0, &[-20, 30, 700, 760]);
    assert_eq!(class.active_s(), [30, 0, 20]);
    let events: Vec<u64> = class.windows().iter().map(|window| window.events).collect();
    assert_eq!(events, [1, 0, 1], "an event of the break is none of the class");
}

#[test]
fn a_gap_that_covers_a_whole_window_is_data_of_it() {
    // 9:02 to 9:04, so that the window is short enough for a gap across it.
    let mut class = Class::planned(1, |plan| plan.span = Span::new(UtcMillis(STARTS), UtcMillis(STARTS + 100_000)));
    class.meeting.set_presence(vec![(0, class.meeting.plan.span)]);
    let windows = class.acts(0, &[-5, 110]).windows();
    assert_eq!((windows[0].events, windows[0].with_data, windows[0].active_ms), (0, 1, 100_000));
}

#[test]
fn lunch_and_what_lies_out_of_school_hours_is_not_taken() {
    let mut class = Class::planned(1, |plan| plan.hours = Span::new(plan.span.starts, plan.span.ends));
    assert!(!class.hear(0, 1, -1, -1, Interacted, "reader"), "before the first bell");
    assert!(!class.hear(0, 2, 720, 720, Interacted, "reader"), "after the last one");
    let mut lunch = Class::of(1);
    assert!(!lunch.hear(0, 1, 721 + 120, 900, Interacted, "reader"), "lunch follows the class by more than theta");
    assert_eq!(lunch.meeting.size(), 0);
}

#[test]
fn a_half_day_clips_the_last_window() {
    let mut class = Class::planned(1, |plan| plan.span.ends = UtcMillis(STARTS + 200_000)).acts(0, &[150, 190, 230]);
    class.meeting.set_presence(vec![(0, class.meeting.plan.span)]);
    assert_eq!(class.active_s(), [30, 20]);
}

#[test]
fn who_leaves_and_comes_back_counts_in_the_windows_of_both_stays() {
    let mut class = Class::of(2).acts(0, &[10, 40, 200, 230, 510, 530]).acts(1, &[10, 40, 200, 230, 510, 530]);
    let span = class.meeting.plan.span;
    let at = |at_s: i64| UtcMillis(STARTS + at_s * 1000);
    // The first student is out from 9:04 to 9:10:10: in no part of the second window, in parts of the others.
    class.meeting.set_presence(vec![(0, Span::new(span.starts, at(120))), (0, Span::new(at(490), span.ends)), (1, span)]);
    let windows = class.windows();
    assert_eq!(windows.iter().map(|window| (window.present, window.with_data)).collect::<Vec<_>>(), [(2, 2), (1, 1), (2, 2)]);
    assert_eq!(windows.iter().map(|window| window.active_ms).collect::<Vec<_>>(), [60_000, 30_000, 40_000]);
    assert_eq!(windows.iter().map(|window| window.events).collect::<Vec<_>>(), [4, 2, 4]);
    // Out for three minutes within the first window, and said to be there twice at once: still once in each.
    let stays = [Span::new(span.starts, at(10)), Span::new(at(70), at(200)), Span::new(at(130), span.ends), span];
    class.meeting.set_presence(stays.into_iter().zip([0, 0, 0, 1]).map(|(span, student)| (student, span)).collect());
    let windows = class.windows();
    assert_eq!(windows.iter().map(|window| (window.present, window.with_data)).collect::<Vec<_>>(), [(2, 2); 3]);
    assert_eq!(windows.iter().map(|window| window.events).collect::<Vec<_>>(), [4, 4, 4]);
}

/// A gate's clock and a tablet's are not the same to the second, and a mark says no instant.
#[test]
fn who_is_there_for_a_part_of_a_window_counts_in_it_with_all_of_it() {
    let mut class = Class::of(1).acts(0, &[10, 40, 110, 150]);
    class.meeting.set_presence(vec![(0, Span::new(UtcMillis(STARTS + 30_000), UtcMillis(STARTS + 100_000)))]);
    let first = class.windows().remove(0);
    assert_eq!((first.present, first.events, first.active_ms), (1, 4, 140_000));
}

#[test]
fn who_is_not_present_does_not_count() {
    let mut class = Class::of(3).acts(0, &[10, 20]).acts(1, &[10, 60]);
    let span = class.meeting.plan.span;
    // The second student comes at 9:06, the third is absent.
    class.meeting.set_presence(vec![(0, span), (1, Span::new(UtcMillis(STARTS + 240_000), span.ends))]);
    let windows = class.windows();
    assert_eq!((windows[0].present, windows[0].with_data, windows[0].active_ms), (1, 1, 10_000));
    assert_eq!((windows[1].present, windows[1].with_data), (2, 0));
}

#[test]
fn the_class_is_the_mean_of_its_students_and_rates_weigh_by_time() {
    let mut class = Class::of(2)
        .says(0, 0, Opened, "a")
        .says(0, 60, Answered, "a")
        .says(0, 120, Interacted, "a")
        .says(1, 0, Submitted, "a")
        .says(1, 60, Advanced, "a");
    let first = class.windows().remove(0);
    assert_eq!((first.active_ms, first.meaningful, first.events), (180_000, 4, 5));
    close(first.active_min, 1.5);
    close(first.interaction_rate, 4.0 / 3.0);
    let rows = class.students();
    assert_eq!(rows[0], StudentValue { window: 0, student: 0, sums: sums(3, 2, 120_000) });
    assert_eq!(rows[1], StudentValue { window: 0, student: 1, sums: sums(2, 2, 60_000) });
}

#[test]
fn a_repeated_event_counts_once_and_order_does_not_matter() {
    let expected = Class::of(1).acts(0, &[10, 40, 70]).windows();
    let mut shuffled = Class::of(1);
    for (seq, at_s) in [(3, 70), (1, 10), (3, 70), (2, 40), (1, 10)] {
        shuffled.hear(0, seq, at_s, at_s, Interacted, "reader");
    }
    assert_eq!(shuffled.windows(), expected);
    assert_eq!(shuffled.windows(), expected, "calculating moves nothing");
}

#[test]
fn a_late_event_splits_a_gap_and_is_counted_as_late() {
    let mut class = Class::of(1).acts(0, &[0, 170]);
    assert_eq!(class.active_s(), [0, 0, 0]);
    class.meeting.touched.clear();
    // The window ends at 180 s and settles a minute later.
    class.hear(0, 10, 80, 240, Interacted, "reader");
    assert_eq!(class.meeting.touched.len(), 1, "only the window of the event is calculated again");
    let first = class.windows().remove(0);
    assert_eq!((first.active_ms, first.late_events, first.events), (170_000, 1, 3));
    class.hear(0, 11, 81, 239, Interacted, "reader");
    assert_eq!(class.windows()[0].late_events, 1, "what comes before the window settles is in time");
}

#[test]
fn a_late_event_at_the_edge_touches_the_neighbour_too() {
    let mut class = Class::of(1).acts(0, &[100, 230]);
    class.meeting.touched.clear();
    class.hear(0, 10, 179, 400, Interacted, "reader");
    assert_eq!(class.meeting.touched.len(), 2);
    assert_eq!(class.active_s(), [79 + 1, 50, 0]);
}

fn restricted(students: u8) -> Class {
    let allowed = Allowed(vec!["reader".to_owned(), "quiz:*".to_owned()].into());
    Class::planned(students, |plan| plan.allowed = Some(allowed))
}

#[test]
fn alignment_is_time_in_allowed_resources() {
    let class =
        restricted(2).says(0, 0, Opened, "reader").says(0, 60, Opened, "game").says(0, 90, Opened, "quiz:x").says(0, 100, Closed, "quiz:x");
    let first = class.says(0, 110, Interacted, "game").windows().remove(0);
    // 60 s reader, 30 s game, 10 s quiz, 10 s in nothing after it was closed.
    assert_eq!((first.active_ms, first.allowed_ms), (110_000, 70_000));
    close(first.resource_alignment, 70.0 / 110.0);
}

#[test]
fn alignment_is_null_below_half_coverage_without_a_list_and_without_time() {
    let two_of_four = restricted(4).acts(0, &[0, 10]).acts(1, &[0, 10]).windows().remove(0);
    close(two_of_four.coverage, 0.5);
    close(two_of_four.resource_alignment, 1.0);
    let one_of_three = restricted(3).acts(0, &[0, 10]).windows().remove(0);
    assert_eq!(one_of_three.resource_alignment, None);
    close(one_of_three.active_min, 10.0 / 60.0);
    let no_list = Class::of(1).acts(0, &[0, 10]).windows().remove(0);
    assert_eq!(no_list.resource_alignment, None);
    let no_time = restricted(1).acts(0, &[0]).windows().remove(0);
    assert_eq!(no_time.resource_alignment, None);
}

#[test]
fn participation_counts_responders_of_those_present_at_the_opening() {
    let mut class = Class::of(5)
        .says(TEACHER, 60, Opened, "quiz:f")
        .says(0, 62, Opened, "quiz:f")
        .says(0, 70, Answered, "quiz:f")
        .says(0, 80, Answered, "quiz:f")
        .says(1, 90, Submitted, "quiz:f")
        .says(2, 40, Answered, "quiz:f")
        .says(4, 100, Answered, "quiz:f")
        .says(3, 200, Answered, "quiz:f");
    let span = class.meeting.plan.span;
    // The last one comes after the opening and is not asked.
    let mut presence: Vec<(u32, Span)> = (0..4).map(|student| (student, span)).collect();
    presence.push((4, Span::new(UtcMillis(STARTS + 90_000), span.ends)));
    class.meeting.set_presence(presence);
    let windows = class.windows();
    assert_eq!((windows[0].quiz_present, windows[0].quiz_responders), (Some(4), Some(2)));
    close(windows[0].quiz_participation, 0.5);
    assert_eq!(windows[0].quiz_latency_ms, Some(20_000), "the median of 10 s and 30 s");
    assert_eq!((windows[1].quiz_present, windows[1].quiz_responders), (Some(4), Some(3)), "so far, at the window's end");
    assert_eq!(windows[1].quiz_latency_ms, Some(30_000));
    assert_eq!((windows[2].quiz_present, windows[2].quiz_participation), (None, None), "nothing of it happened there");
}

#[test]
fn wearables_speak_only_with_consent_and_of_who_is_present() {
    let mut class = Class::planned(3, |plan| plan.students[1].wearable = false);
    let span = class.meeting.plan.span;
    class.meeting.set_presence(vec![(0, span), (1, span)]);
    assert!(class.wears(0, 10, "worn", 1.0) && class.wears(0, 20, "worn", 0.0));
    assert!(class.wears(0, 10, "steps", 14.0) && class.wears(0, 20, "steps", 6.0) && class.wears(0, 70, "steps", 5.0));
    assert!(class.wears(0, 130, "steps", 0.0) && class.wears(2, 10, "steps", 500.0));
    assert!(!class.wears(1, 10, "steps", 100.0), "there is no consent for this student");
    assert!(!class.wears(0, 10, "heart_rate", 80.0) && !class.wears(0, -1, "steps", 1.0));
    let windows = class.windows();
    let first = &windows[0];
    assert_eq!((first.wearers, first.steps, first.movement_min), (Some(1), Some(25.0), Some(2)));
    close(first.worn_ratio, 0.5);
    assert_eq!((first.with_data, first.active_min), (0, None), "a wearable says nothing of activity");
    assert_eq!((windows[1].wearers, windows[1].worn_ratio, windows[1].steps, windows[1].movement_min), (None, None, None, None));
}

#[test]
fn without_consent_nothing_is_kept() {
    let mut class = Class::planned(2, |plan| plan.students[0].activity = false);
    assert!(!class.hear(0, 1, 10, 10, Answered, "quiz:f"));
    assert!(class.hear(1, 1, 10, 10, Answered, "reader"));
    assert_eq!(class.meeting.size(), 1);
    close(class.windows()[0].coverage, 0.5);
}
