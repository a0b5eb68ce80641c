//! The attendance rules line by line: one period from 8:00 to 9:00, a second from 9:05 to 10:00, default policy.

use chrono::NaiveDate;
use rollcall_model::attendance::{
    Behind, BehindReason, Conclusion, Coverage, Flags, SourceState, StatusDetail, StudentDay, Window, explain,
};
use rollcall_model::event::Direction::{self, Auto, In, Out};
use rollcall_model::ids::{AccountId, DeviceId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Meeting, Span};
use rollcall_model::status::{Authority, Flag, Mark, MarkStatus, Rule, ScanEvidence, Status};
use rollcall_model::time::UtcMillis;

const MIN: i64 = 60_000;
const EVENING: i64 = 20 * 60;

/// Minutes since midnight, UTC.
fn min(minutes: i64) -> UtcMillis {
    UtcMillis(minutes * MIN)
}

fn clock(hour: i64, minute: i64) -> UtcMillis {
    min(hour * 60 + minute)
}

fn device() -> DeviceId {
    DeviceId::from_bytes([7; 16])
}

fn meetings() -> [Meeting; 2] {
    let meeting = |n: u8, starts, ends| Meeting {
        section: SectionId::from_bytes([n; 16]),
        period: PeriodId::from_bytes([n; 16]),
        span: Span::new(starts, ends),
        instructional: true,
    };
    [meeting(1, clock(8, 0), clock(9, 0)), meeting(2, clock(9, 5), clock(10, 0))]
}

fn scan(seq: u64, direction: Direction, ts: UtcMillis, received: UtcMillis) -> ScanEvidence {
    let student = PersonId::from_bytes([1; 16]);
    ScanEvidence { student, device: device(), seq, ts, received, direction, offline: ts != received, offset: Offset(seq) }
}

fn day(scans: &[(Direction, UtcMillis)]) -> StudentDay {
    let mut day = StudentDay::new();
    for ((direction, ts), seq) in scans.iter().zip(1..) {
        day.add_scan(&scan(seq, *direction, *ts, *ts));
    }
    day
}

fn mark(n: u8, status: MarkStatus, authority: Authority, period: Option<u8>, recorded: UtcMillis) -> Mark {
    Mark {
        id: MarkId::from_bytes([n; 16]),
        school: SchoolId::from_bytes([1; 16]),
        student: PersonId::from_bytes([1; 16]),
        section: period.map(|n| SectionId::from_bytes([n; 16])),
        period: period.map(|n| PeriodId::from_bytes([n; 16])),
        date: NaiveDate::default(),
        status,
        authority,
        author: AccountId::from_bytes([1; 16]),
        reason: None,
        supersedes: None,
        recorded,
        at: None,
    }
}

fn behind_since(since: UtcMillis) -> Coverage {
    Coverage { behind: vec![Behind { device: device(), reason: BehindReason::Offline, since }], ..Coverage::complete() }
}

fn first_period(day: &StudentDay, coverage: &Coverage, now: UtcMillis) -> Conclusion {
    day.conclude(&Window::period(&meetings(), 0), &AttendancePolicy::default(), coverage, now)
}

fn second_period(day: &StudentDay, now: UtcMillis) -> Conclusion {
    day.conclude(&Window::period(&meetings(), 1), &AttendancePolicy::default(), &Coverage::complete(), now)
}

fn whole_day(day: &StudentDay, now: UtcMillis) -> Conclusion {
    let meetings = meetings();
    day.conclude(&Window::day(&meetings).unwrap(), &AttendancePolicy::default(), &Coverage::complete(), now)
}

#[test]
fn arrival_decides_and_its_boundaries_are_exact_to_the_millisecond() {
    let cases = [
        (clock(7, 40), Status::Present, Rule::ArrivedByGrace),
        (clock(8, 5), Status::Present, Rule::ArrivedByGrace),
        (clock(8, 5).plus_ms(1), Status::Tardy, Rule::ArrivedAfterGrace),
        (clock(8, 20), Status::Tardy, Rule::ArrivedAfterGrace),
        (clock(8, 20).plus_ms(1), Status::Absent, Rule::ArrivedAfterCutoff),
        (clock(9, 0).plus_ms(-1), Status::Absent, Rule::ArrivedAfterCutoff),
        (clock(9, 0), Status::Absent, Rule::NoEvidence),
    ];
    for (arrival, status, rule) in cases {
        for direction in [In, Auto] {
            let got = first_period(&day(&[(direction, arrival)]), &Coverage::complete(), min(EVENING));
            assert_eq!((got.status, got.rule), (status, rule), "{arrival:?} {direction:?}");
        }
    }
}

#[test]
fn without_evidence_the_clock_decides() {
    let (day, complete) = (StudentDay::new(), Coverage::complete());
    let cases = [
        (clock(6, 0), Status::Expected, Rule::BeforeStart),
        (clock(8, 5).plus_ms(-1), Status::Expected, Rule::BeforeStart),
        (clock(8, 5), Status::Expected, Rule::Awaited),
        (clock(8, 20).plus_ms(-1), Status::Expected, Rule::Awaited),
        (clock(8, 20), Status::Absent, Rule::NoEvidence),
        (min(EVENING), Status::Absent, Rule::NoEvidence),
    ];
    for (now, status, rule) in cases {
        let got = first_period(&day, &complete, now);
        assert_eq!((got.status, got.rule), (status, rule), "{now:?}");
    }
    let (meetings, policy) = (meetings(), AttendancePolicy::default());
    let next = |now| day.next_change(&Window::period(&meetings, 0), &policy, &complete, now);
    assert_eq!(next(clock(6, 0)), Some(clock(8, 5)));
    assert_eq!(next(clock(8, 5)), Some(clock(8, 20)));
    assert_eq!(next(clock(8, 20)), None);
}

#[test]
fn missing_evidence_is_unknown_and_never_absent() {
    let nobody = StudentDay::new();
    let cases = [
        (behind_since(clock(7, 0)), Status::Unknown, Rule::GateBehind),
        (behind_since(clock(8, 20).plus_ms(-1)), Status::Unknown, Rule::GateBehind),
        // It fell behind after any arrival that could have mattered.
        (behind_since(clock(8, 20)), Status::Absent, Rule::NoEvidence),
        (Coverage::without_source(), Status::Unknown, Rule::RollNotTaken),
    ];
    for (coverage, status, rule) in cases {
        let got = first_period(&nobody, &coverage, clock(8, 40));
        assert_eq!((got.status, got.rule), (status, rule), "{coverage:?}");
        assert_eq!(first_period(&nobody, &coverage, clock(8, 19)).status, Status::Expected);
    }
    // What was seen stays seen while a gate is behind; an exit may hide a return.
    let seen = first_period(&day(&[(In, clock(8, 1))]), &behind_since(clock(7, 0)), clock(8, 40));
    assert_eq!(seen.status, Status::Present);
    let left = day(&[(In, clock(8, 1)), (Out, clock(8, 20))]);
    assert_eq!(first_period(&left, &behind_since(clock(8, 30).plus_ms(-1)), clock(8, 40)).status, Status::Unknown);
    assert_eq!(first_period(&left, &behind_since(clock(8, 30)), clock(8, 40)).status, Status::EarlyDeparture);
}

#[test]
fn an_exit_is_an_early_departure_once_the_reentry_time_has_passed() {
    let left = day(&[(In, clock(7, 58)), (Out, clock(8, 30))]);
    let at = |now| first_period(&left, &Coverage::complete(), now);
    assert_eq!(at(clock(8, 40).plus_ms(-1)).status, Status::Present);
    let gone = at(clock(8, 40));
    assert_eq!((gone.status, gone.rule, gone.since), (Status::EarlyDeparture, Rule::LeftBeforeEnd, Some(clock(8, 30))));
    // Back within the re-entry time it is one stay; later it is a new one, and neither makes a second day.
    for (back, present_min) in [(clock(8, 40), 60), (clock(8, 40).plus_ms(1), 49), (clock(8, 50), 40)] {
        let returned = day(&[(In, clock(7, 58)), (Out, clock(8, 30)), (In, back)]);
        let got = first_period(&returned, &Coverage::complete(), min(EVENING));
        assert_eq!((got.status, got.since, got.present_min()), (Status::Present, Some(clock(7, 58)), present_min), "{back:?}");
        assert_eq!(whole_day(&returned, min(EVENING)).status, Status::Present);
    }
    // An exit at the end or after it is going home; one in the passing time belongs to the next period.
    assert_eq!(first_period(&day(&[(In, clock(7, 58)), (Out, clock(9, 0))]), &Coverage::complete(), min(EVENING)).status, Status::Present);
    let between = day(&[(In, clock(7, 58)), (Out, clock(9, 2))]);
    assert_eq!(second_period(&between, clock(9, 9)).status, Status::Expected);
    let absent = second_period(&between, min(EVENING));
    assert_eq!((absent.status, absent.rule), (Status::Absent, Rule::LeftBeforeStart));
    assert_eq!(whole_day(&between, min(EVENING)).status, Status::EarlyDeparture);
}

#[test]
fn auto_toggles_and_a_burst_counts_once() {
    let cases: [(&[(Direction, UtcMillis)], bool); 6] = [
        (&[(Auto, clock(8, 0))], true),
        (&[(Auto, clock(8, 0)), (Auto, clock(8, 0).plus_ms(30_000))], true),
        (&[(Auto, clock(8, 0)), (Auto, clock(8, 0).plus_ms(30_001))], false),
        (&[(Auto, clock(8, 0)), (Auto, clock(8, 0).plus_ms(25_000)), (Auto, clock(8, 0).plus_ms(50_000))], true),
        (&[(In, clock(8, 0)), (Auto, clock(8, 10))], false),
        (&[(In, clock(8, 0)), (In, clock(8, 10)), (Out, clock(8, 20)), (Auto, clock(8, 50))], true),
    ];
    for (scans, inside) in cases {
        assert_eq!(day(scans).inside_since(&AttendancePolicy::default()).is_some(), inside, "{scans:?}");
    }
}

#[test]
fn a_day_with_a_late_arrival_is_tardy_and_its_periods_are_their_own() {
    let late = day(&[(In, clock(9, 0))]);
    assert_eq!(first_period(&late, &Coverage::complete(), min(EVENING)).status, Status::Absent);
    assert_eq!(second_period(&late, min(EVENING)).status, Status::Present);
    let whole = whole_day(&late, min(EVENING));
    assert_eq!((whole.status, whole.rule, whole.present_min(), whole.scheduled_min()), (Status::Tardy, Rule::ArrivedAfterCutoff, 55, 115));
}

#[test]
fn the_gate_and_the_class_are_reconciled() {
    let (present, absent) = (MarkStatus::Present, MarkStatus::AbsentUnexcused);
    let early = [(In, clock(7, 55))];
    let out = [(In, clock(7, 30)), (Out, clock(7, 45))];
    let leaves = [(In, clock(7, 55)), (Out, clock(8, 30))];
    let cases: [(&[(Direction, UtcMillis)], MarkStatus, Status, Option<Flag>); 6] = [
        (&early, present, Status::Present, None),
        (&early, absent, Status::Absent, Some(Flag::InButMarkedAbsent)),
        (&[], present, Status::Present, Some(Flag::MissedScan)),
        (&[], absent, Status::Absent, None),
        (&out, present, Status::Present, Some(Flag::ReentryGap)),
        (&leaves, present, Status::Present, Some(Flag::LeftAfterMark)),
    ];
    for (scans, said, status, flag) in cases {
        let mut day = day(scans);
        day.add_mark(mark(1, said, Authority::Teacher, Some(1), clock(8, 3)));
        let got = first_period(&day, &Coverage::complete(), min(EVENING));
        assert_eq!(
            (got.status, got.rule, got.flags),
            (status, Rule::TeacherMark, flag.into_iter().collect::<Flags>()),
            "{scans:?} {said:?}"
        );
    }
}

#[test]
fn marks_rank_by_authority_place_and_time_and_can_be_undone() {
    use Authority::{Office, Teacher};
    let mut day = StudentDay::new();
    let status = |day: &StudentDay| first_period(day, &Coverage::complete(), clock(8, 40)).status;
    day.add_mark(mark(1, MarkStatus::Present, Teacher, None, clock(8, 1)));
    assert_eq!(status(&day), Status::Present);
    day.add_mark(mark(2, MarkStatus::Tardy, Teacher, Some(1), clock(8, 0)));
    assert_eq!(status(&day), Status::Tardy);
    day.add_mark(mark(3, MarkStatus::AbsentExcused, Office, None, clock(7, 0)));
    assert_eq!(status(&day), Status::Absent);
    day.add_mark(mark(4, MarkStatus::EarlyDeparture, Office, Some(1), clock(6, 0)));
    assert_eq!(status(&day), Status::EarlyDeparture);
    let mut undo = mark(5, MarkStatus::Cleared, Office, Some(1), clock(8, 30));
    undo.supersedes = Some(MarkId::from_bytes([4; 16]));
    day.add_mark(undo.clone());
    assert_eq!(status(&day), Status::Absent);
    // A teacher cannot withdraw the office's word; undoing the undo brings the mark back.
    day.add_mark(Mark {
        id: MarkId::from_bytes([6; 16]),
        authority: Teacher,
        supersedes: Some(MarkId::from_bytes([3; 16])),
        ..undo.clone()
    });
    assert_eq!(status(&day), Status::Absent);
    day.add_mark(Mark { id: MarkId::from_bytes([7; 16]), supersedes: Some(undo.id), ..undo });
    assert_eq!(status(&day), Status::EarlyDeparture);
}

#[test]
fn late_evidence_is_flagged_when_the_board_had_said_otherwise() {
    let cases = [(clock(8, 2), clock(8, 19), false), (clock(8, 2), clock(8, 20), true), (clock(8, 30), clock(8, 30), false)];
    for (ts, received, late) in cases {
        let mut day = StudentDay::new();
        day.add_scan(&scan(1, In, ts, received));
        let got = first_period(&day, &Coverage::complete(), min(EVENING));
        assert_eq!(got.flags.contains(Flag::LateEvidence), late, "{ts:?} {received:?}");
    }
}

#[test]
fn a_source_is_behind_when_disconnected_queueing_or_silent_and_no_source_before_its_first_word() {
    let policy = AttendancePolicy::default();
    let assess = |state: SourceState, now| Coverage::assess([(device(), state)], &policy, now);
    let mut state = SourceState::default();
    assert!(!assess(state, clock(8, 0)).has_source);
    state.connection(clock(7, 0), true);
    assert_eq!(assess(state, clock(12, 0)), Coverage::complete());
    state.heartbeat(clock(7, 30), 0);
    assert_eq!(assess(state, clock(7, 32)).valid_until, Some(clock(7, 33)));
    assert_eq!(assess(state, clock(7, 33)).behind[0].reason, BehindReason::Silent);
    state.heartbeat(clock(7, 35), 12);
    let queued = assess(state, clock(7, 36));
    assert_eq!((queued.behind[0].reason, queued.behind[0].since), (BehindReason::Queued, clock(7, 30)));
    state.heartbeat(clock(7, 37), 0);
    state.connection(clock(7, 38), false);
    let offline = assess(state, clock(7, 38));
    assert_eq!((offline.behind[0].reason, offline.behind[0].since), (BehindReason::Offline, clock(7, 37)));
    // Back again it may hold a queue: behind until it says that nothing waits, however far live scans have come.
    state.connection(clock(7, 50), true);
    state.scan(clock(7, 51), clock(7, 51), false);
    state.scan(clock(7, 40), clock(7, 51), true);
    let back = assess(state, clock(7, 52));
    assert_eq!((back.behind[0].reason, back.behind[0].since), (BehindReason::Queued, clock(7, 40)));
    state.heartbeat(clock(7, 52), 0);
    assert_eq!(assess(state, clock(7, 52)).behind, []);
}

#[test]
fn sentences_say_why_and_survive_storage() {
    let (meetings, policy) = (meetings(), AttendancePolicy::default());
    let window = Window::period(&meetings, 0);
    let sentence = |day: &StudentDay, coverage: &Coverage| {
        let conclusion = day.conclude(&window, &policy, coverage, clock(8, 50));
        let stored = serde_json::to_string(&day.detail(&conclusion, &window, &policy, coverage)).unwrap();
        let detail: StatusDetail = serde_json::from_str(&stored).unwrap();
        explain(conclusion.status, conclusion.rule, &detail, chrono_tz::Africa::Nairobi)
    };
    let complete = Coverage::complete();
    let cases = [
        (sentence(&day(&[(In, clock(8, 3))]), &complete), "Arrived 11:03, 3 minutes after the bell; within the grace of 5 minutes."),
        (sentence(&day(&[(In, clock(7, 50))]), &complete), "Arrived 10:50, before the bell at 11:00."),
        (sentence(&StudentDay::new(), &complete), "Not seen by any scanner since the bell at 11:00."),
        (sentence(&StudentDay::new(), &behind_since(clock(7, 0))), "A scanner is offline; what it saw since 10:00 is missing."),
    ];
    for (got, expected) in cases {
        assert_eq!(got, expected);
    }
}
