//! The same answers as on one machine.

use std::collections::BTreeSet;

use futures_util::StreamExt;
use rollcall_model::ids::SchoolId;
use rollcall_store::account::Role;

use super::field::{Field, ask, caller, counted, token};
use crate::history::tests::town::person;
use crate::query::{Caller, Limits};

/// Of single rows, groups, orders, joins, the seam, and what DataFusion does beside.
const QUESTIONS: [&str; 17] = [
    "select count(*), count(distinct \"offset\"), sum(seq), min(ts), max(ts), min(dir) from scans",
    "select school, count(*), sum(seq), avg(seq) from scans group by school",
    "select date_trunc('day', ts) as day, count(*), count(distinct person) from scans group by 1",
    "select seq, ts, person, dir, method, badge from scans where seq % 37 = 5",
    "select * from scans where ts >= timestamp '2026-03-04T00:00:00Z' and ts < timestamp '2026-03-05T00:00:00Z'",
    "select seq from scans order by seq desc limit 7",
    "select person, ts from scans order by ts, seq limit 25 offset 10",
    "select distinct device, school from telemetry",
    "select metric, count(*), stddev(value), approx_distinct(person) from telemetry group by metric",
    "select count(*) from scans s join telemetry t on s.person = t.person where s.seq < 40 and t.seq < 900",
    "select s.school, count(*) from scans s left join telemetry t on s.device = t.device and s.seq = t.seq group by 1",
    "select school, count(*) from scans group by school having count(*) > (select count(*) / 4 from scans)",
    "select person, row_number() over (partition by school order by seq) from scans where seq < 200",
    "with late as (select * from scans where seq > 2000) select count(*) from late union all select max(seq) from telemetry",
    "select repeat(dir, 2), upper(method), count(*) from scans group by 1, 2",
    "select count(*) from telemetry where value > 5",
    "select percentile_cont(0.5) within group (order by seq) from scans",
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_two_workers_all_answers_are_those_of_one_machine() {
    let field = Field::new().await;
    let (one, other) = (field.worker().await, field.worker().await);
    let (server, registry) = field.server(&[&one.url, &other.url], token());
    let schools = Some(BTreeSet::from([SchoolId::from_bytes([1; 16])]));
    let callers = [
        caller(Role::Office, 0),
        caller(Role::Office, 1),
        Caller { schools, ..caller(Role::Office, 0) },
        Caller { role: Role::Teacher, students: Some(BTreeSet::from([person(2), person(31)])), ..caller(Role::Office, 0) },
    ];
    for caller in &callers {
        for sql in QUESTIONS {
            let expected = ask(&field.alone, caller, sql).await;
            assert_eq!(ask(&server, caller, sql).await, expected, "{sql} for {caller:?}");
            assert!(expected.1.is_empty(), "{expected:?}");
        }
    }
    for worker in [&one, &other] {
        assert!(worker.metrics.shares.get() > 100, "both worked: {}", worker.metrics.shares.get());
        assert!(counted(&registry, "rollcall_query_worker_rows_total", &worker.url) > 1_000.0);
    }
    assert_eq!(counted(&registry, "rollcall_query_worker_shares_total", "failed"), 0.0, "nothing was done twice");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analysts_figures_are_the_same_and_no_key_leaves_the_server() {
    let field = Field::new().await;
    let worker = field.worker().await;
    let (server, registry) = field.server(&[&worker.url], token());
    let analyst = caller(Role::Analyst, 0);
    let questions = [
        "select count(*), count(distinct person), sum(value), avg(value) from telemetry",
        "select school, count(*), count(distinct person) from scans group by school",
        "select date_trunc('day', ts), dir, count(*) from scans group by 1, 2",
        // How many values enough students have, with states of both sides of the seam.
        "select school, count(distinct dir), count(distinct date_trunc('day', ts)), count(distinct person) from scans group by school",
        "select count(distinct metric), count(distinct value), count(distinct case when value > 5 then person end) from telemetry",
        // Groups of few students, which are left out.
        "select ts, count(*) from scans group by ts",
    ];
    for sql in questions {
        assert_eq!(ask(&server, &analyst, sql).await, ask(&field.alone, &analyst, sql).await, "{sql}");
    }
    let done = counted(&registry, "rollcall_query_worker_shares_total", "done");
    assert!(done >= 8.0 && counted(&registry, "rollcall_query_worker_shares_total", "failed") == 0.0, "{done}");
    let refused = server.run(&analyst, "select person, ts from scans", &Limits::default()).await.err().expect("rows of students");
    assert_eq!(refused.code(), "sql_refused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn explain_shows_what_runs_elsewhere() {
    let field = Field::new().await;
    let worker = field.worker().await;
    let (server, _) = field.server(&[&worker.url], token());
    let plan =
        ask(&server, &caller(Role::Office, 0), "explain select school, sum(seq) from scans where seq > 3 group by 1").await.0.concat();
    let (_, share) = plan.split_once("SharedExec").expect("a share in the plan");
    assert!(share.contains("mode=Partial") && plan.contains("HotScan") && plan.contains("StreamingTableExec"), "{plan}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_hold_and_a_query_that_is_dropped_leaves_nothing_at_the_worker() {
    let field = Field::new().await;
    let worker = field.worker().await;
    let (server, _) = field.server(&[&worker.url], token());
    let office = caller(Role::Office, 0);
    let few = Limits { rows: 100, ..Limits::default() };
    let error = server.run(&office, "select seq from scans", &few).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.code(), "sql_limit");
    let sql = "select 1 / (seq - seq) from scans";
    let error = server.run(&office, sql, &Limits::default()).await.unwrap().collect().await.unwrap_err();
    assert_eq!(error.code(), "sql_data", "the error of the data is told as on one machine: {error}");
    let mut pairs = server.run(&office, "select * from scans s, telemetry t", &Limits::default()).await.unwrap();
    pairs.next().await.expect("millions of rows").unwrap();
    assert!(worker.metrics.rows.get() > 0);
    drop(pairs);
    let gone = async {
        while worker.metrics.running.get() > 0 {
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(20), gone).await.expect("the worker stops what nobody wants");
}
