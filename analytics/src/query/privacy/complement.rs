//! Which groups of a result are left out beside the small ones, so that no total gives one of them away.
//!
//! # What is promised
//! - A group of 1 to `group_min - 1` students is left out. So is one of nobody, which protects no other: it adds nothing to a total.
//! - A total is what groups that agree in some columns of the grouping, or in none, add up to: it could be asked for by itself. Where
//!   exactly one group of a total is left out, or several that are fewer than `group_min` students together, the smallest of the others
//!   is left out with them, small or not; and so on until there is no such total, or none that has another group.
//! - Columns that say nothing new do not protect: one value in all groups, or as many values in the same places as an earlier column,
//!   such as a name beside an id.
//! - Totals of few groups come first: only where those are safe, and the total over them is not, is that looked at. Of one kind all are
//!   looked at before any takes a group along, so that what is left out does not depend on the order of rows or columns.
//! - A group is left out once and looked at once in each of its totals, so the work grows with groups times totals, however long one
//!   group takes the next along.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray};
use arrow::datatypes::{DataType, Field, FieldRef, Float64Type};
use arrow::row::{RowConverter, Rows, SortField};
use datafusion::common::{DataFusionError, HashMap, Result};
use datafusion::logical_expr::expr::WindowFunction;
use datafusion::logical_expr::function::{PartitionEvaluatorArgs, WindowUDFFieldArgs};
use datafusion::logical_expr::{Expr, PartitionEvaluator, Signature, Volatility, WindowUDF, WindowUDFImpl};

/// Columns of a grouping of which all totals are looked at. Of more columns, those that fix one, all but one, or none.
const COLUMNS_MAX: usize = 4;

/// Most groups times totals of one result; each takes eight bytes.
const LOOKED_AT_MAX: usize = 16 * 1024 * 1024;

/// For each group of a result, whether it is shown: `persons` is its number of students, `keys` are the columns of the grouping.
pub fn shown(persons: Expr, keys: &[Expr], group_min: u32) -> Expr {
    let function = Arc::new(WindowUDF::new_from_impl(Shown { signature: Signature::variadic_any(Volatility::Immutable), group_min }));
    let args = std::iter::once(persons).chain(keys.iter().cloned()).collect();
    Expr::from(WindowFunction::new(function, args))
}

/// The window function over all groups of a result.
#[derive(PartialEq, Eq, Hash, Debug)]
struct Shown {
    signature: Signature,
    group_min: u32,
}

impl WindowUDFImpl for Shown {
    fn name(&self) -> &str {
        "group_is_shown"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn partition_evaluator(&self, _: PartitionEvaluatorArgs) -> Result<Box<dyn PartitionEvaluator>> {
        Ok(Box::new(Table { group_min: self.group_min }))
    }

    fn field(&self, args: WindowUDFFieldArgs) -> Result<FieldRef> {
        Ok(Arc::new(Field::new(args.name(), DataType::Boolean, false)))
    }
}

#[derive(Debug)]
struct Table {
    group_min: u32,
}

impl PartitionEvaluator for Table {
    fn evaluate_all(&mut self, values: &[ArrayRef], _: usize) -> Result<ArrayRef> {
        let persons: Vec<u64> = values[0].as_primitive::<Float64Type>().values().iter().map(|count| *count as u64).collect();
        let hidden = hidden(&persons, &values[1..], u64::from(self.group_min))?;
        Ok(Arc::new(hidden.into_iter().map(|hidden| Some(!hidden)).collect::<BooleanArray>()))
    }
}

/// Whether each group is left out.
fn hidden(persons: &[u64], keys: &[ArrayRef], group_min: u64) -> Result<Vec<bool>> {
    let mut hidden: Vec<bool> = persons.iter().map(|count| *count < group_min).collect();
    let order = order(persons, keys)?;
    let columns = telling(keys, &order)?;
    let fixed = fixed(columns.len());
    if persons.len().saturating_mul(fixed.len()) > LOOKED_AT_MAX {
        let message =
            format!("{} groups by {} columns are too many to be looked at for small ones; group by less", persons.len(), keys.len());
        return Err(DataFusionError::ResourcesExhausted(message));
    }
    let mut totals: Vec<Totals> = fixed.iter().map(|fixed| Totals::new(fixed, &columns, &order, (persons, group_min), &hidden)).collect();
    // Kinds of totals and totals to look at, by the number of columns that they fix.
    let mut waiting: Vec<Vec<(usize, u32)>> = vec![Vec::new(); columns.len()];
    for (kind, (totals, fixed)) in totals.iter().zip(&fixed).enumerate() {
        waiting[fixed.len()].extend(totals.given_away().map(|total| (kind, total)));
    }
    while let Some(finest) = waiting.iter_mut().rev().find(|waiting| !waiting.is_empty()) {
        let finest = std::mem::take(finest);
        let taken: Vec<u32> = finest.into_iter().filter_map(|(kind, total)| totals[kind].smallest_beside(total, &hidden)).collect();
        for group in taken {
            if std::mem::replace(&mut hidden[group as usize], true) {
                continue;
            }
            for (kind, totals) in totals.iter_mut().enumerate() {
                waiting[fixed[kind].len()].push((kind, totals.leave_out(group, persons)));
            }
        }
    }
    Ok(hidden)
}

/// The groups by students, then by keys.
fn order(persons: &[u64], keys: &[ArrayRef]) -> Result<Vec<u32>> {
    let rows = rows(keys)?;
    let mut order: Vec<u32> = (0..persons.len() as u32).collect();
    let key = |group: &u32| rows.as_ref().map(|rows| rows.row(*group as usize));
    order.sort_unstable_by(|one, other| persons[*one as usize].cmp(&persons[*other as usize]).then_with(|| key(one).cmp(&key(other))));
    Ok(order)
}

fn rows(keys: &[ArrayRef]) -> Result<Option<Rows>> {
    if keys.is_empty() {
        return Ok(None);
    }
    let converter = RowConverter::new(keys.iter().map(|key| SortField::new(key.data_type().clone())).collect())?;
    Ok(Some(converter.convert_columns(keys)?))
}

/// The columns of the grouping as numbers, equal for equal values, without those that say nothing new. Numbers are given in the order
/// of the groups, so that columns that say the same have the same ones.
fn telling(keys: &[ArrayRef], order: &[u32]) -> Result<Vec<Vec<u32>>> {
    let mut columns: Vec<Vec<u32>> = Vec::new();
    for key in keys {
        let Some(rows) = rows(std::slice::from_ref(key))? else { continue };
        let mut numbers = HashMap::new();
        let mut column = vec![0; order.len()];
        for group in order {
            let next = numbers.len() as u32;
            column[*group as usize] = *numbers.entry(rows.row(*group as usize)).or_insert(next);
        }
        if numbers.len() > 1 && !columns.contains(&column) {
            columns.push(column);
        }
    }
    Ok(columns)
}

/// Of each kind of total, the columns in which its groups agree. That of all columns is a group itself.
fn fixed(columns: usize) -> Vec<Vec<usize>> {
    if columns <= COLUMNS_MAX {
        return (0..(1_usize << columns).saturating_sub(1)).map(|set| (0..columns).filter(|at| set >> at & 1 == 1).collect()).collect();
    }
    let one = (0..columns).map(|at| vec![at]);
    let all_but_one = (0..columns).map(|left| (0..columns).filter(|at| *at != left).collect());
    one.chain(all_but_one).chain([Vec::new()]).collect()
}

/// The totals of one kind.
struct Totals {
    /// Of each group.
    total_of: Vec<u32>,
    /// The groups of all totals, total by total, in order; without those of nobody.
    groups: Vec<u32>,
    /// Of each total, the first of its groups that was not passed over yet, and where they end.
    rest: Vec<(u32, u32)>,
    /// Of each total, how many of its groups of somebody are left out, and the students of those.
    left_out: Vec<(u32, u64)>,
    group_min: u64,
}

impl Totals {
    fn new(fixed: &[usize], columns: &[Vec<u32>], order: &[u32], (persons, group_min): (&[u64], u64), hidden: &[bool]) -> Self {
        let mut total_of = vec![0; order.len()];
        let mut count = 1;
        for column in fixed {
            let mut numbers = HashMap::new();
            for group in order {
                let group = *group as usize;
                let next = numbers.len() as u32;
                total_of[group] = *numbers.entry((total_of[group], columns[*column][group])).or_insert(next);
            }
            count = numbers.len();
        }
        let mut sizes = vec![0_u32; count];
        let mut left_out = vec![(0, 0); count];
        let somebody = || order.iter().filter(|group| persons[**group as usize] > 0);
        for group in somebody() {
            let total = total_of[*group as usize] as usize;
            sizes[total] += 1;
            if hidden[*group as usize] {
                left_out[total] = (left_out[total].0 + 1, left_out[total].1 + persons[*group as usize]);
            }
        }
        let mut rest = Vec::with_capacity(count);
        let mut end = 0;
        for size in sizes {
            // The end moves on as the groups are put in.
            rest.push((end, end));
            end += size;
        }
        let mut groups = vec![0; end as usize];
        for group in somebody() {
            let (_, end) = &mut rest[total_of[*group as usize] as usize];
            groups[*end as usize] = *group;
            *end += 1;
        }
        Self { total_of, groups, rest, left_out, group_min }
    }

    /// Whether what is left out of a total is one group, or too few students: subtracting the others would tell of them.
    fn gives_away(&self, (groups, students): (u32, u64)) -> bool {
        groups == 1 || (groups > 1 && students < self.group_min)
    }

    fn given_away(&self) -> impl Iterator<Item = u32> {
        (0..).zip(&self.left_out).filter(|(_, left_out)| self.gives_away(**left_out)).map(|(total, _)| total)
    }

    /// The smallest group that is shown of a total that gives away what is left out of it.
    fn smallest_beside(&mut self, total: u32, hidden: &[bool]) -> Option<u32> {
        if !self.gives_away(self.left_out[total as usize]) {
            return None;
        }
        let (next, end) = &mut self.rest[total as usize];
        while next < end && hidden[self.groups[*next as usize] as usize] {
            *next += 1;
        }
        (next < end).then(|| self.groups[*next as usize])
    }

    /// Counts a group as left out and returns its total.
    fn leave_out(&mut self, group: u32, persons: &[u64]) -> u32 {
        let total = self.total_of[group as usize];
        let (groups, students) = &mut self.left_out[total as usize];
        *groups += 1;
        *students += persons[group as usize];
        total
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int64Array, StringArray};
    use proptest::prelude::*;

    use super::*;

    const MIN: u64 = 10;

    fn column(values: impl IntoIterator<Item = i64>) -> ArrayRef {
        Arc::new(Int64Array::from_iter_values(values))
    }

    /// A table of two dimensions, row by row; the cells that are left out, as `x`.
    fn cut(rows: &[&[u64]]) -> Vec<String> {
        let width = rows[0].len();
        let cells: Vec<u64> = rows.concat();
        let at = |of: fn(usize, usize) -> usize| column((0..cells.len()).map(|cell| of(cell, width) as i64));
        let hidden = hidden(&cells, &[at(|cell, width| cell / width), at(|cell, width| cell % width)], MIN).unwrap();
        hidden.chunks(width).map(|row| row.iter().map(|hidden| if *hidden { 'x' } else { '.' }).collect()).collect()
    }

    #[test]
    fn what_is_left_out_for_another_takes_others_along() {
        // 9 takes 13 of its row and 15 of its column; each of those is then alone in the other line and takes 16.
        assert_eq!(cut(&[&[9, 13, 14], &[15, 16, 17]]), ["xx.", "xx."]);
        // Two small ones in a row protect each other there, and take one each of their columns, which protect each other in turn.
        assert_eq!(cut(&[&[6, 7, 50], &[20, 30, 40]]), ["xx.", "xx."]);
        // Seven students together are too few: the rest of their row goes with them, and its column with that.
        assert_eq!(cut(&[&[3, 4, 50], &[20, 30, 40]]), ["xxx", "xxx"]);
        // A chain: every cell that is taken is alone in a next line.
        assert_eq!(cut(&[&[9, 20, 90], &[91, 21, 22], &[24, 92, 23]]), ["xx.", ".xx", "x.x"]);
        // Of nobody is no protection.
        assert_eq!(cut(&[&[9, 0, 20], &[30, 31, 32]]), ["xxx", "xxx"]);
        assert_eq!(cut(&[&[1, 2], &[3, 4]]), ["xx", "xx"]);
        assert_eq!(cut(&[&[10, 11], &[12, 13]]), ["..", ".."]);
    }

    #[test]
    fn one_dimension_hides_two_groups_and_ten_students_at_least() {
        let cases: [(&[u64], &[usize]); 7] = [
            (&[10, 11, 12, 13, 9], &[0, 4]),
            (&[3, 4, 50, 60], &[0, 1, 2]),
            (&[3, 4, 5, 60], &[0, 1, 2]),
            (&[20, 20, 5], &[0, 2]),
            (&[5], &[0]),
            (&[50], &[]),
            (&[], &[]),
        ];
        for (groups, left_out) in cases {
            let hidden = hidden(groups, &[column(0..groups.len() as i64)], MIN).unwrap();
            let found: Vec<usize> = (0..groups.len()).filter(|at| hidden[*at]).collect();
            assert_eq!(found, left_out, "{groups:?}");
        }
        assert_eq!(hidden(&[9], &[], MIN).unwrap(), [true], "a total alone");
    }

    #[test]
    fn a_plane_of_three_dimensions_gives_no_cell_away() {
        // One cell for each value of the third dimension at (0, 0): alone in both of its lines there, but not in its plane.
        let cells = [(0, 0, 0, 9), (0, 1, 1, 20), (1, 0, 1, 30), (1, 1, 0, 40)];
        let keys = [column(cells.map(|cell| cell.0)), column(cells.map(|cell| cell.1)), column(cells.map(|cell| cell.2))];
        // 9 takes 20 of its first plane, 30 of its second and 40 of its third.
        assert_eq!(hidden(&cells.map(|cell| cell.3), &keys, MIN).unwrap(), [true; 4]);
        let whole: Vec<u64> = (0..27).map(|cell| if cell == 13 { 5 } else { 20 + cell }).collect();
        let keys = [9, 3, 1].map(|step| column((0..27).map(|cell| cell / step % 3)));
        let hidden = hidden(&whole, &keys, MIN).unwrap();
        assert!(hidden[13] && hidden.iter().filter(|hidden| **hidden).count() < 27, "{hidden:?}");
        no_total_lacks_one(&whole, &keys, &hidden);
    }

    #[test]
    fn a_name_beside_an_id_and_a_constant_change_nothing() {
        let (persons, ids) = ([9, 12, 30, 40], column(0..4));
        let names: ArrayRef = Arc::new(StringArray::from(vec!["d", "c", "b", "a"]));
        let alone = hidden(&persons, std::slice::from_ref(&ids), MIN).unwrap();
        assert_eq!(alone, [true, true, false, false]);
        assert_eq!(hidden(&persons, &[column([7; 4]), names, ids], MIN).unwrap(), alone);
    }

    /// No total of any kind that is looked at lacks one group, or fewer students than make one, while it shows another.
    fn no_total_lacks_one(persons: &[u64], keys: &[ArrayRef], hidden: &[bool]) {
        let order = order(persons, keys).unwrap();
        let columns = telling(keys, &order).unwrap();
        for fixed in fixed(columns.len()) {
            let mut totals: std::collections::BTreeMap<Vec<u32>, (u32, u64, u32)> = std::collections::BTreeMap::new();
            for group in (0..persons.len()).filter(|group| persons[*group] > 0) {
                let total = totals.entry(fixed.iter().map(|at| columns[*at][group]).collect()).or_default();
                if hidden[group] { (total.0, total.1) = (total.0 + 1, total.1 + persons[group]) } else { total.2 += 1 }
            }
            for (total, (left_out, students, shown)) in totals {
                assert!(
                    left_out == 0 || (left_out > 1 && students >= MIN) || shown == 0,
                    "{fixed:?} {total:?} of {persons:?} by {columns:?}: {hidden:?}"
                );
            }
        }
    }

    proptest! {
        #[test]
        fn no_total_gives_a_group_away(persons in proptest::collection::vec(0..40_u64, 1..60), sizes in proptest::collection::vec(1..4_i64, 1..6)) {
            // Cells in a scattered order, not all of which are there.
            let mut step = 1;
            let keys: Vec<ArrayRef> = sizes.iter().map(|size| {
                let key = column((0..persons.len() as i64).map(|group| group * 7 % 61 / step % size));
                step *= size;
                key
            }).collect();
            let hidden = hidden(&persons, &keys, MIN).unwrap();
            prop_assert!(persons.iter().zip(&hidden).all(|(count, hidden)| *hidden || *count >= MIN));
            no_total_lacks_one(&persons, &keys, &hidden);
            // The columns in another order make no difference but for ties.
            let distinct: Vec<u64> = persons.iter().enumerate().map(|(at, count)| if *count < MIN { *count } else { count * 100 + at as u64 }).collect();
            let turned: Vec<ArrayRef> = keys.iter().rev().cloned().collect();
            prop_assert_eq!(super::hidden(&distinct, &keys, MIN).unwrap(), super::hidden(&distinct, &turned, MIN).unwrap());
        }
    }

    /// Each group takes the next along, one a round: work that grew with the square of the groups would not end within the test's time.
    #[test]
    fn a_hundred_thousand_groups_that_take_each_other_along_end_soon() {
        const GROUPS: i64 = 100_000;
        let (rows, columns) = (column((0..GROUPS).map(|cell| cell / 2)), column((0..GROUPS).map(|cell| (cell + 1) / 2)));
        let mut persons = vec![20; GROUPS as usize];
        persons[0] = 9;
        let hidden = hidden(&persons, &[rows, columns], MIN).unwrap();
        assert!(hidden.iter().all(|hidden| *hidden));
    }
}
