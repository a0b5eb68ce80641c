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
//! exactly `group_min` that is shown, which happens once in a hundred times. Figures of nearly the same students are the same one
//! ([`super::given`]), so that it says nothing either whether two are equal.
//! The sparse vector technique: Dwork and Roth, The Algorithmic Foundations of Differential Privacy, 3.6.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Fields};
use datafusion::common::{Result, exec_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, GroupsAccumulator, Signature, Volatility};

use super::contributions::Contribution;
use super::gathered::Gathered;
use super::given::{Evidence, Given};
use super::noise::{Drawn, Hash, Noise, TOTAL, WANTED};
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

/// What a student contributes at least, or it is nothing: a small part of the least unit.
const LEAST: f64 = 1e-12;

/// A group of so many is shown whatever is drawn.
const LARGE: usize = STUDENTS_KEPT;

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

/// What is remembered of groups, beside the kinds of figures: how many students they have, and their noise.
const GROUP_SIZE: u64 = 1 << 61;
const GROUP_NOISE: u64 = 1 << 62;

/// Name of the figure of the value at a place, from none.
pub fn field_name(place: usize) -> String {
    format!("f{place}")
}

/// Name of the number of students, with noise and careful, for suppression alone: a group of fewer than `group_min` is not shown.
pub const STUDENTS: &str = "students";

/// The aggregate function `(person, day, value, …) -> Struct<students: Float64, f0: Float64, …>`: how many students there are, and a figure of
/// each value, in the order of the kinds.
///
/// The day is a `Date32` where a grouping or a condition says when the rows of a group are of, else null. Values are floating-point numbers; one of another type is of a column whose values are counted. A value that is null, or not finite,
/// contributes nothing. All figures of an aggregate are gathered together, since finding
/// a row's student costs more than adding what the row says.
#[derive(Debug)]
pub struct Figures {
    signature: Signature,
    told: Told,
}

impl Figures {
    pub fn new(kinds: Vec<Kind>, told: Told) -> Self {
        Self { signature: Signature::user_defined(Volatility::Immutable), told: Told { kinds, ..told } }
    }
}

impl PartialEq for Figures {
    fn eq(&self, other: &Self) -> bool {
        self.told.said() == other.told.said()
    }
}

impl Eq for Figures {}

impl std::hash::Hash for Figures {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.told.said().hash(state);
    }
}

/// Arguments before the values.
pub(super) const BEFORE_VALUES: usize = 2;

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
            [person, DataType::Date32, ..] if *person == ID => Ok(types.to_vec()),
            _ => exec_err!("a figure is made of a person, a day and values"),
        }
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        Ok(DataType::Struct(fields(types.len().saturating_sub(BEFORE_VALUES))))
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        let mut gathered = Gathered::new(self.told.clone(), &args)?;
        gathered.grow(1);
        Ok(Box::new(gathered))
    }

    fn groups_accumulator_supported(&self, _: AccumulatorArgs) -> bool {
        true
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        Ok(Box::new(Gathered::new(self.told.clone(), &args)?))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        let field = |what: &str, data_type| Arc::new(Field::new(format!("{}[{what}]", args.name), data_type, true));
        Ok(vec![field("students", DataType::Binary), field("values", DataType::Binary), field("day", DataType::Date32)])
    }
}

/// How contributions become figures.
#[derive(Clone, Debug)]
pub struct Told {
    pub(super) kinds: Vec<Kind>,
    key: [u8; 32],
    group_min: usize,
    given: Arc<Given>,
}

impl Told {
    pub fn new(key: PrivacyKey, group_min: u32, given: Arc<Given>) -> Self {
        Self { kinds: Vec::new(), key: key.0, group_min: group_min as usize, given }
    }

    pub(super) fn key(&self) -> &[u8; 32] {
        &self.key
    }

    /// By what two of them differ.
    fn said(&self) -> (&[Kind], &[u8; 32], usize) {
        (&self.kinds, &self.key, self.group_min)
    }

    /// How many students suppression may believe in: 0 of nobody, else at least 1, and fewer than `group_min` when there are.
    pub(super) fn careful(&self, students: impl Iterator<Item = u128>) -> f64 {
        let (mut evidence, mut drawn) = (Evidence::default(), Drawn::new(&self.key, None));
        for student in students {
            let hash = drawn.hash(student, b"");
            evidence.add(&hash);
            drawn.mix(&hash);
        }
        let count = evidence.students();
        if count == 0 {
            return 0.0;
        }
        let (mut told, mut noise) = (count as f64, drawn.noise(Kind::Persons).laplace(TOTAL));
        if count >= self.group_min {
            // Nearly the same students draw the same, and one more or less of them counts like those who were asked for first, so that neither says
            // who is among them. Otherwise their number is their own: no group of ten is shown because a larger one was.
            let known = self.once(GROUP_SIZE, evidence.clone(), Some(told)).unwrap_or(told);
            told = if (known - told).abs() <= 1.0 { known } else { told };
            noise = self.once(GROUP_NOISE, evidence, Some(noise)).unwrap_or(noise);
        }
        let careful = (told + noise - MARGIN).round().max(1.0);
        if count < self.group_min { careful.min(self.group_min as f64 - 1.0) } else { careful }
    }

    /// The figure, or the one that was given of nearly the same evidence.
    pub(super) fn once(&self, about: u64, evidence: Evidence, figure: Option<f64>) -> Option<f64> {
        self.given.told(about, self.group_min as u64, evidence, figure)
    }

    /// The figure of those who contributed, to rows of a day if one is said; `None`: they are too few.
    pub(super) fn figure(&self, kind: Kind, day: Option<i32>, students: impl Iterator<Item = (u128, Contribution)>) -> Option<f64> {
        let mut students: Vec<_> = students.collect();
        // In an order that neither files nor threads change.
        students.sort_unstable_by_key(|(student, _)| *student);
        let rows = |students: &[(u128, Contribution)]| self.blurred(students, Kind::Rows, day, |student| student.rows as f64);
        let told = |kind: Kind, (evidence, figure): (Evidence, f64)| self.once(kind as u64, evidence, Some(figure));
        match kind {
            Kind::Persons => {
                self.enough(students.iter().map(|(student, _)| *student))?;
                let (mut evidence, mut drawn) = (Evidence::default(), Drawn::new(&self.key, day));
                for (student, _) in &students {
                    let hash = drawn.hash(*student, b"");
                    evidence.add(&hash);
                    drawn.mix(&hash);
                }
                let figure = (students.len() as f64 + drawn.noise(Kind::Persons).laplace(TOTAL)).round().max(0.0);
                self.once(Kind::Persons as u64, evidence, Some(figure))
            }
            // Everybody who contributed did so by a row at least.
            Kind::Rows => told(kind, rows(&students)?).map(|rows| rows.round().max(0.0)),
            Kind::Sum => told(kind, self.total(students, day)?),
            // Made of the students of each value, see `values`.
            Kind::Values => None,
            Kind::Average => {
                let (of_rows, rows) = rows(&students)?;
                let (of_total, total) = self.total(students, day)?;
                // Remembered as a whole: rows and totals that were told at other times have no quotient. Averages of nearly the same totals over
                // other rows are others.
                let over = self.given.known_as(Kind::Rows as u64, self.group_min as u64, of_rows);
                self.once(kind as u64 ^ over << 8, of_total, Some(total / rows.max(1.0)))
            }
        }
    }

    /// How many values of those who have one enough of them have; `None`: they are too few.
    pub(super) fn values(&self, students: impl Iterator<Item = u128> + Clone, values: &OfGroup) -> Option<f64> {
        self.enough(students)?;
        // So many that no draw hides them; where even they could be too few, none are told of.
        let are_many_enough = self.are_many_enough();
        let is_shown = |who: &&Who| match who {
            Who::Many => are_many_enough,
            Who::Few(students) => self.enough(students.iter().copied()).is_some(),
        };
        Some(values.values().filter(is_shown).count() as f64)
    }

    fn total(&self, mut students: Vec<(u128, Contribution)>, day: Option<i32>) -> Option<(Evidence, f64)> {
        // What is too little for a unit is nothing.
        students.retain(|(_, contribution)| contribution.total.abs() >= LEAST);
        self.blurred(&students, Kind::Sum, day, |student| student.total)
    }

    fn are_many_enough(&self) -> bool {
        self.group_min as f64 + MARGIN + NOISE_MAX <= LARGE as f64
    }

    /// Nothing, unless so many students may be told of.
    fn enough(&self, students: impl Iterator<Item = u128> + Clone) -> Option<()> {
        let are_many = self.are_many_enough() && students.clone().nth(LARGE - 1).is_some();
        (are_many || self.careful(students) >= self.group_min as f64).then_some(())
    }

    /// The total of the cut contributions, with noise of their unit, and by whom it was made.
    fn blurred(
        &self,
        students: &[(u128, Contribution)],
        kind: Kind,
        day: Option<i32>,
        value: impl Fn(&Contribution) -> f64,
    ) -> Option<(Evidence, f64)> {
        self.enough(students.iter().map(|(student, _)| *student))?;
        let mut drawn = Drawn::new(&self.key, day);
        let hashes: Vec<Hash> = students.iter().map(|(student, _)| drawn.hash(*student, b"")).collect();
        let mut order = [None; 2];
        for (place, hash) in hashes.iter().enumerate() {
            let is_less = |other: Option<usize>| other.is_none_or(|other: usize| *hash < hashes[other]);
            if is_less(order[0]) {
                order = [Some(place), order[0]];
            } else if is_less(order[1]) {
                order[1] = Some(place);
            }
        }
        let chosen = value(&students[order[0]?].1);
        let to = [chosen, value(&students[order[1].or(order[0])?].1)];
        let mut evidence = Evidence::default();
        let mut relations = Vec::with_capacity(students.len());
        for ((student, contribution), hash) in students.iter().zip(&hashes) {
            let of = to.map(|to| rounded(value(contribution) / to));
            drawn.add(*student, &of[0].to_be_bytes());
            evidence.add(hash);
            evidence.relate(hash, to, of.map(f64::to_bits));
            relations.push(of[0].abs());
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
        Some((evidence, (told / step).round() * step))
    }
}

/// Thirty binary digits of a number: more than the order of additions changes, but for one number in a million.
pub(super) fn rounded(number: f64) -> f64 {
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
