//! A blocking client of a running node's local API: how the command line attaches.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use teahouse_core::command::{Command, Reply};
use teahouse_core::query::Query;
use ureq::Agent;
use ureq::http::Response;

use crate::api::Problem;
use crate::config::{self, ConfigError, Role};

/// Bytes of an answer at most: 200 messages of 64 KiB, escaped.
const MAX_ANSWER: u64 = 64 << 20;

/// How long a command may take. A batch takes milliseconds; a full disk answers at once.
const COMMAND: Duration = Duration::from_mins(1);

/// How long a node may take to show that it is there.
const PROBE: Duration = Duration::from_secs(5);

/// Why a request failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The node answered that it can't or won't.
    #[error("{}", .0.detail)]
    Problem(Problem),
    /// The node does not answer.
    #[error("the node does not answer: {0}")]
    Unreachable(String),
    /// The answer is not understood; perhaps the node is of another version.
    #[error("the node's answer is not understood: {0}")]
    Answer(String),
}

/// The local API of a running node.
pub struct Client {
    agent: Agent,
    base: String,
    token: String,
    role: Role,
}

impl Client {
    /// The node that runs on a folder; `None` if none does. A file left over from a killed
    /// node, whose port may be somebody else's now, is told by asking.
    pub fn attach(dir: &Path) -> Result<Option<Self>, ConfigError> {
        let Some(file) = config::api_file(dir)? else { return Ok(None) };
        let agent = Agent::config_builder()
            .http_status_as_error(false)
            // Never through a proxy of the environment: the token is for this machine only.
            .proxy(None)
            .max_redirects(0)
            .timeout_connect(Some(PROBE))
            .build()
            .new_agent();
        let base = format!("http://127.0.0.1:{}", file.port);
        let client = Self { agent, base, token: file.token, role: file.role };
        let there = client.call("GET", "/openapi.json", None, Some(PROBE));
        Ok(there.is_ok_and(|r| r.status() == 200).then_some(client))
    }

    /// What runs there.
    pub const fn role(&self) -> Role {
        self.role
    }

    /// Reads a resource.
    pub fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        answer(self.call("GET", path, None, Some(COMMAND))?)
    }

    /// Posts a body and reads the answer.
    pub fn post<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
    ) -> Result<T, ClientError> {
        self.post_within(path, body, Some(COMMAND))
    }

    /// As [`Client::post`], for work that may take long: `None` waits for ever.
    pub fn post_within<T: DeserializeOwned>(
        &self,
        path: &str,
        body: &impl Serialize,
        within: Option<Duration>,
    ) -> Result<T, ClientError> {
        let body = serde_json::to_vec(body).map_err(|e| ClientError::Answer(e.to_string()))?;
        answer(self.call("POST", path, Some(body), within)?)
    }

    /// Asks a feature's query.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out, ClientError> {
        self.post_within(&format!("/v1/queries/{}", Q::NAME), query, Some(COMMAND))
    }

    /// Posts a file as it is.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn post_bytes<T: DeserializeOwned>(
        &self,
        path: &str,
        bytes: Vec<u8>,
    ) -> Result<T, ClientError> {
        answer(self.call("POST", path, Some(bytes), Some(COMMAND))?)
    }

    /// Reads a resource that is a file, however long it takes to be there.
    ///
    /// # Errors
    /// [`ClientError`].
    pub fn get_bytes(&self, path: &str) -> Result<Vec<u8>, ClientError> {
        body(self.call("GET", path, None, None)?)
    }

    /// Submits a command.
    pub fn command(&self, command: &Command) -> Result<Reply, ClientError> {
        self.post("/v1/commands", command)
    }

    /// The stream of events. Blocks while nothing happens; comments come every 15 s.
    pub fn events(&self) -> Result<EventStream, ClientError> {
        let response = self.call("GET", "/v1/events", None, None)?;
        if response.status() != 200 {
            return Err(problem(response));
        }
        // No limit: the stream has no end.
        let reader = response.into_body().into_with_config().limit(u64::MAX).reader();
        Ok(EventStream { lines: Box::new(BufReader::new(reader)) })
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        body: Option<Vec<u8>>,
        within: Option<Duration>,
    ) -> Result<Response<ureq::Body>, ClientError> {
        let unreachable = |e: &dyn std::fmt::Display| ClientError::Unreachable(e.to_string());
        let request = ureq::http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.base))
            .header("authorization", format!("Bearer {}", self.token))
            .header("content-type", "application/json")
            .body(body.unwrap_or_default())
            .map_err(|e| unreachable(&e))?;
        let request = self.agent.configure_request(request).timeout_global(within).build();
        self.agent.run(request).map_err(|e| unreachable(&e))
    }
}

fn answer<T: DeserializeOwned>(response: Response<ureq::Body>) -> Result<T, ClientError> {
    serde_json::from_slice(&body(response)?).map_err(|e| ClientError::Answer(e.to_string()))
}

fn body(mut response: Response<ureq::Body>) -> Result<Vec<u8>, ClientError> {
    if response.status() != 200 {
        return Err(problem(response));
    }
    let body = response.body_mut().with_config().limit(MAX_ANSWER).read_to_vec();
    body.map_err(|e| ClientError::Answer(e.to_string()))
}

fn problem(mut response: Response<ureq::Body>) -> ClientError {
    let status = response.status();
    match response.body_mut().read_json::<Problem>() {
        Ok(problem) => ClientError::Problem(problem),
        Err(_) => ClientError::Answer(status.to_string()),
    }
}

/// Server-sent events, one by one.
pub struct EventStream {
    lines: Box<dyn BufRead + Send>,
}

/// A server-sent event.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerEvent {
    /// `touched` or `resync`.
    pub event: String,
    /// Its id.
    pub id: String,
    /// Its data: JSON.
    pub data: String,
}

impl Iterator for EventStream {
    type Item = ServerEvent;

    /// The next event; `None` once the node has gone.
    fn next(&mut self) -> Option<ServerEvent> {
        let mut event = ServerEvent::default();
        loop {
            let mut line = String::new();
            if self.lines.read_line(&mut line).ok()? == 0 {
                return None;
            }
            let line = line.trim_end_matches(['\r', '\n']);
            if line.is_empty() {
                if !event.event.is_empty() {
                    return Some(event);
                }
                continue;
            }
            let (field, value) = line.split_once(':').unwrap_or((line, ""));
            let value = value.strip_prefix(' ').unwrap_or(value).to_owned();
            match field {
                "event" => event.event = value,
                "id" => event.id = value,
                "data" => event.data = value,
                // Comments keep the connection alive.
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_around_comments() {
        let text =
            ": hello\n\nevent: touched\ndata: {\"a\":1}\nid: 7\n\n:\n\nevent:resync\nid:9\n\n";
        let stream = EventStream { lines: Box::new(text.as_bytes()) };
        let all: Vec<_> = stream.map(|e| (e.event, e.id, e.data)).collect();
        let line = |a: &str, b: &str, c: &str| (a.to_owned(), b.to_owned(), c.to_owned());
        assert_eq!(all, [line("touched", "7", "{\"a\":1}"), line("resync", "9", "")]);
    }
}
