//! A synthetic district must be a flawless export, whatever the plan.

use chrono::{NaiveDate, NaiveTime};
use proptest::prelude::*;
use rollcall_roster::roster::PersonKind;
use rollcall_roster::synthetic::{Counts, DayShape, Plan, generate};
use rollcall_roster::{LoadOptions, load};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_synthetic_district_loads_without_a_problem(
        seed in any::<u64>(), schools in 1..5usize, students in 1..150usize, section in 1..40usize, minute in 0..1440u32, around in any::<bool>(),
    ) {
        let now = NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap();
        let day = NaiveDate::from_ymd_opt(2026, 11, 21).unwrap();
        let plan = Plan {
            seed, schools, students_per_school: students, section_students: section,
            shape: if around { DayShape::Around { now, started_min: 4 } } else { DayShape::Ordinary },
            ..Plan::new("Synthetic", day)
        };
        let district = generate(&plan).unwrap();
        let dir = tempfile::tempdir().unwrap();
        district.write_package(&dir.path().join("roster.zip")).unwrap();
        district.write_timetable(&dir.path().join("timetable")).unwrap();
        let loaded = load(&dir.path().join("roster.zip"), Some(&dir.path().join("timetable")), &LoadOptions::default()).unwrap();
        prop_assert_eq!(loaded.warnings.kept(), &[]);

        let roster = &loaded.roster;
        let of = |kind| roster.people.iter().filter(|p| p.kind == kind).count();
        let counts = Counts {
            schools: roster.schools.len(), students: of(PersonKind::Student), staff: of(PersonKind::Staff), guardians: of(PersonKind::Guardian),
            guardianships: roster.guardians.len(), sections: roster.sections.len(), enrolments: roster.enrolments.len(),
        };
        prop_assert_eq!(counts, district.counts);
        prop_assert_eq!(counts.students, schools * students);
        prop_assert_eq!(roster.timetable.meetings.len(), counts.sections);
        prop_assert!(roster.timetable.calendar.iter().any(|d| d.date == day && d.schedule == "Regular"));
        prop_assert_eq!(roster.schools[0].district.as_deref(), Some("Synthetic"));
    }
}

#[test]
fn the_same_plan_gives_the_same_files() {
    let plan = Plan { schools: 2, ..Plan::new("Twice", NaiveDate::from_ymd_opt(2026, 3, 8).unwrap()) };
    let (a, b) = (generate(&plan).unwrap(), generate(&plan).unwrap());
    assert_eq!(a.package, b.package);
    assert_eq!(a.timetable, b.timetable);
    let other = generate(&Plan { seed: 2, ..plan }).unwrap();
    assert_ne!(a.package, other.package);
}
