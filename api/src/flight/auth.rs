//! Who calls: a driver's user name and password become a token, and each call presents it.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use axum::http::StatusCode;
use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Status};

use super::DOOR;
use crate::caller::Caller;
use crate::drivers;
use crate::problem::ApiError;
use crate::state::ApiState;

/// Drivers written in Go leave the padding out.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent));

/// Checks the Basic credentials of a handshake and returns a token for the calls that follow. It ends as a session does.
pub async fn begin(state: &ApiState, metadata: &MetadataMap, extensions: &Extensions) -> Result<String, Status> {
    let (email, password) = basic(metadata).ok_or_else(|| Status::unauthenticated("user name and password are expected"))?;
    let address = extensions.get::<tonic::transport::server::TcpConnectInfo>().and_then(|peer| peer.remote_addr());
    let address = address.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer: SocketAddr| peer.ip());
    drivers::sign_in(state, DOOR, &email, password, address).await.map_err(|error| status(&error))
}

/// The caller of a call, looked up anew each time: a disabled account or a changed role holds at once.
pub async fn identify(state: &ApiState, metadata: &MetadataMap) -> Result<Caller, Status> {
    let token = bearer(metadata).ok_or_else(|| status(&ApiError::Unauthenticated))?;
    drivers::identify(state, token).await.map_err(|error| status(&error))
}

/// Ends the session that a call presents. An API token stays: it is not the driver's to end.
pub async fn end(state: &ApiState, metadata: &MetadataMap) -> Result<(), Status> {
    identify(state, metadata).await?;
    let token = bearer(metadata).ok_or_else(|| status(&ApiError::Unauthenticated))?;
    drivers::sign_out(state, DOOR, token).await.map_err(|error| status(&error))
}

fn bearer(metadata: &MetadataMap) -> Option<&str> {
    let (scheme, token) = metadata.get("authorization")?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
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
