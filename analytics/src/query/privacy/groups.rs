//! Figures about groups that something else than SQL sums up: the same as SQL would give of the same contributions.

use std::sync::Arc;

use rollcall_model::ids::PersonId;

use super::contributions::Contribution;
use super::figure::{Kind, Told};
use super::given::{Evidence, Given};
use super::noise::Drawn;
use crate::query::caller::Caller;

/// Makes figures for a caller without student-level rights.
pub struct GroupFigures {
    told: Told,
}

impl GroupFigures {
    pub(crate) fn new(caller: &Caller, given: &Arc<Given>) -> Self {
        Self { told: Told::new(caller.privacy, caller.group_min, Arc::clone(given)) }
    }

    /// How many students there are, with noise; `None`: too few to be told of. Each comes once.
    pub fn students(&self, students: impl Iterator<Item = PersonId>) -> Option<u64> {
        let each = students.map(|student| (id(student), Contribution { rows: 1, total: 1.0 }));
        self.told.figure(Kind::Persons, None, each).map(|figure| figure as u64)
    }

    /// The total of one contribution a student, with noise of what about a dozen of them reach; `None`: too few contribute.
    pub fn total(&self, contributions: impl Iterator<Item = (PersonId, u64)>) -> Option<u64> {
        let each = contributions.filter(|(_, value)| *value > 0);
        let each = each.map(|(student, value)| (id(student), Contribution { rows: 1, total: value as f64 }));
        self.told.figure(Kind::Sum, None, each).map(|figure| figure.round().max(0.0) as u64)
    }

    /// Exact figures, each or the one that was told of the same question when it was about nearly the same contributions: who asks again after
    /// one student's was corrected does not see it. `values` has each student of the group once, with the contribution, which may be 0.
    pub fn settled<const N: usize>(&self, values: impl Iterator<Item = (PersonId, u64)>, figures: [(u64, f64); N]) -> [f64; N] {
        let drawn = Drawn::new(self.told.key(), None);
        let mut evidence = Evidence::default();
        for (student, value) in values {
            let hash = drawn.hash(id(student), b"");
            evidence.add(&hash);
            evidence.relate(&hash, [1.0; 2], [value; 2]);
        }
        figures.map(|(question, figure)| self.told.once(question, evidence.clone(), Some(figure)).unwrap_or(figure))
    }
}

fn id(student: PersonId) -> u128 {
    student.0.as_u128()
}

#[cfg(test)]
mod tests {
    use rollcall_model::ids::{AccountId, DistrictId};
    use rollcall_store::account::Role;
    use uuid::Uuid;

    use super::*;
    use crate::query::{GROUP_MIN, PrivacyKey};

    fn figures() -> GroupFigures {
        let caller = Caller {
            district: DistrictId::from_bytes([1; 16]),
            account: AccountId::from_bytes([2; 16]),
            role: Role::Analyst,
            schools: None,
            sections: None,
            students: None,
            privacy: PrivacyKey([7; 32]),
            group_min: GROUP_MIN,
        };
        GroupFigures::new(&caller, &Arc::default())
    }

    fn student(number: u128) -> PersonId {
        PersonId(Uuid::from_u128(number))
    }

    #[test]
    fn totals_are_near_and_of_enough_students_and_one_does_not_show() {
        let figures = figures();
        let total = |students: std::ops::Range<u128>, most: u64| {
            figures.total(students.map(|number| (student(number), if number == 3 { most } else { 4 })))
        };
        let told = total(0..60, 4).unwrap();
        assert!((180..300).contains(&told), "{told}");
        assert_eq!((total(0..60, 4), total(0..60, 40), total(0..59, 0)), (Some(told), Some(told), Some(told)));
        assert_eq!((total(0..9, 4), total(0..9, 0), total(0..0, 0)), (None, None, None));
        let count = |students: std::ops::Range<u128>| figures.students(students.map(student));
        assert!(count(0..60).is_some_and(|told| (50..70).contains(&told)));
        assert_eq!((count(1..60), count(0..8)), (count(0..60), None));
    }

    #[test]
    fn an_exact_figure_moves_by_many_students_at_once_and_for_each_question_by_itself() {
        let figures = figures();
        let told = |question: u64, absent: u128| {
            let values = (0..200).map(|number| (student(number), if number < absent { 2 } else { 0 }));
            figures.settled(values, [(question, 2.0 * absent as f64)])[0] as u64
        };
        assert_eq!(told(1, 3), 6);
        assert_eq!((told(1, 4), told(1, 2), told(1, 0)), (6, 6, 6));
        assert_eq!((told(2, 4), told(1, 30), told(1, 3)), (8, 60, 6));
    }
}
