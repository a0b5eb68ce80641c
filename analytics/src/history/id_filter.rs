//! Tests of ids on rows of files.
//!
//! Arrow compares ids of sixteen bytes as texts of any length. A test of an id looks at every row of the groups that the statistics
//! leave, so here they are compared as numbers of 128 bits. Whoever prunes files, row groups and pages, or sends the plan
//! elsewhere, takes a snapshot of the expression, which is the comparison as it was written.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::datatypes::{DataType, Schema};
use datafusion::common::{Result, internal_err};
use datafusion::logical_expr::ColumnarValue;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::utils::collect_columns;

use crate::hot::scan::IdTest;
use crate::query::ids::ID;

/// The bytes of an id.
const ID_BYTES: usize = 16;

/// `column = id` or `column IN (ids)`.
#[derive(Debug)]
pub(super) struct IdFilter {
    /// The comparison as it was written.
    written: Arc<dyn PhysicalExpr>,
    column: Column,
    /// In order.
    wanted: Vec<u128>,
}

impl IdFilter {
    /// The comparison `written`, which is what `test` says; itself, if it is not about one column.
    pub fn of(test: &IdTest, written: Arc<dyn PhysicalExpr>) -> Arc<dyn PhysicalExpr> {
        let mut wanted: Vec<u128> = test.wanted.iter().map(|id| u128::from_ne_bytes(*id)).collect();
        wanted.sort_unstable();
        match Self::about(&written) {
            Some(column) => Arc::new(Self { written, column, wanted }),
            None => written,
        }
    }

    fn about(written: &Arc<dyn PhysicalExpr>) -> Option<Column> {
        let mut columns = collect_columns(written).into_iter();
        columns.next().filter(|_| columns.len() == 0)
    }
}

impl fmt::Display for IdFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt(f)
    }
}

impl PartialEq for IdFilter {
    fn eq(&self, other: &Self) -> bool {
        self.written.eq(&other.written)
    }
}

impl Eq for IdFilter {}

impl Hash for IdFilter {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.written.hash(state);
    }
}

impl PhysicalExpr for IdFilter {
    fn data_type(&self, _: &Schema) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn nullable(&self, schema: &Schema) -> Result<bool> {
        self.column.nullable(schema)
    }

    fn evaluate(&self, rows: &RecordBatch) -> Result<ColumnarValue> {
        let ids = self.column.evaluate(rows)?.into_array(rows.num_rows())?;
        if *ids.data_type() != ID {
            return self.written.evaluate(rows);
        }
        let ids = ids.as_fixed_size_binary();
        let (values, _) = ids.value_data().as_chunks::<ID_BYTES>();
        let id = |row: usize| u128::from_ne_bytes(values[row]);
        let is_wanted = match self.wanted.as_slice() {
            [one] => BooleanBuffer::collect_bool(ids.len(), |row| id(row) == *one),
            several => BooleanBuffer::collect_bool(ids.len(), |row| several.binary_search(&id(row)).is_ok()),
        };
        Ok(ColumnarValue::Array(Arc::new(BooleanArray::new(is_wanted, ids.nulls().cloned()))))
    }

    fn children(&self) -> Vec<&Arc<dyn PhysicalExpr>> {
        vec![&self.written]
    }

    fn with_new_children(self: Arc<Self>, children: Vec<Arc<dyn PhysicalExpr>>) -> Result<Arc<dyn PhysicalExpr>> {
        let [written] = &children[..] else { return internal_err!("a test of ids has one child") };
        // Its column may stand elsewhere now.
        Ok(match Self::about(written) {
            Some(column) => Arc::new(Self { written: Arc::clone(written), column, wanted: self.wanted.clone() }),
            None => Arc::clone(written),
        })
    }

    fn fmt_sql(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.written.fmt_sql(f)
    }

    fn snapshot(&self) -> Result<Option<Arc<dyn PhysicalExpr>>> {
        Ok(Some(Arc::clone(&self.written)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow::array::{ArrayRef, FixedSizeBinaryArray, Int64Array};
    use arrow::datatypes::Field;
    use datafusion::common::ScalarValue;
    use datafusion::logical_expr::Operator;
    use datafusion::physical_expr::expressions::{binary, in_list, lit};
    use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;

    fn id(byte: u8) -> ScalarValue {
        ScalarValue::FixedSizeBinary(16, Some(vec![byte; ID_BYTES]))
    }

    fn rows() -> RecordBatch {
        let ids = [Some(1), Some(2), None, Some(0), Some(9), Some(1)].map(|id: Option<u8>| id.map(|id| [id; ID_BYTES]));
        let ids = FixedSizeBinaryArray::try_from_sparse_iter_with_size(ids.into_iter(), ID_BYTES as i32).unwrap();
        let schema = Schema::new(vec![Field::new("number", DataType::Int64, false), Field::new("person", ID, true)]);
        let columns: [ArrayRef; 2] = [Arc::new(Int64Array::from_iter_values(0..6)), Arc::new(ids)];
        RecordBatch::try_new(Arc::new(schema), columns.to_vec()).unwrap()
    }

    #[test]
    fn it_says_what_the_comparison_says_of_nulls_and_slices_too() {
        let rows = rows();
        let schema = rows.schema();
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new("person", 1));
        let one = binary(Arc::clone(&column), Operator::Eq, lit(id(1)), &schema).unwrap();
        let several = in_list(column, vec![lit(id(2)), lit(id(0)), lit(id(7))], &false, &schema).unwrap();
        for (written, wanted) in [(one, vec![[1; ID_BYTES]]), (several, vec![[0; ID_BYTES], [2; ID_BYTES], [7; ID_BYTES]])] {
            let filter = IdFilter::of(&IdTest { column: 1, wanted }, Arc::clone(&written));
            for rows in [rows.clone(), rows.slice(1, 4), rows.slice(2, 0)] {
                let said = |expr: &Arc<dyn PhysicalExpr>| expr.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap();
                assert_eq!(said(&filter).as_ref(), said(&written).as_ref(), "{written}");
            }
            assert_eq!(&snapshot_physical_expr(filter).unwrap(), &written);
        }
    }

    #[test]
    fn it_follows_its_column_to_another_place() {
        let rows = rows().project(&[1]).unwrap();
        let schema = rows.schema();
        let compare = |place| binary(Arc::new(Column::new("person", place)), Operator::Eq, lit(id(2)), &schema).unwrap();
        let schema_before = super::tests::rows().schema();
        let before = binary(Arc::new(Column::new("person", 1)), Operator::Eq, lit(id(2)), &schema_before).unwrap();
        let filter = IdFilter::of(&IdTest { column: 1, wanted: vec![[2; ID_BYTES]] }, before);
        let moved = filter.with_new_children(vec![compare(0)]).unwrap();
        let said = moved.evaluate(&rows).unwrap().into_array(rows.num_rows()).unwrap();
        let said: Vec<Option<bool>> = said.as_boolean().iter().collect();
        assert_eq!(said, [Some(false), Some(true), None, Some(false), Some(false), Some(false)]);
    }
}
