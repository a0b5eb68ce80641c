//! Workers that do not do their work: the answer is the same and says so.

use std::sync::Arc;

use futures_util::StreamExt;
use object_store::memory::InMemory;
use object_store::{ObjectStore, ObjectStoreExt};
use rollcall_store::account::Role;
use tokio::net::TcpListener;

use super::field::{Field, ask, caller, counted, token};

const QUESTIONS: [&str; 4] = [
    "select count(*), sum(seq) from scans",
    "select school, count(distinct person) from scans group by school",
    "select seq, person, ts, dir from scans",
    "select seq from scans order by seq limit 9",
];

/// An address where nobody listens.
async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_an_absent_worker_would_have_done_the_server_does() {
    let field = Field::new().await;
    let (worker, absent) = (field.worker().await, nobody().await);
    let office = caller(Role::Office, 0);
    for urls in [vec![absent.as_str()], vec![worker.url.as_str(), absent.as_str()]] {
        for sql in QUESTIONS {
            let (server, registry) = field.server(&urls, token());
            let (rows, warnings) = ask(&server, &office, sql).await;
            assert_eq!(rows, ask(&field.alone, &office, sql).await.0, "{sql}");
            assert!(warnings.len() == 1 && warnings[0].contains("a worker did not answer"), "{warnings:?}");
            assert!(counted(&registry, "rollcall_query_worker_shares_total", "failed") >= 1.0);
            assert_eq!(counted(&registry, "rollcall_query_worker_resting", &absent), 1.0);
            // It rests now: the others have all of the next query, or the server alone, which is said too.
            let (rows, warnings) = ask(&server, &office, sql).await;
            assert_eq!(rows, ask(&field.alone, &office, sql).await.0, "{sql}");
            assert_eq!(warnings.len(), usize::from(urls.len() == 1), "{warnings:?}");
        }
    }
}

/// A worker that lacks the last files gives rows of the first ones before it fails.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_came_before_a_worker_failed_are_not_given_twice() {
    let field = Field::new().await;
    let part = Arc::new(InMemory::new());
    let mut objects: Vec<_> = field.store.list(None).map(|meta| meta.unwrap().location).collect().await;
    objects.sort();
    let lacking = objects.iter().filter(|path| path.as_ref().contains("scans/") && path.as_ref().contains("03-07")).count();
    assert!(lacking >= 2, "the last files but one are not there: {objects:?}");
    for path in objects.iter().filter(|path| !path.as_ref().contains("03-07")) {
        let bytes = field.store.get(path).await.unwrap().bytes().await.unwrap();
        part.put(path, bytes.into()).await.unwrap();
    }
    let worker = field.worker_on(part, "history").await;
    let (server, registry) = field.server(&[&worker.url], token());
    let office = caller(Role::Office, 0);
    for sql in QUESTIONS {
        let (rows, warnings) = ask(&server, &office, sql).await;
        assert_eq!(rows, ask(&field.alone, &office, sql).await.0, "{sql}");
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }
    assert!(counted(&registry, "rollcall_query_worker_shares_total", "failed") >= 4.0);
    assert!(counted(&registry, "rollcall_query_worker_rows_total", &worker.url) >= 200.0, "it gave rows before it failed");
    assert_eq!(counted(&registry, "rollcall_query_worker_resting", &worker.url), 0.0, "it answers, so it is asked again");
}
