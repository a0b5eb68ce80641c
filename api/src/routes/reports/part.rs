//! The part of a report that one of its figures is about: a grade or its absence, and a class of late arrivals.

use rollcall_model::reports::late;

use super::explain::Figure;
use crate::problem::ApiError;

/// Whose grade is asked for.
pub(super) enum Grade {
    Any,
    /// The directory has none.
    Lacking,
    Code(String),
}

impl Grade {
    pub fn asked(grade: Option<&str>, no_grade: Option<bool>) -> Result<Self, ApiError> {
        match (grade, no_grade.unwrap_or(false)) {
            (None, false) => Ok(Self::Any),
            (None, true) => Ok(Self::Lacking),
            (Some(code), false) => Ok(Self::Code(code.to_owned())),
            (Some(_), true) => Err(ApiError::field("no_grade", "not_with_grade", "ask for a grade or for those without one")),
        }
    }

    pub fn has(&self, grade: Option<&str>) -> bool {
        match self {
            Self::Any => true,
            Self::Lacking => grade.is_none(),
            Self::Code(code) => grade == Some(code),
        }
    }
}

/// Which late arrivals are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Late {
    Any,
    /// Their time is not known.
    Unknown,
    /// Of the class that begins at this minute.
    From(u32),
}

impl Late {
    pub fn asked(late_from: Option<&str>, figure: Figure) -> Result<Self, ApiError> {
        let Some(from) = late_from else { return Ok(Self::Any) };
        if figure != Figure::Tardy {
            return Err(ApiError::field("late_from", "not_with_figure", "late arrivals are explained with `figure=tardy`"));
        }
        if from == "unknown" {
            return Ok(Self::Unknown);
        }
        let class = from.parse().ok().filter(|minute| late::CLASSES_MIN.contains(minute));
        class.map(Self::From).ok_or_else(|| {
            let message = format!("a class begins at one of {:?} minutes, or is `unknown`", late::CLASSES_MIN);
            ApiError::field("late_from", "no_such_class", message)
        })
    }

    /// Whether an arrival so many minutes late is one of them.
    pub fn has(self, late_min: Option<u32>) -> bool {
        match self {
            Self::Any => true,
            Self::Unknown => late_min.is_none(),
            Self::From(minute) => late_min.is_some_and(|late_min| late::class_of(late_min) == minute),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_late_arrival_is_of_exactly_one_class() {
        let names = late::CLASSES_MIN.map(|minute| minute.to_string()).into_iter().chain(["unknown".to_owned()]);
        let classes: Vec<Late> = names.map(|name| Late::asked(Some(&name), Figure::Tardy).unwrap()).collect();
        for late_min in (0..200).map(Some).chain([None]) {
            assert_eq!(classes.iter().filter(|class| class.has(late_min)).count(), 1, "{late_min:?}");
        }
        assert!(Late::From(10).has(Some(14)) && !Late::From(10).has(Some(15)) && Late::From(120).has(Some(1_000)));
        for (from, figure) in [("7", Figure::Tardy), ("-5", Figure::Tardy), ("", Figure::Tardy), ("10", Figure::Absent)] {
            assert!(Late::asked(Some(from), figure).is_err(), "{from} of {figure:?}");
        }
    }
}
