//! Which lines of a report are withheld from somebody who has no right to single students.
//!
//! Schools and grades are cut by one table of the whole district, so that asking school by school, grade by grade or for
//! the whole gives nothing away that one of them withholds. What counts is the smallest number of students on any counted
//! day, so that two ranges of dates do not differ by a small group either.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use rollcall_analytics::facts::report::Group;
use rollcall_analytics::facts::{Asked, Reader};
use rollcall_model::ids::SchoolId;
use rollcall_model::reports::suppress::{self, N_MIN, Totals};
use rollcall_store::Store;

use super::{By, Scope};

/// What is withheld of one report.
#[derive(Default)]
pub struct Withheld {
    lines: BTreeSet<Group>,
    total: bool,
    everything: bool,
}

impl Withheld {
    pub fn line(&self, group: &Group) -> bool {
        self.everything || self.lines.contains(group)
    }

    pub fn total(&self) -> bool {
        self.everything || self.total
    }
}

/// By the students of each line; nothing for those who may see students.
pub(super) fn of(store: &Store, scope: &Scope, by: By, lines: &BTreeMap<Group, u64>) -> Withheld {
    if scope.groups.is_none() {
        return Withheld::default();
    }
    let table = Table::of(store, &scope.asked);
    let one_row = |counts: BTreeMap<((), Group), u64>| suppress::withhold(&counts, N_MIN, Totals::Rows);
    let counted = || lines.iter().map(|(group, students)| (((), group.clone()), *students)).collect();
    let school = scope.asked.schools.first().copied().filter(|_| scope.one_of_many);
    let mut withheld = Withheld { everything: school.is_some_and(|school| table.hides(school)), ..Withheld::default() };
    match (by, school) {
        (By::Section, _) => {
            let small = lines.iter().filter(|(_, students)| (1..N_MIN).contains(*students));
            withheld.lines = small.map(|(group, _)| group.clone()).collect();
        }
        (By::School, _) => {
            let found = one_row(counted());
            withheld.lines = found.cells.into_iter().map(|(_, group)| group).collect();
            withheld.lines.extend(table.schools.iter().map(|school| Group::School(*school)));
            withheld.total = !found.rows.is_empty();
        }
        (By::Grade, Some(school)) => {
            let of_school = table.cells.cells.iter().filter(|(row, _)| *row == school);
            withheld.lines = of_school.map(|(_, grade)| Group::Grade(grade.clone())).collect();
            withheld.total = table.cells.rows.contains(&school);
        }
        (By::Grade, None) => {
            let found = one_row(counted());
            withheld.lines = found.cells.into_iter().map(|(_, group)| group).collect();
            withheld.lines.extend(table.cells.columns.iter().map(|grade| Group::Grade(grade.clone())));
            withheld.total = !found.rows.is_empty();
        }
        (By::Week, _) => {
            let found = one_row(counted());
            withheld.lines = found.cells.into_iter().map(|(_, group)| group).collect();
            withheld.total = !found.rows.is_empty();
        }
    }
    withheld
}

/// Students of the whole district by school and grade.
pub(in crate::routes) struct Table {
    cells: suppress::Withheld<SchoolId, Option<Arc<str>>>,
    schools: BTreeSet<SchoolId>,
}

impl Table {
    pub fn of(store: &Store, asked: &Asked) -> Self {
        let everywhere = Asked { schools: asked.directory.roster.schools.keys().copied().collect(), ..asked.clone() };
        let reader = Reader::new(store.clone(), everywhere);
        let mut counts: BTreeMap<(SchoolId, Option<Arc<str>>), u64> = BTreeMap::new();
        for (school, dates) in reader.sessions() {
            let of_school = reader.members().fewest(school, &dates);
            counts.extend(of_school.into_iter().map(|(grade, n)| ((school, grade), n)));
        }
        let cells = suppress::withhold(&counts, N_MIN, Totals::RowsAndColumns);
        let mut by_school: BTreeMap<((), SchoolId), u64> = BTreeMap::new();
        for ((school, _), n) in counts {
            *by_school.entry(((), school)).or_default() += n;
        }
        let schools = suppress::withhold(&by_school, N_MIN, Totals::Rows).cells.into_iter().map(|(_, school)| school);
        let schools = schools.chain(cells.rows.iter().copied()).collect();
        Self { cells, schools }
    }

    /// Whether nothing is shown of a school.
    pub fn hides(&self, school: SchoolId) -> bool {
        self.schools.contains(&school)
    }
}
