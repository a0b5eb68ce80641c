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

/// ADM, ADA and rate of a school and week; add up the half-days, never the quotients, for longer times.
pub static VIEWS: [View; 2] = [
    View {
        name: "attendance_by_week",
        documentation: "One row a school and week: membership, attendance and rate of its closed days.",
        columns: &[
            DISTRICT,
            SCHOOL,
            WEEK,
            ("students", "Students who were members on any of its days."),
            ("days_in_session", "Closed days in session."),
            ("enrolled_half_days", "Two a student and day."),
            ("attended_half_days", "Enrolled, less absent, less unknown."),
            ("absent_half_days", "Excused or not."),
            ("unknown_half_days", "Neither attended nor absent: the evidence is missing."),
            ("adm", "Average daily membership, in students."),
            ("ada", "Average daily attendance, in students."),
            ("rate", "ada / adm, 0 to 1."),
        ],
        sql: "select district, school, week, count(distinct student) as students, count(distinct date) as days_in_session,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                sum(enrolled_half_days) / 2.0 / count(distinct date) as adm,
                sum(attended_half_days) / 2.0 / count(distinct date) as ada,
                cast(sum(attended_half_days) as double) / sum(enrolled_half_days) as rate
            from attendance_day where closed group by district, school, week",
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
            ("median_min", "Median of the whole minutes from the bell to the arrival."),
        ],
        sql: "select district, school, week, count(*) as tardies, count(late_min) as with_time, median(late_min) as median_min
            from attendance_day where closed and tardy group by district, school, week",
    },
];
