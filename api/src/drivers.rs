//! Sign-ins of drivers, which the doors of Flight SQL and PostgreSQL have in common.
//!
//! - A user name and password become a session of the kind `driver`. Its token is good at the doors only, not at the pages'
//!   routes, and is not listed among an account's API tokens. An API token is good at the doors too.
//! - The throttle of sign-ins holds here as at the pages.
//! - A session ends when its driver says so or its connection is gone, else `ApiConfig::driver_idle` after its last question, and in
//!   every case `ApiConfig::session_max` after the sign-in. Begin and end stand in the audit with the door.

use std::net::IpAddr;

use rollcall_store::session::SessionKind;
use rollcall_store::{audit, secret, session};
use serde_json::json;

use crate::caller::{self, Caller};
use crate::problem::ApiError;
use crate::routes::session::check_password;
use crate::state::ApiState;

/// Prefix of a driver's token, so that leaked ones are recognised for what they are.
const TOKEN_PREFIX: &str = "rf_";

/// Checks an account's password and begins a session for a driver, which comes in by `door`.
pub async fn sign_in(state: &ApiState, door: &'static str, email: &str, password: String, address: IpAddr) -> Result<String, ApiError> {
    let credentials = check_password(state, email, password, address).await?;
    let token = secret::generate(TOKEN_PREFIX);
    let now = state.clock.now();
    let expires = caller::session_end(&state.config, SessionKind::Driver, now, now);
    let mut tenant = state.store.tenant_as(credentials.district, credentials.account).await?;
    let (district, account) = (credentials.district, credentials.account);
    session::create(&mut tenant, district, &secret::hash(&token), account, SessionKind::Driver, expires).await?;
    audit::record(&mut tenant, district, "session.create", Some(&account.to_string()), json!({"door": door})).await?;
    tenant.commit().await?;
    Ok(token)
}

/// The caller who presents a driver's token or an API token, as the account is now.
pub async fn identify(state: &ApiState, token: &str) -> Result<Caller, ApiError> {
    caller::by_token(state, token, &[SessionKind::Driver, SessionKind::Api]).await
}

/// Ends a driver's session; nothing happens when it has ended, or when the token is none of a driver's.
pub async fn sign_out(state: &ApiState, door: &'static str, token: &str) -> Result<(), ApiError> {
    let caller = match caller::by_token(state, token, &[SessionKind::Driver]).await {
        Ok(caller) => caller,
        Err(ApiError::Unauthenticated) => return Ok(()),
        Err(error) => return Err(error),
    };
    let mut tenant = caller.tenant(state).await?;
    session::end(&mut tenant, &caller.token_hash).await?;
    Ok(caller.commit(tenant, "session.end", caller.who.account, json!({"door": door})).await?)
}
