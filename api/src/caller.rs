//! Who is asking: the one extractor through which every protected route learns its caller.
//!
//! A browser presents the cookie [`COOKIE`], a program `Authorization: Bearer`. The session is looked up with each
//! request, so that a sign-out, a disabled account or a changed role holds at once. A state-changing request by cookie
//! must come from the page itself (`Sec-Fetch-Site`, else `Origin`), because a browser adds the cookie to any.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, FromRequestParts};
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap, Method, header};
use chrono::NaiveDate;
use rollcall_model::ids::{DistrictId, PersonId, SchoolId, SectionId};
use rollcall_model::schedule::local_date;
use rollcall_model::time::UtcMillis;
use rollcall_store::directory::{DistrictDirectory, PersonEntry, SchoolEntry, SectionEntry};
use rollcall_store::secret::{self, SecretHash};
use rollcall_store::session::{self, Session, SessionKind};
use rollcall_store::{StoreError, Tenant, audit};
use serde_json::Value;

use crate::problem::ApiError;
use crate::rights::Who;
use crate::state::{ApiConfig, ApiState};

pub const COOKIE: &str = "rollcall_session";

/// Longest session token that is looked at; ours have 46 characters.
const TOKEN_BYTES_MAX: usize = 128;

/// A session's use is noted at most this often.
const SLIDE_EVERY_MS: i64 = 60_000;

/// The signed-in caller, and the district as it was when the request came.
#[derive(Clone)]
pub struct Caller {
    pub who: Who,
    pub email: String,
    pub district: DistrictId,
    pub directory: Arc<DistrictDirectory>,
    pub kind: SessionKind,
    pub token_hash: SecretHash,
    pub expires: UtcMillis,
    now: UtcMillis,
}

impl FromRequestParts<ApiState> for Caller {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &ApiState) -> Result<Self, ApiError> {
        // The idempotency layer has asked already.
        if let Some(known) = parts.extensions.get::<Caller>() {
            return Ok(known.clone());
        }
        let caller = identify(state, &parts.headers).await?;
        let safe = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
        if caller.kind == SessionKind::Cookie && !safe && !is_same_site(&parts.headers, &state.config) {
            return Err(ApiError::CrossSite);
        }
        Ok(caller)
    }
}

/// Finds the session that a request presents. Does not check where the request comes from.
pub async fn identify(state: &ApiState, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let (token, kind) = presented(headers).ok_or(ApiError::Unauthenticated)?;
    by_token(state, token, &[kind]).await
}

/// Finds the session of a token, which is of one of these kinds, and notes its use.
pub async fn by_token(state: &ApiState, token: &str, kinds: &[SessionKind]) -> Result<Caller, ApiError> {
    if !is_plausible(token) {
        return Err(ApiError::Unauthenticated);
    }
    let token_hash = secret::hash(token);
    let session = session::by_token(&state.store, &token_hash).await?.filter(|session| kinds.contains(&session.kind));
    let session = session.ok_or(ApiError::Unauthenticated)?;
    let now = state.clock.now();
    if session.kind != SessionKind::Api && now.0 - session.seen.0 > SLIDE_EVERY_MS {
        slide(state, &session, &token_hash, now).await?;
    }
    let directory = state.directory.current().district(session.district).cloned();
    let directory = directory.ok_or_else(|| ApiError::Unavailable {
        code: "directory_not_loaded",
        message: "the district's directory is not loaded yet; try again".to_owned(),
    })?;
    Ok(Caller::new(session, token_hash, directory, now))
}

async fn slide(state: &ApiState, session: &Session, token_hash: &SecretHash, now: UtcMillis) -> Result<(), StoreError> {
    let expires = session_end(&state.config, session.kind, session.created, now);
    let mut tenant = state.store.tenant_as(session.district, session.account).await?;
    session::slide(&mut tenant, token_hash, expires).await?;
    tenant.commit().await
}

/// When a session that is used now ends.
pub fn session_end(config: &ApiConfig, kind: SessionKind, created: UtcMillis, now: UtcMillis) -> UtcMillis {
    let idle = if kind == SessionKind::Driver { config.driver_idle } else { config.session_idle };
    let idle = now.0 + idle.as_millis() as i64;
    let hard = created.0 + config.session_max.as_millis() as i64;
    UtcMillis(idle.min(hard))
}

/// The token of a request and how it came.
fn presented(headers: &HeaderMap) -> Option<(&str, SessionKind)> {
    if let Some(value) = headers.get(header::AUTHORIZATION) {
        let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
        let token = token.trim();
        return (scheme.eq_ignore_ascii_case("bearer") && is_plausible(token)).then_some((token, SessionKind::Api));
    }
    cookie(headers).map(|token| (token, SessionKind::Cookie))
}

/// The session cookie's value.
pub fn cookie(headers: &HeaderMap) -> Option<&str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(';'));
    pairs
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(name, token)| *name == COOKIE && is_plausible(token))
        .map(|(_, token)| token)
}

fn is_plausible(token: &str) -> bool {
    !token.is_empty() && token.len() <= TOKEN_BYTES_MAX
}

/// Whether a browser sent this from our own page. A client that is no browser says so by `Origin` or not at all, and is
/// then refused: programs use a token.
pub fn is_same_site(headers: &HeaderMap, config: &ApiConfig) -> bool {
    match headers.get("sec-fetch-site").map(|value| value.as_bytes()) {
        Some(b"same-origin" | b"none") => true,
        Some(_) => false,
        None => headers.contains_key(header::ORIGIN) && is_own_origin(headers, config),
    }
}

/// Whether `Origin`, when there is one, names the host that was asked. Ports count.
pub fn is_own_origin(headers: &HeaderMap, config: &ApiConfig) -> bool {
    let Some(origin) = headers.get(header::ORIGIN) else { return true };
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let host = text("x-forwarded-host").filter(|_| config.trust_forwarded).or(text("host"));
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
    matches!((origin, host), (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host))
}

/// Where the request came from, for the throttle.
pub fn address(headers: &HeaderMap, extensions: &Extensions, config: &ApiConfig) -> IpAddr {
    // The last entry is the one that our own proxy has added; earlier ones are the client's word.
    let forwarded = || headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?.rsplit(',').next()?.trim().parse().ok();
    if let Some(address) = config.trust_forwarded.then(forwarded).flatten() {
        return address;
    }
    let peer = extensions.get::<ConnectInfo<SocketAddr>>().map(|ConnectInfo(peer)| peer.ip());
    peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
}

/// Whether the browser speaks TLS to us or to the proxy before us.
pub fn is_secure(headers: &HeaderMap, config: &ApiConfig) -> bool {
    config.cookie_secure || (config.trust_forwarded && headers.get("x-forwarded-proto").is_some_and(|proto| proto == "https"))
}

impl Caller {
    pub fn new(session: Session, token_hash: SecretHash, directory: Arc<DistrictDirectory>, now: UtcMillis) -> Self {
        Self {
            who: Who { account: session.account, role: session.role, person: session.person, school: session.school },
            email: session.email,
            district: session.district,
            directory,
            kind: session.kind,
            token_hash,
            expires: session.expires,
            now,
        }
    }

    /// A transaction on the caller's district in the caller's name.
    pub async fn tenant(&self, state: &ApiState) -> Result<Tenant, StoreError> {
        state.store.tenant_as(self.district, self.who.account).await
    }

    /// Commits a deed of the caller's together with its line in the audit.
    pub async fn commit(&self, mut tenant: Tenant, action: &str, subject: impl ToString, detail: Value) -> Result<(), StoreError> {
        audit::record(&mut tenant, self.district, action, Some(&subject.to_string()), detail).await?;
        tenant.commit().await
    }

    pub fn now(&self) -> UtcMillis {
        self.now
    }

    pub fn school(&self, id: SchoolId) -> Result<&SchoolEntry, ApiError> {
        self.directory.school(id).ok_or(ApiError::NotFound("school"))
    }

    pub fn section(&self, id: SectionId) -> Result<&SectionEntry, ApiError> {
        self.directory.section(id).ok_or(ApiError::NotFound("section"))
    }

    pub fn person(&self, id: PersonId) -> Result<&PersonEntry, ApiError> {
        self.directory.person(id).ok_or(ApiError::NotFound("person"))
    }

    /// The school's date now.
    pub fn today_in(&self, school: SchoolId) -> NaiveDate {
        today_in(&self.directory, school, self.now)
    }

    /// A student's date now: that of the first school the student belongs to.
    pub fn today_of(&self, student: &PersonEntry) -> NaiveDate {
        self.today_in(self.school_of(student).unwrap_or(SchoolId::from_bytes([0; 16])))
    }

    /// The school in which a student is a member now, else any that the student has been in.
    pub fn school_of(&self, student: &PersonEntry) -> Option<SchoolId> {
        let holds = |school: SchoolId, starts: Option<NaiveDate>, ends: Option<NaiveDate>| {
            let today = self.today_in(school);
            starts.is_none_or(|starts| starts <= today) && ends.is_none_or(|ends| today < ends)
        };
        let current = student.memberships.iter().find(|m| holds(m.school, m.starts, m.ends));
        let by_section = || student.sections.iter().find_map(|id| self.directory.section(*id)).map(|section| section.school);
        current.or(student.memberships.last()).map(|membership| membership.school).or_else(by_section)
    }
}

/// The date of a school now; UTC's for a school that does not exist.
pub fn today_in(directory: &DistrictDirectory, school: SchoolId, now: UtcMillis) -> NaiveDate {
    let zone = directory.school(school).map_or(chrono_tz::Tz::UTC, |school| school.zone);
    local_date(now, zone).unwrap_or_default()
}

/// Refuses when a right is missing.
pub fn require(allowed: bool, message: &'static str) -> Result<(), ApiError> {
    if allowed { Ok(()) } else { Err(ApiError::Forbidden(message)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value))).collect()
    }

    #[test]
    fn only_our_own_page_may_use_the_cookie() {
        let config = ApiConfig::default();
        let cases: [(&[(&str, &str)], bool); 8] = [
            (&[("sec-fetch-site", "same-origin")], true),
            (&[("sec-fetch-site", "none")], true),
            (&[("sec-fetch-site", "cross-site"), ("origin", "http://a:1"), ("host", "a:1")], false),
            (&[("sec-fetch-site", "same-site")], false),
            (&[("origin", "http://a:1"), ("host", "a:1")], true),
            (&[("origin", "http://a:2"), ("host", "a:1")], false),
            (&[("origin", "null"), ("host", "a:1")], false),
            (&[("host", "a:1")], false),
        ];
        for (pairs, expected) in cases {
            let mut map = HeaderMap::new();
            for (name, value) in pairs {
                map.insert(header::HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
            }
            assert_eq!(is_same_site(&map, &config), expected, "{pairs:?}");
        }
    }

    #[test]
    fn the_token_is_found_among_other_cookies() {
        assert_eq!(cookie(&headers(&[("cookie", "a=b; rollcall_session=rs_x; c=d")])), Some("rs_x"));
        assert_eq!(cookie(&headers(&[("cookie", "rollcall_session=")])), None);
        let bearer = headers(&[("authorization", "Bearer rt_1"), ("cookie", "rollcall_session=rs_x")]);
        assert!(matches!(presented(&bearer), Some(("rt_1", SessionKind::Api))));
        assert!(presented(&headers(&[("authorization", "Basic abc"), ("cookie", "rollcall_session=rs_x")])).is_none());
    }
}
