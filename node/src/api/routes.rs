//! The routes of a device. Reads run on the blocking pool: they read from the disk.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::rejection::BytesRejection;
use axum::extract::{DefaultBodyLimit, Path, Query, State};
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use teahouse_core::command::{Chat, Command, MessageId, Reply};
use teahouse_core::query::{self, asked};
use teahouse_core::store::{Snapshot, StorageError};
use teahouse_core::view;
use teahouse_protocols::ids::{AccountId, Millis, TopicId};
use tokio_util::sync::CancellationToken;

use super::sse::{self, Events};
use super::{Problem, Route, photos};
use crate::handle::{Handle, NodeError, NodeStatus};
use crate::media::MAX_FILE;
use crate::metrics;

/// Messages in an answer at most; the default is 50.
pub const MAX_MESSAGES: usize = 200;

/// Events of a group in an answer at most, the newest.
pub const MAX_EVENTS: usize = 1_000;

#[derive(Clone)]
pub(super) struct Device {
    pub(super) handle: Handle,
    events: Arc<Events>,
    ended: CancellationToken,
}

pub(super) type Answer<T> = Result<Json<T>, Problem>;

/// A safety number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Safety {
    /// Groups of digits, to be compared with the other person's.
    pub number: String,
}

pub(super) fn all(handle: &Handle, ended: &CancellationToken) -> Vec<Route> {
    let device = Device {
        handle: handle.clone(),
        events: Events::follow(handle, ended.clone()),
        ended: ended.clone(),
    };
    let on = |method, path, handler: axum::routing::MethodRouter<Device>| Route {
        method,
        path,
        handler: handler.with_state(device.clone()),
    };
    vec![
        on("get", "/v1/status", get(status)),
        on("get", "/v1/identity", get(identity)),
        on("get", "/v1/chats", get(chats)),
        on("get", "/v1/chats/{topic}", get(chat)),
        on("get", "/v1/chats/{topic}/messages", get(messages)),
        on("get", "/v1/chats/{topic}/messages/{message}", get(message)),
        on("get", "/v1/chats/{topic}/members", get(members)),
        on("get", "/v1/chats/{topic}/events", get(happened)),
        on("get", "/v1/contacts", get(contacts)),
        on("get", "/v1/requests", get(requests)),
        on("get", "/v1/devices", get(devices)),
        on("get", "/v1/linking", get(linking)),
        on("get", "/v1/relays", get(relays)),
        on("get", "/v1/waiting", get(waiting)),
        on("get", "/v1/alarms", get(alarms)),
        on("get", "/v1/safety/{account}", get(safety)),
        on("post", "/v1/queries/{name}", post(ask)),
        on("post", "/v1/commands", post(command)),
        on("post", "/v1/photos", post(photos::take_in).layer(DefaultBodyLimit::max(MAX_FILE))),
        on("get", "/v1/photos/{topic}/{message}/{index}", get(photos::picture)),
        on("post", "/v1/rebuild", post(rebuild)),
        on("get", "/v1/events", get(events)),
        on("get", "/metrics", get(prometheus)),
    ]
}

async fn read<T: Send + 'static>(
    device: Device,
    query: impl FnOnce(&Snapshot) -> Result<T, StorageError> + Send + 'static,
) -> Answer<T> {
    let ran = tokio::task::spawn_blocking(move || device.handle.query(query)).await;
    Ok(Json(ran.map_err(|_| NodeError::Stopped)??))
}

fn topic(text: &str) -> Result<TopicId, Problem> {
    TopicId::from_hex(text)
        .ok_or_else(|| Problem::bad_request("a chat's id is 64 hexadecimal digits"))
}

async fn status(State(device): State<Device>) -> Answer<NodeStatus> {
    let ran = tokio::task::spawn_blocking(move || device.handle.status()).await;
    Ok(Json(ran.map_err(|_| NodeError::Stopped)?))
}

async fn identity(State(device): State<Device>) -> Answer<view::Identity> {
    read(device, |s| query::identity(s)).await
}

async fn chats(State(device): State<Device>) -> Answer<Vec<view::Chat>> {
    read(device, |s| query::chats(s)).await
}

async fn chat(State(device): State<Device>, Path(id): Path<String>) -> Answer<view::Chat> {
    let topic = topic(&id)?;
    let Json(found) = read(device, move |s| query::chat(s, topic)).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("chat"))?))
}

/// A place in a chat: a message's time and id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place(pub Millis, pub MessageId);

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{},{}", self.0, self.1)
    }
}

impl core::str::FromStr for Place {
    type Err = &'static str;

    fn from_str(s: &str) -> Result<Self, Self::Err> {
        let wrong = "`before` is a message's time in milliseconds, a comma and its id";
        let (time, id) = s.split_once(',').ok_or(wrong)?;
        Ok(Self(time.parse().map_err(|_| wrong)?, id.parse()?))
    }
}

async fn messages(
    State(device): State<Device>,
    Path(id): Path<String>,
    Query(parameters): Query<BTreeMap<String, String>>,
) -> Answer<Vec<view::Message>> {
    let topic = topic(&id)?;
    let before = parameters.get("before").map(|t| t.parse::<Place>()).transpose();
    let before = before.map_err(Problem::bad_request)?.map(|Place(time, id)| (time, id));
    let limit = parameters.get("limit").map_or(Ok(50), |n| n.parse::<usize>());
    let limit = limit.ok().filter(|n| (1..=MAX_MESSAGES).contains(n)).ok_or_else(|| {
        Problem::bad_request(format!("`limit` is a number from 1 to {MAX_MESSAGES}"))
    })?;
    let Json(found) = read(device, move |s| {
        let known = query::chat(s, topic)?.is_some();
        known.then(|| query::messages(s, topic, before, limit)).transpose()
    })
    .await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("chat"))?))
}

async fn message(
    State(device): State<Device>,
    Path((id, message)): Path<(String, String)>,
) -> Answer<view::Message> {
    let topic = topic(&id)?;
    let message: MessageId = message.parse().map_err(Problem::bad_request)?;
    let Json(found) = read(device, move |s| query::message(s, topic, message)).await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("message"))?))
}

async fn members(
    State(device): State<Device>,
    Path(id): Path<String>,
) -> Answer<Vec<view::Member>> {
    let topic = topic(&id)?;
    let Json(found) = read(device, move |s| {
        let known = query::chat(s, topic)?.is_some();
        known.then(|| query::members(s, topic)).transpose()
    })
    .await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("chat"))?))
}

async fn happened(
    State(device): State<Device>,
    Path(id): Path<String>,
    Query(parameters): Query<BTreeMap<String, String>>,
) -> Answer<Vec<view::Event>> {
    let topic = topic(&id)?;
    let since = parameters.get("since").map_or(Ok(0), |n| n.parse::<Millis>());
    let since = since.map_err(|_| Problem::bad_request("`since` is a time in milliseconds"))?;
    let Json(found) = read(device, move |s| {
        let known = query::chat(s, topic)?.is_some();
        known.then(|| query::events(s, topic, since, MAX_EVENTS)).transpose()
    })
    .await?;
    Ok(Json(found.ok_or_else(|| Problem::not_found("chat"))?))
}

async fn contacts(State(device): State<Device>) -> Answer<Vec<view::Contact>> {
    read(device, |s| query::contacts(s)).await
}

async fn requests(State(device): State<Device>) -> Answer<Vec<view::Contact>> {
    read(device, |s| query::requests(s)).await
}

async fn devices(State(device): State<Device>) -> Answer<Vec<view::Device>> {
    read(device, |s| query::devices(s)).await
}

async fn linking(State(device): State<Device>) -> Answer<view::Linking> {
    read(device, |s| query::linking(s)).await
}

async fn relays(State(device): State<Device>) -> Answer<Vec<view::Relay>> {
    read(device, |s| query::relays(s)).await
}

async fn waiting(State(device): State<Device>) -> Answer<Vec<view::Waiting>> {
    read(device, |s| query::waiting(s)).await
}

async fn alarms(State(device): State<Device>) -> Answer<Vec<view::Alarm>> {
    read(device, |s| query::alarms(s)).await
}

async fn safety(State(device): State<Device>, Path(id): Path<String>) -> Answer<Safety> {
    let account = AccountId::from_hex(&id)
        .ok_or_else(|| Problem::bad_request("an account's id is 64 hexadecimal digits"))?;
    let Json(number) = read(device, move |s| query::safety_number(s, account)).await?;
    let number = number.ok_or_else(|| Problem::not_found("account"))?;
    Ok(Json(Safety { number }))
}

async fn ask(
    State(device): State<Device>,
    Path(name): Path<String>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<serde_json::Value> {
    let query = asked::find(&name).ok_or_else(|| Problem::not_found("query"))?;
    let question: serde_json::Value = super::parse(&body?)?;
    let ran = tokio::task::spawn_blocking(move || {
        (query.run)(&device.handle.snapshot()?, question).map_err(|e| match e {
            asked::Failed::Question(_) => Problem::bad_request(e.to_string()),
            asked::Failed::Storage(e) => NodeError::from(e).into(),
        })
    })
    .await;
    Ok(Json(ran.map_err(|_| NodeError::Stopped)??))
}

async fn command(
    State(device): State<Device>,
    body: Result<Bytes, BytesRejection>,
) -> Answer<Reply> {
    let command: Command = super::parse(&body?)?;
    if let Command::Chat(Chat::Send { text, .. }) = &command
        && text.trim().is_empty()
    {
        return Err(Problem::bad_request("a message says something: this one is empty"));
    }
    Ok(Json(device.handle.submit(command).await?))
}

/// What a rebuild did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rebuilt {
    /// Topics replayed.
    pub topics: u64,
    /// Envelopes applied.
    pub envelopes: u64,
}

impl From<teahouse_core::Rebuilt> for Rebuilt {
    fn from(r: teahouse_core::Rebuilt) -> Self {
        Self { topics: r.topics, envelopes: r.envelopes }
    }
}

async fn rebuild(State(device): State<Device>) -> Answer<Rebuilt> {
    Ok(Json(device.handle.rebuild().await?.into()))
}

async fn events(State(device): State<Device>, headers: HeaderMap) -> impl IntoResponse {
    sse::stream(&device.events, &headers, &device.ended)
}

async fn prometheus(State(device): State<Device>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, metrics::CONTENT_TYPE)], device.handle.metrics())
}

#[cfg(test)]
mod tests {
    use super::*;
    use teahouse_protocols::ids::DeviceId;

    #[test]
    fn a_place_reads_back() {
        let place = Place(17, MessageId { device: DeviceId([0xab; 32]), seq: 4 });
        assert_eq!(place.to_string().parse(), Ok(place));
        for bad in ["", "17", "x,y", "17,abc:1"] {
            assert!(bad.parse::<Place>().is_err(), "{bad}");
        }
    }
}
