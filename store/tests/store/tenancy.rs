//! Migrations and what the database itself enforces.

use rollcall_model::ids::{DistrictId, SchoolId};
use rollcall_store::{DatabaseConfig, Engine, Store, StoreError};
use sqlx::{AssertSqlSafe, Executor};

use crate::database::{Database, ZONE};

async fn names(database: &Database, sql: &'static str) -> Vec<String> {
    sqlx::query_scalar(sql).fetch_all(&mut database.owner().await).await.unwrap()
}

const TENANT_RELATIONS: &str = "select format('%I.%I', n.nspname, c.relname) from pg_class c join pg_namespace n on n.oid = c.relnamespace
    join pg_attribute a on a.attrelid = c.oid and a.attname = 'district' and not a.attisdropped
    where n.nspname = 'rollcall' and c.relkind in ('r', 'v') order by 1";

#[tokio::test]
async fn migrations_may_run_again() {
    let database = Database::start().await;
    database.district("Kept").await;
    Store::migrate(&database.config).await.unwrap();
    let (one, other) = tokio::join!(Store::migrate(&database.config), Store::migrate(&database.config));
    one.unwrap();
    other.unwrap();
    assert_eq!(database.count("rollcall.school").await, 1);
    let again = Store::connect(&database.config).await.unwrap();
    assert_eq!(again.engine(), if database.postgres.timescale() { database.store.engine() } else { &Engine::Plain });
}

#[tokio::test]
async fn a_database_without_the_schema_is_recognised() {
    let database = Database::start().await;
    database.as_owner("create database empty").await;
    let empty = DatabaseConfig::new(database.postgres.url().replace("/postgres", "/empty"));
    assert!(matches!(Store::connect(&empty).await, Err(StoreError::NotMigrated)));
}

#[tokio::test]
async fn every_row_table_forces_row_level_security_and_the_program_owns_nothing() {
    let database = Database::start().await;
    let open = names(
        &database,
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         join pg_attribute a on a.attrelid = c.oid and a.attname = 'district' and not a.attisdropped
         where n.nspname = 'rollcall' and c.relkind = 'r' and not (c.relrowsecurity and c.relforcerowsecurity)",
    )
    .await;
    assert_eq!(open, Vec::<String>::new());
    let leaky = names(
        &database,
        "select c.relname from pg_class c join pg_namespace n on n.oid = c.relnamespace
         where n.nspname = 'rollcall' and c.relkind = 'v' and not coalesce('security_barrier=true' = any (c.reloptions), false)",
    )
    .await;
    assert_eq!(leaky, Vec::<String>::new());
    let owned = names(&database, "select relname from pg_class where relowner = 'rollcall_app'::regrole").await;
    assert_eq!(owned, Vec::<String>::new());
    assert!(names(&database, TENANT_RELATIONS).await.len() >= 26);
}

#[tokio::test]
async fn without_a_tenant_nothing_is_seen_and_nothing_written() {
    let database = Database::start().await;
    let district = database.district("Seen").await;
    // A hypertable makes its own chunks.
    if *database.store.engine() == Engine::Plain {
        database.as_owner("select rollcall.create_event_partition('scan', '2026-11-20')").await;
    }
    database
        .as_owner(&format!(
            "insert into event.scan values ('{0}', '{1}', '{1}', 1, '2026-11-20T08:00Z', now(), false, '{2}', '{2}', 1, 1, 0);",
            district.id, district.school, district.student
        ))
        .await;
    for relation in names(&database, TENANT_RELATIONS).await {
        let seen: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {relation}"))).fetch_one(database.store.pool()).await.unwrap();
        assert_eq!(seen, 0, "{relation}");
    }
    let mut tenant = database.store.tenant(district.id).await.unwrap();
    for relation in ["rollcall.district", "rollcall.school", "rollcall.person", "rollcall.scan"] {
        let seen: i64 =
            sqlx::query_scalar(AssertSqlSafe(format!("select count(*) from {relation}"))).fetch_one(&mut *tenant).await.unwrap();
        assert_eq!(seen, 1, "{relation}");
    }
    drop(tenant);
    let refused =
        sqlx::query("insert into rollcall.district (district, name) values (gen_random_uuid(), 'x')").execute(database.store.pool()).await;
    assert!(refused.unwrap_err().to_string().contains("row-level security"));
}

#[tokio::test]
async fn one_district_cannot_reach_into_another() {
    let database = Database::start().await;
    let (one, other) = (database.district("One").await, database.district("Other").await);
    let mut tenant = database.store.tenant(one.id).await.unwrap();
    let seen: Vec<String> = sqlx::query_scalar("select name from rollcall.school").fetch_all(&mut *tenant).await.unwrap();
    assert_eq!(seen, ["School of One"]);
    let moved =
        sqlx::query("update rollcall.school set name = 'x' where id = $1").bind(other.school.0).execute(&mut *tenant).await.unwrap();
    assert_eq!(moved.rows_affected(), 0);
    let planted = sqlx::query("insert into rollcall.school (district, id, name, zone) values ($1, $2, 'x', $3)")
        .bind(other.id.0)
        .bind(SchoolId::random().0)
        .bind(ZONE.name())
        .execute(&mut *tenant)
        .await;
    assert!(planted.unwrap_err().to_string().contains("row-level security"));
    // The next transaction on the same connection starts without a tenant.
    drop(tenant);
    let left: Option<String> =
        sqlx::query_scalar("select nullif(current_setting('rollcall.district', true), '')").fetch_one(database.store.pool()).await.unwrap();
    assert_eq!(left, None);
}

#[tokio::test]
async fn event_tables_and_what_is_append_only_are_closed() {
    let database = Database::start().await;
    let district = database.district("Closed").await;
    for statement in [
        "select * from event.scan",
        "delete from event.telemetry",
        "update rollcall.attendance_status set status = 'present'",
        "delete from rollcall.mark",
        "delete from rollcall.audit",
        "drop table rollcall.school",
        "select rollcall.notify_directory(), * from pg_authid",
    ] {
        let mut tenant = database.store.tenant(district.id).await.unwrap();
        let refused = tenant.execute(statement).await.unwrap_err().to_string();
        assert!(
            refused.contains("permission denied") || refused.contains("must be owner") || refused.contains("trigger functions"),
            "{statement}: {refused}"
        );
    }
}

/// Managed servers give no superuser; forced row-level security then binds the owner too.
#[tokio::test]
async fn an_owner_without_superuser_rights_is_enough() {
    let database = Database::start().await;
    database.as_owner("create role modest login createrole").await;
    database.as_owner("create database modest owner modest").await;
    // Roles belong to the whole server, and those of the first database are another owner's.
    database.as_owner("grant rollcall_app, rollcall_lookup to modest with admin option").await;
    let url = database.postgres.url().replace("rollcall@", "modest@").replace("/postgres", "/modest");
    let config = DatabaseConfig::new(url);
    Store::migrate(&config).await.unwrap();
    let store = Store::connect(&config).await.unwrap();
    let district = DistrictId::random();
    let mut tenant = store.tenant(district).await.unwrap();
    sqlx::query("insert into rollcall.district (district, name) values ($1, 'Modest')")
        .bind(district.0)
        .execute(&mut *tenant)
        .await
        .unwrap();
    tenant.commit().await.unwrap();
    let found: Vec<(sqlx::types::Uuid, String)> =
        sqlx::query_as("select district, name from rollcall.districts()").fetch_all(store.pool()).await.unwrap();
    assert_eq!(found, [(district.0, "Modest".to_owned())]);
    if *store.engine() == Engine::Plain {
        let made: bool =
            sqlx::query_scalar("select rollcall.create_event_partition('scan', '2026-11-20')").fetch_one(store.pool()).await.unwrap();
        assert!(made);
    }
}

/// A request whose browser left stops at whatever it waits for.
#[tokio::test]
async fn a_caller_that_goes_away_leaves_no_transaction_behind() {
    let database = Database::start().await;
    let district = database.district("Left").await.id;
    let config = DatabaseConfig { connections_max: 1, ..database.config.clone() };
    let store = Store::connect(&config).await.unwrap();
    // The first use makes the connection, which takes longer than what is to be interrupted.
    drop(store.tenant(district).await.unwrap());
    let mut left = 0;
    for polls in 0..60 {
        {
            let mut begun = std::pin::pin!(store.snapshot(district));
            let mut is_begun = false;
            for _ in 0..polls {
                is_begun = is_begun || futures_util::poll!(begun.as_mut()).is_ready();
                tokio::task::yield_now().await;
                if is_begun {
                    break;
                }
            }
            left += u32::from(!is_begun);
        }
        let mut tenant = store.tenant(district).await.unwrap();
        let is_read_only: String =
            sqlx::query_scalar("select current_setting('transaction_read_only')").fetch_one(&mut *tenant).await.unwrap();
        assert_eq!(is_read_only, "off", "after {polls} polls");
    }
    assert!(left > 1, "nobody was interrupted");
}
