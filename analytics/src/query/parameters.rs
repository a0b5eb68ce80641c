//! Values of parameters as constants of a text, and the types that clients state of them.

use std::ops::ControlFlow;

use arrow::array::Array as _;
use arrow::datatypes::DataType;
use datafusion::common::ScalarValue;
use datafusion::sql::parser::DFParser;
use datafusion::sql::sqlparser::ast::{Array, BinaryOperator, Expr, Statement as Sql, Value, visit_expressions_mut};

use super::error::{self, QueryError};

/// A value as a constant of a text.
pub fn constant(value: &ScalarValue) -> Result<Expr, QueryError> {
    use ScalarValue as S;
    if value.is_null() {
        return Ok(Expr::Value(Value::Null.into()));
    }
    let text = match value {
        S::Utf8(Some(text)) | S::LargeUtf8(Some(text)) | S::Utf8View(Some(text)) => {
            return Ok(Expr::Value(Value::SingleQuotedString(text.clone()).into()));
        }
        S::List(list) => {
            let values = (0..list.value(0).len())
                .map(|place| constant(&ScalarValue::try_from_array(&list.value(0), place).map_err(|error| error::of_execution(&error))?));
            return Ok(Expr::Array(Array { elem: values.collect::<Result<_, QueryError>>()?, named: true }));
        }
        S::Boolean(Some(value)) => return Ok(Expr::Value(Value::Boolean(*value).into())),
        S::Int8(_) | S::Int16(_) | S::Int32(_) | S::Int64(_) | S::UInt8(_) | S::UInt16(_) | S::UInt32(_) | S::UInt64(_) => {
            format!("({value})")
        }
        S::Float16(_) | S::Float32(_) | S::Float64(_) => format!("CAST('{value}' AS DOUBLE)"),
        S::Decimal128(..)
        | S::Date32(_)
        | S::Date64(_)
        | S::TimestampSecond(..)
        | S::TimestampMillisecond(..)
        | S::TimestampMicrosecond(..)
        | S::TimestampNanosecond(..)
        | S::Time32Second(_)
        | S::Time32Millisecond(_)
        | S::Time64Microsecond(_)
        | S::Time64Nanosecond(_)
        | S::IntervalMonthDayNano(_) => {
            let shown = value.to_array().and_then(|array| Ok(arrow::util::display::array_value_to_string(&array, 0)?));
            let shown = shown.map_err(|error| error::of_execution(&error))?;
            format!("arrow_cast('{shown}', '{}')", value.data_type())
        }
        other => {
            let message = format!("a parameter cannot be of the type {}", other.data_type());
            return Err(QueryError::Invalid { message, place: None, hint: None });
        }
    };
    let parsed = DFParser::parse_sql_into_expr(&text).map_err(|error| error::of_planning(&error, &text, &[]))?;
    Ok(parsed.expr)
}

/// `= any` of a list, or of a parameter that will be one, is `in` that list: so it is known for every type, and is looked up as such.
///
/// Returns the numbers of the parameters that are such a list.
pub fn any_is_in(sql: &mut Sql) -> Vec<usize> {
    let mut lists = Vec::new();
    let _ = visit_expressions_mut(sql, |expr| {
        let (left, right, negated) = match &*expr {
            Expr::AnyOp { left, compare_op: BinaryOperator::Eq, right, .. } => (left, right, false),
            Expr::AllOp { left, compare_op: BinaryOperator::NotEq, right } => (left, right, true),
            _ => return ControlFlow::<()>::Continue(()),
        };
        let list = match bare(right) {
            Expr::Array(array) if !array.elem.is_empty() => array.elem.clone(),
            Expr::Value(value) => {
                let Value::Placeholder(name) = &value.value else { return ControlFlow::Continue(()) };
                lists.extend(name[1..].parse::<usize>().ok());
                vec![Expr::Value(value.clone())]
            }
            _ => return ControlFlow::Continue(()),
        };
        *expr = Expr::InList { expr: left.clone(), list, negated };
        ControlFlow::Continue(())
    });
    lists
}

/// Lists that came in the place of a parameter stand for their values.
pub fn spread_lists(sql: &mut Sql) {
    let _ = visit_expressions_mut(sql, |expr| {
        if let Expr::InList { list, negated, .. } = expr
            && let [Expr::Array(array)] = list.as_slice()
        {
            let values = array.elem.clone();
            if values.is_empty() {
                // Nothing is in no list.
                *expr = Expr::Value(Value::Boolean(*negated).into());
            } else {
                *list = values;
            }
        }
        ControlFlow::<()>::Continue(())
    });
}

/// Says the types that a client has stated, so that what is made of a parameter is known before its value.
pub fn state(sql: &mut Sql, types: &[Option<DataType>]) {
    let _ = visit_expressions_mut(sql, |expr| {
        if let Expr::Value(value) = expr
            && let Value::Placeholder(name) = &value.value
            && let Some(Some(data_type)) = name[1..].parse().ok().and_then(|number: usize| types.get(number.checked_sub(1)?))
            && let Some(word) = word_of(data_type)
            && let Ok(stated) = DFParser::parse_sql_into_expr(&format!("CAST({name} AS {word})"))
        {
            *expr = stated.expr;
        }
        ControlFlow::<()>::Continue(())
    });
}

/// What a type is called in SQL, of those that values become by [`constant`]; texts are whatever they are compared with.
fn word_of(data_type: &DataType) -> Option<&'static str> {
    Some(match data_type {
        DataType::Boolean => "BOOLEAN",
        other if other.is_integer() => "BIGINT",
        other if other.is_floating() => "DOUBLE",
        DataType::Decimal128(..) => "DECIMAL(38, 10)",
        DataType::Timestamp(_, Some(_)) => "TIMESTAMPTZ",
        DataType::Timestamp(_, None) => "TIMESTAMP",
        DataType::Date32 => "DATE",
        DataType::Time64(_) => "TIME",
        DataType::Interval(_) => "INTERVAL",
        _ => return None,
    })
}

fn bare(expr: &Expr) -> &Expr {
    match expr {
        Expr::Nested(inner) => bare(inner),
        other => other,
    }
}
