//! A town whose history is large enough to be shared, a server, and workers.

use std::sync::Arc;

use arrow::util::display::array_value_to_string;
use object_store::ObjectStore;
use object_store::memory::InMemory;
use object_store::path::Path;
use prometheus::Registry;
use rollcall_model::event::Kind;
use rollcall_model::ids::AccountId;
use rollcall_store::account::Role;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::distributed::{WorkerConfig, WorkerMetrics, Workers, WorkersConfig, run};
use crate::history::Place;
use crate::history::tests::town::{Town, config, district};
use crate::query::tables::event_tables;
use crate::query::{Caller, EngineConfig, GROUP_MIN, Limits, PrivacyKey, QueryEngine};

const TOKEN: &str = "a-token-of-at-least-thirty-two-letters";

/// The name of the town's store.
const STORE: &str = "mem://town";

pub fn token() -> String {
    TOKEN.to_owned()
}

/// Files of two districts, rows that are in the log only, and hot ones.
pub struct Field {
    pub town: Town,
    pub store: Arc<InMemory>,
    /// The engine without workers.
    pub alone: QueryEngine,
    stop: CancellationToken,
}

impl Drop for Field {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

pub struct Service {
    pub url: String,
    pub metrics: WorkerMetrics,
}

impl Field {
    /// Twelve files of two hundred rows of each of two districts, over six days.
    pub async fn new() -> Self {
        let store = Arc::new(InMemory::new());
        let mut town = Town::on(store.clone(), config());
        let mut seq = 0;
        let mut rows = |count: u64| -> Vec<(u8, u64)> {
            seq += count;
            (seq - count..seq).map(|seq| ((seq % 60) as u8, seq)).collect()
        };
        for day in 0..6 {
            for kind in [Kind::Scan, Kind::Telemetry] {
                for number in 0..2 {
                    town.append(kind, number, &rows(400), day);
                    town.history.flush().await.unwrap();
                }
            }
        }
        // The hot tables begin behind the files, and lose their oldest rows to the log.
        town.append(Kind::Scan, 0, &rows(50), 6);
        town.hot.begin_at(town.history.state().unwrap().next);
        town.move_window(2);
        town.append(Kind::Scan, 0, &rows(20), 6);
        let alone = engine(&town);
        Self { town, store, alone, stop: CancellationToken::new() }
    }

    /// A worker on the town's own store.
    pub async fn worker(&self) -> Service {
        self.worker_on(self.store.clone(), "history").await
    }

    pub async fn worker_on(&self, store: Arc<dyn ObjectStore>, folder: &str) -> Service {
        let place = Place::on(store, STORE, Path::from(folder)).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let metrics = WorkerMetrics::register(&Registry::new()).unwrap();
        let config = WorkerConfig { token: token(), memory_bytes: 64 << 20, spill_bytes: 1 << 30, spill_dir: None };
        tokio::spawn(run(place, config, metrics.clone(), listener, None, self.stop.clone()));
        Service { url, metrics }
    }

    /// A server with these workers, and what it says of them.
    pub fn server(&self, urls: &[&str], token: String) -> (QueryEngine, Registry) {
        let (engine, registry) = (engine(&self.town), Registry::new());
        let urls = urls.iter().map(|&url| url.to_owned()).collect();
        let config = WorkersConfig { urls, token, authority: None, shares_per_worker: 2, bytes_min: 0 };
        engine.share_with(Workers::new(config, &registry).unwrap());
        (engine, registry)
    }
}

fn engine(town: &Town) -> QueryEngine {
    let engine = QueryEngine::new(EngineConfig { threads: 2, ..EngineConfig::default() }).unwrap();
    event_tables(&town.hot, Some(&town.history)).into_iter().for_each(|table| engine.register(table));
    engine
}

pub fn caller(role: Role, district_number: u8) -> Caller {
    Caller {
        district: district(district_number),
        account: AccountId::from_bytes([9; 16]),
        role,
        schools: None,
        sections: None,
        students: None,
        privacy: PrivacyKey([7; 32]),
        group_min: GROUP_MIN,
    }
}

/// The rows as sorted text, and all that was said of them.
pub async fn ask(engine: &QueryEngine, caller: &Caller, sql: &str) -> (Vec<String>, Vec<String>) {
    use futures_util::StreamExt;
    let mut stream = engine.run(caller, sql, &Limits::default()).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    let mut rows = Vec::new();
    while let Some(batch) = stream.next().await {
        let batch = batch.unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        let text = |row| batch.columns().iter().map(|column| array_value_to_string(column, row).unwrap()).collect::<Vec<_>>().join(" ");
        rows.extend((0..batch.num_rows()).map(text));
    }
    rows.sort();
    let mut warnings = stream.warnings.clone();
    warnings.extend(stream.later_warnings());
    (rows, warnings)
}

/// The sum of a metric over the labels of which one has this value.
pub fn counted(registry: &Registry, name: &str, label: &str) -> f64 {
    let families = registry.gather();
    let metrics = families.iter().filter(|family| family.name() == name).flat_map(|family| family.get_metric());
    let labelled = metrics.filter(|metric| metric.get_label().iter().any(|pair| pair.value() == label));
    labelled.map(|metric| metric.get_counter().get_value() + metric.get_gauge().get_value()).sum()
}
