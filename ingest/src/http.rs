//! Routes of the intake: `POST /ingest/v1`, the ingest WebSocket at `GET /ingest/v1`, MQTT over WebSocket at `GET /mqtt`.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, State};
use axum::http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use rollcall_model::ids::DeviceId;
use rollcall_model::limits::PAYLOAD_BYTES_MAX;
use rollcall_stream::AppendError;
use rollcall_websocket::Limits;
use serde_json::json;

use crate::decode::{Format, Framing, Intake, Source};
use crate::directory::{AuthError, DeviceIdentity};
use crate::gateway::Gateway;
use crate::mqtt::connection;
use crate::mqtt::hello::Peer;
use crate::places::Place;
use crate::stream_of_frames::StreamOfFrames;
use crate::websocket;

/// How long a request waits for the log before the device is told to come back.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(30);

/// Seconds that an overloaded server asks a device to wait.
const RETRY_AFTER_S: &str = "2";

const ARROW: &str = "application/vnd.apache.arrow.stream";

/// The routes. The peer's address is taken from `ConnectInfo<SocketAddr>` where the server provides it.
pub fn router(gateway: Arc<Gateway>) -> Router {
    Router::new().route("/ingest/v1", post(ingest).get(ingest_websocket)).route("/mqtt", get(mqtt)).with_state(gateway)
}

fn address(request: &Request<Body>) -> Option<IpAddr> {
    request.extensions().get::<ConnectInfo<SocketAddr>>().map(|info| info.0.ip())
}

fn problem(status: StatusCode, code: &str, message: &str) -> Response {
    let body = json!({ "type": "about:blank", "status": status.as_u16(), "code": code, "title": message });
    let mut response = (status, body.to_string()).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    match status {
        StatusCode::UNAUTHORIZED => drop(headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_S));
        }
        _ => {}
    }
    response
}

fn shutting_down() -> Response {
    problem(StatusCode::SERVICE_UNAVAILABLE, "shutting_down", "the server is shutting down")
}

/// A place for a connection that is to outlive its request.
fn place(gateway: &Gateway, address: Option<IpAddr>) -> Result<Place, Response> {
    if gateway.closing.is_cancelled() {
        return Err(shutting_down());
    }
    gateway.places.take(address).ok_or_else(|| {
        gateway.metrics.connections_refused.with_label_values(&["limit"]).inc();
        problem(StatusCode::SERVICE_UNAVAILABLE, "too_many_connections", "there are too many connections; come back later")
    })
}

/// The device of `Authorization: Bearer <device id>:<device token>`.
async fn authorise(gateway: &Gateway, address: Option<IpAddr>, headers: &HeaderMap) -> Result<DeviceIdentity, Response> {
    let unauthorised = || problem(StatusCode::UNAUTHORIZED, "bad_credentials", "send `Authorization: Bearer <device id>:<device token>`");
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let pair = value.and_then(|value| value.strip_prefix("Bearer ")).and_then(|pair| pair.trim().split_once(':'));
    let (device, token) = pair.ok_or_else(unauthorised)?;
    let device: DeviceId = device.parse().map_err(|_| unauthorised())?;
    gateway.authenticate(address, device, token).await.map_err(|error| match error {
        None => problem(StatusCode::TOO_MANY_REQUESTS, "too_many_failures", "too many failed sign-ins; wait a minute"),
        Some(AuthError::BadCredentials) => unauthorised(),
        Some(AuthError::Disabled) => problem(StatusCode::FORBIDDEN, "disabled", "the device is disabled"),
        Some(AuthError::Unavailable) => problem(StatusCode::SERVICE_UNAVAILABLE, "unavailable", "the directory is not available"),
    })
}

async fn ingest(State(gateway): State<Arc<Gateway>>, request: Request<Body>) -> Response {
    let who = match authorise(&gateway, address(&request), request.headers()).await {
        Ok(who) => who,
        Err(refused) => return refused,
    };
    if gateway.closing.is_cancelled() {
        return shutting_down();
    }
    let says_arrow = request.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == ARROW);
    let Ok(payload) = axum::body::to_bytes(request.into_body(), PAYLOAD_BYTES_MAX).await else {
        let message = format!("the body must be complete and have at most {PAYLOAD_BYTES_MAX} bytes");
        return problem(StatusCode::PAYLOAD_TOO_LARGE, "payload_too_large", &message);
    };
    let arrow = says_arrow || crate::decode::is_arrow(&payload);
    let format = if arrow { Format::ArrowStream } else { Format::Json(Framing::Lines) };
    gateway.metrics.publishes.with_label_values(&["http"]).inc();
    let started = std::time::Instant::now();
    let mut intake = Intake::default();
    let source = Source { topic: "http", kind: None, format };
    let mut outcome = gateway.decoder.decode(&who, gateway.admission.now(), source, &payload, &mut intake);
    gateway.metrics.decoded(&outcome);
    let admitted = match gateway.admission.admit(&intake.finish()) {
        Ok(admitted) => admitted,
        Err(AppendError::Busy | AppendError::Full) => {
            return problem(StatusCode::TOO_MANY_REQUESTS, "overloaded", "the server cannot take more now");
        }
        Err(AppendError::Stopped(_)) => return problem(StatusCode::SERVICE_UNAVAILABLE, "log_stopped", "the server is restarting"),
    };
    if !matches!(tokio::time::timeout(DURABLE_TIMEOUT, gateway.durable(&admitted)).await, Ok(true)) {
        return problem(StatusCode::SERVICE_UNAVAILABLE, "not_durable", "the events are not known to be stored; send them again");
    }
    gateway.metrics.ack_seconds.observe(started.elapsed().as_secs_f64());
    outcome.refusals.extend(admitted.uncertain);
    let rejected: Vec<_> = outcome.refusals.iter().map(|refusal| refusal.to_json()).collect();
    axum::Json(json!({ "accepted": admitted.accepted, "duplicates": admitted.duplicates, "rejected": rejected })).into_response()
}

async fn ingest_websocket(State(gateway): State<Arc<Gateway>>, mut request: Request<Body>) -> Response {
    let who = match authorise(&gateway, address(&request), request.headers()).await {
        Ok(who) => who,
        Err(refused) => return refused,
    };
    let place = match place(&gateway, address(&request)) {
        Ok(place) => place,
        Err(refused) => return refused,
    };
    match rollcall_websocket::accept(&mut request, &[], Limits::default()) {
        Err(error) => error.into_response(),
        Ok((response, pending)) => {
            gateway.clone().serve_upgraded(place, async move {
                match pending.into_io().await {
                    Ok(io) => websocket::serve(gateway, io, who).await,
                    Err(error) => tracing::debug!(%error, "an ingest WebSocket did not open"),
                }
            });
            response
        }
    }
}

async fn mqtt(State(gateway): State<Arc<Gateway>>, mut request: Request<Body>) -> Response {
    let place = match place(&gateway, address(&request)) {
        Ok(place) => place,
        Err(refused) => return refused,
    };
    let peer = Peer { address: address(&request), transport: "websocket", arrival: gateway.next_arrival(), certificate: None };
    let limits = Limits { message_bytes_max: gateway.config.packet_bytes_max, ..Limits::default() };
    match rollcall_websocket::accept(&mut request, &["mqtt"], limits) {
        Err(error) => error.into_response(),
        Ok((response, pending)) => {
            gateway.clone().serve_upgraded(place, async move {
                match pending.into_stream().await {
                    Ok(socket) => connection::serve(gateway.clone(), StreamOfFrames::new(socket, gateway.closing.clone()), peer).await,
                    Err(error) => tracing::debug!(%error, "an MQTT WebSocket did not open"),
                }
            });
            response
        }
    }
}
