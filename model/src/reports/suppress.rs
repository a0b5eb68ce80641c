//! Which cells of a table of counts are withheld from somebody who has no right to single students.
//!
//! A cell of 1 to `n_min - 1` people is withheld. Where the total of its row (or column) is shown too, further cells are
//! withheld with it, smallest first, until those withheld are at least two and at least `n_min` people together: else
//! the total less the cells shown would give the small one away. Where there are not enough cells for that, the total is
//! withheld. An empty cell tells of nobody and is never withheld.

use std::collections::{BTreeMap, BTreeSet};

/// Fewest people of a group that is shown.
pub const N_MIN: u64 = 10;

/// What is withheld of a table.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Withheld<R: Ord, C: Ord> {
    pub cells: BTreeSet<(R, C)>,
    /// Rows and columns whose totals are withheld.
    pub rows: BTreeSet<R>,
    pub columns: BTreeSet<C>,
}

/// Which totals of a table are shown, or could be asked for otherwise.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Totals {
    Rows,
    RowsAndColumns,
}

/// Decides what is withheld; a function of the counts alone, so that the same table is always cut in the same way.
pub fn withhold<R: Ord + Clone, C: Ord + Clone>(counts: &BTreeMap<(R, C), u64>, n_min: u64, totals: Totals) -> Withheld<R, C> {
    let small = counts.iter().filter(|(_, n)| (1..n_min).contains(*n)).map(|(key, _)| key.clone());
    let mut withheld = Withheld { cells: small.collect(), rows: BTreeSet::new(), columns: BTreeSet::new() };
    let rows: BTreeSet<R> = counts.keys().map(|(row, _)| row.clone()).collect();
    let columns: BTreeSet<C> = counts.keys().map(|(_, column)| column.clone()).collect();
    loop {
        let before = withheld.cells.len();
        for row in &rows {
            let line = || counts.iter().filter(move |((of, _), _)| of == row);
            if !cover(line, n_min, &mut withheld.cells) {
                withheld.rows.insert(row.clone());
            }
        }
        if totals == Totals::RowsAndColumns {
            for column in &columns {
                let line = || counts.iter().filter(move |((_, of), _)| of == column);
                if !cover(line, n_min, &mut withheld.cells) {
                    withheld.columns.insert(column.clone());
                }
            }
        }
        if withheld.cells.len() == before {
            return withheld;
        }
    }
}

/// Withholds more cells of a line until the withheld ones protect each other; false when there are not enough.
fn cover<'a, K: Ord + Clone + 'a, I: Iterator<Item = (&'a K, &'a u64)>>(line: impl Fn() -> I, n_min: u64, cells: &mut BTreeSet<K>) -> bool {
    loop {
        let hidden = || line().filter(|(key, n)| **n > 0 && cells.contains(key));
        let (count, people) = hidden().fold((0, 0), |(count, people), (_, n)| (count + 1, people + n));
        if count == 0 || (count >= 2 && people >= n_min) {
            return true;
        }
        let next = line().filter(|(key, n)| **n > 0 && !cells.contains(key)).min_by_key(|(key, n)| (**n, (*key).clone()));
        let Some((key, _)) = next else { return false };
        cells.insert(key.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn row(counts: &[u64]) -> BTreeMap<((), usize), u64> {
        counts.iter().enumerate().map(|(column, n)| (((), column), *n)).collect()
    }

    #[test]
    fn a_small_cell_takes_others_with_it() {
        let cases: [(&[u64], &[usize], bool); 7] = [
            (&[30, 40], &[], false),
            (&[0, 40], &[], false),
            (&[4, 30, 40], &[0, 1], false),
            (&[4, 3, 40, 50], &[0, 1, 2], false),
            (&[6, 7, 40], &[0, 1], false),
            (&[4], &[0], true),
            (&[4, 0], &[0], true),
        ];
        for (counts, columns, total) in cases {
            let withheld = withhold(&row(counts), N_MIN, Totals::Rows);
            assert_eq!(withheld.cells.iter().map(|(_, column)| *column).collect::<Vec<_>>(), columns, "{counts:?}");
            assert_eq!(!withheld.rows.is_empty(), total, "{counts:?}");
        }
    }

    proptest! {
        /// The attack by subtraction: a total that is shown, less the cells that are shown, is never a small group.
        #[test]
        fn totals_less_what_is_shown_give_no_small_group_away(counts in proptest::collection::vec(0..40u64, 1..25), width in 1..6usize) {
            let cells: BTreeMap<(usize, usize), u64> = counts.iter().enumerate().map(|(at, n)| ((at / width, at % width), *n)).collect();
            let withheld = withhold(&cells, N_MIN, Totals::RowsAndColumns);
            let rest = |line: Vec<(&(usize, usize), &u64)>| line.iter().filter(|(key, _)| withheld.cells.contains(key)).map(|(_, n)| **n).sum::<u64>();
            for (key, n) in &cells {
                prop_assert!(withheld.cells.contains(key) || *n == 0 || *n >= N_MIN);
                if !withheld.rows.contains(&key.0) {
                    let rest = rest(cells.iter().filter(|(other, _)| other.0 == key.0).collect());
                    prop_assert!(rest == 0 || rest >= N_MIN);
                }
                if !withheld.columns.contains(&key.1) {
                    let rest = rest(cells.iter().filter(|(other, _)| other.1 == key.1).collect());
                    prop_assert!(rest == 0 || rest >= N_MIN);
                }
            }
        }
    }
}
