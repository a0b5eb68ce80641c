//! The one place where errors become HTTP: an RFC 9457 problem document with a stable `code`, a sentence for the
//! person and the request's id. The cause goes to the log; a database message never reaches a client.

use std::error::Error;
use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use rollcall_store::StoreError;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What a client is told about a request that failed (`application/problem+json`).
#[derive(Debug, Clone, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// A URI reference that names the kind of problem; always `about:blank#<code>`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The HTTP status in words.
    pub title: String,
    pub status: u16,
    /// Stable: programs decide by it.
    pub code: String,
    /// One sentence for a person.
    pub detail: String,
    /// The id under which the server's log knows this request; also in the `x-request-id` header.
    pub request_id: Option<String>,
    /// What is wrong with which field, when the request's content was refused.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Of SQL: the line that is wrong, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// Of SQL: the character of that line, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub column: Option<u64>,
    /// Of SQL: what may mend it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

/// One field that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Path of the field in the request, such as `marks[3].status`.
    pub field: String,
    /// Stable: programs decide by it.
    pub code: String,
    pub message: String,
}

impl FieldError {
    pub fn new(field: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self { field: field.into(), code: code.to_owned(), message: message.into() }
    }
}

/// What went wrong underneath; for the log only.
pub type Cause = Box<dyn Error + Send + Sync>;

/// Why a request was not done, one variant per decision that a client can take.
#[derive(Debug, thiserror::Error)]
pub enum ApiError {
    /// Nobody is signed in, or the session has ended.
    #[error("sign in first")]
    Unauthenticated,
    /// E-mail or password is wrong; deliberately not said which.
    #[error("the e-mail address or the password is wrong")]
    WrongCredentials,
    #[error("{0}")]
    Forbidden(&'static str),
    /// A browser sent the request on behalf of another site.
    #[error("this request came from another site")]
    CrossSite,
    /// The thing does not exist in the caller's district.
    #[error("there is no such {0}")]
    NotFound(&'static str),
    #[error("{message}")]
    Conflict { code: &'static str, message: String },
    /// The request is not readable as what it should be.
    #[error("{message}")]
    Malformed { status: StatusCode, code: &'static str, message: String },
    #[error("the request has fields that cannot be accepted")]
    Invalid(Vec<FieldError>),
    /// A query that has no answer, with the place in its text.
    #[error("{message}")]
    Query { status: StatusCode, code: &'static str, message: String, line: Option<u64>, column: Option<u64>, hint: Option<String> },
    #[error("{message}")]
    TooMany { code: &'static str, message: String, retry_after_s: u64 },
    /// Temporarily impossible; the same request may be sent again.
    #[error("{message}")]
    Unavailable { code: &'static str, message: String },
    #[error("the database cannot be reached or refused the request")]
    Store(#[from] StoreError),
    #[error("the server failed to do this")]
    Internal(#[source] Cause),
}

impl ApiError {
    pub fn internal(cause: impl Into<Cause>) -> Self {
        Self::Internal(cause.into())
    }

    pub fn field(field: impl Into<String>, code: &str, message: impl Into<String>) -> Self {
        Self::Invalid(vec![FieldError::new(field, code, message)])
    }

    pub fn status(&self) -> StatusCode {
        match self {
            Self::Unauthenticated | Self::WrongCredentials => StatusCode::UNAUTHORIZED,
            Self::Forbidden(_) | Self::CrossSite => StatusCode::FORBIDDEN,
            Self::NotFound(_) => StatusCode::NOT_FOUND,
            Self::Conflict { .. } => StatusCode::CONFLICT,
            Self::Malformed { status, .. } | Self::Query { status, .. } => *status,
            Self::Invalid(_) => StatusCode::UNPROCESSABLE_ENTITY,
            Self::TooMany { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } | Self::Store(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// Stable: programs decide by it; also the code of an error on a live topic.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unauthenticated => "unauthenticated",
            Self::WrongCredentials => "wrong_credentials",
            Self::Forbidden(_) => "forbidden",
            Self::CrossSite => "cross_site",
            Self::NotFound(_) => "not_found",
            Self::Conflict { code, .. }
            | Self::Malformed { code, .. }
            | Self::Query { code, .. }
            | Self::TooMany { code, .. }
            | Self::Unavailable { code, .. } => code,
            Self::Invalid(_) => "invalid",
            Self::Store(_) => "store_unavailable",
            Self::Internal(_) => "internal",
        }
    }
}

tokio::task_local! {
    /// The id of the request that the current task answers, for problem documents.
    pub(crate) static REQUEST_ID: Arc<str>;
}

/// The id of the request being answered, when one is.
pub(crate) fn request_id() -> Option<Arc<str>> {
    REQUEST_ID.try_with(Arc::clone).ok()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let status = self.status();
        let id = request_id();
        if status.is_server_error() {
            let cause = self.source().map(chain).unwrap_or_default();
            tracing::error!(request = id.as_deref(), code = self.code(), cause, "{self}");
        }
        let (line, column, hint) = match &self {
            Self::Query { line, column, hint, .. } => (*line, *column, hint.clone()),
            _ => (None, None, None),
        };
        let problem = Problem {
            kind: format!("about:blank#{}", self.code()),
            title: status.canonical_reason().unwrap_or("Error").to_owned(),
            status: status.as_u16(),
            code: self.code().to_owned(),
            detail: self.to_string(),
            request_id: id.map(|id| id.to_string()),
            errors: match &self {
                Self::Invalid(errors) => errors.clone(),
                _ => Vec::new(),
            },
            line,
            column,
            hint,
        };
        let mut response = (status, Json(problem)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        match self {
            Self::TooMany { retry_after_s, .. } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(retry_after_s));
            }
            Self::Unavailable { .. } | Self::Store(_) => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(1));
            }
            Self::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            _ => {}
        }
        response
    }
}

fn chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_statuses_are_stable() {
        let cases = [
            (ApiError::Unauthenticated, 401, "unauthenticated"),
            (ApiError::WrongCredentials, 401, "wrong_credentials"),
            (ApiError::Forbidden("no"), 403, "forbidden"),
            (ApiError::CrossSite, 403, "cross_site"),
            (ApiError::NotFound("section"), 404, "not_found"),
            (ApiError::field("email", "required", "give one"), 422, "invalid"),
            (ApiError::internal("disk on fire"), 500, "internal"),
        ];
        for (error, status, code) in cases {
            assert_eq!(error.code(), code);
            assert_eq!(error.into_response().status().as_u16(), status, "{code}");
        }
    }

    #[test]
    fn the_cause_is_not_told_to_the_client() {
        assert!(!ApiError::internal("password=hunter2").to_string().contains("hunter2"));
    }
}
