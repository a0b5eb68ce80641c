//! A private server with the schema and small districts in it.

use std::time::Duration;

use chrono_tz::Tz;
use rollcall_model::ids::{DistrictId, PersonId, SchoolId};
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_store::{DatabaseConfig, Retention, Store};
use sqlx::{AssertSqlSafe, Connection, Executor, PgConnection};
use tempfile::TempDir;

pub const ZONE: Tz = chrono_tz::America::Chicago;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

pub struct Database {
    pub store: Store,
    pub config: DatabaseConfig,
    pub postgres: EmbeddedPostgres,
    pub dir: TempDir,
}

#[derive(Clone, Copy)]
pub struct District {
    pub id: DistrictId,
    pub school: SchoolId,
    pub student: PersonId,
}

impl Database {
    pub async fn start() -> Self {
        Self::keeping(Retention::default()).await
    }

    pub async fn keeping(retention: Retention) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let postgres = EmbeddedPostgres::start(dir.path()).await.unwrap();
        let config = DatabaseConfig { retention, ..DatabaseConfig::new(postgres.url()) };
        Store::migrate(&config).await.unwrap();
        let store = Store::connect(&config).await.unwrap();
        Self { store, config, postgres, dir }
    }

    /// A connection as the owner, who is a superuser here and sees everything.
    pub async fn owner(&self) -> PgConnection {
        PgConnection::connect(&self.postgres.url()).await.unwrap()
    }

    pub async fn as_owner(&self, sql: &str) {
        self.owner().await.execute(AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    pub async fn count(&self, from: &str) -> i64 {
        let sql = AssertSqlSafe(format!("select count(*) from {from}"));
        sqlx::query_scalar(sql).fetch_one(&mut self.owner().await).await.unwrap()
    }

    pub async fn count_where(&self, relation: &str, condition: &str) -> i64 {
        self.count(&format!("{relation} where {condition}")).await
    }

    /// A district with one school and one student.
    pub async fn district(&self, name: &str) -> District {
        let district = District { id: DistrictId::random(), school: SchoolId::random(), student: PersonId::random() };
        let mut tenant = self.store.tenant(district.id).await.unwrap();
        for statement in [
            "insert into rollcall.district (district, name) values ($1, $4)",
            "insert into rollcall.school (district, id, name, zone) values ($1, $2, 'School of ' || $4, $5)",
            "insert into rollcall.person (district, id, source_id, kind) values ($1, $3, 's-1', 'student')",
        ] {
            // Every statement is given all values; the casts tell the server the types of those it does not use.
            let sql = AssertSqlSafe(format!("with given as (select $1::uuid, $2::uuid, $3::uuid, $4::text, $5::text) {statement}"));
            sqlx::query(sql)
                .bind(district.id.0)
                .bind(district.school.0)
                .bind(district.student.0)
                .bind(name)
                .bind(ZONE.name())
                .execute(&mut *tenant)
                .await
                .unwrap();
        }
        tenant.commit().await.unwrap();
        district
    }
}
