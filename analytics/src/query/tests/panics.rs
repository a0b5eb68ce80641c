//! A step that panics ends the query with an error: rows that came before it are not taken for all.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::TableProvider;
use datafusion::catalog::streaming::StreamingTable;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures_util::stream;
use rollcall_store::account::Role;

use super::world::{caller, engine, id, rows};
use crate::query::ids::ID;
use crate::query::{About, QueryError, ScopeColumns, TableSource};

#[derive(Debug)]
struct Panicking(SchemaRef);

impl PartitionStream for Panicking {
    fn schema(&self) -> &SchemaRef {
        &self.0
    }

    fn execute(&self, _: Arc<TaskContext>) -> SendableRecordBatchStream {
        let schema = Arc::clone(&self.0);
        let district = arrow::array::FixedSizeBinaryArray::try_from_iter([id(1, 1)].into_iter()).unwrap();
        let first = arrow::array::RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(district)]).unwrap();
        let mut first = Some(first);
        Box::pin(RecordBatchStreamAdapter::new(
            schema,
            stream::poll_fn(move |_| match first.take() {
                Some(batch) => std::task::Poll::Ready(Some(Ok(batch))),
                None => panic!("a step of a test"),
            }),
        ))
    }
}

struct Table(SchemaRef);

impl TableSource for Table {
    fn name(&self) -> &str {
        "panics"
    }
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.0)
    }
    fn documentation(&self) -> &str {
        "Gives a row and panics."
    }
    fn column_documentation(&self, _: &str) -> Option<&str> {
        None
    }
    fn scope(&self) -> ScopeColumns {
        ScopeColumns { about: About::Structure, district: "district", school: None, section: None, person: None, identifying: &[] }
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        Arc::new(StreamingTable::try_new(Arc::clone(&self.0), vec![Arc::new(Panicking(Arc::clone(&self.0)))]).unwrap())
    }
}

#[tokio::test]
async fn a_step_that_panics_ends_the_query_with_an_error() {
    let engine = engine();
    let schema = Arc::new(Schema::new(vec![Field::new("district", DataType::clone(&ID), false)]));
    engine.register(Arc::new(Table(schema)));
    for sql in
        ["select * from panics", "select count(*) from panics", "select count(*) from panics a join panics b on a.district = b.district"]
    {
        let ended = rows(&engine, &caller(Role::Office), sql).await;
        assert!(matches!(ended, Err(QueryError::Failed(_))), "{sql}: {ended:?}");
    }
    // The thread goes on.
    assert!(rows(&engine, &caller(Role::Office), "select 1").await.is_ok());
}
