//! Who calls: a driver's user name and password become a token, and each call presents it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use rollcall_store::session::SessionKind;
use rollcall_store::{audit, secret, session};
use serde_json::json;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use crate::caller::{self, Caller};
use crate::problem::ApiError;
use crate::routes::session as sign_in;
use crate::state::ApiState;

/// Prefix of a driver's token, so that leaked ones are recognised for what they are.
const TOKEN_PREFIX: &str = "rf_";

/// Drivers written in Go leave the padding out.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Checks the Basic credentials of a handshake and returns a token for the calls that follow. It ends as a session does.
pub async fn begin(state: &ApiState, metadata: &MetadataMap, extensions: &Extensions) -> Result<String, Status> {
    let (email, password) = basic(metadata).ok_or_else(|| Status::unauthenticated("user name and password are expected"))?;
    let address = extensions.get::<tonic::transport::server::TcpConnectInfo>().and_then(|peer| peer.remote_addr());
    let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer: SocketAddr| peer.ip());
    open(state, "flight", &email, password, address).await.map_err(|error| status(&error))
}

/// Checks an account's password and begins a session for a driver, which comes in by `door`.
pub async fn open(state: &ApiState, door: &'static str, email: &str, password: String, address: IpAddr) -> Result<String, ApiError> {
    let credentials = sign_in::check_password(state, email, password, address).await?;
    let token = secret::generate(TOKEN_PREFIX);
    let now = state.clock.now();
    let expires = caller::session_end(&state.config, now, now);
    let mut tenant = state.store.tenant_as(credentials.district, credentials.account).await?;
    session::create(&mut tenant, credentials.district, &secret::hash(&token), credentials.account, SessionKind::Api, expires).await?;
    let account = credentials.account.to_string();
    audit::record(&mut tenant, credentials.district, "session.create", Some(&account), json!({"door": door})).await?;
    tenant.commit().await?;
    Ok(token)
}

/// The caller of a call, looked up anew each time: a disabled account or a changed role holds at once.
pub async fn identify(state: &ApiState, metadata: &MetadataMap) -> Result<Caller, Status> {
    let presented = metadata.get("authorization").and_then(|value| HeaderValue::from_bytes(value.as_bytes()).ok());
    let mut headers = HeaderMap::new();
    if let Some(value) = presented {
        headers.insert(header::AUTHORIZATION, value);
    }
    caller::identify(state, &headers).await.map_err(|error| status(&error))
}

fn basic(metadata: &MetadataMap) -> Option<(String, String)> {
    let (scheme, encoded) = metadata.get("authorization")?.to_str().ok()?.split_once(' ')?;
    let decoded = BASE64.decode(encoded.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"))?;
    let (email, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    Some((email.to_owned(), password.to_owned()))
}

/// What a driver is told of an error: the same sentence as over HTTP, and its code in `rollcall-code`.
pub fn status(error: &ApiError) -> Status {
    let message = error.to_string();
    let mut status = match error.status() {
        StatusCode::UNAUTHORIZED => Status::unauthenticated(message),
        StatusCode::FORBIDDEN => Status::permission_denied(message),
        StatusCode::NOT_FOUND => Status::not_found(message),
        StatusCode::TOO_MANY_REQUESTS => Status::resource_exhausted(message),
        StatusCode::SERVICE_UNAVAILABLE => Status::unavailable(message),
        other if other.is_client_error() => Status::invalid_argument(message),
        _ => Status::internal(message),
    };
    if let Ok(code) = error.code().parse() {
        status.metadata_mut().insert("rollcall-code", code);
    }
    status
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(value: &str) -> MetadataMap {
        let mut metadata = MetadataMap::new();
        metadata.insert("authorization", value.parse().unwrap());
        metadata
    }

    #[test]
    fn basic_credentials_are_read() {
        let encoded = BASE64.encode("a@example.org:pass:word");
        let read = Some(("a@example.org".to_owned(), "pass:word".to_owned()));
        assert_eq!(basic(&with(&format!("Basic {encoded}"))), read);
        assert_eq!(basic(&with(&format!("basic {encoded}"))), read);
        assert!(encoded.ends_with('='));
        assert_eq!(basic(&with(&format!("Basic {}", encoded.trim_end_matches('=')))), read);
        assert_eq!(basic(&with(&format!("Bearer {encoded}"))), None);
        assert_eq!(basic(&with("Basic !")), None);
        assert_eq!(basic(&MetadataMap::new()), None);
    }

    #[test]
    fn errors_keep_their_meaning() {
        let told = status(&ApiError::Forbidden("no"));
        assert_eq!((told.code(), told.message()), (tonic::Code::PermissionDenied, "no"));
        assert_eq!(told.metadata().get("rollcall-code").unwrap(), "forbidden");
        assert_eq!(status(&ApiError::Unauthenticated).code(), tonic::Code::Unauthenticated);
    }
}
