//! The accumulators of [`super::figure::Figures`]: rows and states in, figures or states out.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Float64Array, StructArray};
use arrow::datatypes::{DataType, Date32Type, Float64Type};
use datafusion::common::{HashMap, Result, ScalarValue, exec_err};
use datafusion::logical_expr::function::AccumulatorArgs;
use datafusion::logical_expr::{Accumulator, EmitTo, GroupsAccumulator};

use super::contributions::Students;
use super::figure::{BEFORE_VALUES, Told, fields};
use super::values::{OfGroup, Values};

/// Who contributed what, and what may be told of it.
#[derive(Debug)]
pub(super) struct Gathered {
    told: Told,
    /// Of each figure.
    types: Vec<DataType>,
    students: Students,
    /// Of each group, when its rows are of one day.
    days: Vec<Option<i32>>,
    /// Of the figures that count values, by their places.
    values: Vec<(usize, Values)>,
}

impl Gathered {
    pub fn new(told: Told, args: &AccumulatorArgs) -> Result<Self> {
        Self::of(told, args.expr_fields.iter().skip(BEFORE_VALUES).map(|field| field.data_type().clone()).collect())
    }

    fn of(told: Told, types: Vec<DataType>) -> Result<Self> {
        let counted = types.iter().enumerate().filter(|(_, data_type)| **data_type != DataType::Float64);
        let values = counted.map(|(place, data_type)| Ok((place, Values::new(data_type)?))).collect::<Result<_>>()?;
        Ok(Self { told, students: Students::new(types.len()), days: Vec::new(), types, values })
    }

    /// Makes room for groups up to a number of them.
    pub fn grow(&mut self, groups: usize) {
        self.students.grow(groups);
        self.days.resize(groups.max(self.days.len()), None);
        self.values.iter_mut().for_each(|(_, values)| values.grow(groups));
    }

    fn add(&mut self, values: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let students = values[0].as_fixed_size_binary();
        self.note_days(values[1].as_primitive::<Date32Type>(), &group);
        let values = &values[BEFORE_VALUES..];
        let columns: Vec<Float64Array> = values.iter().map(contributed).collect();
        self.students.add_rows(students, &columns.iter().collect::<Vec<_>>(), &group);
        for (place, counted) in &mut self.values {
            counted.add_rows(students, &values[*place], &group)?;
        }
        Ok(())
    }

    fn note_days(&mut self, days: &Date32Array, group: impl Fn(usize) -> usize) {
        if days.null_count() == days.len() {
            return;
        }
        for (row, day) in days.iter().enumerate() {
            // All rows of a group say the same.
            let known = &mut self.days[group(row)];
            *known = known.or(day);
        }
    }

    fn figures(&mut self, emit_to: EmitTo) -> Result<StructArray> {
        let groups = self.students.take(emit_to);
        let days = emit_to.take_needed(&mut self.days);
        let mut values: HashMap<usize, Vec<OfGroup>> =
            self.values.iter_mut().map(|(place, values)| (*place, values.take(emit_to))).collect();
        let students = (0..groups.len()).map(|group| Some(self.told.careful(groups.all(group)))).collect::<Float64Array>();
        let figures = (0..self.types.len()).map(|place| {
            let kind = self.told.kinds.get(place).copied();
            let counted = values.remove(&place);
            let figure = |group: usize| match &counted {
                Some(counted) => self.told.values(groups.of(group, place).map(|(student, _)| student), &counted[group]),
                None => self.told.figure(kind?, days[group], groups.of(group, place)),
            };
            Arc::new((0..groups.len()).map(figure).collect::<Float64Array>()) as ArrayRef
        });
        let columns = std::iter::once(Arc::new(students) as ArrayRef).chain(figures).collect();
        Ok(StructArray::try_new_with_length(fields(self.types.len()), columns, None, groups.len())?)
    }

    /// The columns of a state.
    fn states(&mut self, emit_to: EmitTo) -> (BinaryArray, BinaryArray, Date32Array) {
        let students = self.students.take(emit_to);
        let mut states = vec![Vec::new(); students.len()];
        for (_, values) in &mut self.values {
            let groups = values.take(emit_to);
            states.iter_mut().zip(&groups).for_each(|(state, group)| values.encode(group, state));
        }
        (students.encode(), BinaryArray::from_iter_values(states), emit_to.take_needed(&mut self.days).into())
    }

    fn merge(&mut self, states: &[ArrayRef], group: impl Fn(usize) -> usize) -> Result<()> {
        let (students, values) = (states[0].as_binary::<i32>(), states[1].as_binary::<i32>());
        self.note_days(states[2].as_primitive::<Date32Type>(), &group);
        for row in 0..students.len() {
            if students.is_null(row) || values.is_null(row) {
                continue;
            }
            self.students.add_encoded(group(row), students.value(row))?;
            let mut state = values.value(row);
            for (_, values) in &mut self.values {
                values.add_encoded(group(row), &mut state)?;
            }
        }
        Ok(())
    }

    fn bytes(&self) -> usize {
        let days = self.days.capacity() * size_of::<Option<i32>>();
        self.students.size() + days + self.values.iter().map(|(_, values)| values.size()).sum::<usize>()
    }
}

/// What a row contributes to a figure: a number, or that it has a value.
fn contributed(column: &ArrayRef) -> Float64Array {
    match column.as_primitive_opt::<Float64Type>() {
        Some(numbers) => numbers.clone(),
        None => Float64Array::new(vec![1.0; column.len()].into(), column.logical_nulls()),
    }
}

impl GroupsAccumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef], groups: &[usize], filter: Option<&BooleanArray>, total: usize) -> Result<()> {
        if filter.is_some() {
            return exec_err!("a condition on the rows of a figure is part of its values");
        }
        self.grow(total);
        self.add(values, |row| groups[row])
    }

    fn evaluate(&mut self, emit_to: EmitTo) -> Result<ArrayRef> {
        Ok(Arc::new(self.figures(emit_to)?))
    }

    fn state(&mut self, emit_to: EmitTo) -> Result<Vec<ArrayRef>> {
        let (students, values, days) = self.states(emit_to);
        Ok(vec![Arc::new(students), Arc::new(values), Arc::new(days)])
    }

    /// A state for each row.
    fn convert_to_state(&self, values: &[ArrayRef], filter: Option<&BooleanArray>) -> Result<Vec<ArrayRef>> {
        let mut rows = Self::of(self.told.clone(), self.types.clone())?;
        let each: Vec<usize> = (0..values[0].len()).collect();
        GroupsAccumulator::update_batch(&mut rows, values, &each, filter, each.len())?;
        GroupsAccumulator::state(&mut rows, EmitTo::All)
    }

    fn merge_batch(&mut self, states: &[ArrayRef], groups: &[usize], total: usize) -> Result<()> {
        self.grow(total);
        self.merge(states, |row| groups[row])
    }

    fn size(&self) -> usize {
        self.bytes()
    }
}

/// The same without a grouping: all rows are one group.
impl Accumulator for Gathered {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values, |_| 0)
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Struct(Arc::new(self.figures(EmitTo::All)?)))
    }

    fn size(&self) -> usize {
        self.bytes()
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        let (students, values, days) = self.states(EmitTo::All);
        self.grow(1);
        let binary = |states: &BinaryArray| ScalarValue::Binary(Some(states.value(0).to_vec()));
        Ok(vec![binary(&students), binary(&values), ScalarValue::Date32(days.iter().next().flatten())])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.merge(states, |_| 0)
    }
}
