//! Drivers sign in at the doors of Flight SQL and PostgreSQL: their sessions end with them, and are nobody's API tokens.

use std::time::{Duration, Instant};

use arrow_flight::Action;
use arrow_flight::sql::client::FlightSqlServiceClient;
use axum::http::StatusCode;
use serde_json::json;
use sqlx::postgres::{PgConnectOptions, PgSslMode};
use sqlx::{ConnectOptions, Connection, PgConnection};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

use crate::town::{As, DRIVER_IDLE, PASSWORD, PATIENCE, Town};

/// The town with both doors open, and the ports that they listen on.
pub struct Doors {
    pub town: Town,
    pub postgres: u16,
    flight: u16,
    shutdown: CancellationToken,
}

impl Doors {
    pub async fn open() -> Self {
        let (town, shutdown) = (Town::start().await, CancellationToken::new());
        let [postgres, flight] = [TcpListener::bind("127.0.0.1:0").await.unwrap(), TcpListener::bind("127.0.0.1:0").await.unwrap()];
        let ports = (postgres.local_addr().unwrap().port(), flight.local_addr().unwrap().port());
        tokio::spawn(rollcall_api::pgwire::run(town.state.clone(), postgres, None, shutdown.clone()));
        tokio::spawn(rollcall_api::flight::run(town.state.clone(), flight, None, shutdown.clone()));
        Self { town, postgres: ports.0, flight: ports.1, shutdown }
    }

    pub async fn over_postgres(&self, user: &str, password: &str) -> PgConnection {
        let options = PgConnectOptions::new_without_pgpass().host("127.0.0.1").port(self.postgres).username(user).password(password);
        options.database("rollcall").ssl_mode(PgSslMode::Disable).connect().await.unwrap()
    }

    pub async fn over_flight(&self, user: &str) -> (FlightSqlServiceClient<Channel>, String) {
        let mut client = self.stranger_over_flight().await;
        let token = client.handshake(user, PASSWORD).await.unwrap();
        (client, String::from_utf8(token.to_vec()).unwrap())
    }

    /// Before any handshake.
    pub async fn stranger_over_flight(&self) -> FlightSqlServiceClient<Channel> {
        FlightSqlServiceClient::new(Endpoint::new(format!("http://127.0.0.1:{}", self.flight)).unwrap().connect().await.unwrap())
    }

    /// The rows of sessions that no cookie belongs to.
    async fn sessions(&self) -> i64 {
        let mut owner = PgConnection::connect(&self.town.config.url).await.unwrap();
        sqlx::query_scalar("select count(*) from rollcall.session where kind <> 'cookie'").fetch_one(&mut owner).await.unwrap()
    }

    async fn until_sessions(&self, expected: i64) {
        let began = Instant::now();
        while self.sessions().await != expected {
            assert!(began.elapsed() < PATIENCE, "{} sessions and not {expected}", self.sessions().await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for Doors {
    fn drop(&mut self) {
        self.shutdown.cancel();
    }
}

#[tokio::test]
async fn a_connection_of_postgres_ends_its_session_when_it_closes_and_when_it_breaks() {
    let doors = Doors::open().await;
    let user = Town::email(As::DistrictOffice);
    let mut polite = doors.over_postgres(user, PASSWORD).await;
    let broken = doors.over_postgres(user, PASSWORD).await;
    polite.ping().await.unwrap();
    assert_eq!(doors.sessions().await, 2);
    let tokens = doors.town.get(As::DistrictOffice, "/api/v1/tokens").await;
    assert_eq!(tokens.body["items"], json!([]), "a driver's session is nobody's API token");
    polite.close().await.unwrap();
    doors.until_sessions(1).await;
    drop(broken);
    doors.until_sessions(0).await;
    let audit = doors.town.get(As::It, "/api/v1/audit").await;
    let ends = audit.body["items"].as_array().unwrap().iter().filter(|item| item["action"] == "session.end");
    assert_eq!(ends.filter(|end| end["detail"]["door"] == "postgres").count(), 2, "{}", audit.body);
}

#[tokio::test]
async fn an_api_token_outlives_the_connection_that_it_opened() {
    let doors = Doors::open().await;
    let issued = doors.town.post(As::DistrictOffice, "/api/v1/tokens", json!({"days": 1})).await;
    let token = issued.body["token"].as_str().unwrap();
    let mut connection = doors.over_postgres(Town::email(As::DistrictOffice), token).await;
    connection.ping().await.unwrap();
    connection.close().await.unwrap();
    // A connection by password after it has ended: whatever the first one's end does has been done before.
    doors.over_postgres(Town::email(As::DistrictOffice), PASSWORD).await.close().await.unwrap();
    doors.until_sessions(1).await;
    let bearer = format!("Bearer {token}");
    let who = doors.town.send(axum::http::Method::GET, "/api/v1/session", None, None, &[("authorization", &bearer)]).await;
    assert_eq!(who.status, StatusCode::OK);
}

#[tokio::test]
async fn a_flight_driver_ends_its_session_and_one_that_forgets_loses_it_soon() {
    let doors = Doors::open().await;
    let user = Town::email(As::DistrictOffice);
    let (mut client, token) = doors.over_flight(user).await;
    assert_eq!(doors.sessions().await, 1);
    client.execute("SELECT 1".to_owned(), None).await.unwrap();

    let mut owner = PgConnection::connect(&doors.town.config.url).await.unwrap();
    let ends = "select extract(epoch from expires_at)::bigint from rollcall.session where kind <> 'cookie'";
    let ends: i64 = sqlx::query_scalar(ends).fetch_one(&mut owner).await.unwrap();
    let left_s = ends - doors.town.clock.now().0 / 1000;
    assert_eq!(left_s, DRIVER_IDLE.as_secs() as i64, "of a session that is not used");
    assert_eq!(rollcall_api::ApiConfig::default().driver_idle, Duration::from_secs(3600));

    let bearer = format!("Bearer {token}");
    let pages = doors.town.send(axum::http::Method::GET, "/api/v1/session", None, None, &[("authorization", &bearer)]).await;
    assert_eq!(pages.status, StatusCode::UNAUTHORIZED, "a driver's session is its door's only");

    let mut close = tonic::Request::new(Action::new("CloseSession", vec![]));
    close.metadata_mut().insert("authorization", bearer.parse().unwrap());
    let mut answer = client.inner_mut().do_action(close).await.unwrap().into_inner();
    assert_eq!(answer.message().await.unwrap().unwrap().body.as_ref(), [8, 1], "closed");
    assert_eq!(doors.sessions().await, 0);
    client.execute("SELECT 1".to_owned(), None).await.unwrap_err();
}
