//! Functions that make much of little, with a bound.
//!
//! The memory of a query is counted by its operators. What one function call makes of a number, a list of that length or a
//! text repeated as often, is counted by nobody and could take all there is. Functions that make lists of numbers are not
//! there (`generate_series` as a table is: it makes rows as they are taken); functions that make texts longer are bounded.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{ColumnarValue, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature};

/// Most bytes that one call makes, over the rows that it is called for.
const MADE_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Makers of lists, by a number that any text can name.
const LEFT_OUT: [&str; 4] = ["range", "generate_series", "array_repeat", "array_resize"];

const BOUNDED: [&str; 4] = ["repeat", "lpad", "rpad", "replace"];

/// Takes the unbounded functions out and puts bounds around the others.
pub fn bound(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for name in LEFT_OUT {
        registry.deregister_udf(name)?;
    }
    for name in BOUNDED {
        let inner = registry.udf(name)?;
        registry.register_udf(Arc::new(ScalarUDF::new_from_impl(Bounded { inner })))?;
    }
    Ok(())
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
}

impl PartialEq for Bounded {
    fn eq(&self, other: &Self) -> bool {
        self.inner == other.inner
    }
}

impl Eq for Bounded {}

impl Hash for Bounded {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.inner.hash(state);
    }
}

impl Bounded {
    /// The most bytes that a call can make.
    fn made(&self, args: &ScalarFunctionArgs) -> Result<u64> {
        let column = |place: usize, data_type: &DataType| match args.args.get(place) {
            Some(value) => Ok::<_, DataFusionError>(Some(cast(value.to_array(args.number_rows)?.as_ref(), data_type)?)),
            None => Ok(None),
        };
        let length = |place: usize| {
            let texts = column(place, &DataType::Utf8)?;
            Ok::<_, DataFusionError>(move |row: usize| {
                let known = texts.as_ref().filter(|texts| texts.is_valid(row));
                known.map_or(0, |texts| texts.as_string::<i32>().value(row).len() as u64)
            })
        };
        let text = length(0)?;
        let each: Box<dyn Fn(usize) -> u64> = if self.name() == "replace" {
            let (from, to) = (length(1)?, length(2)?);
            Box::new(move |row| text(row).saturating_add((text(row) / from(row).max(1)).saturating_mul(to(row))))
        } else {
            let numbers = column(1, &DataType::Int64)?;
            let number = move |row: usize| {
                let known = numbers.as_ref().filter(|numbers| numbers.is_valid(row));
                known.map_or(0, |numbers| u64::try_from(numbers.as_primitive::<Int64Type>().value(row)).unwrap_or(0))
            };
            // What fills a place is at most four bytes.
            let is_repeat = self.name() == "repeat";
            Box::new(move |row| number(row).saturating_mul(if is_repeat { text(row) } else { 4 }))
        };
        Ok((0..args.number_rows).fold(0_u64, |made, row| made.saturating_add(each(row))))
    }
}

impl ScalarUDFImpl for Bounded {
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

    fn return_field_from_args(&self, args: ReturnFieldArgs) -> Result<FieldRef> {
        self.inner.return_field_from_args(args)
    }

    fn coerce_types(&self, types: &[DataType]) -> Result<Vec<DataType>> {
        self.inner.coerce_types(types)
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        if self.made(&args)? > MADE_BYTES_MAX {
            return Err(DataFusionError::ResourcesExhausted(format!("{} makes more than {MADE_BYTES_MAX} bytes", self.name())));
        }
        self.inner.invoke_with_args(args)
    }
}
