//! Saved questions and exports in a real database: whose they are, versions, locks, and what became of missed runs.

use rollcall_model::ids::{AccountId, ExportId, SavedQueryId};
use rollcall_model::time::UtcMillis;
use rollcall_store::admin::{self, NewAccount};
use rollcall_store::export::{self, Claim, Ended, Every, FileFormat, Outcome, Schedule};
use rollcall_store::saved_query::{self, Change, Content, Edited, SavedQuery};
use serde_json::json;

use crate::database::{Database, District};

const DAY_MS: i64 = 24 * 60 * 60 * 1000;

struct World {
    database: Database,
    district: District,
    owner: AccountId,
    other: AccountId,
}

async fn account(database: &Database, district: &District, email: &str) -> AccountId {
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    let account =
        NewAccount { email: email.to_owned(), role: "analyst".to_owned(), person: None, school: None, password_hash: String::new() };
    let id = admin::add_account(&mut tenant, &account).await.unwrap();
    tenant.commit().await.unwrap();
    id
}

impl World {
    async fn start() -> Self {
        let database = Database::start().await;
        let district = database.district("Here").await;
        let owner = account(&database, &district, "owner@here.example").await;
        let other = account(&database, &district, "other@here.example").await;
        Self { database, district, owner, other }
    }

    async fn save(&self, owner: AccountId, title: &str, shared: bool) -> SavedQuery {
        let mut tenant = self.database.store.tenant_as(self.district.id, owner).await.unwrap();
        let content = Content { title: title.to_owned(), sql: "SELECT 1".to_owned(), view: json!({"chart": "bar"}), shared };
        let saved = saved_query::create(&mut tenant, self.district.id, owner, &content).await.unwrap().unwrap();
        tenant.commit().await.unwrap();
        saved
    }

    async fn titles(&self, caller: AccountId) -> Vec<String> {
        let mut tenant = self.database.store.tenant_as(self.district.id, caller).await.unwrap();
        let (mut titles, mut after) = (Vec::new(), None);
        loop {
            let page = saved_query::list(&mut tenant, caller, after.as_ref(), 2).await.unwrap();
            let Some(last) = page.last() else { return titles };
            after = Some((last.sort.clone(), last.id));
            titles.extend(page.into_iter().map(|saved| saved.title));
        }
    }

    /// A daily export at six in UTC, made at `now`.
    async fn export(&self, query: SavedQueryId, now: UtcMillis) -> ExportId {
        let mut tenant = self.database.store.tenant_as(self.district.id, self.owner).await.unwrap();
        let daily = Schedule { every: Every::Daily, weekday: None, at: "06:00:00".parse().unwrap(), zone: chrono_tz::UTC };
        let wished = (query, &daily, FileFormat::Csv);
        let made = export::create(&mut tenant, self.district.id, self.owner, wished, now).await.unwrap().unwrap();
        tenant.commit().await.unwrap();
        made.id
    }

    async fn claim(&self, id: ExportId, now: UtcMillis) -> Option<Claim> {
        export::claim(&self.database.store, self.district.id, id, now).await.unwrap()
    }

    async fn shown(&self, id: ExportId) -> export::Export {
        let mut tenant = self.database.store.tenant(self.district.id).await.unwrap();
        export::get(&mut tenant, self.district.id, self.owner, id).await.unwrap().unwrap()
    }
}

fn at(text: &str) -> UtcMillis {
    UtcMillis::from_chrono(text.parse().unwrap())
}

#[tokio::test]
async fn a_question_is_its_owners_until_it_is_shared() {
    let world = World::start().await;
    for title in ["b", "A", "ä", "C"] {
        world.save(world.owner, title, false).await;
    }
    let shared = world.save(world.owner, "shared", true).await;
    assert_eq!(world.titles(world.owner).await, ["A", "b", "C", "shared", "ä"]);
    assert_eq!(world.titles(world.other).await, ["shared"]);

    let mut tenant = world.database.store.tenant_as(world.district.id, world.other).await.unwrap();
    let change = Change { title: Some("mine".to_owned()), ..Change::default() };
    let refused = saved_query::change(&mut tenant, world.other, shared.id, 1, &change).await.unwrap();
    assert!(matches!(refused, Edited::NotOwner));
    assert!(matches!(saved_query::delete(&mut tenant, world.other, shared.id).await.unwrap(), Edited::NotOwner));
    drop(tenant);

    // Nothing of it is seen from another district, even by its id.
    let there = world.database.district("There").await;
    let stranger = account(&world.database, &there, "stranger@there.example").await;
    let mut tenant = world.database.store.tenant_as(there.id, stranger).await.unwrap();
    assert!(saved_query::get(&mut tenant, stranger, shared.id).await.unwrap().is_none());
    assert!(saved_query::get(&mut tenant, world.owner, shared.id).await.unwrap().is_none());
}

#[tokio::test]
async fn of_two_changes_of_one_version_one_is_refused() {
    let world = World::start().await;
    let saved = world.save(world.owner, "one", false).await;
    let change = |title: &str| Change { title: Some(title.to_owned()), ..Change::default() };
    let edit = async |title: &str| {
        let mut tenant = world.database.store.tenant_as(world.district.id, world.owner).await.unwrap();
        let edited = saved_query::change(&mut tenant, world.owner, saved.id, 1, &change(title)).await.unwrap();
        tenant.commit().await.unwrap();
        edited
    };
    let (first, second) = tokio::join!(edit("first"), edit("second"));
    let outcomes = [&first, &second].map(|edited| match edited {
        Edited::Done(saved) => saved.version,
        Edited::Stale(version) => -version,
        other => panic!("{other:?}"),
    });
    assert!(outcomes == [2, -2] || outcomes == [-2, 2], "{outcomes:?}");
}

#[tokio::test]
async fn limits_of_the_database_stand_behind_those_of_the_api() {
    let world = World::start().await;
    let insert = |title: &str, sql: &str, view: &str| {
        format!(
            "insert into rollcall.saved_query (district, id, owner, title, sql, view)
             values ('{}', gen_random_uuid(), '{}', {title}, {sql}, {view})",
            world.district.id, world.owner
        )
    };
    world.database.as_owner(&insert("'t'", "'s'", "'{}'")).await;
    for (title, sql, view) in [
        ("''", "'s'", "'{}'"),
        ("repeat('t', 121)", "'s'", "'{}'"),
        ("'t'", "repeat('s', 65537)", "'{}'"),
        ("'t'", "'s'", "'[]'"),
        ("'t'", "'s'", "jsonb_build_object('x', repeat('v', 9000))"),
    ] {
        use sqlx::Executor;
        let statement = sqlx::AssertSqlSafe(insert(title, sql, view));
        assert!(world.database.owner().await.execute(statement).await.is_err(), "{title} {sql} {view}");
    }
}

#[tokio::test]
async fn a_run_belongs_to_one_server_and_is_given_back_when_that_dies() {
    let world = World::start().await;
    let saved = world.save(world.owner, "one", false).await;
    let id = world.export(saved.id, at("2026-11-20T05:00:00Z")).await;
    assert_eq!(world.shown(id).await.due, at("2026-11-20T06:00:00Z"));
    assert!(world.claim(id, at("2026-11-20T05:59:59Z")).await.is_none(), "it is not due yet");
    assert!(export::due(&world.database.store, at("2026-11-20T05:59:59Z"), 10).await.unwrap().is_empty());

    let now = at("2026-11-20T06:00:01Z");
    assert_eq!(export::due(&world.database.store, now, 10).await.unwrap(), [(world.district.id, id)]);
    let claim = world.claim(id, now).await.unwrap();
    assert_eq!((claim.sql.as_str(), claim.owner.as_ref().unwrap().id), ("SELECT 1", world.owner));
    assert!(world.claim(id, now).await.is_none(), "another server passes it by");
    // Its owner is told at once, and does not wait until the run has ended.
    let mut tenant = world.database.store.tenant_as(world.district.id, world.owner).await.unwrap();
    assert!(matches!(export::delete(&mut tenant, world.district.id, world.owner, id).await.unwrap(), Edited::Running));
    assert!(matches!(saved_query::delete(&mut tenant, world.owner, saved.id).await.unwrap(), Edited::Running));
    drop(tenant);
    drop(claim);

    // The lock goes with the transaction, a moment after the drop.
    let claim = loop {
        if let Some(claim) = world.claim(id, now).await {
            break claim;
        }
        tokio::task::yield_now().await;
    };
    let done = Ended::Done { file: "f.csv".to_owned(), rows: 3, bytes: 20, warning: None };
    claim.finish(&done, now).await.unwrap();
    assert!(world.claim(id, now).await.is_none(), "once done it is due no more");
    let shown = world.shown(id).await;
    assert_eq!((shown.due, shown.last_outcome, shown.last_rows), (at("2026-11-21T06:00:00Z"), Some(Outcome::Done), Some(3)));
    let told = format!("action = 'export.run' and account = '{}' and subject = '{id}' and detail->>'outcome' = 'done'", world.owner);
    assert_eq!(world.database.count_where("rollcall.audit", &told).await, 1);
}

#[tokio::test]
async fn what_was_missed_is_run_once_and_what_failed_is_tried_again_a_few_times() {
    let world = World::start().await;
    let saved = world.save(world.owner, "one", false).await;
    let id = world.export(saved.id, at("2026-11-01T05:00:00Z")).await;
    // Nineteen days of downtime.
    let mut now = at("2026-11-20T09:00:00Z");
    let claim = world.claim(id, now).await.unwrap();
    assert_eq!(claim.export.due, at("2026-11-01T06:00:00Z"));
    claim.finish(&Ended::Done { file: "f".to_owned(), rows: 0, bytes: 0, warning: None }, now).await.unwrap();
    assert_eq!(world.shown(id).await.due, at("2026-11-21T06:00:00Z"));

    let failed = Ended::Failed { error: "the store is away".to_owned(), passing: true };
    now = at("2026-11-21T06:00:00Z");
    for wait_min in [1, 5, 15] {
        world.claim(id, now).await.unwrap().finish(&failed, now).await.unwrap();
        let shown = world.shown(id).await;
        assert_eq!((shown.due, shown.not_before.0 - now.0), (at("2026-11-21T06:00:00Z"), wait_min * 60_000));
        assert_eq!((shown.last_outcome, shown.last_file.as_deref()), (Some(Outcome::Failed), Some("f")));
        now = shown.not_before;
    }
    world.claim(id, now).await.unwrap().finish(&failed, now).await.unwrap();
    assert_eq!(world.shown(id).await.due, at("2026-11-22T06:00:00Z"));
    // A text that is wrong is wrong in a minute too.
    now = at("2026-11-22T06:00:00Z");
    let wrong = Ended::Failed { error: "no such column".to_owned(), passing: false };
    world.claim(id, now).await.unwrap().finish(&wrong, now).await.unwrap();
    assert_eq!(world.shown(id).await.not_before, UtcMillis(now.0 + DAY_MS));
}

#[tokio::test]
async fn a_pause_makes_up_for_nothing_and_a_deleted_question_takes_its_exports_along() {
    let world = World::start().await;
    let saved = world.save(world.owner, "one", false).await;
    let id = world.export(saved.id, at("2026-11-01T05:00:00Z")).await;
    let change = async |version: i64, enabled: bool, now: &str| {
        let mut tenant = world.database.store.tenant_as(world.district.id, world.owner).await.unwrap();
        let wished = export::Change { enabled: Some(enabled), ..export::Change::default() };
        let edited = export::change(&mut tenant, world.district.id, (world.owner, id, version), &wished, at(now)).await.unwrap();
        tenant.commit().await.unwrap();
        edited
    };
    assert!(matches!(change(1, false, "2026-11-01T05:00:00Z").await, Edited::Done(_)));
    assert!(world.claim(id, at("2026-11-05T00:00:00Z")).await.is_none());
    assert!(matches!(change(1, true, "2026-11-05T00:00:00Z").await, Edited::Stale(2)));
    assert!(matches!(change(2, true, "2026-11-05T00:00:00Z").await, Edited::Done(_)));
    assert_eq!(world.shown(id).await.due, at("2026-11-05T06:00:00Z"));

    let mut tenant = world.database.store.tenant_as(world.district.id, world.owner).await.unwrap();
    assert!(matches!(saved_query::delete(&mut tenant, world.owner, saved.id).await.unwrap(), Edited::Done(())));
    tenant.commit().await.unwrap();
    assert_eq!(world.database.count("rollcall.export_schedule").await, 0);
}
