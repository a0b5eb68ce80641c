//! Values of parameters, by the types that the client states.
//!
//! What a client states is how it wrote the value; where it states nothing, the place in the text says what the value is.

use std::sync::Arc;

use arrow::datatypes::{DataType, IntervalMonthDayNano, IntervalUnit, TimeUnit};
use datafusion::common::{ParamValues, ScalarValue};
use datafusion_postgres::arrow_pg::datatypes::df::deserialize_parameters;
use datafusion_postgres::pgwire::api::Type;
use datafusion_postgres::pgwire::api::portal::{Format, Portal};
use datafusion_postgres::pgwire::api::results::FieldFormat;
use datafusion_postgres::pgwire::api::stmt::StoredStatement;
use datafusion_postgres::pgwire::error::{ErrorInfo, PgWireError, PgWireResult};
use rollcall_analytics::query::Description;
use uuid::Uuid;

/// What the stated types are to the engine; `None`: whatever the place in the text says.
pub fn stated(types: &[Option<Type>]) -> Vec<Option<DataType>> {
    let known = |stated: &Type| {
        Some(match *stated {
            Type::BOOL => DataType::Boolean,
            Type::INT2 | Type::INT4 | Type::INT8 => DataType::Int64,
            Type::FLOAT4 | Type::FLOAT8 => DataType::Float64,
            // What is made of one has more digits than the protocol's library writes, and is text.
            Type::NUMERIC => DataType::Decimal128(38, 10),
            Type::TIMESTAMPTZ => DataType::Timestamp(TimeUnit::Microsecond, Some("+00:00".into())),
            Type::TIMESTAMP => DataType::Timestamp(TimeUnit::Microsecond, None),
            Type::DATE => DataType::Date32,
            Type::TIME => DataType::Time64(TimeUnit::Microsecond),
            Type::INTERVAL => DataType::Interval(IntervalUnit::MonthDayNano),
            _ => return None,
        })
    };
    types.iter().map(|stated| stated.as_ref().and_then(known)).collect()
}

/// The values of a portal, in order.
pub fn values<S: Clone>(portal: &Portal<S>, described: &Description) -> PgWireResult<Vec<ScalarValue>> {
    let value = |place: usize| {
        let stated = portal.statement.parameter_types.get(place).cloned().flatten().filter(|stated| *stated != Type::UNKNOWN);
        let format = portal.parameter_format.format_for(place);
        let Some(Some(bytes)) = portal.parameters.get(place) else { return Ok(ScalarValue::Null) };
        match stated {
            Some(Type::UUID) => uuid(bytes, format),
            Some(Type::INTERVAL) => interval(bytes, format),
            stated => {
                let inferred = described.parameters.fields().get(place).map(|field| field.data_type());
                let mut one = Portal::<()>::default();
                one.parameter_format = match format {
                    FieldFormat::Text => Format::UnifiedText,
                    FieldFormat::Binary => Format::UnifiedBinary,
                };
                one.parameters = vec![Some(bytes.clone())];
                let inferred = if stated.is_some() { None } else { inferred };
                one.statement = Arc::new(StoredStatement::new(String::new(), (), vec![stated]));
                match deserialize_parameters(&one, &[inferred])? {
                    ParamValues::List(values) => {
                        values.into_iter().next().map(|value| value.value).ok_or_else(|| unreadable("a parameter"))
                    }
                    ParamValues::Map(_) => Err(unreadable("a parameter")),
                }
            }
        }
    };
    (0..portal.parameters.len()).map(value).collect()
}

fn uuid(bytes: &[u8], format: FieldFormat) -> PgWireResult<ScalarValue> {
    let id = match format {
        FieldFormat::Binary => Uuid::from_slice(bytes).ok(),
        FieldFormat::Text => std::str::from_utf8(bytes).ok().and_then(|text| Uuid::try_parse(text).ok()),
    };
    id.map(|id| ScalarValue::from(id.to_string())).ok_or_else(|| unreadable("a uuid"))
}

/// Sixteen bytes are microseconds, days and months.
fn interval(bytes: &[u8], format: FieldFormat) -> PgWireResult<ScalarValue> {
    let value = match (format, bytes) {
        (FieldFormat::Binary, &[a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p]) => {
            let nanoseconds = i64::from_be_bytes([a, b, c, d, e, f, g, h]).checked_mul(1_000);
            let (days, months) = (i32::from_be_bytes([i, j, k, l]), i32::from_be_bytes([m, n, o, p]));
            nanoseconds.map(|nanoseconds| ScalarValue::IntervalMonthDayNano(Some(IntervalMonthDayNano::new(months, days, nanoseconds))))
        }
        (FieldFormat::Binary, _) => None,
        (FieldFormat::Text, bytes) => std::str::from_utf8(bytes).ok().and_then(|text| {
            let cast = ScalarValue::from(text).cast_to(&DataType::Interval(IntervalUnit::MonthDayNano));
            cast.ok().filter(|value| !value.is_null())
        }),
    };
    value.ok_or_else(|| unreadable("an interval"))
}

fn unreadable(what: &str) -> PgWireError {
    PgWireError::UserError(Box::new(ErrorInfo::new("ERROR".to_owned(), "22P03".to_owned(), format!("{what} could not be read"))))
}
