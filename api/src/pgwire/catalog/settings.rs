//! `pg_settings`, with the settings that `SHOW` knows: drivers look limits up there.

use std::sync::Arc;

use arrow::array::{ArrayRef, StringArray, new_null_array};
use arrow::record_batch::RecordBatch;
use async_trait::async_trait;
use datafusion::catalog::{SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use datafusion::datasource::MemTable;

use crate::pgwire::word::SETTINGS;

const NAME: &str = "pg_settings";

/// The catalog's schema with the settings of this door.
#[derive(Debug)]
pub struct WithSettings {
    inner: Arc<dyn SchemaProvider>,
}

impl WithSettings {
    pub fn new(inner: Arc<dyn SchemaProvider>) -> Self {
        Self { inner }
    }
}

#[async_trait]
impl SchemaProvider for WithSettings {
    fn table_names(&self) -> Vec<String> {
        self.inner.table_names()
    }

    async fn table(&self, name: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        match self.inner.table(name).await? {
            Some(table) if name == NAME => Ok(Some(Arc::new(filled(table.as_ref())?))),
            table => Ok(table),
        }
    }

    fn table_exist(&self, name: &str) -> bool {
        self.inner.table_exist(name)
    }
}

/// The table's columns, with a row for each setting.
fn filled(table: &dyn TableProvider) -> Result<MemTable, DataFusionError> {
    let schema = table.schema();
    let column = |name: &str| -> Option<ArrayRef> {
        let texts = |of: fn(&(&'static str, &'static str)) -> &'static str| StringArray::from_iter_values(SETTINGS.iter().map(of));
        match name {
            "name" => Some(Arc::new(texts(|(name, _)| name))),
            "setting" => Some(Arc::new(texts(|(_, value)| value))),
            _ => None,
        }
    };
    let fields = schema.fields().iter();
    let columns = fields.map(|field| column(field.name()).unwrap_or_else(|| new_null_array(field.data_type(), SETTINGS.len())));
    let batch = RecordBatch::try_new(schema.clone(), columns.collect())?;
    MemTable::try_new(schema, vec![vec![batch]])
}
