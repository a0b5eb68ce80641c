//! Views whose figures are those of the reports.

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
const WEEK: (&str, &str) = ("week", "The Monday of the week.");

const GRADE: (&str, &str) = ("grade", "The grade's code as the roster has it now.");
const STUDENTS: (&str, &str) = ("students", "Students who were members on any of its days.");
const DAYS: (&str, &str) = ("days_in_session", "Closed days in session.");
const ENROLLED: (&str, &str) = ("enrolled_half_days", "Two a student and day; in sections two a student and meeting.");
const ATTENDED: (&str, &str) = ("attended_half_days", "Enrolled, less absent, less unknown.");
const ABSENT: (&str, &str) = ("absent_half_days", "Excused or not.");
const UNKNOWN: (&str, &str) = ("unknown_half_days", "Neither attended nor absent: the evidence is missing.");
const ADM: (&str, &str) = ("adm", "Average daily membership, in students.");
const ADA: (&str, &str) = ("ada", "Average daily attendance, in students.");

/// Membership and attendance of closed days by these columns.
macro_rules! membership {
    ($by:literal) => {
        concat!(
            "select ",
            $by,
            ", count(distinct student) as students, count(distinct date) as days_in_session,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                sum(enrolled_half_days) / 2.0 / count(distinct date) as adm,
                sum(attended_half_days) / 2.0 / count(distinct date) as ada,
                cast(sum(attended_half_days) as double) / sum(enrolled_half_days) as rate
            from attendance_day where closed group by ",
            $by
        )
    };
}

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

/// Students of a range of dates by tier of absence and these columns.
macro_rules! chronic {
    ($by:literal, $table:literal) => {
        concat!(
            "select ",
            $by,
            ", first_date, last_date, tier, count(distinct student) as students, sum(case when chronic then 1 else 0 end) as chronic,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                cast(sum(unknown_half_days) as double) / sum(enrolled_half_days) as unknown_share
            from ",
            $table,
            " group by ",
            $by,
            ", first_date, last_date, tier"
        )
    };
}

/// What the reports say, a week at a time; chronic absence, which is a matter of a span of dates, for the school year to date or the
/// range that is asked for. For longer times add up half-days and arrivals, never quotients, medians or numbers of students.
pub static VIEWS: [View; 8] = [
    View {
        name: "attendance_by_week",
        documentation: "One row a school and week: membership, attendance and rate of its closed days.",
        columns: &[DISTRICT, SCHOOL, WEEK, STUDENTS, DAYS, ENROLLED, ATTENDED, ABSENT, UNKNOWN, ADM, ADA, ("rate", "ada / adm, 0 to 1.")],
        sql: membership!("district, school, week"),
    },
    View {
        name: "tardies_by_week",
        documentation: "One row a school and week with tardies on its closed days.",
        columns: &[
            DISTRICT,
            SCHOOL,
            WEEK,
            ("tardies", "How often students came late."),
            ("with_time", "Of how many the minutes are known."),
            (
                "median_min",
                "Median of the whole minutes from the bell to the arrival. It is that of one student, so analysts do not have it; \
                 late_arrivals_by_week has classes of minutes.",
            ),
        ],
        sql: "select district, school, week, count(*) as tardies, count(late_min) as with_time, median(late_min) as median_min
            from attendance_day where closed and tardy group by district, school, week",
    },
    View {
        name: "attendance_by_grade",
        documentation: "One row a school, grade and week: membership, attendance and rate of its closed days.",
        columns: &[
            DISTRICT,
            SCHOOL,
            GRADE,
            WEEK,
            STUDENTS,
            DAYS,
            ENROLLED,
            ATTENDED,
            ABSENT,
            UNKNOWN,
            ADM,
            ADA,
            ("rate", "ada / adm, 0 to 1."),
        ],
        sql: membership!("district, school, grade, week"),
    },
    View {
        name: "attendance_by_section",
        documentation: "One row a section and week: attendance and rate of its meetings on closed days.",
        columns: &[
            DISTRICT,
            SCHOOL,
            ("section", "The section."),
            WEEK,
            STUDENTS,
            DAYS,
            ENROLLED,
            ATTENDED,
            ABSENT,
            UNKNOWN,
            ("rate", "attended_half_days / enrolled_half_days, 0 to 1."),
        ],
        sql: "select district, school, section, week, count(distinct student) as students, count(distinct date) as days_in_session,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                cast(sum(attended_half_days) as double) / sum(enrolled_half_days) as rate
            from attendance_period where closed group by district, school, section, week",
    },
    View {
        name: "late_arrivals_by_week",
        documentation: "How late those came who were tardy: one row a school, week and class of minutes, in the classes of the report.",
        columns: &[
            DISTRICT,
            SCHOOL,
            WEEK,
            ("from_min", "Where the class begins, in whole minutes after the bell; null: the time is not known."),
            ("arrivals", "Late arrivals of the class."),
            ("students", "Who came so late."),
        ],
        // The classes are those of rollcall_model::reports::late; a test compares them.
        sql: "select district, school, week,
                case when late_min is null then null when late_min < 5 then 0 when late_min < 10 then 5 when late_min < 15 then 10
                    when late_min < 20 then 15 when late_min < 30 then 20 when late_min < 45 then 30 when late_min < 60 then 45
                    when late_min < 120 then 60 else 120 end as from_min,
                count(*) as arrivals, count(distinct student) as students
            from attendance_day where closed and tardy group by 1, 2, 3, 4",
    },
    View {
        name: "unexplained_absences_by_week",
        documentation: "Absences that nobody has given a reason for: one row a school, grade and week with any absence.",
        columns: &[
            DISTRICT,
            SCHOOL,
            GRADE,
            WEEK,
            ABSENT,
            ("unexplained_half_days", "Those without a word from anybody."),
            ("students", "Who has an unexplained one."),
        ],
        sql: "select district, school, grade, week, sum(absent_half_days) as absent_half_days,
                sum(case when absence = 'unexplained' then absent_half_days else 0 end) as unexplained_half_days,
                count(distinct case when absence = 'unexplained' then student end) as students
            from attendance_day where closed and absent_half_days > 0 group by district, school, grade, week",
    },
    View {
        name: "chronic_absence_by_school",
        documentation: "One row a school and tier of absence over a range of dates, the school year to date unless a query says another. \
            Each school judges its own days.",
        columns: &[DISTRICT, SCHOOL, FIRST, LAST, TIER, OF_TIER, CHRONIC, ENROLLED, ATTENDED, ABSENT, UNKNOWN, UNKNOWN_SHARE],
        sql: chronic!("district, school", "absence_at_school"),
    },
    View {
        name: "chronic_absence_by_grade",
        documentation: "One row a grade of the district and tier of absence over a range of dates, the school year to date unless a query \
            says another. Each student counts once, however many schools there were.",
        columns: &[DISTRICT, GRADE, FIRST, LAST, TIER, OF_TIER, CHRONIC, ENROLLED, ATTENDED, ABSENT, UNKNOWN, UNKNOWN_SHARE],
        sql: chronic!("district, grade", "absence_in_district"),
    },
];

#[cfg(test)]
mod tests {
    use rollcall_model::reports::late::CLASSES_MIN;

    use super::VIEWS;

    #[test]
    fn the_classes_are_those_of_the_report() {
        let late = VIEWS.iter().find(|view| view.name == "late_arrivals_by_week").unwrap();
        let number = |text: &str| text.split_whitespace().next().and_then(|word| word.parse::<u32>().ok());
        let ends: Vec<u32> = late.sql.split("late_min < ").skip(1).filter_map(number).collect();
        let begins: Vec<u32> = late.sql.split("then ").skip(1).filter_map(number).collect();
        assert_eq!(ends, CLASSES_MIN[1..]);
        assert_eq!(begins, CLASSES_MIN[..CLASSES_MIN.len() - 1]);
        assert!(late.sql.contains(&format!("else {} end", CLASSES_MIN[CLASSES_MIN.len() - 1])));
    }
}
