//! Errors as problem documents (RFC 9457).

use axum::extract::rejection::BytesRejection;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use teahouse_core::command::Refusal;

use crate::handle::NodeError;

/// Why a request failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// The HTTP status.
    pub status: u16,
    /// The status in words.
    pub title: String,
    /// What is wrong, for people.
    pub detail: String,
    /// The refusal of a command, for programs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<Refusal>,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let title = status.canonical_reason().unwrap_or("error").to_owned();
        Self { status: status.as_u16(), title, detail: detail.into(), refusal: None }
    }

    pub(super) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(super) fn not_found(what: &str) -> Self {
        Self::from(Refusal::NotFound { what: what.to_owned() })
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let status = match &refusal {
            Refusal::NotFound { .. } => StatusCode::NOT_FOUND,
            Refusal::Invalid { .. } => StatusCode::BAD_REQUEST,
            Refusal::NoAccount
            | Refusal::AccountExists
            | Refusal::Revoked
            | Refusal::NotAllowed { .. }
            | Refusal::Limit { .. } => StatusCode::CONFLICT,
            Refusal::NotStored { .. } => StatusCode::INSUFFICIENT_STORAGE,
            Refusal::Internal => StatusCode::INTERNAL_SERVER_ERROR,
        };
        let detail = refusal.to_string();
        Self { refusal: Some(refusal), ..Self::new(status, detail) }
    }
}

impl From<NodeError> for Problem {
    fn from(error: NodeError) -> Self {
        match error {
            NodeError::Refused(refusal) => refusal.into(),
            NodeError::Media(error) => error.into(),
            NodeError::Busy | NodeError::Stopped => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
            }
            NodeError::Storage(_) => {
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, error.to_string())
            }
        }
    }
}

impl From<BytesRejection> for Problem {
    fn from(rejection: BytesRejection) -> Self {
        Self::new(rejection.status(), rejection.body_text())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response()
    }
}

pub(super) async fn no_such_route() -> Problem {
    Problem::new(StatusCode::NOT_FOUND, "no such route: GET /openapi.json lists them")
}

pub(super) async fn wrong_method() -> Problem {
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "not with this method: see GET /openapi.json")
}
