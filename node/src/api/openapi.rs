//! `GET /openapi.json`: the API's description, written by hand and held to the routes by a
//! test.

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;

use super::Route;

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn route() -> Route {
    Route { method: "get", path: "/openapi.json", handler: get(document) }
}

async fn document() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT)
}
