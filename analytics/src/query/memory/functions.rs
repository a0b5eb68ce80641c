//! Functions that make texts and lists, with a bound.
//!
//! What one call makes is as long as its arguments say, and a constant argument is repeated for each row. So each call is asked first
//! how much it can make at most. Functions that make a list of a number's length are not there (`generate_series` as a table is: it makes rows as
//! they are taken).

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType, FieldRef, Int64Type};
use datafusion::common::{DataFusionError, Result};
use datafusion::execution::FunctionRegistry;
use datafusion::logical_expr::{
    ColumnarValue, Documentation, Expr, ReturnFieldArgs, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
};

use super::concat::Concat;
use super::size::{bytes, elements, longest, widths};
use super::{CONSTANT_BYTES_MAX, Share};
use crate::query::session::BATCH_ROWS;

/// Makers of lists, by a number that any text can name.
const LEFT_OUT: [&str; 4] = ["range", "generate_series", "array_repeat", "array_resize"];

/// Functions that give a number, a truth or an instant, a value of a fixed width, or what one of their arguments is. Those that
/// give what an argument is, such as `coalesce`, are turned into other expressions by the optimizer, which knows them.
const PLAIN: [&str; 113] = [
    "abs",
    "acos",
    "acosh",
    "array_avg",
    "array_dims",
    "array_distance",
    "array_has",
    "array_has_all",
    "array_has_any",
    "array_length",
    "array_max",
    "array_min",
    "array_ndims",
    "array_position",
    "array_product",
    "array_sum",
    "arrow_cast",
    "arrow_field",
    "arrow_metadata",
    "arrow_try_cast",
    "arrow_typeof",
    "ascii",
    "asin",
    "asinh",
    "atan",
    "atan2",
    "atanh",
    "bit_length",
    "cardinality",
    "cast_to_type",
    "cbrt",
    "ceil",
    "character_length",
    "chr",
    "coalesce",
    "contains",
    "cos",
    "cosh",
    "cosine_distance",
    "cot",
    "current_date",
    "current_time",
    "date_bin",
    "date_part",
    "date_trunc",
    "degrees",
    "digest",
    "empty",
    "ends_with",
    "exp",
    "factorial",
    "file_row_index",
    "find_in_set",
    "floor",
    "from_unixtime",
    "gcd",
    "get_field",
    "id",
    "id_text",
    "inner_product",
    "input_file_name",
    "isnan",
    "iszero",
    "lcm",
    "ln",
    "log",
    "log10",
    "log2",
    "make_date",
    "make_time",
    "md5",
    "nanvl",
    "now",
    "nvl",
    "nvl2",
    "octet_length",
    "pi",
    "power",
    "radians",
    "random",
    "regexp_count",
    "regexp_instr",
    "regexp_like",
    "round",
    "sha224",
    "sha256",
    "sha384",
    "sha512",
    "signum",
    "sin",
    "sinh",
    "sqrt",
    "starts_with",
    "strpos",
    "tan",
    "tanh",
    "to_date",
    "to_hex",
    "to_local_time",
    "to_time",
    "to_timestamp",
    "to_timestamp_micros",
    "to_timestamp_millis",
    "to_timestamp_nanos",
    "to_timestamp_seconds",
    "to_unixtime",
    "trunc",
    "try_cast_to_type",
    "union_extract",
    "union_tag",
    "uuid",
    "version",
    "with_metadata",
];

/// Most batches that the rows of one call count as: few steps give more rows at a time than a batch has.
const BATCHES_MAX: u64 = 4;

/// Bytes that a number or an instant has as a text, at most.
const SHOWN_BYTES: u64 = 40;

/// Puts bounds around the functions that make texts and lists, and takes out those that have none.
pub fn bound(registry: &mut dyn FunctionRegistry) -> Result<()> {
    for name in LEFT_OUT {
        registry.deregister_udf(name)?;
    }
    registry.register_udf(Arc::new(ScalarUDF::new_from_impl(Concat::default())))?;
    let mut names: Vec<String> = registry.udfs().into_iter().filter(|name| is_bounded(name)).collect();
    names.sort_unstable();
    for name in names {
        let inner = registry.udf(&name)?;
        // An alias comes with the name of its function.
        if inner.name() == name {
            registry.register_udf(bounded(&inner, &Share::default()))?;
        }
    }
    Ok(())
}

/// Whether the function of this name has a bound.
pub fn is_bounded(name: &str) -> bool {
    !PLAIN.contains(&name)
}

/// The function with this share as its bound.
pub fn bounded(function: &Arc<ScalarUDF>, share: &Share) -> Arc<ScalarUDF> {
    let inner = match function.inner().downcast_ref::<Bounded>() {
        Some(bounded) => &bounded.inner,
        None => function,
    };
    Arc::new(ScalarUDF::new_from_impl(Bounded { inner: Arc::clone(inner), share: share.clone() }))
}

#[derive(Debug)]
struct Bounded {
    inner: Arc<ScalarUDF>,
    share: Share,
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

/// The arguments of a call.
struct Given<'a>(&'a ScalarFunctionArgs);

impl Given<'_> {
    /// One value that stands for all rows, or a column.
    fn array(&self, place: usize) -> Result<Option<ArrayRef>> {
        self.0.args.get(place).map(|value| value.to_array(1)).transpose()
    }

    fn rows(&self, array: &ArrayRef) -> u64 {
        if array.len() == 1 { self.0.number_rows as u64 } else { 1 }
    }

    /// Bytes of all rows of an argument.
    fn bytes(&self, place: usize) -> Result<u64> {
        Ok(self.array(place)?.map_or(0, |array| bytes(array.as_ref()).saturating_mul(self.rows(&array))))
    }

    fn sum(&self) -> Result<u64> {
        (0..self.0.args.len()).try_fold(0_u64, |sum, place| Ok(sum.saturating_add(self.bytes(place)?)))
    }

    /// Elements of all rows of a list.
    fn elements(&self, place: usize) -> Result<u64> {
        let Some(array) = self.array(place)? else { return Ok(0) };
        Ok(elements(array.as_ref()).map_or(0, |inner| inner.len() as u64).saturating_mul(self.rows(&array)))
    }

    fn longest(&self, place: usize) -> Result<u64> {
        Ok(self.array(place)?.map_or(0, |array| longest(array.as_ref())))
    }

    /// The bytes of each row's text.
    fn lengths(&self, place: usize) -> Result<impl Fn(usize) -> u64 + use<>> {
        let lengths = self.array(place)?.map_or_else(Vec::new, |array| widths(array.as_ref()));
        Ok(move |row: usize| lengths.get(if lengths.len() == 1 { 0 } else { row }).copied().unwrap_or(0))
    }

    /// Each row's number; a negative one and none are 0.
    fn numbers(&self, place: usize) -> Result<impl Fn(usize) -> u64 + use<>> {
        let numbers = self.array(place)?.map(|array| cast(array.as_ref(), &DataType::Int64)).transpose()?;
        Ok(move |row: usize| {
            let Some(numbers) = &numbers else { return 0 };
            let row = if numbers.len() == 1 { 0 } else { row };
            let number = numbers.is_valid(row).then(|| numbers.as_primitive::<Int64Type>().value(row));
            number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0)
        })
    }

    fn of_rows(&self, each: impl Fn(usize) -> u64) -> u64 {
        (0..self.0.number_rows).fold(0, |made: u64, row| made.saturating_add(each(row)))
    }
}

/// The most bytes that a call can make.
fn made(name: &str, given: &Given<'_>) -> Result<u64> {
    Ok(match name {
        "repeat" => {
            let (text, number) = (given.lengths(0)?, given.numbers(1)?);
            given.of_rows(|row| text(row).saturating_mul(number(row)))
        }
        // What fills a place is at most four bytes.
        "lpad" | "rpad" => {
            let number = given.numbers(1)?;
            given.of_rows(|row| number(row).saturating_mul(4))
        }
        "replace" => {
            let (text, from, to) = (given.lengths(0)?, given.lengths(1)?, given.lengths(2)?);
            given.of_rows(|row| text(row).saturating_add((text(row) / from(row).max(1)).saturating_mul(to(row))))
        }
        // There may be a match at each place, and each two bytes of what comes instead may name it.
        "regexp_replace" => {
            let (text, to) = (given.lengths(0)?, given.lengths(2)?);
            given.of_rows(|row| text(row).saturating_add(1).saturating_mul(to(row).saturating_add(1)).saturating_mul(2))
        }
        "concat_ws" => {
            let between = (given.0.args.len() as u64).saturating_sub(2);
            given.sum()?.saturating_add(given.bytes(0)?.saturating_mul(between))
        }
        "array_to_string" => {
            let each = SHOWN_BYTES.saturating_add(given.longest(1)?).saturating_add(given.longest(2)?);
            given.bytes(0)?.saturating_mul(3).saturating_add(given.elements(0)?.saturating_mul(each))
        }
        "array_replace" | "array_replace_n" | "array_replace_all" => {
            given.bytes(0)?.saturating_add(given.elements(0)?.saturating_mul(given.longest(2)?))
        }
        // Not what it makes: its steps, for which there is no other bound within a batch.
        "levenshtein" => {
            let (one, other) = (given.lengths(0)?, given.lengths(1)?);
            given.of_rows(|row| one(row).saturating_mul(other(row)) / 16)
        }
        // Two bytes of a format can become a date, an hour and a zone.
        "to_char" => given.bytes(1)?.saturating_mul(20),
        // Each byte can be an element, with a place of its own.
        "string_to_array" => given.sum()?.saturating_mul(8),
        // A character becomes at most four bytes, a letter in another case three, a byte two digits.
        _ => given.sum()?.saturating_mul(if CHANGING.contains(&name) { 4 } else { 1 }),
    })
}

/// Functions that write each character in another way.
const CHANGING: [&str; 7] = ["translate", "upper", "lower", "initcap", "encode", "decode", "reverse"];

impl ScalarUDFImpl for Bounded {
    fn name(&self) -> &str {
        self.inner.name()
    }

    fn aliases(&self) -> &[String] {
        self.inner.aliases()
    }

    fn schema_name(&self, args: &[Expr]) -> Result<String> {
        self.inner.schema_name(args)
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

    fn documentation(&self) -> Option<&Documentation> {
        self.inner.documentation()
    }

    fn invoke_with_args(&self, args: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let is_constant = args.args.iter().all(|value| matches!(value, ColumnarValue::Scalar(_)));
        let (made, most) = if is_constant {
            let one = ScalarFunctionArgs { number_rows: 1, ..args.clone() };
            (made(self.name(), &Given(&one))?, CONSTANT_BYTES_MAX)
        } else {
            let batches = (args.number_rows / BATCH_ROWS) as u64;
            (made(self.name(), &Given(&args))?, self.share.bytes() * batches.clamp(1, BATCHES_MAX))
        };
        if made > most {
            return Err(DataFusionError::ResourcesExhausted(format!("{} makes more than {most} bytes", self.name())));
        }
        self.inner.invoke_with_args(args)
    }
}

#[cfg(test)]
mod tests {
    use datafusion::execution::session_state::SessionStateBuilder;

    use super::{PLAIN, is_bounded};

    /// A function that another release calls otherwise would be bounded as a maker of texts, and lose what the optimizer knows of it.
    #[test]
    fn what_is_called_plain_is_there() {
        let state = SessionStateBuilder::new().with_default_features().build();
        let own = ["id", "id_text"];
        let missing: Vec<_> = PLAIN.iter().filter(|name| !own.contains(name) && !state.scalar_functions().contains_key(**name)).collect();
        assert!(missing.is_empty(), "{missing:?}");
        assert!(["concat", "array_concat", "greatest", "substr"].into_iter().all(is_bounded));
    }
}
