//! Two imported districts at nine in the morning, everybody with an account, and the whole API before them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use chrono::{NaiveDate, NaiveTime, Utc};
use rollcall_analytics::attendance::store::{StoreAttendance, StoreDirectory};
use rollcall_analytics::attendance::{Engine, EngineDeps, EngineHandle};
use rollcall_analytics::hub::Hub;
use rollcall_analytics::query::tables::Saves;
use rollcall_analytics::query::{EngineConfig, QueryEngine, tables};
use rollcall_api::{ApiConfig, ApiParts, ApiState};
use rollcall_model::event::{DeviceKind, Direction, Method as Read};
use rollcall_model::ids::{AccountId, BadgeId, DeviceId, DistrictId, PeriodId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::instant_of;
use rollcall_model::status::ScanEvidence;
use rollcall_model::time::{Clock, UtcMillis};
use rollcall_roster::synthetic::{Plan, generate};
use rollcall_roster::{LoadOptions, load};
use rollcall_store::admin::{self, NewAccount, NewDevice};
use rollcall_store::directory::{DirectoryCache, DistrictDirectory};
use rollcall_store::embedded::EmbeddedPostgres;
use rollcall_store::password::Passwords;
use rollcall_store::sink::Sink;
use rollcall_store::vault::Vault;
use rollcall_store::{DatabaseConfig, Store};
use rollcall_stream::Log;
use rollcall_stream::memory::MemoryLog;
use rollcall_stream::scan::{self, ScanRow};
use serde_json::Value;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// How long a test waits for what must happen.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// The clock of the town stands at nine, that of its database does not: sessions last long enough for both.
pub const DRIVER_IDLE: Duration = Duration::from_secs(100 * 3600);

pub const PASSWORD: &str = "correct horse battery";
pub const ZONE: chrono_tz::Tz = chrono_tz::America::Chicago;

/// Who asks, in the order of the columns of the matrix.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum As {
    Nobody,
    Teacher,
    /// Of the first school.
    Office,
    DistrictOffice,
    Analyst,
    Guardian,
    It,
    /// The district office of the other district.
    Foreign,
}

pub const ROLES: [As; 7] = [As::Nobody, As::Teacher, As::Office, As::DistrictOffice, As::Analyst, As::Guardian, As::It];

/// What of a district the tests speak of.
#[derive(Clone, Debug)]
pub struct Ids {
    pub district: DistrictId,
    pub school: SchoolId,
    /// Meets at nine; the teacher's.
    pub section: SectionId,
    pub period: PeriodId,
    pub teacher: PersonId,
    /// Of the section, with a guardian.
    pub student: PersonId,
    pub device: DeviceId,
    pub badge: BadgeId,
    /// Nobody signs in with it.
    pub spare: AccountId,
}

pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Value,
}

pub struct Town {
    pub router: Router,
    pub state: ApiState,
    pub cache: Arc<DirectoryCache>,
    pub hub: Hub,
    pub engine: EngineHandle,
    pub log: Arc<MemoryLog>,
    pub saves: Saves,
    pub clock: Clock,
    pub registry: prometheus::Registry,
    pub date: NaiveDate,
    pub own: Ids,
    /// A section and student of the second school of the same district.
    pub other_section: SectionId,
    pub other_student: PersonId,
    pub other_school: SchoolId,
    pub foreign: Ids,
    pub cookies: HashMap<As, String>,
    pub config: DatabaseConfig,
    shutdown: CancellationToken,
    _postgres: EmbeddedPostgres,
    _dir: tempfile::TempDir,
}

impl Town {
    pub async fn start() -> Self {
        let session_idle = Duration::from_secs(200 * 3600);
        Self::with(ApiConfig { session_idle, driver_idle: DRIVER_IDLE, exports_available: true, ..ApiConfig::default() }).await
    }

    pub async fn with(config: ApiConfig) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let postgres = EmbeddedPostgres::start(dir.path()).await.unwrap();
        let database = DatabaseConfig::new(postgres.url());
        Store::migrate(&database).await.unwrap();
        let store = Store::connect(&database).await.unwrap();
        let vault = Arc::new(Vault::new(&[7; 32]));
        let date = Utc::now().with_timezone(&ZONE).date_naive();
        let clock = Clock::stepped(instant_of(date, NaiveTime::from_hms_opt(9, 0, 0).unwrap(), ZONE));

        let passwords = Passwords::new(2).unwrap();
        let hash = passwords.hash(PASSWORD.to_owned()).await.unwrap();
        let cache = DirectoryCache::load(store.clone()).await.unwrap();
        let here = import(&store, &vault, dir.path(), "Here", 2, date).await;
        let there = import(&store, &vault, dir.path(), "There", 1, date).await;
        cache.refresh_now().await.unwrap();
        let own = settle(&store, &cache, here, &hash, clock.now(), date).await;
        let foreign = settle(&store, &cache, there, &hash, clock.now(), date).await;
        cache.refresh_now().await.unwrap();

        let log = Arc::new(MemoryLog::new());
        let registry = prometheus::Registry::new();
        let shutdown = CancellationToken::new();
        let hub = Hub::new(clock.now());
        let sink = Sink::new(log.clone(), store.clone(), &registry).unwrap();
        let saves = Saves::new(sink.marks());
        tokio::spawn(sink.run(shutdown.clone()));
        tokio::spawn(cache.clone().run(shutdown.clone()));
        let (engine, handle) = Engine::new(EngineDeps {
            log: log.clone(),
            store: saves.of_attendance(StoreAttendance { store: store.clone() }),
            directory: Arc::new(StoreDirectory(cache.clone())),
            hub: hub.clone(),
            clock: clock.clone(),
            metrics: registry.clone(),
            connections_since: log.end(),
        });
        tokio::spawn(engine.run(shutdown.clone()));
        assert!(handle.wait_ready().await);
        let queries = QueryEngine::new(EngineConfig::default()).unwrap();
        let engagement = tables::engagement_tables(&store, &cache, &clock, &saves);
        let facts = tables::facts_tables(&store, &cache, &clock, &saves).into_iter().chain(engagement);
        let views = tables::facts_views(&store, &cache, &clock).await.unwrap();
        facts.chain(views).chain(tables::directory_tables(&cache)).for_each(|table| queries.register(table));
        queries.register(tables::attendance_now(&handle, &cache));
        let state = ApiState::new(ApiParts {
            config,
            clock: clock.clone(),
            store: store.clone(),
            directory: cache.clone(),
            vault,
            passwords,
            log: log.clone(),
            hub: hub.clone(),
            engine: handle.clone(),
            queries,
            registry: registry.clone(),
            ready: Arc::new(Vec::new),
            shutdown: shutdown.clone(),
        })
        .unwrap();

        let directory = cache.current().district(own.district).unwrap().clone();
        let other_school = *directory.roster.schools.keys().find(|id| **id != own.school).unwrap();
        let (other_section, _) = section_at(&directory, other_school, clock.now(), date);
        let other_student = directory.students_of(other_section, date).next().unwrap();
        let mut town = Self {
            router: rollcall_api::router(state.clone()),
            state,
            cache,
            hub,
            engine: handle,
            log,
            saves,
            clock,
            registry,
            date,
            own,
            other_section,
            other_student,
            other_school,
            foreign,
            cookies: HashMap::new(),
            config: database,
            shutdown,
            _postgres: postgres,
            _dir: dir,
        };
        for (who, email) in [
            (As::Teacher, "teacher@here.example"),
            (As::Office, "office@here.example"),
            (As::DistrictOffice, "district@here.example"),
            (As::Analyst, "analyst@here.example"),
            (As::Guardian, "guardian@here.example"),
            (As::It, "it@here.example"),
            (As::Foreign, "district@there.example"),
        ] {
            let cookie = town.sign_in(email).await;
            town.cookies.insert(who, cookie);
        }
        town
    }

    /// The cookie of a new session.
    pub async fn sign_in(&self, email: &str) -> String {
        let body = serde_json::json!({"email": email, "password": PASSWORD});
        let answer = self.send(Method::POST, "/api/v1/session", None, Some(body), &[]).await;
        assert_eq!(answer.status, StatusCode::OK, "{email}: {}", answer.body);
        let cookie = answer.headers[header::SET_COOKIE].to_str().unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && cookie.contains("Path=/"), "{cookie}");
        cookie.split(';').next().unwrap().to_owned()
    }

    pub fn email(who: As) -> &'static str {
        match who {
            As::Teacher => "teacher@here.example",
            As::Office => "office@here.example",
            As::DistrictOffice => "district@here.example",
            As::Analyst => "analyst@here.example",
            As::Guardian => "guardian@here.example",
            As::It => "it@here.example",
            As::Foreign | As::Nobody => "district@there.example",
        }
    }

    pub async fn ask(&self, who: As, method: Method, path: &str, body: Option<Value>) -> Answer {
        let cookie = self.cookies.get(&who).cloned();
        self.send(method, path, cookie.as_deref(), body, &[]).await
    }

    pub async fn get(&self, who: As, path: &str) -> Answer {
        self.ask(who, Method::GET, path, None).await
    }

    pub async fn post(&self, who: As, path: &str, body: Value) -> Answer {
        self.ask(who, Method::POST, path, Some(body)).await
    }

    /// As a page of our own sends it, unless other headers say otherwise.
    pub async fn send(&self, method: Method, path: &str, cookie: Option<&str>, body: Option<Value>, extra: &[(&str, &str)]) -> Answer {
        let mut request = Request::builder().method(method).uri(path).header(header::HOST, "rollcall.example");
        if !extra.iter().any(|(name, _)| *name == "sec-fetch-site") {
            request = request.header("sec-fetch-site", "same-origin");
        }
        if let Some(cookie) = cookie {
            request = request.header(header::COOKIE, cookie);
        }
        for (name, value) in extra.iter().filter(|(_, value)| !value.is_empty()) {
            request = request.header(*name, *value);
        }
        let body = match body {
            Some(json) => {
                request = request.header(header::CONTENT_TYPE, "application/json");
                Body::from(json.to_string())
            }
            None => Body::empty(),
        };
        let response = self.router.clone().oneshot(request.body(body).unwrap()).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = to_bytes(body, usize::MAX).await.unwrap();
        let body = serde_json::from_slice(&bytes).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&bytes).into_owned()));
        Answer { status: parts.status, headers: parts.headers, body }
    }

    /// A scan of the gate, durable and applied.
    pub async fn scan(&self, seq: u64, student: PersonId, ts: UtcMillis, direction: Direction) {
        let evidence = ScanEvidence {
            student,
            device: self.own.device,
            seq,
            ts,
            received: self.clock.now(),
            direction,
            offline: false,
            offset: Default::default(),
        };
        let row = ScanRow { district: self.own.district, school: self.own.school, evidence, badge: self.own.badge, method: Read::Qr };
        let offset = self.log.append(vec![scan::encode(&[row])]).unwrap();
        assert!(self.engine.wait_applied(offset, PATIENCE).await);
    }

    /// One row as the owner of the database; the directory follows.
    pub async fn as_owner(&self, sql: &str) {
        use sqlx::{Connection, Executor};
        let mut owner = sqlx::PgConnection::connect(&self.config.url).await.unwrap();
        owner.execute(sqlx::AssertSqlSafe(sql.to_owned())).await.unwrap();
    }

    /// Waits until as many students have a conclusion about today that says when they arrived.
    pub async fn until_concluded(&self, arrived: i64) {
        let mut owner = <sqlx::PgConnection as sqlx::Connection>::connect(&self.config.url).await.unwrap();
        let count = "select count(distinct student) from rollcall.attendance_status
                     where district = $1 and date = $2 and period is null and detail->>'arrival' is not null";
        let found = async {
            loop {
                let found: i64 = sqlx::query_scalar(count).bind(self.own.district.0).bind(self.date).fetch_one(&mut owner).await.unwrap();
                if found >= arrived {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, found).await.expect("the conclusions are written");
    }

    pub fn students(&self) -> Vec<PersonId> {
        let directory = self.cache.current();
        directory.district(self.own.district).unwrap().students_of(self.own.section, self.date).collect()
    }
}

impl Drop for Town {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

async fn import(store: &Store, vault: &Vault, dir: &std::path::Path, name: &str, schools: usize, date: NaiveDate) -> DistrictId {
    let plan = Plan { schools, students_per_school: 40, section_students: 10, zone: ZONE, ..Plan::new(name, date) };
    let district = generate(&plan).unwrap();
    let (package, timetable) = (dir.join(format!("{name}.zip")), dir.join(name));
    district.write_package(&package).unwrap();
    district.write_timetable(&timetable).unwrap();
    let loaded = load(&package, Some(&timetable), &LoadOptions::default()).unwrap();
    rollcall_store::roster::import(store, vault, name, &loaded.roster, date, &mut |_| ()).await.unwrap().district
}

/// A section of a school that meets at the instant.
fn section_at(directory: &DistrictDirectory, school: SchoolId, now: UtcMillis, date: NaiveDate) -> (SectionId, PeriodId) {
    let meetings = directory.sections_meeting(school, date);
    let meeting = meetings.iter().find(|meeting| meeting.span.contains(now)).expect("the synthetic school is in session at nine");
    (meeting.section, meeting.period)
}

/// Chooses who and what the tests speak of, and gives everybody an account.
async fn settle(store: &Store, cache: &DirectoryCache, id: DistrictId, hash: &str, now: UtcMillis, date: NaiveDate) -> Ids {
    let directory = cache.current().district(id).unwrap().clone();
    let mut schools: Vec<SchoolId> = directory.roster.schools.keys().copied().collect();
    schools.sort_unstable();
    let school = schools[0];
    let (section, period) = section_at(&directory, school, now, date);
    let teacher = directory.teachers_of(section, date).next().unwrap();
    let guarded = directory.students_of(section, date).find(|student| !directory.person(*student).unwrap().guardians.is_empty());
    let student = guarded.expect("a student with a guardian");
    let guardian = directory.person(student).unwrap().guardians[0];

    let mut tenant = store.tenant(id).await.unwrap();
    let host = directory.name.to_lowercase();
    let mut spare = None;
    for (name, role, person, of) in [
        ("teacher", "teacher", Some(teacher), None),
        ("office", "office", None, Some(school)),
        ("district", "office", None, None),
        ("analyst", "analyst", None, None),
        ("guardian", "guardian", Some(guardian), None),
        ("it", "it", None, None),
        ("spare", "analyst", None, None),
    ] {
        let account = NewAccount {
            email: format!("{name}@{host}.example"),
            role: role.to_owned(),
            person,
            school: of,
            password_hash: hash.to_owned(),
        };
        spare = Some(admin::add_account(&mut tenant, &account).await.unwrap());
    }
    let gate = NewDevice { school, kind: DeviceKind::Gate, name: "Gate 1".to_owned(), gateway: None, person: None, section: None };
    let (device, _) = admin::add_device(&mut tenant, &gate).await.unwrap();
    let badge = admin::issue_badge(&mut tenant, student).await.unwrap();
    tenant.commit().await.unwrap();
    Ids { district: id, school, section, period, teacher, student, device, badge: badge.id, spare: spare.unwrap() }
}
