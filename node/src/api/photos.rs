//! Photos: taking one in before a command sends it, and bringing one in full size.

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use teahouse_core::photos::NewPhoto;
use teahouse_protocols::ids::TopicId;

use super::Problem;
use super::routes::{Answer, Device};
use crate::blobs::BlobsError;
use crate::media::{MediaError, Which};

impl From<MediaError> for Problem {
    fn from(error: MediaError) -> Self {
        let status = match &error {
            MediaError::Unknown => return Self::not_found("photo"),
            MediaError::Image(_) => StatusCode::BAD_REQUEST,
            MediaError::TooLarge | MediaError::Blobs(BlobsError::TooLarge { .. }) => {
                StatusCode::PAYLOAD_TOO_LARGE
            }
            MediaError::Gone => StatusCode::CONFLICT,
            MediaError::Blobs(BlobsError::Full) => StatusCode::INSUFFICIENT_STORAGE,
            MediaError::NoFolder
            | MediaError::TooMany
            | MediaError::Offline
            | MediaError::Blobs(
                BlobsError::Busy(_)
                | BlobsError::NobodyKnown
                | BlobsError::Failed(_)
                | BlobsError::Cancelled
                | BlobsError::Closed
                | BlobsError::Network(_)
                | BlobsError::KeyInUse,
            ) => StatusCode::SERVICE_UNAVAILABLE,
            MediaError::Blobs(_) | MediaError::Storage(_) => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::new(status, error.to_string())
    }
}

pub(super) async fn take_in(
    State(device): State<Device>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<NewPhoto> {
    Ok(Json(device.handle.media()?.take_in(body?.into()).await?))
}

pub(super) async fn picture(
    State(device): State<Device>,
    Path((topic, message, index)): Path<(String, String, String)>,
) -> Result<impl IntoResponse, Problem> {
    let topic = TopicId::from_hex(&topic)
        .ok_or_else(|| Problem::bad_request("a topic's id is 64 hexadecimal digits"))?;
    let message = message.parse().map_err(Problem::bad_request)?;
    let index = index.parse().map_err(|_| Problem::bad_request("photos are numbered from 0"))?;
    let which = Which { topic, message, index };
    let picture = device.handle.media()?.picture(which, |_| ()).await?;
    // A browser must not find a page in it, nor keep what may be taken back.
    let headers = [
        (header::CONTENT_TYPE, picture.kind.media_type()),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::CONTENT_DISPOSITION, "attachment"),
        (header::CACHE_CONTROL, "no-store"),
    ];
    Ok((headers, picture.bytes))
}
