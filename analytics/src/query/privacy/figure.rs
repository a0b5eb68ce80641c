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

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::contributions::Contribution;
use super::gathered::Gathered;
use super::noise::{Drawn, Noise, TOTAL, WANTED};
use super::values::{OfGroup, STUDENTS_KEPT, Who};
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

/// Further than this no draw goes: a Laplace variable is made of 53 binary digits.
const NOISE_MAX: f64 = 37.0;

/// What is said of a group's contributions. The values are part of what noise is drawn from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    Persons = 1,
    Rows = 2,
    Sum = 3,
    Average = 4,
    /// How many values of a column enough students have.
    Values = 5,
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
/// Values are floating-point numbers; one of another type is of a column whose values are counted. A value that is null, or not finite,
/// contributes nothing. All figures of an aggregate are gathered together, since finding
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
pub(super) fn fields(figures: usize) -> Fields {
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
            [person, ..] if *person == ID => Ok(types.to_vec()),
            _ => exec_err!("a figure is made of a person and values"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(types.len().saturating_sub(1))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut gathered = Gathered::new(self.told(), &args)?;
        gathered.grow(1);
        Ok(Box::new(gathered))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Gathered::new(self.told(), &args)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        let field = |what: &str| Arc::new(Field::new(format!("{}[{what}]", args.name), DataType::Binary, true));
        Ok(vec![field("students"), field("values")])
    }
}

/// How contributions become figures.
#[derive(Clone, Debug)]
pub(super) struct Told {
    pub kinds: Vec<Kind>,
    key: [u8; 32],
    group_min: usize,
}

impl Told {
    /// How many students suppression may believe in: 0 of nobody, else at least 1, and fewer than `group_min` when there are.
    pub fn careful(&self, students: impl Iterator<Item = u128>) -> f64 {
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
    pub fn figure(&self, kind: Kind, students: impl Iterator<Item = (u128, Contribution)>) -> Option<f64> {
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
            // Made of the students of each value, see `values`.
            Kind::Values => None,
            Kind::Average => {
                let rows = rows(&students)?;
                Some(self.total(students)? / rows.max(1.0))
            }
        }
    }

    /// How many values of those who have one enough of them have; `None`: they are too few.
    pub fn values(&self, students: impl Iterator<Item = u128>, values: &OfGroup) -> Option<f64> {
        let drawn = |students: &mut dyn Iterator<Item = u128>| {
            let (mut count, mut drawn) = (0, Drawn::new(&self.key));
            students.for_each(|student| {
                count += 1;
                drawn.add(student, b"");
            });
            (count, drawn)
        };
        let (count, all) = drawn(&mut { students });
        self.enough(count, &all)?;
        // So many that no draw hides them; where even they could be too few, none are told of.
        let are_many_enough = self.group_min as f64 + MARGIN + NOISE_MAX <= STUDENTS_KEPT as f64;
        let is_shown = |who: &&Who| match who {
            Who::Many => are_many_enough,
            Who::Few(students) => {
                let (count, drawn) = drawn(&mut students.iter().copied());
                self.enough(count, &drawn).is_some()
            }
        };
        Some(values.values().filter(is_shown).count() as f64)
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
