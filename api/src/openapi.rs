//! The OpenAPI 3.1 document, made from the routes themselves and served at `/api/v1/openapi.json`.

use axum::Router;
use axum::http::header;
use axum::routing::get;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;

use crate::problem::Problem;
use crate::state::ApiState;

#[derive(OpenApi)]
#[openapi(
    info(title = "Rollcall", description = "Live attendance: who is expected, who is here, and why the system says so."),
    components(schemas(Problem))
)]
struct Document;

/// All documented routes.
pub fn api() -> OpenApiRouter<ApiState> {
    OpenApiRouter::with_openapi(Document::openapi())
}

/// The route that serves the document.
pub fn router(document: &utoipa::openapi::OpenApi) -> Router<ApiState> {
    let text = text(document);
    Router::new().route(
        "/api/v1/openapi.json",
        get(move || std::future::ready(([(header::CONTENT_TYPE, "application/json")], text.clone()))),
    )
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
