//! The hub's promises: what a client holds is what a new snapshot says, whatever its pace.

use proptest::prelude::*;
use serde_json::{Map, Value as Json, json};

use super::*;

const TOPIC: &str = "section/1/attendance";
const STARTED: UtcMillis = UtcMillis(1_795_238_283_412);

fn live() -> Hub {
    let hub = Hub::new(STARTED);
    drop(hub.subscribe(TOPIC, None));
    assert_eq!(hub.take_wanted().len(), 1);
    hub.replace(TOPIC, Changes::new().declare("students").clone());
    hub
}

fn set(key: &str, value: u32) -> Changes {
    Changes::new().set("students", key, value).clone()
}

fn now(hub: &Hub) -> Json {
    let update = hub.subscribe(TOPIC, None).try_next().unwrap();
    serde_json::from_slice(update.data()).unwrap()
}

/// A client as the protocol describes it.
#[derive(Default)]
struct Client {
    version: Option<u64>,
    data: Map<String, Json>,
}

impl Client {
    fn apply(&mut self, update: &Update) {
        let data: Map<String, Json> = serde_json::from_slice(update.data()).unwrap();
        match update {
            Update::Snapshot { .. } => self.data = data,
            Update::Delta { from, version, .. } => {
                assert_eq!(Some(*from), self.version);
                assert!(version > from);
                for (name, keys) in data {
                    let collection = self.data.entry(name).or_insert_with(|| json!({}));
                    for (key, value) in keys.as_object().unwrap() {
                        let collection = collection.as_object_mut().unwrap();
                        match value {
                            Json::Null => collection.remove(key),
                            value => collection.insert(key.clone(), value.clone()),
                        };
                    }
                }
            }
        }
        self.version = Some(update.version());
    }
}

#[tokio::test]
async fn a_wanted_topic_is_primed_by_its_publisher() {
    let hub = Hub::new(STARTED);
    let waiting = {
        let hub = hub.clone();
        tokio::spawn(async move { hub.snapshot(TOPIC).await })
    };
    hub.wanted().await;
    assert_eq!(hub.take_wanted(), vec![Arc::from(TOPIC)]);
    assert!(!hub.update(TOPIC, set("a", 1)), "a topic without its first state takes no change");
    hub.replace(TOPIC, set("a", 1));
    let snapshot = waiting.await.unwrap().unwrap();
    assert_eq!(&snapshot.data[..], br#"{"students":{"a":1}}"#);
    assert_eq!(snapshot.version, STARTED.0 as u64 * VERSIONS_PER_MS);
}

#[tokio::test]
async fn an_unknown_topic_ends_its_subscriptions() {
    let hub = Hub::new(STARTED);
    let mut subscription = hub.subscribe(TOPIC, None);
    hub.close(TOPIC);
    assert_eq!(subscription.next().await, None);
    assert_eq!(hub.size(), HubSize::default());
}

#[tokio::test]
async fn changes_come_one_by_one_and_wake_a_waiting_reader() {
    let hub = live();
    let mut subscription = hub.subscribe(TOPIC, None);
    let first = subscription.next().await.unwrap().version();
    let waiting = tokio::spawn(async move { subscription.next().await });
    tokio::task::yield_now().await;
    hub.update(TOPIC, set("a", 1));
    let expected = Update::Delta { from: first, version: first + 1, data: Bytes::from_static(br#"{"students":{"a":1}}"#) };
    assert_eq!(waiting.await.unwrap(), Some(expected));
}

#[test]
fn a_resuming_reader_gets_exactly_the_missing_deltas() {
    let hub = live();
    let first = hub.subscribe(TOPIC, None).try_next().unwrap().version();
    for value in 0..40 {
        hub.update(TOPIC, set("a", value));
    }
    let mut subscription = hub.subscribe(TOPIC, Some(first + 3));
    for expected in first + 4..=first + 40 {
        assert_eq!(subscription.try_next().unwrap().version(), expected);
    }
    assert_eq!(subscription.try_next(), None);
}

#[test]
fn a_slow_reader_gets_one_merged_delta() {
    let hub = live();
    let mut subscription = hub.subscribe(TOPIC, None);
    let first = subscription.try_next().unwrap().version();
    for value in 0..100 {
        hub.update(TOPIC, set("a", value));
    }
    let merged = Update::Delta { from: first, version: first + 100, data: Bytes::from_static(br#"{"students":{"a":99}}"#) };
    assert_eq!(subscription.try_next(), Some(merged));
}

#[test]
fn a_version_of_another_process_or_life_gets_a_snapshot() {
    let hub = live();
    let last = {
        let mut subscription = hub.subscribe(TOPIC, None);
        hub.update(TOPIC, set("a", 1));
        subscription.try_next().unwrap().version()
    };
    for since in [0, 57, last + 1, u64::MAX, last - 2] {
        let update = hub.subscribe(TOPIC, Some(since)).try_next().unwrap();
        assert!(matches!(update, Update::Snapshot { .. }), "since {since}: {update:?}");
    }
    let restarted = Hub::new(UtcMillis(STARTED.0 + 1));
    drop(restarted.subscribe(TOPIC, None));
    restarted.replace(TOPIC, set("b", 1));
    assert!(matches!(restarted.subscribe(TOPIC, Some(last)).try_next(), Some(Update::Snapshot { .. })));

    hub.sweep(Instant::now() + HISTORY_KEPT * 2);
    assert_eq!(hub.size().topics, 0);
    let mut again = hub.subscribe(TOPIC, Some(last));
    hub.replace(TOPIC, set("b", 1));
    let update = again.try_next().unwrap();
    assert!(matches!(update, Update::Snapshot { version, .. } if version > last));
}

#[test]
fn a_new_day_replaces_everything() {
    let hub = live();
    hub.update(TOPIC, set("a", 1));
    let mut subscription = hub.subscribe(TOPIC, None);
    subscription.try_next().unwrap();
    hub.replace(TOPIC, set("b", 2));
    assert_eq!(&subscription.try_next().unwrap().data()[..], br#"{"students":{"a":null,"b":2}}"#);
    assert_eq!(now(&hub), json!({"students": {"b": 2}}));
}

#[test]
fn history_and_tombstones_are_bounded() {
    let hub = live();
    let mut sleeper = hub.subscribe(TOPIC, None);
    let mut asleep = Client::default();
    asleep.apply(&sleeper.try_next().unwrap());
    for key in 0..3 * TOMBSTONES_MAX {
        hub.update(TOPIC, set(&key.to_string(), 1));
        hub.update(TOPIC, Changes::new().remove("students", key.to_string()).clone());
    }
    let update = sleeper.try_next().unwrap();
    assert!(matches!(update, Update::Snapshot { .. }), "removals that old are forgotten");
    asleep.apply(&update);
    assert_eq!(Json::Object(asleep.data), now(&hub));
}

#[derive(Clone, Debug)]
enum Step {
    Set(u8, u8),
    Remove(u8),
    Burst(u16),
    Replace(Vec<u8>),
    /// A client pulls this many updates.
    Pull(usize, u8),
    /// A client loses its connection and resumes from the version it holds.
    Resume(usize),
    /// Nobody subscribes for long.
    Sweep,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (any::<u8>(), any::<u8>()).prop_map(|(key, value)| Step::Set(key % 12, value)),
        3 => any::<u8>().prop_map(|key| Step::Remove(key % 12)),
        1 => (1u16..700).prop_map(Step::Burst),
        1 => prop::collection::vec(0u8..12, 0..6).prop_map(Step::Replace),
        6 => (0usize..3, 0u8..20).prop_map(|(client, count)| Step::Pull(client, count)),
        2 => (0usize..3).prop_map(Step::Resume),
        1 => Just(Step::Sweep),
    ]
}

proptest! {
    #[test]
    fn whoever_applies_what_it_gets_holds_what_a_snapshot_says(steps in prop::collection::vec(step(), 1..120)) {
        let hub = live();
        let mut state = set("0", 0);
        let mut clients: Vec<(Client, Option<Subscription>)> =
            (0..3).map(|_| (Client::default(), Some(hub.subscribe(TOPIC, None)))).collect();
        let revive = |state: &Changes| for topic in hub.take_wanted() { hub.replace(&topic, state.clone()); };
        let change = |state: &mut Changes, changes: Changes| {
            hub.update(TOPIC, changes.clone());
            for (name, keys) in changes.collections {
                for (key, value) in keys {
                    match value {
                        Some(_) => { state.put(name, key, value); }
                        None => { state.collections.get_mut(name).unwrap().remove(&key); }
                    }
                }
            }
        };
        hub.replace(TOPIC, state.clone());
        for step in steps {
            match step {
                Step::Set(key, value) => change(&mut state, set(&key.to_string(), value.into())),
                Step::Remove(key) => change(&mut state, Changes::new().remove("students", key.to_string()).clone()),
                Step::Burst(count) => for value in 0..count {
                    change(&mut state, set(&(value % 5).to_string(), value.into()));
                },
                Step::Replace(keys) => {
                    state = Changes::new().declare("students").clone();
                    for key in keys {
                        state.set("students", key.to_string(), 1000u32);
                    }
                    hub.replace(TOPIC, state.clone());
                }
                Step::Pull(client, count) => {
                    let (client, subscription) = &mut clients[client];
                    for _ in 0..count {
                        let Some(update) = subscription.as_mut().unwrap().try_next() else { break };
                        client.apply(&update);
                    }
                }
                Step::Resume(client) => {
                    let (client, subscription) = &mut clients[client];
                    *subscription = None;
                    *subscription = Some(hub.subscribe(TOPIC, client.version));
                    revive(&state);
                }
                Step::Sweep => {
                    for (_, subscription) in &mut clients {
                        *subscription = None;
                    }
                    hub.sweep(Instant::now() + HISTORY_KEPT * 2);
                    for (client, subscription) in &mut clients {
                        *subscription = Some(hub.subscribe(TOPIC, client.version));
                    }
                    revive(&state);
                }
            }
        }
        for (mut client, subscription) in clients {
            let mut subscription = subscription.unwrap();
            while let Some(update) = subscription.try_next() {
                client.apply(&update);
            }
            prop_assert_eq!(Json::Object(client.data), now(&hub));
        }
    }
}
