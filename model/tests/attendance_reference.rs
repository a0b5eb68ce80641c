//! The attendance rules against a naive reference: a table of "inside" for every tick of the day, filled by walking
//! the scans, and conclusions read off that table with loops. It shares no code with the rules.
//!
//! Every instant of a generated history lies on a tick, so stepping tick by tick visits every instant at which
//! anything can change.

use chrono::NaiveDate;
use proptest::prelude::*;
use rollcall_model::attendance::{Behind, BehindReason, Conclusion, Coverage, StudentDay, Window};
use rollcall_model::event::Direction;
use rollcall_model::ids::{AccountId, DeviceId, MarkId, Offset, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::policy::AttendancePolicy;
use rollcall_model::schedule::{Meeting, Span};
use rollcall_model::status::{Authority, Mark, MarkStatus, Rule, ScanEvidence, Status};
use rollcall_model::time::UtcMillis;

const TICK_MS: i64 = 30_000;
const TICKS: usize = 190;
/// Start, end, instructional: two periods with a passing time, lunch, and one more.
const BELLS: [(usize, usize, bool); 4] = [(20, 60, true), (64, 100, true), (100, 120, false), (120, 160, true)];

fn at(tick: usize) -> UtcMillis {
    UtcMillis(1_795_233_600_000 + tick as i64 * TICK_MS)
}

fn id(n: u8) -> [u8; 16] {
    [n; 16]
}

fn meetings() -> Vec<Meeting> {
    let meeting = |(n, (starts, ends, instructional)): (usize, (usize, usize, bool))| Meeting {
        section: SectionId::from_bytes(id(n as u8)),
        period: PeriodId::from_bytes(id(n as u8)),
        span: Span::new(at(starts), at(ends)),
        instructional,
    };
    BELLS.into_iter().enumerate().map(meeting).collect()
}

#[derive(Clone, Debug)]
struct Scan {
    tick: usize,
    device: u8,
    seq: u64,
    direction: Direction,
}

/// `place`: the period's number; `None`: the day. `names`: an earlier mark that it supersedes.
#[derive(Clone, Debug)]
struct Statement {
    place: Option<usize>,
    status: MarkStatus,
    office: bool,
    at: Option<usize>,
    names: Option<usize>,
}

#[derive(Clone, Debug)]
struct History {
    policy: AttendancePolicy,
    scans: Vec<Scan>,
    marks: Vec<Statement>,
    has_source: bool,
    behind: Option<usize>,
}

fn histories() -> impl Strategy<Value = History> {
    let policy = (0..6u32, 0..8u32, 0..12u32, 0..8u32, 0..3u32).prop_map(|(grace, cutoff, absent, reentry, repeat)| AttendancePolicy {
        grace_min: grace,
        tardy_cutoff_min: grace + cutoff,
        absent_after_min: grace + absent,
        reentry_min: reentry,
        repeat_scan_s: repeat * 30,
        ..AttendancePolicy::default()
    });
    let direction = prop_oneof![3 => Just(Direction::In), 3 => Just(Direction::Out), 2 => Just(Direction::Auto)];
    let scan = (5..175usize, 0..2u8, direction);
    let scans = proptest::collection::vec(scan, 0..9).prop_map(|scans| {
        let numbered = scans.into_iter().zip(1..);
        numbered.map(|((tick, device, direction), seq)| Scan { tick, device, seq, direction }).collect::<Vec<_>>()
    });
    let status = proptest::sample::select(MarkStatus::ALL);
    let statement =
        (proptest::option::of(0..4usize), status, any::<bool>(), proptest::option::of(10..170usize), proptest::option::of(0..4usize));
    let marks = proptest::collection::vec(statement, 0..5).prop_map(|marks| {
        let numbered = marks.into_iter().enumerate();
        numbered
            .map(|(n, (place, status, office, at, names))| Statement { place, status, office, at, names: names.filter(|named| *named < n) })
            .collect::<Vec<_>>()
    });
    let marks = prop_oneof![Just(Vec::new()), marks];
    (policy, scans, marks, prop::bool::weighted(0.8), prop::option::weighted(0.3, 0..180usize))
        .prop_map(|(policy, scans, marks, has_source, behind)| History { policy, scans, marks, has_source, behind })
}

impl History {
    fn evidence(&self) -> Vec<ScanEvidence> {
        let evidence = |scan: &Scan| ScanEvidence {
            student: PersonId::from_bytes(id(1)),
            device: DeviceId::from_bytes(id(scan.device)),
            seq: scan.seq,
            ts: at(scan.tick),
            received: at(scan.tick),
            direction: scan.direction,
            offline: false,
            offset: Offset(scan.seq),
        };
        self.scans.iter().map(evidence).collect()
    }

    fn statements(&self) -> Vec<Mark> {
        let mark = |(n, said): (usize, &Statement)| Mark {
            id: MarkId::from_bytes(id(n as u8)),
            school: SchoolId::from_bytes(id(1)),
            student: PersonId::from_bytes(id(1)),
            section: said.place.map(|place| SectionId::from_bytes(id(place as u8))),
            period: said.place.map(|place| PeriodId::from_bytes(id(place as u8))),
            date: NaiveDate::default(),
            status: said.status,
            authority: if said.office { Authority::Office } else { Authority::Teacher },
            author: AccountId::from_bytes(id(1)),
            reason: None,
            supersedes: said.names.map(|named| MarkId::from_bytes(id(named as u8))),
            recorded: at(30 + n),
            at: said.at.map(at),
        };
        self.marks.iter().enumerate().map(mark).collect()
    }

    fn day(&self) -> StudentDay {
        let mut day = StudentDay::new();
        self.evidence().iter().for_each(|scan| assert!(day.add_scan(scan)));
        self.statements().into_iter().for_each(|mark| assert!(day.add_mark(mark)));
        day
    }

    fn coverage(&self) -> Coverage {
        let behind = |tick| Behind { device: DeviceId::from_bytes(id(0)), reason: BehindReason::Offline, since: at(tick) };
        Coverage { has_source: self.has_source, behind: self.behind.map(behind).into_iter().collect(), valid_until: None }
    }
}

/// What the reference concludes.
#[derive(PartialEq, Debug)]
struct Naive {
    status: Status,
    rule: Rule,
    since: Option<UtcMillis>,
    present_ms: i64,
}

struct Reference<'a> {
    history: &'a History,
    /// Inside during the tick, gaps bridged. The last tick stands for ever after.
    inside: Vec<bool>,
}

impl<'a> Reference<'a> {
    fn new(history: &'a History) -> Self {
        let mut scans = history.scans.clone();
        scans.sort_by_key(|scan| (scan.tick, scan.device, scan.seq));
        let repeat_ticks = history.policy.repeat_scan_s as usize / 30;
        let (mut inside, mut state) = (vec![false; TICKS], false);
        for tick in 0..TICKS {
            for (n, scan) in scans.iter().enumerate().filter(|(_, scan)| scan.tick == tick) {
                let repeated = n > 0 && tick - scans[n - 1].tick <= repeat_ticks;
                state = match (scan.direction, repeated) {
                    (Direction::In, _) => true,
                    (Direction::Out, _) => false,
                    (Direction::Auto, true) => state,
                    (Direction::Auto, false) => !state,
                };
            }
            inside[tick] = state;
        }
        let bridge_ticks = history.policy.reentry_min as usize * 2;
        for left in 1..TICKS {
            if inside[left - 1] && !inside[left] {
                let back = (left..TICKS).find(|tick| inside[*tick]);
                if let Some(back) = back.filter(|back| back - left <= bridge_ticks) {
                    inside[left..back].fill(true);
                }
            }
        }
        Self { history, inside }
    }

    fn stands(&self, n: usize) -> bool {
        let marks = &self.history.marks;
        !(n + 1..marks.len()).any(|later| {
            let (new, old) = (&marks[later], &marks[n]);
            let removes = match new.names {
                Some(named) => named == n && (new.office || !old.office),
                None => new.status == MarkStatus::Cleared && new.office == old.office && new.place == old.place,
            };
            removes && self.stands(later)
        })
    }

    /// Office before teacher; of one authority the period before the day; newest first. The first that says something.
    fn word(&self, place: Option<usize>) -> Option<(Status, Option<usize>, bool)> {
        for (office, about) in [(true, place), (true, None), (false, place), (false, None)] {
            for (n, said) in self.history.marks.iter().enumerate().rev() {
                if said.office != office || said.place != about || !self.stands(n) || said.status == MarkStatus::Cleared {
                    continue;
                }
                let own = (plain(said.status), said.at);
                match place {
                    Some(period) if about.is_none() => {
                        if let Some((status, at)) = self.day_word(said, period) {
                            return Some((status, at, office));
                        }
                    }
                    _ => return Some((own.0, own.1, office)),
                }
            }
        }
        None
    }

    /// What a day mark says of a period; `None`: only that the student was at school.
    fn day_word(&self, said: &Statement, period: usize) -> Option<(Status, Option<usize>)> {
        let (starts, ends, _) = BELLS[period];
        match (said.status, said.at) {
            (MarkStatus::Tardy, None) => (period == 0).then_some((Status::Tardy, None)),
            (MarkStatus::EarlyDeparture, None) => (period == 3).then_some((Status::EarlyDeparture, None)),
            (MarkStatus::Tardy, Some(at)) => {
                let late = at as i64 - starts as i64;
                match late {
                    late if late <= 0 => None,
                    _ if at >= ends => Some((Status::Absent, None)),
                    late if late <= self.history.policy.grace_min as i64 * 2 => Some((Status::Present, Some(at))),
                    late if late <= self.history.policy.tardy_cutoff_min as i64 * 2 => Some((Status::Tardy, Some(at))),
                    _ => Some((Status::Absent, None)),
                }
            }
            (MarkStatus::EarlyDeparture, Some(at)) if at <= starts => Some((Status::Absent, None)),
            (MarkStatus::EarlyDeparture, Some(at)) if at < ends => Some((Status::EarlyDeparture, Some(at))),
            (MarkStatus::EarlyDeparture, Some(_)) => None,
            (status, _) => Some((plain(status), None)),
        }
    }

    /// The newest day mark, office first, that implies presence in a period about which no mark says anything.
    fn implied(&self, period: usize) -> Option<bool> {
        if self.inside.contains(&true) {
            return None;
        }
        [true, false].into_iter().find(|office| {
            self.history.marks.iter().enumerate().any(|(n, said)| {
                said.office == *office
                    && said.place.is_none()
                    && self.stands(n)
                    && said.status != MarkStatus::Cleared
                    && self.day_word(said, period).is_none()
            })
        })
    }

    /// First and last tick inside the window, and where the interval of each begins and ends.
    fn arrival(&self, starts: usize, ends: usize) -> Option<usize> {
        let first = (starts..ends).find(|tick| self.inside[*tick])?;
        Some((0..=first).rev().take_while(|tick| self.inside[*tick]).last().expect("the tick itself is inside"))
    }

    fn departure(&self, starts: usize, ends: usize) -> Option<usize> {
        let last = (starts..ends).rev().find(|tick| self.inside[*tick])?;
        (last + 1 < ends).then_some(last + 1)
    }

    fn minutes(&self, places: &[usize], now: usize) -> i64 {
        let mut ticks = 0;
        for &place in places.iter().filter(|place| BELLS[**place].2) {
            let (starts, ends, _) = BELLS[place];
            let seen = (starts..ends).any(|tick| self.inside[tick]);
            for tick in starts..ends.min(now) {
                let counted = match self.word(Some(place)) {
                    None if self.implied(place).is_some() => true,
                    None => self.inside[tick],
                    Some((Status::Absent, ..)) => false,
                    Some(_) if seen => self.inside[tick],
                    Some((Status::EarlyDeparture, Some(left), _)) => tick < left,
                    Some((_, Some(came), _)) => tick >= came,
                    Some((_, None, _)) => true,
                };
                ticks += i64::from(counted);
            }
        }
        ticks * TICK_MS
    }

    fn conclude(&self, place: Option<usize>, now: usize) -> Naive {
        let places: Vec<usize> = place.map_or_else(|| (0..4).collect(), |place| vec![place]);
        let (starts, ends) = place.map_or((20, 160), |place| (BELLS[place].0, BELLS[place].1));
        let (arrival, departure) = (self.arrival(starts, ends), self.departure(starts, ends));
        let present_ms = self.minutes(&places, now);
        let word = self.word(place).or_else(|| match place {
            Some(place) => self.implied(place).map(|office| (Status::Present, None, office)),
            None if arrival.is_none() => self.day_from_periods(),
            None => None,
        });
        if let Some((status, stated, office)) = word {
            let since = match status {
                Status::Absent => None,
                Status::EarlyDeparture => stated.or(departure),
                _ => stated.or(arrival),
            };
            let rule = if office { Rule::OfficeMark } else { Rule::TeacherMark };
            return Naive { status, rule, since: since.map(at), present_ms };
        }
        let (status, rule, since) = self.infer(place, (starts, ends), now);
        Naive { status, rule, since: since.map(at), present_ms }
    }

    fn day_from_periods(&self) -> Option<(Status, Option<usize>, bool)> {
        let words: Vec<_> = (0..4).filter_map(|place| self.word(Some(place)).map(|word| (place, word))).collect();
        let there: Vec<_> = words.iter().filter(|(_, word)| word.0 != Status::Absent).collect();
        let Some((place, first)) = there.first() else { return words.first().map(|(_, word)| *word) };
        let (_, last) = there.last().expect("not empty");
        let missed = words.iter().any(|(other, word)| other < place && word.0 == Status::Absent);
        if last.0 == Status::EarlyDeparture {
            return Some(*last);
        }
        if missed || (*place == 0 && first.0 == Status::Tardy) {
            return Some((Status::Tardy, first.1, first.2));
        }
        Some((Status::Present, None, first.2))
    }

    fn infer(&self, place: Option<usize>, (starts, ends): (usize, usize), now: usize) -> (Status, Rule, Option<usize>) {
        let policy = &self.history.policy;
        let ticks = |minutes: u32| minutes as usize * 2;
        let (grace, cutoff) = (starts + ticks(policy.grace_min), starts + ticks(policy.tardy_cutoff_min));
        // Complete up to a tick, or up to just before it.
        let complete = |until: usize| self.history.behind.is_none_or(|since| since >= until);
        let known = if cutoff < ends { complete(cutoff) } else { complete(ends) };
        let unknown = (Status::Unknown, Rule::GateBehind, None);
        let Some(arrival) = self.arrival(starts, ends) else {
            return match () {
                () if now < (starts + ticks(policy.absent_after_min)).min(ends) => {
                    (Status::Expected, if now < grace { Rule::BeforeStart } else { Rule::Awaited }, None)
                }
                () if self.inside[..starts].contains(&true) && known => (Status::Absent, Rule::LeftBeforeStart, None),
                () if self.inside[..starts].contains(&true) => unknown,
                () if !self.history.has_source => (Status::Unknown, Rule::RollNotTaken, None),
                () if known => (Status::Absent, Rule::NoEvidence, None),
                () => unknown,
            };
        };
        if arrival > cutoff && place.is_some() {
            return if known { (Status::Absent, Rule::ArrivedAfterCutoff, None) } else { unknown };
        }
        if let Some(left) = self.departure(starts, ends) {
            let mut settles = left + ticks(policy.reentry_min);
            let in_class = BELLS.iter().any(|bell| bell.2 && bell.0 <= left && left < bell.1);
            if place.is_none() && !in_class {
                let next = BELLS.iter().find(|bell| bell.2 && bell.0 > left).expect("it left before the last period's end");
                settles = settles.max(next.0 + ticks(policy.grace_min));
            }
            if now >= settles {
                return if complete(settles) { (Status::EarlyDeparture, Rule::LeftBeforeEnd, Some(left)) } else { unknown };
            }
        }
        let (status, rule) = match arrival {
            arrival if arrival <= grace => (Status::Present, Rule::ArrivedByGrace),
            arrival if arrival <= cutoff => (Status::Tardy, Rule::ArrivedAfterGrace),
            _ => (Status::Tardy, Rule::ArrivedAfterCutoff),
        };
        (status, rule, Some(arrival))
    }
}

fn plain(status: MarkStatus) -> Status {
    match status {
        MarkStatus::Present => Status::Present,
        MarkStatus::Tardy => Status::Tardy,
        MarkStatus::EarlyDeparture => Status::EarlyDeparture,
        _ => Status::Absent,
    }
}

fn windows(meetings: &[Meeting]) -> Vec<(Option<usize>, Window<'_>)> {
    let day = (None, Window::day(meetings).expect("there are instructional periods"));
    (0..meetings.len()).map(|n| (Some(n), Window::period(meetings, n))).chain([day]).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 192, ..ProptestConfig::default() })]

    #[test]
    fn conclusions_equal_the_reference_at_every_tick(history in histories()) {
        let (day, coverage, reference, meetings) = (history.day(), history.coverage(), Reference::new(&history), meetings());
        for (place, window) in windows(&meetings) {
            for now in 0..TICKS {
                let got = day.conclude(&window, &history.policy, &coverage, at(now));
                let naive = reference.conclude(place, now);
                let got = Naive { status: got.status, rule: got.rule, since: got.since, present_ms: got.present_ms };
                prop_assert_eq!(got, naive, "window {:?} at tick {}", place, now);
            }
        }
    }

    #[test]
    fn next_change_is_exact(history in histories()) {
        let (day, coverage, meetings) = (history.day(), history.coverage(), meetings());
        for (place, window) in windows(&meetings) {
            let conclude = |now: UtcMillis| day.conclude(&window, &history.policy, &coverage, now);
            let stepped: Vec<Conclusion> = (0..TICKS).map(|tick| conclude(at(tick))).collect();
            for now in 0..TICKS {
                let next = (now + 1..TICKS).find(|later| !stepped[*later].says_same(&stepped[now])).map(at);
                let promised = day.next_change(&window, &history.policy, &coverage, at(now));
                prop_assert_eq!(promised.filter(|next| *next < at(TICKS)), next, "window {:?} at tick {}", place, now);
                if let Some(next) = promised {
                    prop_assert!(conclude(next.plus_ms(-1)).says_same(&stepped[now]), "changed before {next:?}");
                }
            }
        }
    }

    #[test]
    fn order_duplication_and_batching_do_not_matter(
        history in histories(),
        order in proptest::collection::vec((any::<prop::sample::Index>(), any::<bool>()), 0..40),
    ) {
        let (scans, marks, whole) = (history.evidence(), history.statements(), history.day());
        let mut other = StudentDay::new();
        // First any of them in any order, some of them often; then all of them backwards.
        for (pick, is_mark) in order {
            match is_mark {
                true if !marks.is_empty() => { other.add_mark(pick.get(&marks).clone()); }
                false if !scans.is_empty() => { other.add_scan(pick.get(&scans)); }
                _ => {}
            }
        }
        scans.iter().rev().for_each(|scan| { other.add_scan(scan); });
        marks.iter().rev().for_each(|mark| { other.add_mark(mark.clone()); });
        prop_assert_eq!(whole, other);
    }
}
