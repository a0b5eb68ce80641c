//! The OpenAPI 3.1 document, made from the routes themselves and served at `/api/v1/openapi.json`.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::problem::Problem;
use crate::routes::{
    accounts, audit, badges, dead_letters, device_days, devices, districts, engagement, erasures, exports, marks, overview, people,
    reports, saved_queries, schools, sections, session, sql, students, tokens,
};
use crate::state::ApiState;

#[derive(OpenApi)]
#[openapi(
    info(title = "Rollcall", version = "1", description = "Live attendance: who is expected, who is here, and why the system says so."),
    components(schemas(Problem, engagement::EngagementEntry, engagement::EngagementMeta))
)]
struct Document;

/// All documented routes.
pub fn api() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(session::sign_in, session::current, session::sign_out))
        .routes(routes!(tokens::list, tokens::create))
        .routes(routes!(tokens::revoke))
        .routes(routes!(schools::list))
        .routes(routes!(schools::get))
        .routes(routes!(schools::sections))
        .routes(routes!(sections::list))
        .routes(routes!(sections::get))
        .routes(routes!(sections::students))
        .routes(routes!(sections::attendance))
        .routes(routes!(engagement::day))
        .routes(routes!(engagement::settings, engagement::set_settings))
        .routes(routes!(engagement::consents, engagement::record_consent))
        .routes(routes!(students::get))
        .routes(routes!(students::days))
        .routes(routes!(students::day))
        .routes(routes!(erasures::erase, erasures::get))
        .routes(routes!(erasures::former))
        .routes(routes!(people::list))
        .routes(routes!(people::own_students))
        .routes(routes!(marks::create, marks::list))
        .routes(routes!(marks::undo))
        .routes(routes!(devices::list, devices::create))
        .routes(routes!(devices::change))
        .routes(routes!(device_days::days))
        .routes(routes!(badges::list, badges::issue))
        .routes(routes!(badges::revoke))
        .routes(routes!(dead_letters::list))
        .routes(routes!(accounts::list))
        .routes(routes!(accounts::change))
        .routes(routes!(audit::list))
        .routes(routes!(districts::attendance))
        .routes(routes!(reports::attendance::attendance))
        .routes(routes!(reports::attendance::tardies))
        .routes(routes!(reports::attendance::late_arrivals))
        .routes(routes!(reports::attendance::unexplained))
        .routes(routes!(reports::chronic::chronic_absence))
        .routes(routes!(reports::tiered::students))
        .routes(routes!(reports::explain::explain))
        .routes(routes!(sql::run))
        .routes(routes!(sql::catalog))
        .routes(routes!(saved_queries::list, saved_queries::create))
        .routes(routes!(saved_queries::get, saved_queries::change, saved_queries::delete))
        .routes(routes!(exports::list, exports::create))
        .routes(routes!(exports::change, exports::delete))
        .routes(routes!(exports::run))
        .routes(routes!(overview::arrivals))
}

/// The route that serves the document.
pub fn router(document: &utoipa::openapi::OpenApi) -> Router<ApiState> {
    let text = text(document);
    Router::new()
        .route("/api/v1/openapi.json", get(move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], text.clone()))))
}

/// The document as it stands in the repository for the dashboard's types.
pub fn openapi_json() -> String {
    text(&api().into_openapi())
}

fn text(document: &utoipa::openapi::OpenApi) -> String {
    let mut text = document.to_pretty_json().expect("the document is plain data");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dashboard's types are generated from this file. Rewrite it with `ROLLCALL_REWRITE=1`.
    #[test]
    fn the_document_in_the_repository_is_the_one_that_is_served() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../dashboard/openapi.json");
        let document = openapi_json();
        if std::env::var_os("ROLLCALL_REWRITE").is_some() {
            std::fs::write(path, &document).unwrap();
        }
        let kept = std::fs::read_to_string(path).unwrap_or_default();
        assert!(
            kept == document,
            "the routes have changed: run this test with ROLLCALL_REWRITE=1 and generate the dashboard's types again"
        );
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document: serde_json::Value = serde_json::from_str(&openapi_json()).unwrap();
        let text = document.to_string();
        for (_, rest) in text.match_indices("\"$ref\":\"#/").map(|(at, found)| (at, &text[at + found.len()..])) {
            let pointer = format!("/{}", rest.split('"').next().unwrap());
            assert!(document.pointer(&pointer).is_some(), "{pointer}");
        }
    }
}
