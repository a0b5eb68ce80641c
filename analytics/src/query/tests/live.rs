//! Live queries on a table that grows.

use std::sync::Arc;
use std::time::Duration;

use arrow::datatypes::SchemaRef;
use datafusion::catalog::TableProvider;
use parking_lot::Mutex;
use rollcall_model::ids::AccountId;
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::world::{Event, Table, caller, engine_with, events, id, school_office};
use crate::hub::{Hub, Subscription, Update};
use crate::query::live::{Following, LiveConfig, LiveQueries};
use crate::query::*;

const BY_SCHOOL: &str = "select school, count(*) as n from grows group by school";

/// A table that tells when it has changed.
struct Grows {
    shape: Arc<Table>,
    events: Mutex<Vec<Event>>,
    changed: watch::Sender<u64>,
}

impl Grows {
    fn add(&self, event: Event) {
        self.events.lock().push(event);
        self.changed.send_modify(|changes| *changes += 1);
    }
}

struct Source(Arc<Grows>);

impl TableSource for Source {
    fn name(&self) -> &str {
        "grows"
    }
    fn schema(&self) -> SchemaRef {
        self.0.shape.schema()
    }
    fn documentation(&self) -> &str {
        self.0.shape.documentation()
    }
    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.0.shape.column_documentation(column)
    }
    fn scope(&self) -> ScopeColumns {
        self.0.shape.scope()
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        Table::new("grows", About::Students, &self.0.events.lock()).provider()
    }
    fn changed(&self) -> Vec<watch::Receiver<u64>> {
        vec![self.0.changed.subscribe()]
    }
}

struct World {
    engine: QueryEngine,
    grows: Arc<Grows>,
    hub: Hub,
    live: LiveQueries,
    registry: prometheus::Registry,
    pressed: watch::Sender<bool>,
}

fn world(config: LiveConfig) -> World {
    let engine = engine_with(EngineConfig { threads: 2, ..EngineConfig::default() }, &events());
    let grows =
        Arc::new(Grows { shape: Table::new("grows", About::Students, &[]), events: Mutex::new(events()), changed: watch::Sender::new(0) });
    engine.register(Arc::new(Source(grows.clone())));
    let hub = Hub::new(UtcMillis(1));
    let registry = prometheus::Registry::new();
    let (pressed, is_pressed) = watch::channel(false);
    let live = LiveQueries::new(&engine, hub.clone(), config, is_pressed, &registry).unwrap();
    World { engine, grows, hub, live, registry, pressed }
}

fn quick() -> LiveConfig {
    let interval = Duration::from_millis(1);
    LiveConfig { interval, interval_groups: interval, ..LiveConfig::default() }
}

impl World {
    async fn follow(&self, caller: &Caller, sql: &str) -> (Following, Subscription, Value) {
        let following = self.live.follow(caller, sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let mut subscription = self.hub.subscribe(&following.topic, None);
        let snapshot = next(&mut subscription).await;
        (following, subscription, snapshot)
    }

    fn runs(&self, outcome: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == "rollcall_live_sql_runs_total");
        let metrics = family.map(|family| family.get_metric()).unwrap_or_default();
        metrics.iter().filter(|metric| metric.get_label()[0].value() == outcome).map(|metric| metric.get_counter().get_value() as u64).sum()
    }

    fn count(&self, name: &str) -> u64 {
        let families = self.registry.gather();
        let family = families.iter().find(|family| family.name() == name).unwrap();
        family.get_metric().iter().map(|metric| (metric.get_counter().get_value() + metric.get_gauge().get_value()) as u64).sum()
    }
}

/// The data of the next update.
async fn next(subscription: &mut Subscription) -> Value {
    let update = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.expect("no update within 20 s");
    serde_json::from_slice(update.expect("the topic ended").data()).unwrap()
}

fn key(school: u8) -> String {
    format!("[\"{}\"]", uuid::Uuid::from_bytes(id(2, school)))
}

#[tokio::test]
async fn only_what_changes_follows_the_result() {
    let world = world(quick());
    let (_following, mut subscription, snapshot) = world.follow(&caller(Role::Office), BY_SCHOOL).await;
    let school = |number: u8| uuid::Uuid::from_bytes(id(2, number)).to_string();
    assert_eq!(snapshot["rows"], json!({key(1): [school(1), 40], key(2): [school(2), 40]}), "the own district only");
    assert_eq!(snapshot["result"]["columns"], json!([{"name": "school", "type": "Utf8"}, {"name": "n", "type": "Int64"}]));
    world.grows.add((1, 2, 13, 39, 5));
    assert_eq!(next(&mut subscription).await, json!({"rows": {key(2): [school(2), 41]}}));
    world.grows.add((1, 5, 13, 39, 5));
    assert_eq!(next(&mut subscription).await, json!({"rows": {key(5): [school(5), 1]}}));
    world.grows.events.lock().retain(|event| event.1 != 5);
    world.grows.add((2, 3, 20, 100, 5));
    assert_eq!(next(&mut subscription).await, json!({"rows": {key(5): null}}));
}

/// Grows like the other and tells nobody.
struct Silent(Source);

impl TableSource for Silent {
    fn name(&self) -> &str {
        "silent"
    }
    fn schema(&self) -> SchemaRef {
        self.0.schema()
    }
    fn documentation(&self) -> &str {
        self.0.documentation()
    }
    fn column_documentation(&self, column: &str) -> Option<&str> {
        self.0.column_documentation(column)
    }
    fn scope(&self) -> ScopeColumns {
        self.0.scope()
    }
    fn provider(&self) -> Arc<dyn TableProvider> {
        Table::new("silent", About::Students, &self.0.0.events.lock()).provider()
    }
}

#[tokio::test]
async fn a_table_that_does_not_tell_is_read_again_and_the_result_says_so() {
    let world = world(LiveConfig { reread: Duration::from_millis(20), ..quick() });
    world.engine.register(Arc::new(Silent(Source(world.grows.clone()))));
    let both = "select s.school, count(*) from silent s join grows g on g.person = s.person and g.minutes = s.minutes group by s.school";
    for sql in ["select school, count(*) from silent group by school", both] {
        let (_following, mut subscription, snapshot) = world.follow(&caller(Role::Office), sql).await;
        let warnings = snapshot["result"]["warnings"].as_array().unwrap();
        assert!(warnings.len() == 1 && warnings[0].as_str().unwrap().starts_with("silent does not say when it changes"), "{snapshot}");
        // Nobody is told: the event is put in without a change of the count.
        world.grows.events.lock().push((1, 7, 13, 91, 5));
        let delta = next(&mut subscription).await;
        assert_eq!(delta["rows"][key(7)][1], 1, "{delta}");
        world.grows.events.lock().pop();
    }
    let (_following, _, snapshot) = world.follow(&caller(Role::Office), BY_SCHOOL).await;
    assert_eq!(snapshot["result"]["warnings"], json!([]));
}

#[tokio::test]
async fn equal_texts_of_equal_scope_are_computed_once() {
    let world = world(quick());
    let office = caller(Role::Office);
    let colleague = Caller { account: AccountId::from_bytes([8; 16]), ..office.clone() };
    let (first, _one, _) = world.follow(&office, BY_SCHOOL).await;
    let (second, _two, snapshot) = world.follow(&colleague, "SELECT school, count(*) AS n\nFROM grows -- all\nGROUP BY school").await;
    assert_eq!(first.topic, second.topic);
    let (narrow, _three, of_school) = world.follow(&school_office(), BY_SCHOOL).await;
    assert_ne!(first.topic, narrow.topic);
    assert_eq!((snapshot["rows"].as_object().unwrap().len(), of_school["rows"].as_object().unwrap().len()), (2, 1));
    assert_eq!(world.count("rollcall_live_sql_queries"), 2);
    drop(first);
    assert_eq!(world.count("rollcall_live_sql_queries"), 2, "a colleague still follows it");
    drop((second, narrow));
    assert_eq!(world.count("rollcall_live_sql_queries"), 0);
}

#[tokio::test]
async fn many_changes_are_computed_at_most_once_an_interval() {
    let interval = Duration::from_millis(250);
    let world = world(LiveConfig { interval, ..quick() });
    let began = std::time::Instant::now();
    let (_following, mut subscription, _) = world.follow(&caller(Role::Office), BY_SCHOOL).await;
    for person in 0..200 {
        world.grows.add((1, 2, 13, person, 5));
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let last = uuid::Uuid::from_bytes(id(2, 2)).to_string();
    while next(&mut subscription).await != json!({"rows": {key(2): [last, 240]}}) {}
    let intervals = began.elapsed().as_millis() / interval.as_millis();
    assert!((2..=intervals as u64 + 2).contains(&world.runs("done")), "{} runs in {intervals} intervals", world.runs("done"));
}

#[tokio::test]
async fn a_role_without_student_rights_follows_figures_about_groups() {
    let world = world(quick());
    let analyst = caller(Role::Analyst);
    let (_following, mut subscription, snapshot) = world.follow(&analyst, BY_SCHOOL).await;
    assert_eq!(snapshot["rows"].as_object().unwrap().len(), 2);
    assert!(snapshot["result"]["warnings"][0].as_str().unwrap().contains("fewer than 10"), "{snapshot}");
    // One student of a third school: no row comes of it, but the figure that changes at the same time does.
    world.grows.add((1, 6, 19, 77, 5));
    for person in 200..230 {
        world.grows.add((1, 2, 13, person, 5));
    }
    while next(&mut subscription).await["rows"].get(key(2)).is_none() {}
    let again = serde_json::from_slice::<Value>(
        &world.hub.snapshot(&world.live.follow(&analyst, BY_SCHOOL).await.unwrap().topic).await.unwrap().data,
    )
    .unwrap();
    assert!(again["rows"].get(key(6)).is_none(), "{again}");
    let single = world.live.follow(&analyst, "select * from grows").await;
    assert!(matches!(single, Err(QueryError::Refused { .. })));
    let guardian = world.live.follow(&caller(Role::Guardian), BY_SCHOOL).await;
    assert!(matches!(guardian, Err(QueryError::Forbidden)));
}

#[tokio::test]
async fn bounds_are_kept_and_errors_have_their_place() {
    let world = world(LiveConfig { queries_max: 2, per_account_max: 2, ..quick() });
    let office = caller(Role::Office);
    match world.live.follow(&office, "select schol from grows").await {
        Err(QueryError::Invalid { place, .. }) => assert_eq!(place, Some(Place { line: 1, column: 8 })),
        other => panic!("{:?}", other.err()),
    }
    let rows = world.live.follow(&office, "select value from generate_series(1, 5000)").await;
    assert!(matches!(rows, Err(QueryError::Limit { bound: Bound::Rows, .. })));
    let _first = world.live.follow(&office, "select 1").await.unwrap();
    let second = world.live.follow(&office, "select 2").await.unwrap();
    assert!(matches!(world.live.follow(&office, "select 1").await, Err(QueryError::Refused { .. })), "the account's own bound");
    let colleague = Caller { account: AccountId::from_bytes([8; 16]), ..office.clone() };
    assert!(matches!(world.live.follow(&colleague, "select 3").await, Err(QueryError::Busy)), "the bound of all");
    assert!(world.live.follow(&colleague, "select 1").await.is_ok(), "what runs already may be followed");
    drop(second);
    assert!(world.live.follow(&office, "select 3").await.is_ok());
}

#[tokio::test]
async fn nothing_is_computed_while_boards_are_behind_and_then_the_costliest_ends() {
    let world = world(LiveConfig {
        patience: Duration::from_millis(50),
        limits: Limits { time: Duration::from_secs(60), ..Limits::default() },
        ..quick()
    });
    let office = caller(Role::Office);
    let (following, mut subscription, _) = world.follow(&office, BY_SCHOOL).await;
    let runs = |outcome: &str| world.runs(outcome);
    assert_eq!(runs("done"), 1);
    // One that takes long is cancelled as soon as boards are behind.
    let long = "select count(*) from generate_series(1, 1000000) a cross join generate_series(1, 1000000) b where a.value + b.value < 0";
    let (live, asks) = (world.live.clone(), office.clone());
    let bomb = tokio::spawn(async move { live.follow(&asks, long).await.map(drop) });
    while world.count("rollcall_live_sql_running") == 0 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    world.pressed.send_replace(true);
    world.grows.add((1, 2, 13, 39, 5));
    // Nobody but the pressure ends it: the one that has cost most, and then the other.
    assert!(matches!(tokio::time::timeout(Duration::from_secs(20), subscription.next()).await, Ok(None)));
    assert!(matches!(following.ended(), Some(QueryError::Pressed)));
    assert!(matches!(tokio::time::timeout(Duration::from_secs(20), bomb).await.unwrap().unwrap(), Err(QueryError::Pressed)));
    assert_eq!((world.count("rollcall_live_sql_relieved_total"), world.count("rollcall_live_sql_queries")), (2, 0));
    assert_eq!((runs("cancelled"), runs("done")), (1, 1), "none ran meanwhile");
    world.pressed.send_replace(false);
    let (_again, _subscription, snapshot) = world.follow(&office, BY_SCHOOL).await;
    assert_eq!(snapshot["rows"][key(2)][1], 41);
}

#[tokio::test]
async fn a_delta_brings_a_state_to_what_a_snapshot_says() {
    let world = world(quick());
    let office = caller(Role::Office);
    let sql = "select word, minutes from grows where minutes > 30 order by minutes desc, word limit 7";
    let (following, mut subscription, mut held) = world.follow(&office, sql).await;
    for minutes in 50..80 {
        world.grows.add((1, 1, 10, 1, minutes));
        let Update::Delta { data, .. } = subscription.next().await.unwrap() else { panic!("a snapshot in between") };
        let delta: Value = serde_json::from_slice(&data).unwrap();
        for (collection, entries) in delta.as_object().unwrap() {
            for (key, value) in entries.as_object().unwrap() {
                let held = held[collection].as_object_mut().unwrap();
                if value.is_null() {
                    held.remove(key)
                } else {
                    held.insert(key.clone(), value.clone())
                };
            }
        }
    }
    let whole: Value = serde_json::from_slice(&world.hub.snapshot(&following.topic).await.unwrap().data).unwrap();
    assert_eq!(held, whole);
    let order = whole["result"]["order"].as_array().unwrap();
    let minutes: Vec<i64> = order.iter().map(|key| whole["rows"][key.as_str().unwrap()][1].as_i64().unwrap()).collect();
    assert_eq!(minutes, [79, 78, 77, 76, 75, 74, 73]);
}
