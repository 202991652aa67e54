//! The routes of a relay, for its operator.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::{MethodRouter, get, post};
use serde::{Deserialize, Serialize};

use super::{Problem, Route};
use crate::metrics;
pub use crate::roles::relay::RelayView;
use crate::roles::relay::{RelayError, RelayHandle};

/// Asks for an invite link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInviteRequest {
    /// How many newcomers may use it.
    pub uses: u32,
    /// For how many days.
    pub days: u32,
    /// The contact card of somebody who welcomes them.
    #[serde(default)]
    pub greeter: Option<String>,
}

/// An invite link.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Invited {
    /// `teahouse:relay/…`.
    pub link: String,
}

/// Take nothing new, or do so again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayDrainRequest {
    /// Whether to drain.
    pub drain: bool,
}

pub(super) fn all(relay: &RelayHandle) -> Vec<Route> {
    let on = |method, path, handler: MethodRouter<RelayHandle>| Route {
        method,
        path,
        handler: handler.with_state(relay.clone()),
    };
    vec![
        on("get", "/v1/relay/status", get(status)),
        on("post", "/v1/relay/invite", post(invite)),
        on("post", "/v1/relay/drain", post(drain)),
        on("get", "/metrics", get(prometheus)),
    ]
}

impl From<RelayError> for Problem {
    fn from(error: RelayError) -> Self {
        let status = match &error {
            RelayError::Stopped => StatusCode::SERVICE_UNAVAILABLE,
            RelayError::NotStored(_) => StatusCode::INSUFFICIENT_STORAGE,
            RelayError::Invalid(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, error.to_string())
    }
}

async fn status(State(relay): State<RelayHandle>) -> Json<RelayView> {
    Json(relay.status())
}

async fn invite(
    State(relay): State<RelayHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<Invited>, Problem> {
    let RelayInviteRequest { uses, days, greeter } = super::parse(&body?)?;
    let link = relay.invite(uses, days, greeter.as_deref()).await?;
    Ok(Json(Invited { link }))
}

async fn drain(
    State(relay): State<RelayHandle>,
    body: Result<Bytes, BytesRejection>,
) -> Result<Json<RelayView>, Problem> {
    let RelayDrainRequest { drain } = super::parse(&body?)?;
    relay.drain(drain).await?;
    Ok(Json(relay.status()))
}

async fn prometheus(State(relay): State<RelayHandle>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], relay.metrics())
}
