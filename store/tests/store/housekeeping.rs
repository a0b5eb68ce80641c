//! Partitions come and go, and what has expired is forgotten.

use rollcall_model::time::{Clock, UtcMillis};
use rollcall_store::maintenance::run_once;
use rollcall_store::{Engine, Retention};

use crate::database::Database;

#[tokio::test]
async fn partitions_are_made_ahead_and_dropped_past_their_days() {
    let database = Database::start().await;
    if *database.store.engine() != Engine::Plain {
        // The database's own policies do this there; tests/timescale looks at them.
        return;
    }
    let now = Clock::System.now();
    let first = run_once(&database.store, now).await.unwrap();
    assert_eq!((first.partitions_created, first.partitions_dropped), (16, 0));
    assert_eq!(run_once(&database.store, now).await.unwrap().partitions_created, 0);
    database
        .as_owner("select rollcall.create_event_partition('scan', '2020-01-01'), rollcall.create_event_partition('activity', '2020-01-02')")
        .await;
    let next = run_once(&database.store, now).await.unwrap();
    assert_eq!((next.partitions_created, next.partitions_dropped), (0, 2));
    // A clock gone wrong must not drop what is young.
    let far = UtcMillis(now.0 + 3000 * 86_400_000);
    assert!(run_once(&database.store, far).await.is_err());
}

#[tokio::test]
async fn expired_sessions_and_old_answers_are_pruned() {
    let database = Database::start().await;
    let district = database.district("Old").await;
    database
        .as_owner(&format!(
            "insert into rollcall.account (district, id, email, role) values ('{0}', '{0}', 'it@example.org', 'it');
             insert into rollcall.session (district, token_hash, account, expires_at) values
                 ('{0}', '\\x01', '{0}', now() - interval '1 minute'), ('{0}', '\\x02', '{0}', now() + interval '1 hour');
             insert into rollcall.idempotency (district, account, key, request, status, response, created_at) values
                 ('{0}', '{0}', 'old', '', 200, '', now() - interval '25 hours'), ('{0}', '{0}', 'new', '', 200, '', now());",
            district.id
        ))
        .await;
    let report = run_once(&database.store, Clock::System.now()).await.unwrap();
    assert_eq!(report.rows_pruned, 2);
    assert_eq!(database.count("rollcall.session where token_hash = '\\x02'").await, 1);
    assert_eq!(database.count("rollcall.idempotency where key = 'new'").await, 1);
}

#[tokio::test]
async fn rollups_are_kept_for_their_own_time() {
    let database = Database::keeping(Retention { rollup_days: 40, scan_days: 7, ..Retention::default() }).await;
    let districts = [database.district("One").await, database.district("Two").await];
    for district in districts {
        database
            .as_owner(&format!(
                "insert into rollcall.student_day (district, school, student, date, scans, ins, outs, offline, late, first_scan, last_scan)
                     select '{0}', '{1}', '{2}', (now() at time zone 'UTC')::date - days, 1, 1, 0, 0, 0, now(), now()
                     from unnest(array[0, 20, 40, 41, 42, 4000]) days;
                 insert into rollcall.device_day (district, school, device, date, scans, readings, activities, heartbeats, connects,
                     disconnects, offline, late, late_ms_max, heard)
                     select '{0}', '{1}', '{2}', (now() at time zone 'UTC')::date - days, 1, 0, 0, 0, 0, 0, 0, 0, 0, repeat('0', 300)::bit(300)
                     from unnest(array[0, 40, 41]) days",
                district.id, district.school, district.student
            ))
            .await;
    }
    let report = run_once(&database.store, Clock::System.now()).await.unwrap();
    assert_eq!(report.rows_pruned, 8);
    for district in districts {
        let of = |table: &str| format!("rollcall.{table} where district = '{}'", district.id);
        assert_eq!((database.count(&of("student_day")).await, database.count(&of("device_day")).await), (3, 2));
    }
    assert_eq!(run_once(&database.store, Clock::System.now()).await.unwrap().rows_pruned, 0);
}
