//! The figures of one aggregate, made of one contribution a student and figure.
//!
//! # What is given
//! Each student's rows add up to one contribution. Contributions larger than the third largest count as that one; it is
//! the figure's unit (one, for a number of students). To the total is added noise: a Laplace variable of that scale,
//! drawn by a keyed hash from who contributed what. The same students with the same contributions get the same noise,
//! however the query is written, so asking again tells nothing new; another set, by even one student or value, gets
//! noise of its own.
//!
//! # What follows
//! One student more or less changes a total by at most its unit, which the noise hides: whatever is answered, it is at
//! most e times as likely with the student as without, for each such figure. Two figures that differ by one student
//! therefore do not give that student's value by subtraction.

use std::fmt::Write;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, Float64Array, StructArray};
use arrow::datatypes::{DataType, Field, Fields, Float64Type};
use datafusion::common::{Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, EmitTo, GroupsAccumulator, Signature, Volatility};
use sha2::{Digest, Sha256};

use super::contributions::{Contribution, Groups, Students};
use crate::query::caller::PrivacyKey;
use crate::query::ids::ID;

/// Contributions above the one of this rank are cut to it: fewer could still show a single outlier.
const UNIT_RANK: usize = 3;

/// What is said of a group's contributions. The values are part of what noise is drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Persons = 1,
    Rows = 2,
    Sum = 3,
    Average = 4,
}

/// Name of the figure of the value at a place, from none.
pub fn field_name(place: usize) -> String {
    format!("f{place}")
}

/// Name of the number of students: exact, for suppression alone, and never shown.
pub const STUDENTS: &str = "students";

/// The aggregate function `(person, value, …) -> Struct<students: Float64, f0: Float64, …>`: how many students there are, and a figure of
/// each value, in the order of the kinds.
///
/// A value that is null, or not finite, contributes nothing. All figures of an aggregate are gathered together, since finding
/// a row's student costs more than adding what the row says.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Figures {
    signature: Signature,
    kinds: Vec<Kind>,
    key: [u8; 32],
    group_min: u32,
}

impl Figures {
    pub fn new(kinds: Vec<Kind>, key: PrivacyKey, group_min: u32) -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), kinds, key: key.0, group_min }
    }

    fn told(&self) -> Told {
        Told { kinds: self.kinds.clone(), key: self.key, group_min: self.group_min as usize }
    }
}

/// The fields of a result with so many figures.
fn fields(figures: usize) -> Fields {
    let names = std::iter::once(STUDENTS.to_owned()).chain((0..figures).map(field_name));
    names.map(|name| Field::new(name, DataType::Float64, true)).collect()
}

impl AggregateUDFImpl for Figures {
    fn name(&self) -> &'static str {
        "group_figures"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        match types {
            [person, values @ ..] if *person == ID => Ok(std::iter::once(ID).chain(values.iter().map(|_| DataType::Float64)).collect()),
            _ => exec_err!("a figure is made of a person and values"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(types.len().saturating_sub(1))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut students = Students::new(figures_of(&args));
        students.grow(1);
        Ok(Box::new(Gathered { told: self.told(), students }))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Gathered { told: self.told(), students: Students::new(figures_of(&args)) }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        let name = format!("{}[students]", args.name);
        Ok(vec![Arc::new(Field::new(name, DataType::Binary, true))])
    }
}

fn figures_of(args: &AccumulatorArgs) -> usize {
    args.exprs.len().saturating_sub(1)
}

/// Who contributed what, and what may be told of it.
#[derive(Debug)]
struct Gathered {
    told: Told,
    students: Students,
}

impl Gathered {
    fn figures(&self, groups: &Groups) -> Result<StructArray> {
        let students = (0..groups.len()).map(|group| Some(groups.students(group) as f64)).collect::<Float64Array>();
        let figures = (0..self.students.figures()).map(|place| {
            let kind = self.told.kinds.get(place).copied();
            let figure = |group| kind.and_then(|kind| self.told.figure(kind, groups.of(group, place)));
            Arc::new((0..groups.len()).map(figure).collect::<Float64Array>()) as ArrayRef
        });
        let columns = std::iter::once(Arc::new(students) as ArrayRef).chain(figures).collect();
        Ok(StructArray::try_new_with_length(fields(self.students.figures()), columns, None, groups.len())?)
    }
}

impl GroupsAccumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        if filter.is_some() {
            return exec_err!("a condition on the rows of a figure is part of its values");
        }
        self.students.grow(total);
        let columns: Vec<&Float64Array> = values[1..].iter().map(|values| values.as_primitive::<Float64Type>()).collect();
        self.students.add_rows(values[0].as_fixed_size_binary(), &columns, |row| groups[row]);
        Ok(())
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        let groups = self.students.take(emit_to);
        Ok(Arc::new(self.figures(&groups)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        Ok(vec![Arc::new(self.students.take(emit_to).encode())])
    }

    /// A state for each row.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut rows = Self { told: self.told.clone(), students: Students::new(self.students.figures()) };
        let each: Vec<usize> = (0..values[0].len()).collect();
        GroupsAccumulator::update_batch(&mut rows, values, &each, filter, each.len())?;
        GroupsAccumulator::state(&mut rows, EmitTo::All)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.students.grow(total);
        for (state, group) in states[0].as_binary::<i32>().iter().zip(groups) {
            self.students.add_encoded(*group, state.unwrap_or_default())?;
        }
        Ok(())
    }

    fn size(&self) -> usize {
        self.students.size()
    }
}

/// The same without a grouping: all rows are one group.
impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let columns: Vec<&Float64Array> = values[1..].iter().map(|values| values.as_primitive::<Float64Type>()).collect();
        self.students.add_rows(values[0].as_fixed_size_binary(), &columns, |_| 0);
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let groups = self.students.take(EmitTo::All);
        Ok(ScalarValue::Struct(Arc::new(self.figures(&groups)?)))
    }

    fn size(&self) -> usize {
        self.students.size()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let state = self.students.take(EmitTo::All).encode();
        self.students.grow(1);
        Ok(vec![ScalarValue::Binary(Some(state.value(0).to_vec()))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            self.students.add_encoded(0, state)?;
        }
        Ok(())
    }
}

/// How contributions become figures.
#[derive(Clone, Debug)]
struct Told {
    kinds: Vec<Kind>,
    key: [u8; 32],
    group_min: usize,
}

impl Told {
    /// The figure of those who contributed; `None`: they are too few.
    fn figure(&self, kind: Kind, students: impl Iterator<Item = (u128, Contribution)>) -> Option<f64> {
        let students: Vec<_> = students.collect();
        if students.len() < self.group_min {
            return None;
        }
        let rows = || self.blurred(&students, Kind::Rows, |student| student.rows as f64);
        let total = || self.blurred(&students, Kind::Sum, |student| student.total);
        Some(match kind {
            Kind::Persons => (students.len() as f64 + self.noise(Kind::Persons, &students)).round().max(0.0),
            Kind::Rows => rows().round().max(0.0),
            Kind::Sum => total(),
            Kind::Average => total() / rows().max(1.0),
        })
    }

    /// The total of the cut contributions, with noise of their unit.
    fn blurred(&self, students: &[(u128, Contribution)], kind: Kind, value: impl Fn(&Contribution) -> f64) -> f64 {
        let mut contributions: Vec<f64> = students.iter().map(|(_, contribution)| value(contribution)).collect();
        // In order of size, so that the sum does not depend on the order in which rows came.
        contributions.sort_unstable_by(|one, other| other.abs().total_cmp(&one.abs()).then(other.total_cmp(one)));
        let unit = contributions.get(UNIT_RANK - 1).or(contributions.last()).copied().unwrap_or_default().abs();
        let total: f64 = contributions.iter().map(|value| value.clamp(-unit, unit)).sum();
        total + unit * self.noise(kind, students)
    }

    /// A Laplace variable of scale one, by who contributed what.
    fn noise(&self, kind: Kind, students: &[(u128, Contribution)]) -> f64 {
        let mut drawn = [0_u8; 32];
        let mut said = String::new();
        let keyed = Sha256::new().chain_update(self.key);
        for (student, contribution) in students {
            said.clear();
            let written = match kind {
                Kind::Persons => Ok(()),
                Kind::Rows => write!(said, "{}", contribution.rows),
                // Digits that the order of additions cannot change.
                Kind::Sum | Kind::Average => write!(said, "{:.6e}", contribution.total),
            };
            written.expect("a text takes whatever is written");
            let hash = keyed.clone().chain_update(student.to_be_bytes()).chain_update(&said).finalize();
            for (byte, hashed) in drawn.iter_mut().zip(hash) {
                *byte ^= hashed;
            }
        }
        let hash: [u8; 32] = keyed.chain_update([kind as u8]).chain_update(drawn).finalize().into();
        let bits = u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"));
        // Between -1/2 and 1/2, never either.
        let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64 - 0.5;
        -uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln()
    }
}
