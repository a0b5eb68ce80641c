//! What is carried from one calculation to the next gives the same values as counting everything anew.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;
use rollcall_model::event::ActivityKind;
use rollcall_model::ids::*;
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::Span;
use rollcall_model::time::UtcMillis;
use rollcall_stream::activity::{self, ActivityRow};

use super::golden::calculated;
use crate::engagement::definition::Parameters;
use crate::engagement::meeting::{Allowed, Meeting, MeetingPlan, Student};

const STARTS: i64 = 1_795_165_320_000;
const STUDENTS: u8 = 3;

#[derive(Clone, Copy, Debug)]
struct Act {
    student: u8,
    device: u8,
    /// Seconds since the meeting began.
    at_s: i64,
    after_s: i64,
    kind: u8,
    resource: usize,
    seq: u64,
}

fn act() -> impl Strategy<Value = Act> {
    // Few seconds and numbers, so that events repeat, meet at edges and come between others.
    (0..STUDENTS, 0..2_u8, -100..820_i64, 0..600_i64, 0..6_u8, 0..3_usize, 0..4_u64)
        .prop_map(|(student, device, at_s, after_s, kind, resource, seq)| Act { student, device, at_s, after_s, kind, resource, seq })
}

fn meeting() -> Meeting {
    let span = Span::new(UtcMillis(STARTS), UtcMillis(STARTS + 12 * 60_000));
    let student = |n: u8| Student { person: PersonId::from_bytes([n; 16]), activity: true, wearable: false };
    let plan = MeetingPlan {
        section: SectionId::from_bytes([7; 16]),
        period: PeriodId::from_bytes([8; 16]),
        period_name: "1".into(),
        span,
        hours: Span::new(UtcMillis(STARTS - 3_600_000), UtcMillis(STARTS + 3_600_000)),
        students: (0..STUDENTS).map(student).collect(),
        teachers: Vec::new(),
        allowed: Some(Allowed(vec!["reader".to_owned()].into())),
        parameters: Parameters::from(&AttendancePolicy::default()),
    };
    let mut meeting = Meeting::new(Arc::new(plan));
    meeting.set_presence((0..u32::from(STUDENTS)).map(|student| (student, span)).collect());
    meeting
}

fn hear(meeting: &mut Meeting, act: Act) {
    // A device says one thing under one number: the number is made of what it says.
    let seq = act.seq + 4 * (u64::from(act.kind) + 6 * act.resource as u64 + 18 * act.after_s as u64);
    let said = row(act.student, act.at_s);
    meeting.add_activity(&ActivityRow {
        device: DeviceId::from_bytes([act.device; 16]),
        seq,
        received: said.ts.plus_ms(act.after_s * 1_000),
        kind: ActivityKind::ALL[usize::from(act.kind)],
        resource: ["reader", "games", "quiz:fractions"][act.resource],
        ..said
    });
}

fn row(student: u8, at_s: i64) -> ActivityRow<'static> {
    ActivityRow {
        district: DistrictId::from_bytes([1; 16]),
        school: SchoolId::from_bytes([2; 16]),
        device: DeviceId::from_bytes([3; 16]),
        seq: 1,
        ts: UtcMillis(STARTS + at_s * 1_000),
        received: UtcMillis(STARTS),
        offline: false,
        person: PersonId::from_bytes([student; 16]),
        kind: ActivityKind::Answered,
        resource: "reader",
        section: None,
        dur_ms: None,
        offset: Offset(0),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn turns_give_what_one_calculation_of_everything_gives(
        turns in prop::collection::vec(prop::collection::vec(act(), 0..12), 1..10),
        in_order in any::<bool>(),
    ) {
        let mut turns = turns;
        if in_order {
            let mut all = turns.concat();
            all.sort_by_key(|act| act.at_s);
            let mut rest = all.into_iter();
            turns.iter_mut().for_each(|turn| *turn = rest.by_ref().take(turn.len()).collect());
        }
        let (mut carried, mut whole) = (meeting(), meeting());
        for turn in &turns {
            turn.iter().for_each(|act| hear(&mut carried, *act));
            let touched: BTreeSet<UtcMillis> = std::mem::take(&mut carried.touched).into_keys().collect();
            if !touched.is_empty() {
                calculated(&mut carried, &touched);
            }
            turn.iter().for_each(|act| hear(&mut whole, *act));
        }
        let slots: BTreeSet<UtcMillis> = whole.plan.slots().collect();
        let (got, expected) = (calculated(&mut carried, &slots), calculated(&mut whole, &slots));
        prop_assert_eq!(got.students, expected.students);
        prop_assert_eq!(got.windows, expected.windows);
    }
}

#[test]
fn of_the_log_only_what_can_matter_to_the_meeting_is_kept() {
    let plan = meeting().plan;
    let theta_s = plan.parameters.theta_ms / 1_000;
    let rows = [row(0, -theta_s), row(0, -theta_s - 1), row(STUDENTS, 60), row(1, 60)];
    let kept = plan.rows_in(&activity::encode(&rows)).unwrap();
    let kept: Vec<_> = activity::decode(&kept).map(|row| (row.person, row.ts)).collect();
    assert_eq!(kept, [0, 3].map(|at: usize| (rows[at].person, rows[at].ts)));
    assert!(plan.rows_in(&activity::encode(&rows[1..3])).is_none());
}
