//! Sign-in, who one is, sign-out.

use std::net::IpAddr;
use std::time::Instant;

use axum::Json;
use axum::extract::State;
use axum::http::{Extensions, HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rollcall_model::ids::{AccountId, DistrictId, PersonId, SchoolId};
use rollcall_model::time::{UtcMillis, rfc3339};
use rollcall_store::account::{self, Credentials};
use rollcall_store::password::PasswordError;
use rollcall_store::session::SessionKind;
use rollcall_store::{audit, secret, session};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use crate::caller::{self, COOKIE, Caller};
use crate::extract::Body;
use crate::problem::{ApiError, Problem};
use crate::state::ApiState;

/// Longest e-mail address that is looked up, in bytes.
const EMAIL_BYTES_MAX: usize = 320;

/// Prefix of a browser session's token, so that leaked ones are recognised for what they are.
const SESSION_PREFIX: &str = "rs_";

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SignIn {
    /// Case does not matter.
    pub email: String,
    pub password: String,
}

/// What an account may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum RoleName {
    Teacher,
    Office,
    Analyst,
    Guardian,
    It,
}

impl From<account::Role> for RoleName {
    fn from(role: account::Role) -> Self {
        match role {
            account::Role::Teacher => Self::Teacher,
            account::Role::Office => Self::Office,
            account::Role::Analyst => Self::Analyst,
            account::Role::Guardian => Self::Guardian,
            account::Role::It => Self::It,
        }
    }
}

#[derive(Serialize, ToSchema)]
pub struct SessionAccount {
    #[schema(value_type = Uuid)]
    pub id: AccountId,
    pub email: String,
    pub role: RoleName,
    /// Whose account it is.
    #[schema(value_type = Option<Uuid>)]
    pub person: Option<PersonId>,
    /// Of an office account its school; null: all schools of the district.
    #[schema(value_type = Option<Uuid>)]
    pub school: Option<SchoolId>,
}

#[derive(Serialize, ToSchema)]
pub struct SessionDistrict {
    #[schema(value_type = Uuid)]
    pub id: DistrictId,
    pub name: String,
}

/// Who is signed in.
#[derive(Serialize, ToSchema)]
pub struct SessionInfo {
    pub account: SessionAccount,
    pub district: SessionDistrict,
    /// When the session ends unless it is used.
    #[serde(with = "rfc3339")]
    #[schema(value_type = String, format = DateTime)]
    pub expires: UtcMillis,
}

impl From<&Caller> for SessionInfo {
    fn from(caller: &Caller) -> Self {
        let who = &caller.who;
        Self {
            account: SessionAccount {
                id: who.account,
                email: caller.email.clone(),
                role: who.role.into(),
                person: who.person,
                school: who.school,
            },
            district: SessionDistrict { id: caller.district, name: caller.directory.name.clone() },
            expires: caller.expires,
        }
    }
}

/// Sign in. Sets the session cookie.
///
/// Too many wrong passwords make further tries wait (429 with `Retry-After`); nobody is locked out for ever.
#[utoipa::path(post, path = "/api/v1/session", tag = "session", request_body = SignIn, responses(
    (status = 200, body = SessionInfo),
    (status = 401, description = "`wrong_credentials`", body = Problem, content_type = "application/problem+json"),
    (status = 429, description = "`sign_in_throttled`", body = Problem, content_type = "application/problem+json"),
))]
pub async fn sign_in(
    State(state): State<ApiState>,
    extensions: Extensions,
    headers: HeaderMap,
    Body(request): Body<SignIn>,
) -> Result<Response, ApiError> {
    // Another site must not sign the browser in as somebody else. A client that is no browser sends neither header.
    let from_browser = headers.contains_key("sec-fetch-site") || headers.contains_key(header::ORIGIN);
    if from_browser && !caller::is_same_site(&headers, &state.config) {
        return Err(ApiError::CrossSite);
    }
    let address = caller::address(&headers, &extensions, &state.config);
    let credentials = check_password(&state, &request.email, request.password, address).await?;
    let token = secret::generate(SESSION_PREFIX);
    let token_hash = secret::hash(&token);
    let now = state.clock.now();
    let expires = caller::session_end(&state.config, SessionKind::Cookie, now, now);
    let mut tenant = state.store.tenant_as(credentials.district, credentials.account).await?;
    session::create(&mut tenant, credentials.district, &token_hash, credentials.account, SessionKind::Cookie, expires).await?;
    audit::record(&mut tenant, credentials.district, "session.create", Some(&credentials.account.to_string()), json!({})).await?;
    tenant.commit().await?;

    let established = session::by_token(&state.store, &token_hash).await?.ok_or(ApiError::Unauthenticated)?;
    if state.directory.current().district(established.district).is_none() {
        state.directory.refresh_now().await?;
    }
    let directory = state.directory.current().district(established.district).cloned();
    let directory = directory.ok_or(ApiError::NotFound("district"))?;
    let caller = Caller::new(established, token_hash, directory, now);
    let cookie = set_cookie(&token, state.config.session_max.as_secs(), caller::is_secure(&headers, &state.config));
    Ok(([(header::SET_COOKIE, cookie)], Json(SessionInfo::from(&caller))).into_response())
}

/// Throttle, then the password, which takes the same time whether the account exists or not.
/// `address` is where the request comes from.
pub(crate) async fn check_password(state: &ApiState, email: &str, password: String, address: IpAddr) -> Result<Credentials, ApiError> {
    let email = email.trim().to_lowercase();
    if email.is_empty() || email.len() > EMAIL_BYTES_MAX {
        return Err(ApiError::WrongCredentials);
    }
    let outcome = |label: &str| state.metrics.sign_ins.with_label_values(&[label]).inc();
    state.throttle.begin(&email, address, Instant::now()).map_err(|wait| {
        outcome("throttled");
        ApiError::TooMany {
            code: "sign_in_throttled",
            message: "too many tries to sign in; wait a little".to_owned(),
            retry_after_s: wait.as_secs() + 1,
        }
    })?;
    let found = account::credentials(&state.store, &email).await?;
    let stored = found.as_ref().filter(|found| !found.disabled).and_then(|found| found.password_hash.clone());
    let right = state.passwords.verify(password, stored).await.map_err(|error| match error {
        PasswordError::Busy => {
            outcome("busy");
            ApiError::TooMany { code: "sign_in_busy", message: error.to_string(), retry_after_s: 2 }
        }
        other => ApiError::internal(other),
    })?;
    match found.filter(|_| right) {
        Some(credentials) => {
            state.throttle.succeeded(&email, address, Instant::now());
            outcome("ok");
            Ok(credentials)
        }
        None => {
            outcome("wrong");
            Err(ApiError::WrongCredentials)
        }
    }
}

/// Who is signed in.
#[utoipa::path(get, path = "/api/v1/session", tag = "session", responses(
    (status = 200, body = SessionInfo),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub async fn current(caller: Caller) -> Json<SessionInfo> {
    Json(SessionInfo::from(&caller))
}

/// Sign out: ends the session that the request presents, and its live connections.
#[utoipa::path(delete, path = "/api/v1/session", tag = "session", responses(
    (status = 204, description = "Signed out."),
    (status = 401, body = Problem, content_type = "application/problem+json"),
))]
pub async fn sign_out(State(state): State<ApiState>, headers: HeaderMap, caller: Caller) -> Result<Response, ApiError> {
    let mut tenant = caller.tenant(&state).await?;
    session::end(&mut tenant, &caller.token_hash).await?;
    audit::record(&mut tenant, caller.district, "session.end", Some(&caller.who.account.to_string()), json!({})).await?;
    tenant.commit().await?;
    state.session_ended(caller.token_hash);
    let cookie = set_cookie("", 0, caller::is_secure(&headers, &state.config));
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, cookie)]).into_response())
}

fn set_cookie(token: &str, max_age_s: u64, secure: bool) -> HeaderValue {
    let secure = if secure { "; Secure" } else { "" };
    let text = format!("{COOKIE}={token}; Path=/; HttpOnly; SameSite=Lax; Max-Age={max_age_s}{secure}");
    HeaderValue::from_str(&text).expect("tokens are base64url")
}
