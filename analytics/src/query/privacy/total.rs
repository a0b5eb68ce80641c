//! What may be computed of rows about single students: expressions that give a value for every row and never fail.
//!
//! Whether a query failed is an answer. `case when <a condition on one row> then 1 / 0 end` would say exactly whether there is
//! such a row, and a cast that fails would quote it. So casts become those that give null, division by zero gives null, and the rest is a
//! list of what cannot fail whatever it is given, and cannot make much of little. What is not on it is refused by name; on
//! figures, behind the aggregate, everything is allowed.

use arrow::datatypes::{DataType, TimeUnit};
use datafusion::common::tree_node::{Transformed, TreeNode};
use datafusion::common::{DFSchema, Result, ScalarValue};
use datafusion::functions::core::expr_fn::nullif;
use datafusion::logical_expr::expr::ScalarFunction;
use datafusion::logical_expr::{BinaryExpr, Cast, Expr, ExprSchemable, Operator, TryCast, cast, lit, try_cast};

use super::refused;

/// Functions of values of any kind.
const OF_ANY: [&str; 7] = ["coalesce", "nullif", "nvl", "nvl2", "greatest", "least", "id_text"];

/// Functions of texts.
const OF_TEXTS: [&str; 11] =
    ["lower", "upper", "btrim", "ltrim", "rtrim", "character_length", "octet_length", "starts_with", "ends_with", "contains", "strpos"];

/// Functions of floating-point numbers. None makes much of little: a figure is cut to what many contribute.
const OF_FLOATS: [&str; 12] = ["abs", "ceil", "floor", "round", "trunc", "sqrt", "ln", "log2", "log10", "signum", "isnan", "iszero"];

/// What `date_trunc` and `date_part` take of an instant.
const PARTS: [&str; 18] = [
    "millisecond",
    "second",
    "minute",
    "hour",
    "day",
    "week",
    "month",
    "quarter",
    "year",
    "dow",
    "isodow",
    "doy",
    "epoch",
    "isoyear",
    "milliseconds",
    "microseconds",
    "nanoseconds",
    "microsecond",
];

/// Most characters that `left`, `right` and `substr` count.
const CHARACTERS_MAX: i64 = 1_000_000;

/// The longest stride of `date_bin`.
const STRIDE_DAYS_MAX: i32 = 3_660;

/// Instants with which others are subtracted: 1900 to 2200, in seconds.
const INSTANTS: std::ops::Range<i64> = -2_208_988_800..7_258_118_400;

const NS_A_DAY: i64 = 86_400_000_000_000;

/// An expression over rows of `schema` with the same values where it has one, and null where it would fail.
pub fn total(expr: Expr, schema: &DFSchema) -> Result<Expr> {
    Ok(expr.transform_up(|expr| step(expr, schema))?.data)
}

/// The same of several.
pub fn all(exprs: impl IntoIterator<Item = Expr>, schema: &DFSchema) -> Result<Vec<Expr>> {
    exprs.into_iter().map(|expr| total(expr, schema)).collect()
}

fn step(expr: Expr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    match expr {
        Expr::Cast(Cast { expr, field }) => {
            let from = expr.get_type(schema)?;
            castable(&from, field.data_type())?;
            if always_fits(&from, field.data_type()) {
                return Ok(Transformed::no(Expr::Cast(Cast { expr, field })));
            }
            Ok(Transformed::yes(Expr::TryCast(TryCast { expr, field })))
        }
        Expr::TryCast(TryCast { expr, field }) => {
            castable(&expr.get_type(schema)?, field.data_type())?;
            Ok(Transformed::no(Expr::TryCast(TryCast { expr, field })))
        }
        Expr::BinaryExpr(binary) => operation(binary, schema),
        Expr::ScalarFunction(function) => {
            called(&function, schema)?;
            Ok(Transformed::no(Expr::ScalarFunction(function)))
        }
        Expr::Negative(of) if !matches!(of.get_type(schema)?, DataType::Float64 | DataType::Float32 | DataType::Int64 | DataType::Int32) => {
            refused("only numbers are negated about single students")
        }
        Expr::Alias(_)
        | Expr::Column(_)
        | Expr::OuterReferenceColumn(..)
        | Expr::Literal(..)
        | Expr::Like(_)
        | Expr::Not(_)
        | Expr::IsNotNull(_)
        | Expr::IsNull(_)
        | Expr::IsTrue(_)
        | Expr::IsFalse(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNotFalse(_)
        | Expr::IsNotUnknown(_)
        | Expr::Negative(_)
        | Expr::Between(_)
        | Expr::Case(_)
        | Expr::InList(_)
        // Subqueries give figures, and aggregates are looked at where they stand.
        | Expr::Exists(_)
        | Expr::InSubquery(_)
        | Expr::SetComparison(_)
        | Expr::ScalarSubquery(_)
        | Expr::AggregateFunction(_) => Ok(Transformed::no(expr)),
        other => refused(format!("{other} is not given about single students; use it on figures")),
    }
}

fn is_decimal(data_type: &DataType) -> bool {
    matches!(data_type, DataType::Decimal32(..) | DataType::Decimal64(..) | DataType::Decimal128(..) | DataType::Decimal256(..))
}

/// Only made instants could lie where arithmetic ends.
fn castable(from: &DataType, to: &DataType) -> Result<()> {
    if is_decimal(to) || is_decimal(from) {
        return refused("decimals are not given about single students; use double precision");
    }
    if (to.is_temporal() && !from.is_temporal() && !from.is_null()) || matches!(to, DataType::Interval(_)) {
        return refused("instants are not made of other values about single students; compare with a timestamp");
    }
    Ok(())
}

fn is_text(data_type: &DataType) -> bool {
    match data_type {
        DataType::Dictionary(_, value) => is_text(value),
        other => other.is_string() || other.is_null(),
    }
}

/// Whether no value is lost, so that the cast may stay as the optimizer knows it.
fn always_fits(from: &DataType, to: &DataType) -> bool {
    use DataType::{Float32, Float64, Int8, Int16, Int32, Int64, UInt8, UInt16, UInt32, UInt64};
    from == to
        || (is_text(from) && to.is_string())
        || match to {
            Float64 => matches!(from, Int8 | Int16 | Int32 | Int64 | UInt8 | UInt16 | UInt32 | UInt64 | Float32),
            Int64 => matches!(from, Int8 | Int16 | Int32 | UInt8 | UInt16 | UInt32),
            Int32 => matches!(from, Int8 | Int16 | UInt8 | UInt16),
            UInt64 => matches!(from, UInt8 | UInt16 | UInt32),
            _ => false,
        }
}

fn operation(binary: BinaryExpr, schema: &DFSchema) -> Result<Transformed<Expr>> {
    let (left, right) = (binary.left.get_type(schema)?, binary.right.get_type(schema)?);
    let same = |binary| Ok(Transformed::no(Expr::BinaryExpr(binary)));
    match binary.op {
        Operator::Eq
        | Operator::NotEq
        | Operator::Lt
        | Operator::LtEq
        | Operator::Gt
        | Operator::GtEq
        | Operator::And
        | Operator::Or
        | Operator::IsDistinctFrom
        | Operator::IsNotDistinctFrom
        | Operator::LikeMatch
        | Operator::ILikeMatch
        | Operator::NotLikeMatch
        | Operator::NotILikeMatch => same(binary),
        Operator::Minus if left.is_temporal() && right.is_temporal() => {
            let far = |expr: &Expr| matches!(expr, Expr::Literal(value, _) if !is_near(value));
            if far(&binary.left) || far(&binary.right) || matches!(left, DataType::Interval(_)) || matches!(right, DataType::Interval(_)) {
                return refused("instants are subtracted from each other, and not moved, about single students; move the constant instead");
            }
            same(binary)
        }
        // Integers go round at their ends, and floating-point numbers have infinities.
        Operator::Plus | Operator::Minus | Operator::Multiply if is_number(&left) && is_number(&right) => same(binary),
        Operator::Divide | Operator::Modulo if left.is_floating() && right.is_floating() => same(binary),
        Operator::Modulo if is_number(&left) && is_number(&right) => {
            let right = nullif(*binary.right, cast(lit(0_i64), right));
            Ok(Transformed::yes(Expr::BinaryExpr(BinaryExpr::new(binary.left, Operator::Modulo, Box::new(right)))))
        }
        // The least integer has no opposite; as a floating-point number it has, and what does not fit back is null.
        Operator::Divide if is_number(&left) && is_number(&right) => {
            let float = |expr: Box<Expr>| cast(*expr, DataType::Float64);
            let quotient = float(binary.left) / nullif(float(binary.right), lit(0.0));
            Ok(Transformed::yes(try_cast(quotient, left)))
        }
        other => refused(format!("the operator {other} is not given about single students; use it on figures")),
    }
}

fn is_number(data_type: &DataType) -> bool {
    data_type.is_integer() || data_type.is_floating()
}

/// Whether an instant is one of people's lives, so that a difference with it has room.
fn is_near(value: &ScalarValue) -> bool {
    let seconds = match value {
        ScalarValue::TimestampSecond(Some(value), _) => *value,
        ScalarValue::TimestampMillisecond(Some(value), _) => value.div_euclid(1_000),
        ScalarValue::TimestampMicrosecond(Some(value), _) => value.div_euclid(1_000_000),
        ScalarValue::TimestampNanosecond(Some(value), _) => value.div_euclid(1_000_000_000),
        ScalarValue::Date32(Some(days)) => i64::from(*days) * 86_400,
        other => return other.is_null(),
    };
    INSTANTS.contains(&seconds)
}

fn number_of(expr: &Expr) -> Option<i64> {
    match expr {
        Expr::Literal(value, _) => value.cast_to(&DataType::Int64).ok().and_then(|value| match value {
            ScalarValue::Int64(number) => number,
            _ => None,
        }),
        _ => None,
    }
}

fn text_of(expr: &Expr) -> Option<&str> {
    match expr {
        Expr::Literal(value, _) => value.try_as_str().flatten(),
        _ => None,
    }
}

fn called(function: &ScalarFunction, schema: &DFSchema) -> Result<()> {
    let (name, args) = (function.func.name(), function.args.as_slice());
    let types = args.iter().map(|arg| arg.get_type(schema)).collect::<Result<Vec<_>>>()?;
    let is_instant = |place: usize| types.get(place).is_some_and(|of| matches!(of, DataType::Timestamp(..) | DataType::Date32));
    let counts = |place: usize, least: i64| number_of(&args[place]).is_some_and(|number| (least..=CHARACTERS_MAX).contains(&number));
    let may = match (name, args) {
        (name, _) if OF_ANY.contains(&name) => true,
        (name, _) if OF_TEXTS.contains(&name) => types.iter().all(is_text),
        ("round" | "trunc", [_, places]) => types[0].is_floating() && number_of(places).is_some_and(|places| (-18..=18).contains(&places)),
        (name, [_]) if OF_FLOATS.contains(&name) => types[0].is_floating(),
        ("left" | "right", [_, _]) => is_text(&types[0]) && counts(1, 0),
        ("substr", [_, _]) => is_text(&types[0]) && counts(1, 0),
        ("substr", [_, _, _]) => is_text(&types[0]) && counts(1, 0) && counts(2, 0),
        ("date_trunc" | "date_part", [part, _]) => {
            text_of(part).is_some_and(|part| PARTS.contains(&part.to_lowercase().as_str())) && is_instant(1)
        }
        ("date_bin", [stride, _]) => is_stride(stride) && is_instant(1),
        ("date_bin", [stride, _, Expr::Literal(origin, _)]) => is_stride(stride) && is_instant(1) && is_near(origin),
        ("to_local_time", [_]) => matches!(&types[0], DataType::Timestamp(TimeUnit::Millisecond, _)),
        _ => false,
    };
    match may {
        true => Ok(()),
        false => refused(format!(
            "{name} is not given about single students, for it could fail or make much of one; use it on figures, or with constants and double precision"
        )),
    }
}

/// A length of time that buckets can have.
fn is_stride(expr: &Expr) -> bool {
    let Expr::Literal(ScalarValue::IntervalMonthDayNano(Some(stride)), _) = expr else { return false };
    let ns = i64::from(stride.days).saturating_mul(NS_A_DAY).saturating_add(stride.nanoseconds);
    stride.months == 0 && (0..=STRIDE_DAYS_MAX).contains(&stride.days) && (1_000_000..=i64::from(STRIDE_DAYS_MAX) * NS_A_DAY).contains(&ns)
}
