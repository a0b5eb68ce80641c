//! The figures of one aggregate, made of one contribution a student and figure.
//!
//! # What is given
//! Each student's rows add up to one contribution. A group, and a figure in it, is given when it has at least `group_min` students,
//! and the number of them with noise is above that by a margin: that somebody makes it ten does not show. For sums only those
//! count who contribute something else than nothing.
//!
//! Contributions larger than the figure's unit are cut to it. It is what about a dozen students reach: of one student's contribution, whom the
//! key chooses, times powers of two from above, the first of which their number, with noise, is so large ("sparse vector"). To the
//! total is added noise of that scale. All noise is Laplace, drawn by a keyed hash from who contributed what in relation to that one
//! student. The same students with the same relations get the same noise, and a unit that grows as they do, however the query is written or
//! scaled: asking again tells nothing new. Another set, by even one student or relation, gets noise of its own.
//!
//! # What follows
//! One student more or less changes a total by at most its unit, which the noise hides: whatever is answered, it is at
//! most e times as likely with the student as without, for each such figure. Two figures that differ by one student
//! therefore do not give that student's value by subtraction. That a group is there at all is as uncertain, but for a group of
//! exactly `group_min` that is shown, which happens once in a hundred times.
//! The sparse vector technique: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 3.6.

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

/// About so many contributions reach the unit: those that a query makes large by itself do not fix it.
const UNIT_RANK: f64 = 12.0;

/// Powers of two between which a unit is.
const UNITS: std::ops::RangeInclusive<i32> = -20..=40;

/// Parts of a unit in which a figure is given.
const STEPS: f64 = 1_024.0;

/// By so many students a group with its noise is larger than the smallest that may be shown.
const MARGIN: f64 = 4.0;

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

/// Name of the number of students, with noise and careful, for suppression alone: a group of fewer than `group_min` is not shown.
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
        let students = (0..groups.len()).map(|group| Some(self.told.careful(groups.all(group)))).collect::<Float64Array>();
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
    /// How many students suppression may believe in: 0 of nobody, else at least 1, and fewer than `group_min` when there are.
    fn careful(&self, students: impl Iterator<Item = u128>) -> f64 {
        let (mut count, mut drawn) = (0, Drawn::new(&self.key));
        for student in students {
            count += 1;
            drawn.add(student, b"");
        }
        self.careful_count(count, &drawn)
    }

    fn careful_count(&self, count: usize, drawn: &Drawn) -> f64 {
        if count == 0 {
            return 0.0;
        }
        let careful = (count as f64 + drawn.noise(Kind::Persons).laplace(TOTAL) - MARGIN).round().max(1.0);
        if count < self.group_min { careful.min(self.group_min as f64 - 1.0) } else { careful }
    }

    /// The figure of those who contributed; `None`: they are too few.
    fn figure(&self, kind: Kind, students: impl Iterator<Item = (u128, Contribution)>) -> Option<f64> {
        let mut students: Vec<_> = students.collect();
        // In an order that neither files nor threads change.
        students.sort_unstable_by_key(|(student, _)| *student);
        let rows = |students: &[(u128, Contribution)]| self.blurred(students, Kind::Rows, |student| student.rows as f64);
        match kind {
            Kind::Persons => {
                let mut drawn = Drawn::new(&self.key);
                students.iter().for_each(|(student, _)| drawn.add(*student, b""));
                self.enough(students.len(), &drawn)?;
                Some((students.len() as f64 + drawn.noise(Kind::Persons).laplace(TOTAL)).round().max(0.0))
            }
            // Everybody who contributed did so by a row at least.
            Kind::Rows => rows(&students).map(|rows| rows.round().max(0.0)),
            Kind::Sum => self.total(students),
            Kind::Average => {
                let rows = rows(&students)?;
                Some(self.total(students)? / rows.max(1.0))
            }
        }
    }

    fn total(&self, mut students: Vec<(u128, Contribution)>) -> Option<f64> {
        students.retain(|(_, contribution)| contribution.total != 0.0);
        self.blurred(&students, Kind::Sum, |student| student.total)
    }

    /// Nothing, unless so many students may be told of.
    fn enough(&self, count: usize, drawn: &Drawn) -> Option<()> {
        (self.careful_count(count, drawn) >= self.group_min as f64).then_some(())
    }

    /// The total of the cut contributions, with noise of their unit.
    fn blurred(&self, students: &[(u128, Contribution)], kind: Kind, value: impl Fn(&Contribution) -> f64) -> Option<f64> {
        let (mut who, mut least) = (Drawn::new(&self.key), None);
        for (student, contribution) in students {
            let hash = who.hash(*student, b"");
            who.mix(&hash);
            least = least.filter(|(other, _)| *other <= hash).or(Some((hash, contribution)));
        }
        self.enough(students.len(), &who)?;
        let chosen = value(least?.1);
        let relation = |contribution: &Contribution| rounded(value(contribution) / chosen);
        let mut drawn = Drawn::new(&self.key);
        let mut relations = Vec::with_capacity(students.len());
        for (student, contribution) in students {
            let relation = relation(contribution);
            drawn.add(*student, &relation.to_be_bytes());
            relations.push(relation.abs());
        }
        let noise = drawn.noise(kind);
        relations.sort_unstable_by(|one, other| other.total_cmp(one));
        let unit = rounded(chosen.abs()) * unit(&relations, chosen.abs(), &noise);
        // In order of size, so that the sum does not depend on the order in which rows came.
        let mut cut: Vec<f64> = students.iter().map(|(_, contribution)| value(contribution)).collect();
        cut.sort_unstable_by(|one, other| other.abs().total_cmp(&one.abs()).then(other.total_cmp(one)));
        // Of the sign that all contributions turn with, or a sum and its opposite would take the noise from each other.
        let told = cut.iter().map(|value| value.clamp(-unit, unit)).sum::<f64>() + unit.copysign(chosen) * noise.laplace(TOTAL);
        // What is added to contributions in later digits than relations have draws no other noise, so it may not show.
        let step = unit / STEPS;
        Some((told / step).round() * step)
    }
}

/// Thirty binary digits of a number: more than the order of additions changes, but for one number in a million.
fn rounded(number: f64) -> f64 {
    const DROPPED: u32 = f64::MANTISSA_DIGITS - 30;
    f64::from_bits((number.to_bits() + (1 << (DROPPED - 1))) & !((1 << DROPPED) - 1))
}

/// The unit of contributions by their relations to the chosen one, the largest first; itself in relation to that.
fn unit(relations: &[f64], chosen: f64, noise: &Noise) -> f64 {
    let wanted = UNIT_RANK + noise.laplace(WANTED);
    let power = chosen.log2().floor() as i32;
    // Draws belong to the relation, so that scaling changes none.
    let (least, greatest) = (*UNITS.start() - power, *UNITS.end() - power);
    let reached = (least..=greatest).rev().find(|power| {
        let above = relations.partition_point(|relation| *relation > 2_f64.powi(*power)) as f64;
        above + noise.laplace(*power) >= wanted
    });
    2_f64.powi(reached.unwrap_or(least) + 1)
}

/// The draw for the number or total itself, and that for how many are wanted to reach a unit; powers of two are far from both.
const TOTAL: i32 = i32::MAX;
const WANTED: i32 = i32::MIN;

/// A keyed hash of a set, whatever the order of its members.
struct Drawn {
    keyed: Sha256,
    drawn: [u8; 32],
}

impl Drawn {
    fn new(key: &[u8; 32]) -> Self {
        Self { keyed: Sha256::new().chain_update(key), drawn: [0; 32] }
    }

    fn hash(&self, student: u128, said: &[u8]) -> [u8; 32] {
        self.keyed.clone().chain_update(student.to_be_bytes()).chain_update(said).finalize().into()
    }

    fn add(&mut self, student: u128, said: &[u8]) {
        self.mix(&self.hash(student, said));
    }

    fn mix(&mut self, hash: &[u8; 32]) {
        for (byte, hashed) in self.drawn.iter_mut().zip(hash) {
            *byte ^= hashed;
        }
    }

    fn noise(&self, kind: Kind) -> Noise {
        Noise(self.keyed.clone().chain_update([kind as u8]).chain_update(self.drawn))
    }
}

/// Laplace variables of scale one, each by a number.
struct Noise(Sha256);

impl Noise {
    fn laplace(&self, number: i32) -> f64 {
        let hash: [u8; 32] = self.0.clone().chain_update(number.to_be_bytes()).finalize().into();
        let bits = u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"));
        // Between -1/2 and 1/2, never either.
        let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64 - 0.5;
        -uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln()
    }
}
