//! Bell times on days when clocks change, in two zones, and across a change of the schedule.

use chrono::{NaiveDate, NaiveTime};
use chrono_tz::Tz;
use rollcall_model::ids::{PeriodId, SectionId};
use rollcall_model::schedule::{Bell, BellSchedule, MeetingRule, date_span, day_span, instant_of, local_date, meetings_on, schedule_on};
use rollcall_model::time::UtcMillis;

const NEW_YORK: Tz = chrono_tz::America::New_York;
const CHICAGO: Tz = chrono_tz::America::Chicago;

fn date(text: &str) -> NaiveDate {
    text.parse().unwrap()
}

fn time(text: &str) -> NaiveTime {
    text.parse().unwrap()
}

fn period(n: u8) -> PeriodId {
    PeriodId::from_bytes([n; 16])
}

fn section(n: u8) -> SectionId {
    SectionId::from_bytes([n; 16])
}

fn bell(n: u8, starts: &str, ends: &str) -> Bell {
    Bell { period: period(n), starts: time(starts), ends: time(ends), instructional: true }
}

fn rule(s: u8, p: u8) -> MeetingRule {
    MeetingRule { section: section(s), period: period(p), weekdays: 127, cycle: String::new(), valid_from: None, valid_to: None }
}

fn utc(text: &str) -> UtcMillis {
    UtcMillis(chrono::DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis())
}

#[test]
fn local_times_resolve_on_ordinary_days_in_the_gap_and_in_the_fold() {
    let cases = [
        (NEW_YORK, "2026-11-20", "08:00:00", "2026-11-20T13:00:00Z"),
        (CHICAGO, "2026-11-20", "08:00:00", "2026-11-20T14:00:00Z"),
        // Spring: 02:00 to 03:00 does not occur on 8 March 2026.
        (NEW_YORK, "2026-03-08", "01:59:59", "2026-03-08T06:59:59Z"),
        (NEW_YORK, "2026-03-08", "02:00:00", "2026-03-08T07:00:00Z"),
        (NEW_YORK, "2026-03-08", "02:45:00", "2026-03-08T07:00:00Z"),
        (NEW_YORK, "2026-03-08", "03:00:00", "2026-03-08T07:00:00Z"),
        (NEW_YORK, "2026-03-08", "08:00:00", "2026-03-08T12:00:00Z"),
        // Autumn: 01:00 to 02:00 occurs twice on 1 November 2026; the first counts.
        (NEW_YORK, "2026-11-01", "01:30:00", "2026-11-01T05:30:00Z"),
        (NEW_YORK, "2026-11-01", "02:00:00", "2026-11-01T07:00:00Z"),
        // A zone whose clocks change at midnight, one of half an hour, and a date that a country left out.
        (chrono_tz::America::Santiago, "2026-09-06", "00:15:00", "2026-09-06T04:00:00Z"),
        (chrono_tz::Australia::Lord_Howe, "2026-10-04", "02:10:00", "2026-10-03T15:30:00Z"),
        (chrono_tz::Pacific::Apia, "2011-12-30", "08:00:00", "2011-12-30T10:00:00Z"),
    ];
    for (zone, day, clock, expected) in cases {
        assert_eq!(instant_of(date(day), time(clock), zone), utc(expected), "{zone} {day} {clock}");
    }
}

#[test]
fn minutes_across_a_clock_change_are_differences_of_instants() {
    let night = bell(1, "00:30:00", "03:30:00");
    assert_eq!(night.span_on(date("2026-03-08"), NEW_YORK).length_ms(), 2 * 3_600_000);
    assert_eq!(night.span_on(date("2026-03-09"), NEW_YORK).length_ms(), 3 * 3_600_000);
    assert_eq!(night.span_on(date("2026-11-01"), NEW_YORK).length_ms(), 4 * 3_600_000);
    assert_eq!(date_span(date("2026-03-08"), NEW_YORK).length_ms(), 23 * 3_600_000);
    assert_eq!(date_span(date("2026-11-01"), NEW_YORK).length_ms(), 25 * 3_600_000);
    let morning = bell(1, "08:00:00", "08:50:00");
    for day in ["2026-03-08", "2026-11-01", "2026-11-20"] {
        assert_eq!(morning.span_on(date(day), NEW_YORK).length_ms(), 50 * 60_000, "{day}");
    }
}

#[test]
fn a_period_inside_the_gap_does_not_meet() {
    let bells = [bell(1, "02:15:00", "02:45:00"), bell(2, "02:30:00", "03:15:00")];
    let rules = [rule(1, 1), rule(2, 2)];
    let meetings = meetings_on(&rules, &bells, date("2026-03-08"), None, NEW_YORK);
    assert_eq!(meetings.iter().map(|m| (m.section, m.span.length_ms())).collect::<Vec<_>>(), [(section(2), 15 * 60_000)]);
    assert_eq!(meetings_on(&rules, &bells, date("2026-03-09"), None, NEW_YORK).len(), 2);
}

#[test]
fn one_district_in_two_zones_rings_the_same_bell_an_hour_apart_and_dates_differ_at_night() {
    let first = bell(1, "08:00:00", "08:50:00");
    let (east, central) = (first.span_on(date("2026-11-20"), NEW_YORK), first.span_on(date("2026-11-20"), CHICAGO));
    assert_eq!(central.starts.0 - east.starts.0, 3_600_000);
    let late = utc("2026-11-21T05:30:00Z");
    assert_eq!(local_date(late, NEW_YORK), Some(date("2026-11-21")));
    assert_eq!(local_date(late, CHICAGO), Some(date("2026-11-20")));
}

#[test]
fn a_schedule_changed_in_mid_year_leaves_earlier_days_as_they_were() {
    let schedule = |name: &str, from: &str, starts: &str| BellSchedule {
        name: name.to_owned(),
        valid_from: date(from),
        bells: vec![bell(1, starts, "09:30:00")],
    };
    let schedules = [
        schedule("Regular", "2027-01-11", "08:30:00"),
        schedule("Regular", "2026-08-24", "08:00:00"),
        schedule("Half day", "2026-12-01", "09:00:00"),
    ];
    let starts = |name: &str, day: &str| schedule_on(&schedules, name, date(day)).map(|found| found.bells[0].starts);
    assert_eq!(starts("Regular", "2026-08-23"), None);
    assert_eq!(starts("Regular", "2026-08-24"), Some(time("08:00:00")));
    assert_eq!(starts("Regular", "2027-01-10"), Some(time("08:00:00")));
    assert_eq!(starts("Regular", "2027-01-11"), Some(time("08:30:00")));
    assert_eq!(starts("Half day", "2027-01-11"), Some(time("09:00:00")));
}

#[test]
fn sections_meet_by_weekday_rotation_day_and_dates() {
    let monday = MeetingRule { weekdays: 0b1, ..rule(1, 1) };
    let day_b = MeetingRule { cycle: "B".to_owned(), ..rule(1, 1) };
    let autumn = MeetingRule { valid_from: Some(date("2026-09-01")), valid_to: Some(date("2026-12-20")), ..rule(1, 1) };
    let cases = [
        (&monday, "2026-11-16", None, true),
        (&monday, "2026-11-22", None, false),
        (&day_b, "2026-11-16", Some("B"), true),
        (&day_b, "2026-11-16", Some("A"), false),
        (&day_b, "2026-11-16", None, false),
        (&autumn, "2026-08-31", None, false),
        (&autumn, "2026-09-01", None, true),
        (&autumn, "2026-12-19", None, true),
        (&autumn, "2026-12-20", None, false),
    ];
    for (rule, day, cycle, meets) in cases {
        assert_eq!(rule.meets_on(date(day), cycle), meets, "{rule:?} {day} {cycle:?}");
    }
}

#[test]
fn the_day_goes_from_the_first_to_the_last_instructional_period() {
    let mut bells = [bell(1, "07:30:00", "08:00:00"), bell(2, "08:00:00", "09:00:00"), bell(3, "13:00:00", "14:00:00")];
    bells[0].instructional = false;
    let rules = [rule(3, 3), rule(1, 1), rule(2, 2), rule(2, 2), rule(4, 9)];
    let meetings = meetings_on(&rules, &bells, date("2026-11-20"), None, NEW_YORK);
    assert_eq!(meetings.iter().map(|m| m.section).collect::<Vec<_>>(), [section(1), section(2), section(3)]);
    let day = day_span(&meetings).unwrap();
    assert_eq!((day.starts, day.ends), (utc("2026-11-20T13:00:00Z"), utc("2026-11-20T19:00:00Z")));
    assert_eq!(day_span(&meetings[..1]), None);
}
