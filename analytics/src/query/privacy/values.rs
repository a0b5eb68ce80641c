//! The students of each value of a column, group by group: what `count(distinct …)` of anything but students is made of.
//!
//! # What is given
//! How many values of a group enough students have. A value is counted when a grouping by it would show its group: by the same number of
//! students, with the same draw from the same set ([`super::figure`]). One that a few students have does not count, so the number tells
//! nothing that the grouping would not.
//!
//! # Bounds
//! A value keeps [`STUDENTS_KEPT`] students. That it has more is all that is needed then: no draw hides so many. Values are kept once,
//! however many groups have them, as the bytes by which Arrow compares rows; those are the same wherever rows are gathered, so that states
//! of workers add up.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray};
use arrow::datatypes::DataType;
use arrow::row::{RowConverter, SortField};
use datafusion::common::{DataFusionError, HashMap, Result, exec_datafusion_err};
use datafusion::logical_expr::EmitTo;

/// Students of one value that are kept. Noise is never beyond 37, see [`super::figure`].
pub(super) const STUDENTS_KEPT: usize = 64;

/// The bytes of an id.
const ID_BYTES: usize = 16;

/// In a state, the number of students of a value that has more than are kept.
const MANY: u32 = u32::MAX;

/// Whether the values of a type can be told apart here.
pub(super) fn can_be_counted(data_type: &DataType) -> bool {
    RowConverter::supports_fields(&[SortField::new(data_type.clone())])
}

/// The students of one value of one group.
#[derive(Debug, PartialEq)]
pub(super) enum Who {
    /// In order.
    Few(Vec<u128>),
    /// More than [`STUDENTS_KEPT`].
    Many,
}

/// The values of one group by their numbers.
pub(super) type OfGroup = HashMap<u32, Who>;

/// The values of one column in all groups.
#[derive(Debug)]
pub(super) struct Values {
    converter: RowConverter,
    numbers: HashMap<Arc<[u8]>, u32>,
    /// By number.
    values: Vec<Arc<[u8]>>,
    /// Of all values.
    bytes: usize,
    groups: Vec<OfGroup>,
    /// Values of all groups, and the students that are kept of them.
    held: usize,
    students: usize,
}

impl Values {
    /// None yet, of a type that [`can_be_counted`].
    pub fn new(data_type: &DataType) -> Result<Self> {
        let converter = RowConverter::new(vec![SortField::new(data_type.clone())])?;
        let (numbers, values, groups) = (HashMap::new(), Vec::new(), Vec::new());
        Ok(Self { converter, numbers, values, bytes: 0, groups, held: 0, students: 0 })
    }

    /// Makes room for groups up to a number of them.
    pub fn grow(&mut self, groups: usize) {
        if groups > self.groups.len() {
            self.groups.resize_with(groups, OfGroup::default);
        }
    }

    /// Adds rows to the groups that `group` tells of each. Null is no value, and rows about nobody have none.
    pub fn add_rows(&mut self, students: &FixedSizeBinaryArray, column: &ArrayRef, group: impl Fn(usize) -> usize) -> Result<()> {
        let rows = self.converter.convert_columns(std::slice::from_ref(column))?;
        let nulls = column.logical_nulls();
        let (ids, _) = students.value_data().as_chunks::<ID_BYTES>();
        let mut before = None;
        for (row, id) in ids.iter().enumerate() {
            if students.is_null(row) || nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
                continue;
            }
            let value = rows.row(row);
            let is_same =
                |(of, student, other): (usize, [u8; ID_BYTES], arrow::row::Row<'_>)| (of, student) == (group(row), *id) && other == value;
            // Rows of a student often stand together and say the same.
            if before.is_some_and(is_same) {
                continue;
            }
            before = Some((group(row), *id, value));
            let number = self.number(value.as_ref());
            self.add(group(row), number, u128::from_be_bytes(*id));
        }
        Ok(())
    }

    fn number(&mut self, value: &[u8]) -> u32 {
        if let Some(number) = self.numbers.get(value) {
            return *number;
        }
        let (number, value): (u32, Arc<[u8]>) = (self.values.len() as u32, value.into());
        self.bytes += value.len();
        self.values.push(Arc::clone(&value));
        self.numbers.insert(value, number);
        number
    }

    fn add(&mut self, group: usize, value: u32, student: u128) {
        let (held, students) = (&mut self.held, &mut self.students);
        let who = self.groups[group].entry(value).or_insert_with(|| {
            *held += 1;
            Who::Few(Vec::new())
        });
        let Who::Few(known) = who else { return };
        let Err(at) = known.binary_search(&student) else { return };
        if known.len() < STUDENTS_KEPT {
            known.insert(at, student);
            *students += 1;
        } else {
            *students -= known.len();
            *who = Who::Many;
        }
    }

    fn add_many(&mut self, group: usize, value: u32) {
        match self.groups[group].insert(value, Who::Many) {
            Some(Who::Few(known)) => self.students -= known.len(),
            Some(Who::Many) => {}
            None => self.held += 1,
        }
    }

    /// Takes groups out; those that stay move to the front.
    pub fn take(&mut self, emit_to: EmitTo) -> Vec<OfGroup> {
        let groups = emit_to.take_needed(&mut self.groups);
        for who in groups.iter().flat_map(OfGroup::values) {
            self.held -= 1;
            if let Who::Few(known) = who {
                self.students -= known.len();
            }
        }
        groups
    }

    /// Appends the values of a group that was taken: how many, and of each its length, its bytes, its students.
    pub fn encode(&self, group: &OfGroup, state: &mut Vec<u8>) {
        // In order, so that the same rows give the same state wherever they are gathered.
        let mut values: Vec<(&[u8], &Who)> = group.iter().map(|(number, who)| (self.values[*number as usize].as_ref(), who)).collect();
        values.sort_unstable_by_key(|(value, _)| *value);
        state.extend_from_slice(&(values.len() as u32).to_le_bytes());
        for (value, who) in values {
            state.extend_from_slice(&(value.len() as u32).to_le_bytes());
            state.extend_from_slice(value);
            match who {
                Who::Few(students) => {
                    state.extend_from_slice(&(students.len() as u32).to_le_bytes());
                    students.iter().for_each(|student| state.extend_from_slice(&student.to_be_bytes()));
                }
                Who::Many => state.extend_from_slice(&MANY.to_le_bytes()),
            }
        }
    }

    /// Adds what [`Values::encode`] wrote of a group, and leaves what follows it.
    pub fn add_encoded(&mut self, group: usize, state: &mut &[u8]) -> Result<()> {
        for _ in 0..number_of(state)? {
            let length = number_of(state)? as usize;
            let value = self.number(cut(state, length)?);
            match number_of(state)? {
                MANY => self.add_many(group, value),
                count => {
                    for _ in 0..count {
                        let (ids, _) = cut(state, ID_BYTES)?.as_chunks::<ID_BYTES>();
                        ids.iter().for_each(|id| self.add(group, value, u128::from_be_bytes(*id)));
                    }
                }
            }
        }
        Ok(())
    }

    /// Bytes, of which half may be room to grow.
    pub fn size(&self) -> usize {
        let value = size_of::<(Arc<[u8]>, u32)>() + 1 + size_of::<Arc<[u8]>>() + 2 * size_of::<usize>();
        let groups = self.groups.capacity() * size_of::<OfGroup>() + 2 * self.held * (size_of::<(u32, Who)>() + 1);
        size_of_val(self) + self.converter.size() + 2 * self.values.len() * value + self.bytes + groups + 2 * self.students * ID_BYTES
    }
}

fn cut<'a>(state: &mut &'a [u8], length: usize) -> Result<&'a [u8]> {
    let (part, rest) = state.split_at_checked(length).ok_or_else(cut_short)?;
    *state = rest;
    Ok(part)
}

fn number_of(state: &mut &[u8]) -> Result<u32> {
    let (number, rest) = state.split_first_chunk().ok_or_else(cut_short)?;
    *state = rest;
    Ok(u32::from_le_bytes(*number))
}

fn cut_short() -> DataFusionError {
    exec_datafusion_err!("the state of a figure is cut short")
}

#[cfg(test)]
mod tests {
    use arrow::array::StringArray;

    use super::*;

    fn ids(ids: impl IntoIterator<Item = Option<u8>>) -> FixedSizeBinaryArray {
        let ids = ids.into_iter().map(|id| id.map(|id| [id; ID_BYTES]));
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids, ID_BYTES as i32).unwrap()
    }

    fn texts(texts: &[Option<&str>]) -> ArrayRef {
        Arc::new(texts.iter().collect::<StringArray>())
    }

    /// How many students each value of a group has, by the value's number; of many one more than are kept.
    fn told(group: &OfGroup) -> Vec<(u32, usize)> {
        let count = |who: &Who| match who {
            Who::Few(students) => students.len(),
            Who::Many => STUDENTS_KEPT + 1,
        };
        let mut told: Vec<(u32, usize)> = group.iter().map(|(value, who)| (*value, count(who))).collect();
        told.sort_unstable();
        told
    }

    #[test]
    fn each_student_counts_once_for_a_value_and_null_is_none() {
        let mut values = Values::new(&DataType::Utf8).unwrap();
        values.grow(2);
        let students = ids([Some(1), Some(1), Some(2), None, Some(3), Some(1), Some(2)]);
        let said = texts(&[Some("a"), Some("a"), Some("a"), Some("a"), None, Some("b"), Some("b")]);
        values.add_rows(&students, &said, |row| usize::from(row == 6)).unwrap();
        let groups = values.take(EmitTo::All);
        assert_eq!((told(&groups[0]), told(&groups[1])), (vec![(0, 2), (1, 1)], vec![(1, 1)]));
        assert_eq!((values.held, values.students), (0, 0));
    }

    #[test]
    fn states_add_up_wherever_rows_were_gathered_and_a_cut_one_is_refused() {
        let (mut one, mut other) = (Values::new(&DataType::Utf8).unwrap(), Values::new(&DataType::Utf8).unwrap());
        one.grow(1);
        other.grow(2);
        one.add_rows(&ids([Some(1), Some(2)]), &texts(&[Some("a"), Some("b")]), |_| 0).unwrap();
        other.add_rows(&ids([Some(1), Some(3), Some(4)]), &texts(&[Some("b"), Some("b"), Some("a")]), |_| 1).unwrap();
        let mut sum = Values::new(&DataType::Utf8).unwrap();
        sum.grow(3);
        for part in [&mut one, &mut other] {
            for group in part.take(EmitTo::All) {
                let mut state = Vec::new();
                part.encode(&group, &mut state);
                sum.add_encoded(2, &mut state.as_slice()).unwrap();
                assert!(sum.add_encoded(0, &mut &state[..state.len() - 1]).is_err());
            }
        }
        assert_eq!(told(&sum.take(EmitTo::All)[2]), [(0, 2), (1, 3)]);
    }

    #[test]
    fn of_many_students_no_more_is_kept_than_that_they_are_many() {
        let mut values = Values::new(&DataType::Utf8).unwrap();
        values.grow(1);
        let before = values.size();
        let (students, said) = (ids((0..200).map(Some)), texts(&[Some("a"); 200]));
        values.add_rows(&students.slice(0, STUDENTS_KEPT), &said.slice(0, STUDENTS_KEPT), |_| 0).unwrap();
        assert!(values.size() >= before + STUDENTS_KEPT * ID_BYTES);
        values.add_rows(&students, &said, |_| 0).unwrap();
        assert!(values.size() < before + STUDENTS_KEPT * ID_BYTES, "{}", values.size());
        let groups = values.take(EmitTo::All);
        assert_eq!(groups[0][&0], Who::Many);
        let mut state = Vec::new();
        values.encode(&groups[0], &mut state);
        values.grow(1);
        values.add_rows(&students.slice(0, 3), &said.slice(0, 3), |_| 0).unwrap();
        values.add_encoded(0, &mut state.as_slice()).unwrap();
        assert_eq!((told(&values.take(EmitTo::All)[0]), values.held, values.students), (vec![(0, STUDENTS_KEPT + 1)], 0, 0));
    }
}
