//! The directory follows the database.

use std::sync::Arc;

use rollcall_model::event::DeviceKind;
use rollcall_model::ids::DeviceId;
use rollcall_store::admin::{NewDevice, add_device, issue_badge};
use rollcall_store::directory::{AuthenticateError, Directory, DirectoryCache};
use sqlx::Executor;
use tokio_util::sync::CancellationToken;

use crate::database::{Database, District, PATIENCE, ZONE};

async fn gate(database: &Database, district: &District, name: &str) -> (DeviceId, String) {
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    let device =
        NewDevice { school: district.school, kind: DeviceKind::Gate, name: name.into(), gateway: None, person: None, section: None };
    let added = add_device(&mut tenant, &device).await.unwrap();
    tenant.commit().await.unwrap();
    added
}

async fn in_district(database: &Database, district: &District, sql: &'static str) {
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    tenant.execute(sql).await.unwrap();
    tenant.commit().await.unwrap();
}

/// Waits until a snapshot is as it should be.
async fn until(cache: &DirectoryCache, is: impl Fn(&Directory) -> bool) -> Arc<Directory> {
    let mut changed = cache.changed();
    let reached = async {
        loop {
            let current = cache.current();
            if is(&current) {
                return current;
            }
            changed.changed().await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, reached).await.expect("the directory follows the database")
}

#[tokio::test]
async fn changes_arrive_by_notice_also_after_the_connection_was_lost() {
    let database = Database::start().await;
    let district = database.district("North").await;
    let cache = DirectoryCache::load(database.store.clone()).await.unwrap();
    let shutdown = CancellationToken::new();
    let following = tokio::spawn(Arc::clone(&cache).run(shutdown.clone()));
    assert_eq!(cache.current().school(district.school).unwrap().1.zone, ZONE);
    // Listening begins with a reload.
    until(&cache, |directory| directory.version >= 2).await;

    let before = cache.current();
    in_district(&database, &district, "update rollcall.school set name = 'Lincoln'").await;
    let after = until(&cache, |directory| directory.school(district.school).is_some_and(|(_, school)| school.name == "Lincoln")).await;
    let (before, after) = (before.district(district.id).unwrap(), after.district(district.id).unwrap());
    assert!(Arc::ptr_eq(&before.devices, &after.devices), "what did not change is shared");

    let other = database.district("South").await;
    until(&cache, |directory| directory.district(other.id).is_some()).await;

    database
        .as_owner("select pg_terminate_backend(pid) from pg_stat_activity where query ilike '%listen%' and pid <> pg_backend_pid()")
        .await;
    in_district(&database, &district, "update rollcall.school set name = 'Washington'").await;
    until(&cache, |directory| directory.school(district.school).is_some_and(|(_, school)| school.name == "Washington")).await;

    shutdown.cancel();
    following.await.unwrap();
}

#[tokio::test]
async fn a_device_speaks_from_the_moment_it_is_registered() {
    let database = Database::start().await;
    let district = database.district("North").await;
    let cache = DirectoryCache::load(database.store.clone()).await.unwrap();
    // Nobody follows notices here, so only the direct look-up can know it.
    let (id, token) = gate(&database, &district, "Gate 1").await;
    let entry = cache.authenticate(id, &token).await.unwrap();
    assert_eq!((entry.district, entry.school, entry.kind), (district.id, district.school, DeviceKind::Gate));
    assert!(cache.current().device(id).is_some(), "and is in the snapshot from then on");

    assert!(matches!(cache.authenticate(id, "wrong").await, Err(AuthenticateError::WrongToken)));
    assert!(matches!(cache.authenticate(DeviceId::random(), &token).await, Err(AuthenticateError::Unknown)));
    in_district(&database, &district, "update rollcall.device set disabled = true").await;
    cache.refresh_now().await.unwrap();
    assert!(matches!(cache.authenticate(id, &token).await, Err(AuthenticateError::Disabled)));
}

#[tokio::test]
async fn a_badge_is_known_by_its_secret_until_revoked() {
    let database = Database::start().await;
    let (district, other) = (database.district("North").await, database.district("South").await);
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    let issued = issue_badge(&mut tenant, district.student).await.unwrap();
    tenant.commit().await.unwrap();
    let cache = DirectoryCache::load(database.store.clone()).await.unwrap();
    assert_eq!(cache.badge(district.id, &issued.badge).unwrap().person, district.student);
    assert_eq!(cache.badge(other.id, &issued.badge), None, "another district's devices cannot use it");
    assert_eq!(cache.badge(district.id, "b_invented"), None);
    in_district(&database, &district, "update rollcall.badge set revoked_at = now()").await;
    cache.refresh_district(district.id).await.unwrap();
    assert_eq!(cache.badge(district.id, &issued.badge), None);
}

#[tokio::test]
async fn policy_of_the_school_stands_above_the_districts() {
    let database = Database::start().await;
    let district = database.district("North").await;
    in_district(&database, &district, r#"update rollcall.district set policy = '{"grace_min": 3, "reentry_min": 7}'"#).await;
    in_district(
        &database,
        &district,
        r#"insert into rollcall.policy select district, id, '2026-09-01', '{"grace_min": 8}' from rollcall.school"#,
    )
    .await;
    let cache = DirectoryCache::load(database.store.clone()).await.unwrap();
    let directory = cache.current();
    let (_, school) = directory.school(district.school).unwrap();
    let on = |date: &str| school.policy_on(date.parse().unwrap());
    assert_eq!((on("2026-08-31").grace_min, on("2026-08-31").reentry_min), (3, 7));
    assert_eq!((on("2026-09-01").grace_min, on("2026-09-01").reentry_min), (8, 7));

    // A policy that cannot be read leaves the district as it was known.
    in_district(&database, &district, r#"update rollcall.policy set policy = '{"grace": 8}'"#).await;
    cache.refresh_now().await.unwrap();
    assert_eq!(cache.current().school(district.school).unwrap().1.policy_on("2026-09-01".parse().unwrap()).grace_min, 8);
}
