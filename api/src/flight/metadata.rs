//! What drivers ask before they show a tree of tables: the server, its one catalog and schema, and the caller's tables.

use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder};
use arrow_flight::sql::{CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, SqlInfo};
use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use rollcall_analytics::query::{Caller, QueryEngine};
use std::sync::Arc;

pub const CATALOG: &str = "rollcall";
pub const SCHEMA: &str = "public";
const TABLE_TYPE: &str = "TABLE";

/// The server as drivers know it: read only, without transactions.
pub fn server() -> Result<SqlInfoData, ArrowError> {
    let mut builder = SqlInfoDataBuilder::new();
    builder.append(SqlInfo::FlightSqlServerName, "Rollcall");
    builder.append(SqlInfo::FlightSqlServerVersion, env!("CARGO_PKG_VERSION"));
    builder.append(SqlInfo::FlightSqlServerArrowVersion, "1.3");
    builder.append(SqlInfo::FlightSqlServerReadOnly, true);
    builder.append(SqlInfo::FlightSqlServerSql, true);
    builder.append(SqlInfo::FlightSqlServerSubstrait, false);
    builder.append(SqlInfo::FlightSqlServerTransaction, 0_i32);
    builder.append(SqlInfo::FlightSqlServerCancel, false);
    builder.append(SqlInfo::SqlIdentifierQuoteChar, "\"");
    builder.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

pub fn catalogs(command: CommandGetCatalogs) -> Result<RecordBatch, ArrowError> {
    let mut builder = command.into_builder();
    builder.append(CATALOG);
    builder.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

pub fn schemas(command: CommandGetDbSchemas) -> Result<RecordBatch, ArrowError> {
    let mut builder = command.into_builder();
    builder.append(CATALOG, SCHEMA);
    builder.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

pub fn table_types() -> Result<RecordBatch, ArrowError> {
    let schema = Schema::new(vec![Field::new("table_type", DataType::Utf8, false)]);
    RecordBatch::try_new(Arc::new(schema), vec![Arc::new(StringArray::from(vec![TABLE_TYPE]))])
}

/// The tables that the caller has, with the columns that the caller sees.
pub fn tables(command: CommandGetTables, engine: &QueryEngine, caller: &Caller) -> Result<RecordBatch, ArrowError> {
    let mut builder = command.into_builder();
    for (name, schema) in engine.tables(caller) {
        builder.append(CATALOG, SCHEMA, name, TABLE_TYPE, &schema).map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    }
    builder.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}
