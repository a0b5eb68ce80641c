//! The texts of the views, by what they are grouped by.
//!
//! Every view groups by `as_of`, which is one instant in all rows of a scan, so that a condition on it reaches the facts. Days in session
//! and meetings held are the same in all rows of a group too, and are grouped by because roles that get figures of groups may not pick one
//! by `max`.

/// Membership and attendance of closed days (of sections: meetings) by these columns, in a week of so many of them.
macro_rules! attendance {
    ($by:literal, $table:literal, $days:literal) => {
        concat!(
            "select ",
            $by,
            ", as_of, count(distinct student) as students, ",
            $days,
            " as days_in_session,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                sum(enrolled_half_days) / 2.0 / ",
            $days,
            " as adm, sum(attended_half_days) / 2.0 / ",
            $days,
            " as ada, cast(sum(attended_half_days) as double) / sum(enrolled_half_days) as rate
            from ",
            $table,
            " where closed group by ",
            $by,
            ", as_of, ",
            $days
        )
    };
}

/// How often students came late.
macro_rules! tardies {
    ($by:literal, $table:literal) => {
        concat!(
            "select ",
            $by,
            ", as_of, count(*) as tardies, count(late_min) as with_time, median(late_min) as median_min from ",
            $table,
            " where closed and tardy group by ",
            $by,
            ", as_of"
        )
    };
}

/// How late they came. The classes are those of `rollcall_model::reports::late`; a test compares them.
macro_rules! late_arrivals {
    ($by:literal, $table:literal) => {
        concat!(
            "select ",
            $by,
            ", as_of, from_min, count(*) as arrivals, count(distinct student) as students from (
                select *, case when late_min is null then null when late_min < 5 then 0 when late_min < 10 then 5 when late_min < 15 then 10
                    when late_min < 20 then 15 when late_min < 30 then 20 when late_min < 45 then 30 when late_min < 60 then 45
                    when late_min < 120 then 60 else 120 end as from_min from ",
            $table,
            " where closed and tardy) late group by ",
            $by,
            ", as_of, from_min"
        )
    };
}

/// Absences, and those that nobody has given a reason for.
macro_rules! unexplained {
    ($by:literal, $table:literal) => {
        concat!(
            "select ",
            $by,
            ", as_of, sum(absent_half_days) as absent_half_days,
                sum(case when absence = 'unexplained' then absent_half_days else 0 end) as unexplained_half_days,
                count(distinct case when absence = 'unexplained' then student end) as students from ",
            $table,
            " where closed and absent_half_days > 0 group by ",
            $by,
            ", as_of"
        )
    };
}

/// Students of a range of dates by tier of absence.
macro_rules! chronic {
    ($by:literal, $table:literal) => {
        concat!(
            "select ",
            $by,
            ", first_date, last_date, as_of, tier, count(distinct student) as students,
                sum(case when chronic then 1 else 0 end) as chronic,
                sum(enrolled_half_days) as enrolled_half_days, sum(attended_half_days) as attended_half_days,
                sum(absent_half_days) as absent_half_days, sum(unknown_half_days) as unknown_half_days,
                cast(sum(unknown_half_days) as double) / sum(enrolled_half_days) as unknown_share
            from ",
            $table,
            " group by ",
            $by,
            ", first_date, last_date, as_of, tier"
        )
    };
}

pub(super) use {attendance, chronic, late_arrivals, tardies, unexplained};
