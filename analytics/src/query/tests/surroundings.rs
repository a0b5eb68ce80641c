//! What a door adds to the tables ends with the connection that it was made for.

use std::sync::Arc;

use async_trait::async_trait;
use datafusion::catalog::{CatalogProviderList, SchemaProvider, TableProvider};
use datafusion::common::DataFusionError;
use futures_util::StreamExt;
use rollcall_store::account::Role;

use super::world::{caller, engine};
use crate::query::{Limits, Question};

/// A schema that describes the catalog in which it stands, as PostgreSQL's does.
#[derive(Debug)]
struct Describes {
    catalogs: Arc<dyn CatalogProviderList>,
    _alive: Arc<()>,
}

#[async_trait]
impl SchemaProvider for Describes {
    fn table_names(&self) -> Vec<String> {
        Vec::new()
    }
    async fn table(&self, _: &str) -> Result<Option<Arc<dyn TableProvider>>, DataFusionError> {
        let catalog = self.catalogs.catalog("rollcall").expect("the catalog is there while it is asked");
        catalog.schema("public").expect("with the tables' schema").table("events").await
    }
    fn table_exist(&self, _: &str) -> bool {
        true
    }
}

#[tokio::test]
async fn surroundings_are_forgotten_with_their_last_copy() {
    let (engine, asks, alive) = (engine(), caller(Role::Office), Arc::new(()));
    let around = engine.surroundings(&asks, |context| {
        let schema = Describes { catalogs: context.state().catalog_list().clone(), _alive: alive.clone() };
        context.catalog("rollcall").unwrap().register_schema("more", Arc::new(schema)).map(drop)
    });
    let around = around.unwrap_or_else(|error| panic!("{error}"));
    let question = Question { sql: "select count(*) from more.anything", around: Some(&around), ..Question::default() };
    let stream = engine.ask(&asks, &question, &Limits::default()).await.unwrap();
    // A question that runs has a copy.
    drop(around);
    let counted: usize = stream.map(|batch| batch.unwrap().num_rows()).collect::<Vec<_>>().await.iter().sum();
    assert_eq!(counted, 1);
    let until_alone = async {
        while Arc::strong_count(&alive) > 1 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(10), until_alone).await.expect("the catalog stays in memory for ever");
}
