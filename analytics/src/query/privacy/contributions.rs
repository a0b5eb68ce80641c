//! Who contributed what to which group: gathered row by row, carried between the steps of an aggregation.

use arrow::array::{Array, BinaryArray, BinaryBuilder, FixedSizeBinaryArray, Float64Array};
use datafusion::common::{HashMap, Result, exec_datafusion_err};
use datafusion::logical_expr::EmitTo;

/// The bytes of an id.
const ID_BYTES: usize = 16;
/// The bytes of a contribution in a state: rows, total.
const CONTRIBUTION_BYTES: usize = 16;

/// The most that one row contributes.
const MOST: f64 = 1e18;

/// What one student contributes to one figure.
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Contribution {
    pub rows: u64,
    pub total: f64,
}

impl Contribution {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.total += other.total;
    }

    /// What a run of rows contributes: nulls, and values that are not finite, are left out. No row contributes more than [`MOST`], so that no
    /// sum ends where numbers do.
    fn of(values: &Float64Array, from: usize, to: usize) -> Self {
        let run = &values.values()[from..to];
        if values.null_count() == 0 {
            let (mut total, mut most) = (0.0, 0.0_f64);
            for value in run {
                total += value;
                most = most.max(value.abs());
            }
            // A sum of which a part was not finite is not finite either.
            if total.is_finite() && most <= MOST {
                return Self { rows: run.len() as u64, total };
            }
        }
        let counted = run.iter().enumerate().filter(|(at, value)| values.is_valid(from + at) && value.is_finite());
        counted.fold(Self::default(), |sum, (_, value)| Self { rows: sum.rows + 1, total: sum.total + value.clamp(-MOST, MOST) })
    }
}

/// The students of one group.
#[derive(Default, Debug)]
struct Group {
    /// The number of a student in the group, by the bytes of the id as a number, big-endian.
    numbers: HashMap<u128, u32>,
    /// The students in the order of their numbers, which is that in which they came.
    students: Vec<u128>,
    /// Figure by figure of student after student.
    contributions: Vec<Contribution>,
    /// Number of the student who came last.
    last: usize,
}

impl Group {
    /// The number of a student, and whether the student became one of the group by this.
    fn number(&mut self, student: u128) -> (usize, bool) {
        // Files are in one order, and so are states: whoever followed a student once follows again.
        let (next, before) = (self.last + 1, self.students.len());
        self.last = match self.students.get(next) {
            Some(known) if *known == student => next,
            _ => {
                let number = *self.numbers.entry(student).or_insert(before as u32) as usize;
                if number == before {
                    self.students.push(student);
                }
                number
            }
        };
        (self.last, self.last == before)
    }
}

/// The contributions of every group.
#[derive(Debug)]
pub(super) struct Students {
    figures: usize,
    groups: Vec<Group>,
    /// Students of all groups; who is in two of them counts twice.
    count: usize,
}

impl Students {
    /// None yet, each with so many figures.
    pub fn new(figures: usize) -> Self {
        Self { figures, groups: Vec::new(), count: 0 }
    }

    /// Makes room for groups up to a number of them.
    pub fn grow(&mut self, groups: usize) {
        if groups > self.groups.len() {
            self.groups.resize_with(groups, Group::default);
        }
    }

    /// Adds rows to the groups that `group` tells of each. Rows about nobody contribute nothing.
    pub fn add_rows(&mut self, students: &FixedSizeBinaryArray, values: &[&Float64Array], group: impl Fn(usize) -> usize) {
        let (ids, _) = students.value_data().as_chunks::<ID_BYTES>();
        let mut from = 0;
        // Rows of history stand device by device, so most belong to the student before.
        while from < ids.len() {
            let (id, of) = (ids[from], group(from));
            let mut to = from + 1;
            while to < ids.len() && ids[to] == id && group(to) == of && students.is_valid(to) == students.is_valid(from) {
                to += 1;
            }
            if students.is_valid(from) {
                let contributions = self.of(of, u128::from_be_bytes(id));
                for (contribution, values) in contributions.iter_mut().zip(values) {
                    contribution.add(Contribution::of(values, from, to));
                }
            }
            from = to;
        }
    }

    /// Adds what [`Groups::encode`] wrote of a group.
    pub fn add_encoded(&mut self, group: usize, state: &[u8]) -> Result<()> {
        let entry_bytes = ID_BYTES + self.figures * CONTRIBUTION_BYTES;
        if !state.len().is_multiple_of(entry_bytes) {
            return Err(exec_datafusion_err!("the state of a figure is cut short"));
        }
        for entry in state.chunks_exact(entry_bytes) {
            let Some((id, parts)) = entry.split_first_chunk::<ID_BYTES>() else { continue };
            let contributions = self.of(group, u128::from_be_bytes(*id));
            for (contribution, part) in contributions.iter_mut().zip(parts.as_chunks::<CONTRIBUTION_BYTES>().0) {
                let both = u128::from_le_bytes(*part);
                contribution.add(Contribution { rows: both as u64, total: f64::from_bits((both >> u64::BITS) as u64) });
            }
        }
        Ok(())
    }

    /// A student's contributions to a group.
    fn of(&mut self, group: usize, student: u128) -> &mut [Contribution] {
        let group = &mut self.groups[group];
        let (number, is_new) = group.number(student);
        if is_new {
            group.contributions.resize(group.students.len() * self.figures, Contribution::default());
            self.count += 1;
        }
        &mut group.contributions[number * self.figures..][..self.figures]
    }

    /// Takes groups out; those that stay move to the front.
    pub fn take(&mut self, emit_to: EmitTo) -> Groups {
        let groups = emit_to.take_needed(&mut self.groups);
        self.count -= groups.iter().map(|group| group.students.len()).sum::<usize>();
        Groups { figures: self.figures, groups }
    }

    /// Bytes, of which half may be room to grow.
    pub fn size(&self) -> usize {
        let student = size_of::<(u128, u32)>() + 1 + size_of::<u128>() + self.figures * size_of::<Contribution>();
        size_of_val(self) + self.groups.capacity() * size_of::<Group>() + 2 * self.count * student
    }
}

/// Groups that are complete.
pub(super) struct Groups {
    figures: usize,
    groups: Vec<Group>,
}

impl Groups {
    pub fn len(&self) -> usize {
        self.groups.len()
    }

    /// The students of a group.
    pub fn all(&self, group: usize) -> impl Iterator<Item = u128> + Clone {
        self.groups[group].students.iter().copied()
    }

    /// Who contributed to a figure of a group, and what.
    pub fn of(&self, group: usize, figure: usize) -> impl Iterator<Item = (u128, Contribution)> + Clone {
        let Group { students, contributions, .. } = &self.groups[group];
        let all = students.iter().copied().zip(contributions.iter().skip(figure).step_by(self.figures).copied());
        all.filter(|(_, contribution)| contribution.rows > 0)
    }

    /// A state for each group.
    pub fn encode(&self) -> BinaryArray {
        let mut states = BinaryBuilder::new();
        for Group { students, contributions, .. } in &self.groups {
            // In order, so that the same rows give the same state wherever they are gathered.
            let mut order: Vec<usize> = (0..students.len()).collect();
            order.sort_unstable_by_key(|number| students[*number]);
            let mut state = Vec::with_capacity(students.len() * (ID_BYTES + self.figures * CONTRIBUTION_BYTES));
            for number in order {
                state.extend_from_slice(&students[number].to_be_bytes());
                for Contribution { rows, total } in &contributions[number * self.figures..][..self.figures] {
                    state.extend_from_slice(&rows.to_le_bytes());
                    state.extend_from_slice(&total.to_le_bytes());
                }
            }
            states.append_value(state);
        }
        states.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(ids: &[Option<u8>]) -> FixedSizeBinaryArray {
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().map(|id| id.map(|id| [id; ID_BYTES])), ID_BYTES as i32).unwrap()
    }

    fn told(groups: &Groups, group: usize, figure: usize) -> Vec<(u8, u64, f64)> {
        let mut told: Vec<_> = groups.of(group, figure).map(|(id, given)| (id as u8, given.rows, given.total)).collect();
        told.sort_by_key(|(id, ..)| *id);
        told
    }

    #[test]
    fn runs_nulls_and_values_that_are_no_numbers_add_up_by_student_and_group() {
        let students = ids(&[Some(9), Some(1), Some(1), None, Some(1), Some(2), Some(1), Some(0), None]).slice(1, 8);
        let ones = Float64Array::from(vec![1.0; 8]);
        let values = [Some(1.0), Some(2.0), Some(99.0), Some(f64::INFINITY), Some(8.0), None, Some(f64::NAN), Some(1.0)];
        let values = Float64Array::from_iter(values);
        let mut all = Students::new(2);
        all.grow(2);
        all.add_rows(&students, &[&ones, &values], |row| usize::from(row == 5));
        let of = all.take(EmitTo::All);
        // A student without a value did not contribute to the figure of it.
        assert_eq!(told(&of, 0, 0), [(0, 1, 1.0), (1, 3, 3.0), (2, 1, 1.0)]);
        assert_eq!(told(&of, 0, 1), [(1, 2, 3.0), (2, 1, 8.0)]);
        assert_eq!(told(&of, 1, 0), [(1, 1, 1.0)]);
        assert_eq!(told(&of, 1, 1), []);
    }

    #[test]
    fn states_add_up_to_what_one_step_gathers_and_a_cut_one_is_refused() {
        let (first, second) = (ids(&[Some(1), Some(2), Some(2)]), ids(&[Some(2), Some(3), None]));
        let values = Float64Array::from(vec![0.5, 1.5, 2.5]);
        let mut merged = Students::new(1);
        merged.grow(3);
        for rows in [&first, &second] {
            let mut part = Students::new(1);
            part.grow(2);
            part.add_rows(rows, &[&values], |row| row % 2);
            let states = part.take(EmitTo::All).encode();
            for group in 0..2 {
                // The groups have other numbers in the next step.
                merged.add_encoded(group + 1, states.value(group)).unwrap();
            }
            assert!(merged.add_encoded(0, &states.value(0)[1..]).is_err());
        }
        assert_eq!(told(&merged.take(EmitTo::First(2)), 1, 0), [(1, 1, 0.5), (2, 2, 3.0)]);
        assert_eq!(told(&merged.take(EmitTo::All), 0, 0), [(2, 1, 1.5), (3, 1, 1.5)]);
        assert_eq!(merged.size(), size_of_val(&merged) + merged.groups.capacity() * size_of::<Group>());
    }
}
