//! What tools ask of PostgreSQL's catalog before they show tables: answered from the names of the caller's own tables.

use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::common::{DataFusionError, ScalarValue};
use datafusion::logical_expr::{ColumnarValue, Volatility};
use datafusion::prelude::{SessionContext, create_udf};
use datafusion_postgres::datafusion_pg_catalog::pg_catalog::context::EmptyContextProvider;
use datafusion_postgres::datafusion_pg_catalog::setup_pg_catalog;
use datafusion_postgres::datafusion_pg_catalog::sql::PostgresCompatibilityParser;

use super::word::SERVER_VERSION;

const CATALOG: &str = "rollcall";

/// Words of which one stands in every text that asks for the catalog.
const SIGNS: [&str; 10] = [
    "pg_",
    "information_schema",
    "current_schema",
    "current_database",
    "session_user",
    "current_user",
    "version(",
    "::reg",
    "quote_ident",
    "_privilege",
];

/// Whether a text asks for the catalog.
pub fn is_meant(sql: &str) -> bool {
    let text = sql.to_ascii_lowercase();
    SIGNS.iter().any(|sign| text.contains(sign))
}

/// The text in the words that the engine knows; as it is when it cannot be read, for the engine to say why.
pub fn readable(sql: &str) -> String {
    match PostgresCompatibilityParser::new().parse(sql).as_deref() {
        Ok([statement]) => statement.to_string(),
        _ => sql.to_owned(),
    }
}

/// Puts the catalog beside the tables.
pub fn add(context: &SessionContext) -> Result<(), DataFusionError> {
    setup_pg_catalog(context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
    let version = format!("PostgreSQL {SERVER_VERSION} (Rollcall {})", env!("CARGO_PKG_VERSION"));
    let say = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(ScalarValue::from(version.as_str())));
    context.register_udf(create_udf("version", Vec::new(), DataType::Utf8, Volatility::Stable, Arc::new(say)));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_about_tables_are_left_as_they_are() {
        for question in ["SELECT count(*) FROM scans", "select page from activity"] {
            assert!(!is_meant(question), "{question}");
        }
        for asked in ["SELECT * FROM pg_catalog.pg_class", "select current_schema()", "SELECT 'scans'::regclass"] {
            assert!(is_meant(asked), "{asked}");
        }
        assert_eq!(readable("selct pg_"), "selct pg_");
    }
}
