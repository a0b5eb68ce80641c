//! Views whose figures are those of the reports.

mod texts;

use texts::{attendance, chronic, late_arrivals, tardies, unexplained};

/// A query with a name.
pub struct View {
    pub name: &'static str,
    pub documentation: &'static str,
    /// Each column with one sentence.
    pub columns: &'static [(&'static str, &'static str)],
    pub sql: &'static str,
}

const DISTRICT: (&str, &str) = ("district", "The district.");
const SCHOOL: (&str, &str) = ("school", "The school.");
const GRADE: (&str, &str) = ("grade", "The grade's code as the roster has it now.");
const SECTION: (&str, &str) = ("section", "The section.");
const WEEK: (&str, &str) = ("week", "The Monday of the week.");
const AS_OF: (&str, &str) = ("as_of", "As it was known at this instant: now, unless a query says `as_of = ...`.");

const STUDENTS: (&str, &str) = ("students", "Students who were members on any of its days.");
const DAYS: (&str, &str) = ("days_in_session", "Closed days of the school in the week, whoever was a member then.");
const ENROLLED: (&str, &str) = ("enrolled_half_days", "Two a student and day; in sections two a student and meeting.");
const ATTENDED: (&str, &str) = ("attended_half_days", "Enrolled, less absent, less unknown.");
const ABSENT: (&str, &str) = ("absent_half_days", "Excused or not.");
const UNKNOWN: (&str, &str) = ("unknown_half_days", "Neither attended nor absent: the evidence is missing.");
const ADM: (&str, &str) = ("adm", "Average daily membership, in students: enrolled days by days_in_session.");
const ADA: (&str, &str) = ("ada", "Average daily attendance, in students: attended days by days_in_session.");
const RATE: (&str, &str) = ("rate", "ada / adm, 0 to 1.");

/// Of sections, which are counted in meetings.
const ENROLLED_IN_SECTION: (&str, &str) = ("students", "Students who were enrolled at any of its meetings.");
const MEETINGS: (&str, &str) = ("days_in_session", "How often the section met on closed days of the week, whoever was enrolled then.");
const PER_MEETING: (&str, &str) = ("adm", "Average membership of a meeting, in students.");
const AT_MEETING: (&str, &str) = ("ada", "Average attendance of a meeting, in students.");

const TARDIES: (&str, &str) = ("tardies", "How often students came late.");
const WITH_TIME: (&str, &str) = ("with_time", "Of how many the minutes are known.");
const MEDIAN: (&str, &str) = (
    "median_min",
    "Median of the whole minutes from the bell to the arrival. It is that of one student, so analysts do not have it; the views of late \
     arrivals have classes of minutes.",
);
const FROM_MIN: (&str, &str) = ("from_min", "Where the class begins, in whole minutes after the bell; null: the time is not known.");
const ARRIVALS: (&str, &str) = ("arrivals", "Late arrivals of the class.");
const LATE: (&str, &str) = ("students", "Who came so late.");

const UNEXPLAINED: (&str, &str) = ("unexplained_half_days", "Those without a word from anybody.");
const UNHEARD: (&str, &str) = ("students", "Who has an unexplained one.");

const FIRST: (&str, &str) = (
    "first_date",
    "First date of the range: of the school year, unless a query says `first_date = ...`. A pause of more than five weeks ends a year.",
);
const LAST: (&str, &str) = ("last_date", "Last date of the range: today, unless a query says `last_date = ...`.");
const TIER: (&str, &str) = ("tier", "By absent of enrolled: satisfactory (below 5 %), at_risk (10 %), moderate (20 %) or severe.");
const OF_TIER: (&str, &str) = ("students", "Students of the tier, with an enrolled day in the range.");
const CHRONIC: (&str, &str) =
    ("chronic", "Of these: absent on at least a tenth of the enrolled days, with as many enrolled days as the policy asks for.");
const UNKNOWN_SHARE: (&str, &str) = (
    "unknown_share",
    "Unknown of enrolled half-days, 0 to 1: absences that may be among them do not count. For several rows, divide the sums.",
);

/// What the reports say, a week at a time; chronic absence, which is a matter of a span of dates, for the school year to date or the
/// range that is asked for. For longer times add up half-days and arrivals, never quotients, medians or numbers of students.
pub static VIEWS: [View; 14] = [
    View {
        name: "attendance_by_week",
        documentation: "One row a school and week: membership, attendance and rate of its closed days.",
        columns: &[DISTRICT, SCHOOL, WEEK, AS_OF, STUDENTS, DAYS, ENROLLED, ATTENDED, ABSENT, UNKNOWN, ADM, ADA, RATE],
        sql: attendance!("district, school, week", "attendance_day", "days_in_session"),
    },
    View {
        name: "attendance_by_grade",
        documentation: "One row a school, grade and week: membership, attendance and rate of its closed days.",
        columns: &[DISTRICT, SCHOOL, GRADE, WEEK, AS_OF, STUDENTS, DAYS, ENROLLED, ATTENDED, ABSENT, UNKNOWN, ADM, ADA, RATE],
        sql: attendance!("district, school, grade, week", "attendance_day", "days_in_session"),
    },
    View {
        name: "attendance_by_section",
        documentation: "One row a section and week: attendance and rate of its meetings on closed days.",
        columns: &[
            DISTRICT,
            SCHOOL,
            SECTION,
            WEEK,
            AS_OF,
            ENROLLED_IN_SECTION,
            MEETINGS,
            ENROLLED,
            ATTENDED,
            ABSENT,
            UNKNOWN,
            PER_MEETING,
            AT_MEETING,
            RATE,
        ],
        sql: attendance!("district, school, section, week", "attendance_period", "meetings_held"),
    },
    View {
        name: "tardies_by_week",
        documentation: "One row a school and week with tardies on its closed days.",
        columns: &[DISTRICT, SCHOOL, WEEK, AS_OF, TARDIES, WITH_TIME, MEDIAN],
        sql: tardies!("district, school, week", "attendance_day"),
    },
    View {
        name: "tardies_by_grade",
        documentation: "One row a school, grade and week with tardies on its closed days.",
        columns: &[DISTRICT, SCHOOL, GRADE, WEEK, AS_OF, TARDIES, WITH_TIME, MEDIAN],
        sql: tardies!("district, school, grade, week", "attendance_day"),
    },
    View {
        name: "tardies_by_section",
        documentation: "One row a section and week with tardies at its meetings on closed days.",
        columns: &[DISTRICT, SCHOOL, SECTION, WEEK, AS_OF, TARDIES, WITH_TIME, MEDIAN],
        sql: tardies!("district, school, section, week", "attendance_period"),
    },
    View {
        name: "late_arrivals_by_week",
        documentation: "How late those came who were tardy: one row a school, week and class of minutes, in the classes of the report.",
        columns: &[DISTRICT, SCHOOL, WEEK, AS_OF, FROM_MIN, ARRIVALS, LATE],
        sql: late_arrivals!("district, school, week", "attendance_day"),
    },
    View {
        name: "late_arrivals_by_grade",
        documentation: "How late those came who were tardy: one row a school, grade, week and class of minutes.",
        columns: &[DISTRICT, SCHOOL, GRADE, WEEK, AS_OF, FROM_MIN, ARRIVALS, LATE],
        sql: late_arrivals!("district, school, grade, week", "attendance_day"),
    },
    View {
        name: "late_arrivals_by_section",
        documentation: "How late those came to a section's meetings who were tardy: one row a section, week and class of minutes.",
        columns: &[DISTRICT, SCHOOL, SECTION, WEEK, AS_OF, FROM_MIN, ARRIVALS, LATE],
        sql: late_arrivals!("district, school, section, week", "attendance_period"),
    },
    View {
        name: "unexplained_absences_by_week",
        documentation: "Absences that nobody has given a reason for: one row a school, grade and week with any absence.",
        columns: &[DISTRICT, SCHOOL, GRADE, WEEK, AS_OF, ABSENT, UNEXPLAINED, UNHEARD],
        sql: unexplained!("district, school, grade, week", "attendance_day"),
    },
    View {
        name: "unexplained_absences_by_section",
        documentation: "Absences from meetings that nobody has given a reason for: one row a section and week with any absence.",
        columns: &[DISTRICT, SCHOOL, SECTION, WEEK, AS_OF, ABSENT, UNEXPLAINED, UNHEARD],
        sql: unexplained!("district, school, section, week", "attendance_period"),
    },
    View {
        name: "chronic_absence_by_school",
        documentation: "One row a school and tier of absence over a range of dates, the school year to date unless a query says another. \
            Each school judges its own days.",
        columns: &[DISTRICT, SCHOOL, FIRST, LAST, AS_OF, TIER, OF_TIER, CHRONIC, ENROLLED, ATTENDED, ABSENT, UNKNOWN, UNKNOWN_SHARE],
        sql: chronic!("district, school", "absence_at_school"),
    },
    View {
        name: "chronic_absence_by_grade",
        documentation: "One row a grade of the district and tier of absence over a range of dates, the school year to date unless a query \
            says another. Each student counts once, however many schools there were.",
        columns: &[DISTRICT, GRADE, FIRST, LAST, AS_OF, TIER, OF_TIER, CHRONIC, ENROLLED, ATTENDED, ABSENT, UNKNOWN, UNKNOWN_SHARE],
        sql: chronic!("district, grade", "absence_in_district"),
    },
    View {
        name: "chronic_absence_by_section",
        documentation: "One row a section and tier of absence of who is in it on the last date, by all days at its school over a range of \
            dates, the school year to date unless a query says another.",
        columns: &[
            DISTRICT,
            SCHOOL,
            SECTION,
            FIRST,
            LAST,
            AS_OF,
            TIER,
            OF_TIER,
            CHRONIC,
            ENROLLED,
            ATTENDED,
            ABSENT,
            UNKNOWN,
            UNKNOWN_SHARE,
        ],
        sql: chronic!("district, school, section", "absence_in_section"),
    },
];

#[cfg(test)]
mod tests {
    use rollcall_model::reports::late::CLASSES_MIN;

    use super::VIEWS;

    #[test]
    fn the_classes_are_those_of_the_report() {
        let late: Vec<_> = VIEWS.iter().filter(|view| view.name.starts_with("late_arrivals")).collect();
        assert_eq!(late.len(), 3);
        for view in late {
            let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
            let ends: Vec<u32> = view.sql.split("late_min < ").skip(1).filter_map(number).collect();
            let begins: Vec<u32> = view.sql.split("then ").skip(1).filter_map(number).collect();
            assert_eq!(ends, CLASSES_MIN[1..]);
            assert_eq!(begins, CLASSES_MIN[..CLASSES_MIN.len() - 1]);
            assert!(view.sql.contains(&format!("else {} end", CLASSES_MIN[CLASSES_MIN.len() - 1])));
        }
    }

    #[test]
    fn every_view_says_as_of_what_instant_it_is() {
        for view in &VIEWS {
            assert!(view.columns.iter().any(|(column, _)| *column == "as_of") && view.sql.contains(", as_of"), "{}", view.name);
        }
    }
}
