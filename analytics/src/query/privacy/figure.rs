//! One figure of one group, made of one contribution a student.
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

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{DataType, Float64Type};
use datafusion::common::{HashMap, Result, ScalarValue, exec_datafusion_err};
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{Accumulator, AggregateUDFImpl, Signature, Volatility};
use sha2::{Digest, Sha256};

use crate::query::caller::PrivacyKey;
use crate::query::ids::ID;

/// Contributions above the one of this rank are cut to it: fewer could still show a single outlier.
const UNIT_RANK: usize = 3;

/// Bytes of one student in a state: id, rows, total.
const ENTRY_BYTES: usize = 16 + 8 + 8;

#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// How many students: exactly, for suppression alone. Never shown.
    Exact,
    Persons,
    Rows,
    Sum,
    Average,
}

impl Kind {
    pub const ALL: [Self; 5] = [Self::Exact, Self::Persons, Self::Rows, Self::Sum, Self::Average];
}

/// The aggregate function `(person, value) -> Float64`.
#[derive(PartialEq, Eq, Hash, Debug)]
pub struct Figure {
    signature: Signature,
    kind: Kind,
    key: [u8; 32],
    group_min: u32,
}

impl Figure {
    pub fn new(kind: Kind, key: PrivacyKey, group_min: u32) -> Self {
        Self { signature: Signature::exact(vec![ID, DataType::Float64], Volatility::Immutable), kind, key: key.0, group_min }
    }
}

impl AggregateUDFImpl for Figure {
    fn name(&self) -> &str {
        match self.kind {
            Kind::Exact => "group_students",
            Kind::Persons => "group_count_students",
            Kind::Rows => "group_count",
            Kind::Sum => "group_sum",
            Kind::Average => "group_avg",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(Group { kind: self.kind, key: self.key, group_min: self.group_min, students: HashMap::new() }))
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<arrow::datatypes::FieldRef>> {
        let name = format!("{}[students]", args.name);
        Ok(vec![std::sync::Arc::new(arrow::datatypes::Field::new(name, DataType::Binary, true))])
    }
}

/// What one student contributes.
#[derive(Clone, Copy, Default, Debug)]
struct Contribution {
    rows: u64,
    total: f64,
}

impl Contribution {
    fn add(&mut self, other: Self) {
        self.rows += other.rows;
        self.total += other.total;
    }
}

#[derive(Debug)]
struct Group {
    kind: Kind,
    key: [u8; 32],
    group_min: u32,
    /// By the bytes of the id as a number, big-endian.
    students: HashMap<u128, Contribution>,
}

impl Group {
    fn add(&mut self, student: u128, added: Contribution) {
        self.students.entry(student).or_default().add(added);
    }

    fn figure(&self) -> Option<f64> {
        if self.kind == Kind::Exact {
            return Some(self.students.len() as f64);
        }
        if self.students.len() < self.group_min as usize {
            return None;
        }
        let rows = || self.students.values().map(|student| student.rows as f64).collect::<Vec<_>>();
        let totals = || self.students.values().map(|student| student.total).collect::<Vec<_>>();
        Some(match self.kind {
            Kind::Exact | Kind::Persons => (self.students.len() as f64 + self.noise(Kind::Persons)).round().max(0.0),
            Kind::Rows => self.blurred(rows(), Kind::Rows).round().max(0.0),
            Kind::Sum => self.blurred(totals(), Kind::Sum),
            Kind::Average => self.blurred(totals(), Kind::Sum) / self.blurred(rows(), Kind::Rows).max(1.0),
        })
    }

    /// The total of the cut contributions, with noise of their unit.
    fn blurred(&self, mut contributions: Vec<f64>, kind: Kind) -> f64 {
        // In order of size, so that the sum does not depend on the order in which rows came.
        contributions.sort_unstable_by(|one, other| other.abs().total_cmp(&one.abs()).then(other.total_cmp(one)));
        let unit = contributions.get(UNIT_RANK - 1).or(contributions.last()).copied().unwrap_or_default().abs();
        let total: f64 = contributions.iter().map(|value| value.clamp(-unit, unit)).sum();
        total + unit * self.noise(kind)
    }

    /// A Laplace variable of scale one, by who contributed what.
    fn noise(&self, kind: Kind) -> f64 {
        let mut drawn = [0_u8; 32];
        for (student, contribution) in &self.students {
            let said = match kind {
                Kind::Exact | Kind::Persons => String::new(),
                Kind::Rows => contribution.rows.to_string(),
                // Digits that the order of additions cannot change.
                Kind::Sum | Kind::Average => format!("{:.6e}", contribution.total),
            };
            let hash = Sha256::new().chain_update(self.key).chain_update(student.to_be_bytes()).chain_update(said).finalize();
            for (byte, hashed) in drawn.iter_mut().zip(hash) {
                *byte ^= hashed;
            }
        }
        let hash: [u8; 32] = Sha256::new().chain_update(self.key).chain_update([kind as u8]).chain_update(drawn).finalize().into();
        let bits = u64::from_be_bytes(hash[..8].try_into().expect("eight of thirty-two bytes"));
        // Between -1/2 and 1/2, never either.
        let uniform = ((bits >> 11) as f64 + 0.5) / (1_u64 << 53) as f64 - 0.5;
        -uniform.signum() * (1.0 - 2.0 * uniform.abs()).ln()
    }
}

impl Accumulator for Group {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let (students, values) = (values[0].as_fixed_size_binary(), values[1].as_primitive::<Float64Type>());
        // Rows of history stand device by device, so most belong to the student before.
        let mut run: Option<(u128, Contribution)> = None;
        for row in 0..students.len() {
            // Rows about nobody, and values that are not there, contribute nothing.
            if students.is_null(row) || values.is_null(row) || !values.value(row).is_finite() {
                continue;
            }
            let value = values.value(row);
            if self.kind == Kind::Rows && value == 0.0 {
                continue;
            }
            let student = u128::from_be_bytes(students.value(row).try_into().expect("an id is sixteen bytes wide"));
            let added = Contribution { rows: 1, total: value };
            match &mut run {
                Some((same, gathered)) if *same == student => gathered.add(added),
                _ => {
                    if let Some((before, gathered)) = run.replace((student, added)) {
                        self.add(before, gathered);
                    }
                }
            }
        }
        if let Some((last, gathered)) = run {
            self.add(last, gathered);
        }
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.figure()))
    }

    fn size(&self) -> usize {
        size_of_val(self) + self.students.capacity() * (ENTRY_BYTES + 1)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let mut state = Vec::with_capacity(self.students.len() * ENTRY_BYTES);
        // In order, so that the same rows give the same state wherever they are gathered.
        let mut students: Vec<_> = self.students.iter().collect();
        students.sort_unstable_by_key(|(student, _)| **student);
        for (student, contribution) in students {
            state.extend_from_slice(&student.to_be_bytes());
            state.extend_from_slice(&contribution.rows.to_le_bytes());
            state.extend_from_slice(&contribution.total.to_le_bytes());
        }
        Ok(vec![ScalarValue::Binary(Some(state))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for state in states[0].as_binary::<i32>().iter().flatten() {
            for entry in state.chunks(ENTRY_BYTES) {
                let part = |from: usize| entry.get(from..from + 8).and_then(|bytes| <[u8; 8]>::try_from(bytes).ok());
                let student = entry.get(..16).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
                let (Some(student), Some(rows), Some(total)) = (student, part(16), part(24)) else {
                    return Err(exec_datafusion_err!("the state of a figure is cut short"));
                };
                self.add(u128::from_be_bytes(student), Contribution { rows: u64::from_le_bytes(rows), total: f64::from_le_bytes(total) });
            }
        }
        Ok(())
    }
}
