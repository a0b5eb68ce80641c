//! What of the log wakes a query that is kept: rows of the kinds that its plan reads and that its filters may let through.

use std::sync::Arc;
use std::time::Duration;

use rollcall_model::event::{Direction, Method};
use rollcall_model::ids::{BadgeId, DeviceId, DistrictId, Offset, PersonId, SchoolId};
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::UtcMillis;
use rollcall_store::account::Role;
use rollcall_stream::scan::{self, ScanRow};
use rollcall_stream::telemetry::{self, TelemetryRow};
use tokio::sync::watch;

use super::world::{caller, id, school_office};
use crate::hot::{HotConfig, HotTables};
use crate::hub::Hub;
use crate::query::live::{LiveConfig, LiveQueries};
use crate::query::tables::event_tables;
use crate::query::*;

const COUNT: &str = "select count(*) from scans";

struct World {
    hot: Arc<HotTables>,
    engine: QueryEngine,
    next: u64,
    now: UtcMillis,
}

impl World {
    fn new(batch_rows: usize) -> Self {
        let hot = HotTables::new(HotConfig { batch_rows, keep: Duration::from_secs(3_600), ..HotConfig::default() });
        let engine = QueryEngine::new(EngineConfig { threads: 2, ..EngineConfig::default() }).unwrap();
        event_tables(&hot, None).into_iter().for_each(|table| engine.register(table));
        Self { hot, engine, next: 0, now: UtcMillis(1_000_000) }
    }

    fn scan(&mut self, school: u8) {
        let now = self.now;
        let evidence = ScanEvidence {
            student: PersonId::from_bytes(id(4, 1)),
            device: DeviceId::from_bytes(id(6, school)),
            seq: self.next,
            ts: now,
            received: now,
            direction: Direction::In,
            offline: false,
            offset: Offset(0),
        };
        let (district, school) = (DistrictId::from_bytes(id(1, 1)), SchoolId::from_bytes(id(2, school)));
        let row = ScanRow { district, school, badge: BadgeId::from_bytes([5; 16]), method: Method::Qr, evidence };
        self.take(scan::encode(&[row]));
    }

    fn reading(&mut self) {
        let row = TelemetryRow {
            district: DistrictId::from_bytes(id(1, 1)),
            school: SchoolId::from_bytes(id(2, 1)),
            device: DeviceId::from_bytes(id(6, 1)),
            seq: self.next,
            ts: self.now,
            received: self.now,
            offline: false,
            person: None,
            metric: "battery",
            value: 0.5,
            offset: Offset(0),
        };
        self.take(telemetry::encode(&[row]));
    }

    fn take(&mut self, mut batch: rollcall_stream::EventBatch) {
        batch.first = Offset(self.next);
        self.next += 1;
        self.hot.take(&[batch], Offset(self.next), self.now);
    }

    /// What a caller's text reads, after it ran.
    async fn read(&self, caller: &Caller, sql: &str) -> Read {
        let mut stream = self.engine.run(caller, sql, &Limits::default()).await.unwrap();
        let reads = std::mem::take(&mut stream.reads);
        stream.collect().await.unwrap();
        assert_eq!(reads.len(), 1);
        reads.into_iter().next().unwrap()
    }

    fn has_news(&self, read: &Read) -> bool {
        let source = self.engine.source(&read.table).unwrap();
        read.scans.iter().any(|filters| source.has_news(&read.upto, filters))
    }
}

#[tokio::test]
async fn a_kind_moves_with_its_own_rows_only() {
    let mut world = World::new(8_192);
    let mut scans = world.engine.source("scans").unwrap().changed().remove(0);
    scans.mark_unchanged();
    world.reading();
    assert!(!scans.has_changed().unwrap());
    world.scan(1);
    assert!(scans.has_changed().unwrap());
    assert_eq!(*scans.borrow(), 2);
}

#[tokio::test]
async fn rows_of_another_school_are_no_news() {
    // Put together at once, and left as they came.
    for batch_rows in [2, 8_192] {
        let mut world = World::new(batch_rows);
        (0..5).for_each(|_| world.scan(1));
        let one = world.read(&school_office(), COUNT).await;
        let filtered = format!("{COUNT} where school = '{}'", uuid::Uuid::from_bytes(id(2, 1)));
        let named = world.read(&caller(Role::Office), &filtered).await;
        let all = world.read(&caller(Role::Office), COUNT).await;
        let by_clock = world.read(&school_office(), &format!("{COUNT} where ts < now()")).await;
        assert_eq!(one.upto, [5]);
        (0..5).for_each(|_| world.scan(2));
        world.reading();
        let news = [&one, &named, &all, &by_clock].map(|read| world.has_news(read));
        assert_eq!(news, [false, false, true, true], "what moves with the clock is computed with everything that comes");
        world.scan(1);
        assert!(world.has_news(&one) && world.has_news(&named));
    }
}

#[tokio::test]
async fn rows_that_leave_are_news_where_nothing_else_keeps_them() {
    let mut world = World::new(2);
    (0..6).for_each(|_| world.scan(1));
    let read = world.read(&school_office(), COUNT).await;
    assert!(!world.has_news(&read));
    world.now = world.now.plus_ms(2 * 3_600_000);
    world.scan(2);
    assert!(world.has_news(&read));
}

#[tokio::test]
async fn a_live_query_follows_its_own_school() {
    let mut world = World::new(8_192);
    world.scan(1);
    let registry = prometheus::Registry::new();
    let hub = Hub::new(UtcMillis(1));
    let interval = Duration::from_millis(1);
    let config = LiveConfig { interval, interval_groups: interval, ..LiveConfig::default() };
    let live = LiveQueries::new(&world.engine, hub.clone(), config, watch::channel(false).1, &registry).unwrap();
    let following = live.follow(&school_office(), COUNT).await.unwrap();
    let mut subscription = hub.subscribe(&following.topic, None);
    subscription.next().await.unwrap();
    for school in [2, 3, 1, 2] {
        world.scan(school);
    }
    let update = tokio::time::timeout(Duration::from_secs(20), subscription.next()).await.unwrap().unwrap();
    let update: serde_json::Value = serde_json::from_slice(update.data()).unwrap();
    assert_eq!(update, serde_json::json!({"rows": {"[]": [2]}}));
}

#[tokio::test]
async fn the_clock_can_be_asked() {
    let world = World::new(8_192);
    let sql = "select now() > timestamp '2020-01-01T00:00:00Z', current_date = cast(now() as date)";
    assert_eq!(super::world::one(&world.engine, &caller(Role::Office), sql).await, "true true");
}
