//! The dashboard as embedded files: everything that is no route of the API.
//!
//! Files under `assets/` have a hash of their content in their names and are cached for ever; everything else is
//! revalidated by its ETag. A path that is no file is a route of the page and answered with `index.html`. Without a
//! built dashboard at compile time a plain page says how to build it.

use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use rust_embed::{EmbeddedFile, RustEmbed};

use crate::problem::ApiError;

#[derive(RustEmbed)]
#[folder = "../dashboard/dist"]
#[allow_missing = true]
struct Files;

const NOT_BUILT: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Rollcall</title>\
    <h1>Rollcall runs, its pages are not built</h1>\
    <p>Run <code>npm ci &amp;&amp; npm run build</code> in <code>dashboard/</code>, then build the program again, \
    or use <code>cargo xtask demo</code>, which does both.</p></html>";

/// Serves a file, or the page for a route of the page.
pub async fn serve(method: Method, uri: Uri, headers: HeaderMap) -> Response {
    if method != Method::GET && method != Method::HEAD {
        return StatusCode::METHOD_NOT_ALLOWED.into_response();
    }
    let path = uri.path().trim_start_matches('/');
    if let Some(file) = Files::get(path) {
        return respond(path, &file, &headers);
    }
    // A missing asset is an error, not the page: a script that is HTML would only confuse.
    if path.starts_with("assets/") || path.starts_with("api/") || path.starts_with("live/") {
        return ApiError::NotFound("address").into_response();
    }
    match Files::get("index.html") {
        Some(page) => respond("index.html", &page, &headers),
        None => (StatusCode::OK, [(header::CONTENT_TYPE, "text/html; charset=utf-8")], NOT_BUILT).into_response(),
    }
}

fn respond(path: &str, file: &EmbeddedFile, headers: &HeaderMap) -> Response {
    let etag = etag(&file.metadata.sha256_hash());
    let cache = if path.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let fresh = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok()).any(|value| matches(value, &etag));
    let mut response = if fresh { StatusCode::NOT_MODIFIED.into_response() } else { Response::new(Body::from(file.data.clone())) };
    let out = response.headers_mut();
    if !fresh {
        let kind = content_type(path, file.metadata.mimetype());
        out.insert(header::CONTENT_TYPE, HeaderValue::from_str(&kind).unwrap_or(HeaderValue::from_static("application/octet-stream")));
    }
    out.insert(header::CACHE_CONTROL, HeaderValue::from_static(cache));
    if let Ok(value) = HeaderValue::from_str(&etag) {
        out.insert(header::ETAG, value);
    }
    response
}

/// Weak, because compression changes the bytes.
fn etag(hash: &[u8]) -> String {
    let hex: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
    format!("W/\"{hex}\"")
}

fn matches(header: &str, etag: &str) -> bool {
    let bare = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    header.split(',').any(|tag| tag.trim() == "*" || bare(tag) == bare(etag))
}

fn content_type(path: &str, guessed: &str) -> String {
    match guessed {
        text if text.starts_with("text/") => format!("{text}; charset=utf-8"),
        _ if path.ends_with(".webmanifest") => "application/manifest+json".to_owned(),
        other => other.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn etags_match_whatever_their_strength() {
        let tag = etag(&[0xab; 32]);
        assert!(matches(&tag, &tag));
        assert!(matches(&format!("\"x\", {}", tag.trim_start_matches("W/")), &tag));
        assert!(matches("*", &tag));
        assert!(!matches("W/\"00\"", &tag));
    }

    #[tokio::test]
    async fn a_missing_asset_is_not_the_page() {
        let response = serve(Method::GET, Uri::from_static("/assets/none-1234.js"), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::NOT_FOUND);
        let response = serve(Method::GET, Uri::from_static("/boards/1"), HeaderMap::new()).await;
        assert_eq!(response.status(), StatusCode::OK);
        assert!(response.headers()[header::CONTENT_TYPE].to_str().unwrap().starts_with("text/html"));
    }
}
