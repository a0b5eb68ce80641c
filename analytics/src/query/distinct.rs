//! `count(distinct …)` of ids, which are sixteen bytes each.
//!
//! For a type that it has no set of its own for, DataFusion keeps one boxed scalar a value. An id is a number of 128 bits here, and a
//! set of those is four times as fast. Everything else about `count` is DataFusion's.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeBinaryArray, ListArray};
use arrow::buffer::{Buffer, OffsetBuffer};
use arrow::datatypes::{DataType, Field, FieldRef};
use datafusion::common::{HashSet, Result, ScalarValue};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, Documentation, GroupsAccumulator, ReversedUDAF, SetMonotonicity, Signature, StatisticsArgs,
};

use super::ids::ID;

/// The bytes of an id.
const ID_BYTES: usize = 16;

/// Puts the count that knows ids in the place of the one that does not.
pub fn register(registry: &mut dyn FunctionRegistry) -> Result<()> {
    let inner = registry.udaf("count")?;
    registry.register_udaf(Arc::new(AggregateUDF::new_from_impl(Count { inner })))?;
    Ok(())
}

#[derive(Debug)]
struct Count {
    inner: Arc<AggregateUDF>,
}

impl PartialEq for Count {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Count {}

impl Hash for Count {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl AggregateUDFImpl for Count {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn signature(&self) -> &Signature {
        self.inner.signature()
    }

    fn return_type(&self, types: &[DataType]) -> Result<DataType> {
        self.inner.return_type(types)
    }

    fn is_nullable(&self) -> bool {
        self.inner.is_nullable()
    }

    fn state_fields(&self, args: StateFieldsArgs) -> Result<Vec<FieldRef>> {
        self.inner.state_fields(args)
    }

    fn accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        match args.expr_fields {
            [field] if args.is_distinct && *field.data_type() == ID => Ok(Box::new(DistinctIds::default())),
            _ => self.inner.accumulator(args),
        }
    }

    fn groups_accumulator_supported(&self, args: AccumulatorArgs) -> bool {
        self.inner.groups_accumulator_supported(args)
    }

    fn create_groups_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn GroupsAccumulator>> {
        self.inner.create_groups_accumulator(args)
    }

    fn create_sliding_accumulator(&self, args: AccumulatorArgs) -> Result<Box<dyn Accumulator>> {
        self.inner.create_sliding_accumulator(args)
    }

    fn reverse_expr(&self) -> ReversedUDAF {
        self.inner.reverse_udf()
    }

    fn value_from_stats(&self, args: &StatisticsArgs) -> Option<ScalarValue> {
        self.inner.value_from_stats(args)
    }

    fn default_value(&self, data_type: &DataType) -> Result<ScalarValue> {
        self.inner.default_value(data_type)
    }

    fn set_monotonicity(&self, data_type: &DataType) -> SetMonotonicity {
        self.inner.inner().set_monotonicity(data_type)
    }

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }
}

/// The ids seen.
#[derive(Debug, Default)]
struct DistinctIds {
    seen: HashSet<u128>,
    /// The one before: ids often come in runs.
    last: Option<u128>,
}

impl DistinctIds {
    fn add(&mut self, ids: &FixedSizeBinaryArray) {
        let (values, _) = ids.value_data().as_chunks::<ID_BYTES>();
        for (row, id) in values.iter().enumerate().take(ids.len()) {
            let id = u128::from_ne_bytes(*id);
            if self.last != Some(id) && ids.is_valid(row) {
                self.seen.insert(id);
                self.last = Some(id);
            }
        }
    }
}

impl Accumulator for DistinctIds {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        self.add(values[0].as_fixed_size_binary());
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Int64(Some(self.seen.len() as i64)))
    }

    fn size(&self) -> usize {
        size_of::<Self>() + self.seen.capacity() * (ID_BYTES + 1)
    }

    /// One list of all ids.
    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        self.last = None;
        let bytes: Vec<u8> = self.seen.drain().flat_map(u128::to_ne_bytes).collect();
        let length = bytes.len() / ID_BYTES;
        let ids = FixedSizeBinaryArray::try_new_with_len(ID_BYTES as i32, Buffer::from_vec(bytes), None, length)?;
        let offsets = OffsetBuffer::from_lengths([length]);
        let list = ListArray::new(Arc::new(Field::new_list_field(ID, true)), offsets, Arc::new(ids), None);
        Ok(vec![ScalarValue::List(Arc::new(list))])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        for ids in states[0].as_list::<i32>().iter().flatten() {
            self.add(ids.as_fixed_size_binary());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn array(ids: &[Option<u8>]) -> FixedSizeBinaryArray {
        FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.iter().map(|id| id.map(|id| [id; ID_BYTES])), ID_BYTES as i32).unwrap()
    }

    #[test]
    fn null_is_no_id_slices_count_what_they_show_and_states_add_up() {
        let all = array(&[Some(1), Some(1), None, Some(0), Some(2), Some(1), None]);
        let mut first = DistinctIds::default();
        first.update_batch(&[Arc::new(all.slice(1, 3))]).unwrap();
        let mut second = DistinctIds::default();
        second.update_batch(&[Arc::new(all.slice(4, 3))]).unwrap();
        assert_eq!((first.seen.len(), second.seen.len()), (2, 2));
        let mut sum = DistinctIds::default();
        for part in [&mut first, &mut second, &mut DistinctIds::default()] {
            let state = part.state().unwrap().remove(0).to_array().unwrap();
            sum.merge_batch(&[state]).unwrap();
        }
        assert_eq!(sum.evaluate().unwrap(), ScalarValue::Int64(Some(3)));
    }
}
