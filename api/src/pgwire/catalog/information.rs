//! `information_schema` with PostgreSQL's names of types: the engine's own says there what its types are called in Arrow.

use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, StringArray};
use arrow::datatypes::DataType;
use async_trait::async_trait;
use datafusion::catalog::information_schema::{INFORMATION_SCHEMA, InformationSchemaProvider};
use datafusion::catalog::{
    CatalogProvider, CatalogProviderList, MemoryCatalogProvider, MemoryCatalogProviderList, SchemaProvider, TableProvider,
};
use datafusion::common::{Column, DataFusionError};
use datafusion::datasource::{ViewTable, provider_as_source};
use datafusion::logical_expr::{ColumnarValue, Expr, LogicalPlanBuilder, ScalarUDF, Volatility};
use datafusion::prelude::{SessionContext, create_udf};
use datafusion_postgres::arrow_pg::datatypes::into_pg_type;
use datafusion_postgres::pgwire::api::Type;

use super::standard;

const COLUMNS: &str = "columns";
const DATA_TYPE: &str = "data_type";

/// Puts the schema in place of the engine's, over the schemas that the context's catalog has so far.
pub fn add(context: &SessionContext, catalog: &str) -> Result<(), DataFusionError> {
    let Some(described) = context.catalog(catalog) else { return Ok(()) };
    let seen = MemoryCatalogProvider::new();
    for name in described.schema_names() {
        if let Some(schema) = described.schema(&name) {
            seen.register_schema(&name, schema)?;
        }
    }
    let catalogs = MemoryCatalogProviderList::new();
    catalogs.register_catalog(catalog.to_owned(), Arc::new(seen));
    let information = Information { inner: InformationSchemaProvider::new(Arc::new(catalogs)) };
    described.register_schema(INFORMATION_SCHEMA, Arc::new(information))?;
    // Switched on, the engine's own schema would hide this one.
    context.state_ref().write().config_mut().options_mut().catalog.information_schema = false;
    Ok(())
}

#[derive(Debug)]
struct Information {
    inner: InformationSchemaProvider,
}

#[async_trait]
impl SchemaProvider for Information {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names().into_iter().chain(standard::names().map(str::to_owned)).collect()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.inner.table(name).await? {
            Some(table) if name == COLUMNS => Ok(Some(Arc::new(named(table)?))),
            None => standard::table(name),
            table => Ok(table),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name) || standard::names().any(|known| known == name)
    }
}

/// The table's rows with the types in PostgreSQL's words, and `udt_name`, which the engine has not.
fn named(table: Arc<dyn TableProvider>) -> Result<ViewTable, DataFusionError> {
    let schema = table.schema();
    let column = |name: &str| Expr::Column(Column::new(Some(COLUMNS), name));
    let mut shown: Vec<Expr> = Vec::with_capacity(schema.fields().len() + 1);
    for field in schema.fields() {
        shown.push(match field.name().as_str() {
            DATA_TYPE => function("standard_type_name", standard_name).call(vec![column(DATA_TYPE)]).alias(DATA_TYPE),
            name => column(name),
        });
    }
    shown.push(function("internal_type_name", |data_type| data_type.name().to_owned()).call(vec![column(DATA_TYPE)]).alias("udt_name"));
    let plan = LogicalPlanBuilder::scan(COLUMNS, provider_as_source(table), None)?.project(shown)?.build()?;
    Ok(ViewTable::new(plan, None))
}

/// A function of the name that Arrow has for a type. What Arrow or PostgreSQL does not know stays as it is.
fn function(name: &str, say: fn(&Type) -> String) -> ScalarUDF {
    let run = move |arguments: &[ColumnarValue]| {
        let arrays = ColumnarValue::values_to_arrays(arguments)?;
        let told = |text: &str| {
            text.parse::<DataType>().ok().and_then(|known| into_pg_type(&known).ok()).map_or_else(|| text.to_owned(), |known| say(&known))
        };
        let names: StringArray = arrays[0].as_string::<i32>().iter().map(|text| text.map(told)).collect();
        Ok(ColumnarValue::Array(Arc::new(names) as ArrayRef))
    };
    create_udf(name, vec![DataType::Utf8], DataType::Utf8, Volatility::Immutable, Arc::new(run))
}

/// What `information_schema` of PostgreSQL calls a type.
fn standard_name(data_type: &Type) -> String {
    let standard = match data_type.name() {
        "bool" => "boolean",
        "int2" => "smallint",
        "int4" => "integer",
        "int8" => "bigint",
        "float4" => "real",
        "float8" => "double precision",
        "time" => "time without time zone",
        "timestamp" => "timestamp without time zone",
        "timestamptz" => "timestamp with time zone",
        name if name.starts_with('_') => "ARRAY",
        name => name,
    };
    standard.to_owned()
}
