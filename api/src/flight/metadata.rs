//! What drivers ask before they show a tree of tables: the server, its one catalog and schema, the types, and the caller's
//! tables. There are no keys between the tables that a driver could follow, so those answers have no rows.

use arrow::array::{RecordBatch, StringArray};
use arrow::datatypes::{DataType, Field, Schema};
use arrow::error::ArrowError;
use arrow_flight::sql::metadata::{SqlInfoData, SqlInfoDataBuilder, XdbcTypeInfo, XdbcTypeInfoDataBuilder};
use arrow_flight::sql::{
    CommandGetCatalogs, CommandGetDbSchemas, CommandGetTables, CommandGetXdbcTypeInfo, Nullable, Searchable, SqlInfo, XdbcDataType,
};
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

/// The types that columns have, by the names and numbers that JDBC and ODBC know.
pub fn types(command: CommandGetXdbcTypeInfo) -> Result<RecordBatch, ArrowError> {
    const QUOTE: Option<&str> = Some("'");
    let known = [
        ("boolean", XdbcDataType::XdbcBit, 1, None),
        ("integer", XdbcDataType::XdbcInteger, 32, None),
        ("bigint", XdbcDataType::XdbcBigint, 64, None),
        ("double", XdbcDataType::XdbcDouble, 53, None),
        ("varchar", XdbcDataType::XdbcVarchar, i32::MAX, QUOTE),
        ("date", XdbcDataType::XdbcDate, 10, QUOTE),
        ("timestamp", XdbcDataType::XdbcTimestamp, 29, QUOTE),
    ];
    let mut builder = XdbcTypeInfoDataBuilder::new();
    for (name, data_type, size, quote) in known {
        builder.append(XdbcTypeInfo {
            type_name: name.to_owned(),
            data_type,
            sql_data_type: data_type,
            column_size: Some(size),
            literal_prefix: quote.map(str::to_owned),
            literal_suffix: quote.map(str::to_owned),
            nullable: Nullable::NullabilityNullable,
            case_sensitive: quote.is_some(),
            searchable: Searchable::Full,
            ..XdbcTypeInfo::default()
        });
    }
    let known = builder.build().map_err(|error| ArrowError::ExternalError(Box::new(error)))?;
    command.into_builder(&known).build().map_err(|error| ArrowError::ExternalError(Box::new(error)))
}

fn no_rows(columns: &[(&str, DataType, bool)]) -> RecordBatch {
    let fields = columns.iter().map(|(name, data_type, nullable)| Field::new(*name, data_type.clone(), *nullable));
    RecordBatch::new_empty(Arc::new(Schema::new(fields.collect::<Vec<_>>())))
}

/// The primary keys: none are declared.
pub fn primary_keys() -> RecordBatch {
    no_rows(&[
        ("catalog_name", DataType::Utf8, true),
        ("db_schema_name", DataType::Utf8, true),
        ("table_name", DataType::Utf8, false),
        ("column_name", DataType::Utf8, false),
        ("key_name", DataType::Utf8, true),
        ("key_sequence", DataType::Int32, false),
    ])
}

/// The foreign keys of a table, to it, or between two: none are declared.
pub fn foreign_keys() -> RecordBatch {
    no_rows(&[
        ("pk_catalog_name", DataType::Utf8, true),
        ("pk_db_schema_name", DataType::Utf8, true),
        ("pk_table_name", DataType::Utf8, false),
        ("pk_column_name", DataType::Utf8, false),
        ("fk_catalog_name", DataType::Utf8, true),
        ("fk_db_schema_name", DataType::Utf8, true),
        ("fk_table_name", DataType::Utf8, false),
        ("fk_column_name", DataType::Utf8, false),
        ("key_sequence", DataType::Int32, false),
        ("fk_key_name", DataType::Utf8, true),
        ("pk_key_name", DataType::Utf8, true),
        ("update_rule", DataType::UInt8, false),
        ("delete_rule", DataType::UInt8, false),
    ])
}
