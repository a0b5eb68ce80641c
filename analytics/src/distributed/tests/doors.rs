//! Who may ask a worker, and for what.

use std::sync::Arc;

use rollcall_store::account::Role;

use super::field::{Field, ask, caller, counted, token};
use crate::distributed::{Workers, WorkersConfig};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_does_nothing_for_who_does_not_know_its_token() {
    let field = Field::new().await;
    let worker = field.worker().await;
    let (server, registry) = field.server(&[&worker.url], token().replace('a', "b"));
    let (rows, warnings) = ask(&server, &caller(Role::Office, 0), "select count(*) from scans").await;
    assert_eq!(rows, ["2470"]);
    assert_eq!(warnings.len(), 1, "{warnings:?}");
    assert!(worker.metrics.refused.get() > 0);
    assert_eq!((worker.metrics.shares.get(), worker.metrics.rows.get()), (0, 0));
    assert_eq!(counted(&registry, "rollcall_query_worker_rows_total", &worker.url), 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_worker_reads_nothing_outside_its_place() {
    let field = Field::new().await;
    let worker = field.worker_on(field.store.clone(), "history/other").await;
    let (server, _) = field.server(&[&worker.url], token());
    let (rows, warnings) = ask(&server, &caller(Role::Office, 0), "select count(*), max(seq) from scans where seq >= 0").await;
    assert_eq!((rows.len(), warnings.len()), (1, 1), "{rows:?} {warnings:?}");
    assert!(worker.metrics.refused.get() > 0);
    assert_eq!(worker.metrics.shares.get(), 0);
}

#[test]
fn what_would_show_the_token_or_be_guessed_is_refused() {
    let config =
        |url: &str, token: String| WorkersConfig { urls: vec![url.to_owned()], token, authority: None, shares_per_worker: 1, bytes_min: 0 };
    let cases = [
        ("http://127.0.0.1:1", "short".to_owned(), "at least 32"),
        ("http://127.0.0.1:1", "x".repeat(31) + " y", "without spaces"),
        ("http://192.0.2.1:1", token(), "by https only"),
        ("http://far:1", token(), "by https only"),
        ("https://far:1", token(), "authority"),
        ("ftp://localhost:1", token(), "https://"),
        ("far", token(), "no address"),
    ];
    for (url, token, expected) in cases {
        let error = Workers::new(config(url, token), &prometheus::Registry::new()).map(Arc::into_inner).unwrap_err().to_string();
        assert!(error.contains(expected), "{url}: {error}");
    }
    for url in ["http://127.0.0.1:1", "http://localhost:1", "http://[::1]:1"] {
        config(url, token()).check().unwrap();
    }
}
