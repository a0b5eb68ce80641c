//! What tools ask of PostgreSQL's catalog before they show tables: answered from the names of the caller's own tables.

mod functions;
mod information;
mod rewriting;
mod settings;
mod standard;

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
const SCHEMA: &str = "pg_catalog";

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
    let named = rewriting::functions_by_name(sql);
    match PostgresCompatibilityParser::new().parse(named.as_deref().unwrap_or(sql)) {
        Ok(mut statements) if statements.len() == 1 => {
            statements.iter_mut().for_each(rewriting::one_row_each);
            statements[0].to_string()
        }
        _ => sql.to_owned(),
    }
}

/// Puts the catalog beside the tables, for an account of this name.
pub fn add(context: &SessionContext, account: &str) -> Result<(), DataFusionError> {
    setup_pg_catalog(context, CATALOG, EmptyContextProvider).map_err(|error| *error)?;
    if let Some((catalog, schema)) = context.catalog(CATALOG).and_then(|catalog| Some((catalog.clone(), catalog.schema(SCHEMA)?))) {
        catalog.register_schema(SCHEMA, Arc::new(settings::WithSettings::new(schema)))?;
    }
    let version = format!("PostgreSQL {SERVER_VERSION} (Rollcall {})", env!("CARGO_PKG_VERSION"));
    for (name, value) in [("version", version.as_str()), ("session_user", account)] {
        let value = ScalarValue::from(value);
        let say = move |_: &[ColumnarValue]| Ok(ColumnarValue::Scalar(value.clone()));
        context.register_udf(create_udf(name, Vec::new(), DataType::Utf8, Volatility::Stable, Arc::new(say)));
    }
    functions::add(context);
    information::add(context, CATALOG)
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
