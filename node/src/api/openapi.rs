//! `GET /openapi.json`: the API's description, written by hand and held to the routes by a
//! test. Only the features' queries are filled in: each says of itself what it answers.

use std::sync::LazyLock;

use axum::http::header;
use axum::response::IntoResponse;
use axum::routing::get;
use serde_json::{Value, json};
use teahouse_core::query::asked;

use super::Route;

pub(super) const DOCUMENT: &str = include_str!("openapi.json");

pub(super) fn route() -> Route {
    Route { method: "get", path: "/openapi.json", handler: get(document) }
}

async fn document() -> impl IntoResponse {
    static SERVED: LazyLock<String> = LazyLock::new(|| filled_in().to_string());
    ([(header::CONTENT_TYPE, "application/json")], SERVED.as_str())
}

/// The whole description.
pub(super) fn filled_in() -> Value {
    let mut document: Value = serde_json::from_str(DOCUMENT).unwrap_or_default();
    let about: Vec<String> = asked::all().map(|q| format!("`{}`: {}.", q.name, q.about)).collect();
    if let Some(names) = document.pointer_mut("/components/schemas/QueryName") {
        *names = json!({
            "type": "string",
            "description": about.join(" "),
            "enum": asked::all().map(|q| q.name).collect::<Vec<_>>(),
        });
    }
    document
}
