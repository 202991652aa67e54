//! The local HTTP API: JSON over HTTP/1.1 on 127.0.0.1, for the command line and for
//! programs of the same user.
//!
//! Every request needs the bearer token of `<data>/api.json` and a loopback `Host` (so that a
//! web page that rebinds its name to 127.0.0.1 gets nowhere even with a leaked port). Errors
//! are problem documents (RFC 9457). `GET /openapi.json` describes every route; a test holds
//! the two together.

mod auth;
mod openapi;
mod photos;
mod problem;
mod relay;
mod routes;
mod sse;
#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::MethodRouter;
use data_encoding::HEXLOWER;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub use problem::Problem;
pub use relay::{Invited, RelayDrainRequest, RelayInviteRequest, RelayView};
pub use routes::{MAX_EVENTS, MAX_MESSAGES, Place, Rebuilt, Safety};
pub use sse::Touched;

use crate::handle::Handle;
use crate::roles::relay::RelayHandle;

/// Bytes of a request's body at most: a Mini Program's package in base64.
pub const MAX_BODY: usize = 6 << 20;

/// A route: method, path as in `openapi.json`, handler.
struct Route {
    /// For the test that holds document and routes together; `handler` knows it, too.
    #[cfg_attr(not(test), expect(dead_code, reason = "read by the test"))]
    method: &'static str,
    path: &'static str,
    handler: MethodRouter,
}

/// What the API serves.
pub enum Serves {
    /// A device's node.
    Device(Handle),
    /// A relay.
    Relay(RelayHandle),
}

impl Serves {
    fn routes(&self, ended: &CancellationToken) -> Vec<Route> {
        let mut all = match self {
            Self::Device(handle) => routes::all(handle, ended),
            Self::Relay(relay) => relay::all(relay),
        };
        all.push(openapi::route());
        all
    }
}

/// A running API.
pub struct Api {
    port: u16,
    token: String,
    ended: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

impl Api {
    /// Listens on 127.0.0.1 (port 0: any), with a fresh token.
    pub async fn start(serves: &Serves, port: u16) -> io::Result<Self> {
        let mut token = [0; 32];
        getrandom::fill(&mut token).map_err(|_| io::Error::other("no randomness"))?;
        let token = HEXLOWER.encode(&token);
        let listener = TcpListener::bind(SocketAddr::from((Ipv4Addr::LOCALHOST, port))).await?;
        let port = listener.local_addr()?.port();
        let ended = CancellationToken::new();
        let app = router(serves.routes(&ended), &token);
        let until = ended.clone();
        let task = tokio::spawn(async move {
            let serve = axum::serve(listener, app)
                .with_graceful_shutdown(async move { until.cancelled().await });
            if let Err(e) = serve.await {
                tracing::error!("api: {e}");
            }
        });
        Ok(Self { port, token, ended, task })
    }

    /// The port listened on.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The token that every request needs.
    pub fn token(&self) -> &str {
        &self.token
    }

    /// Takes no more requests, ends event streams and waits for the other requests under
    /// way, for at most 3 s.
    pub async fn stop(self) {
        self.ended.cancel();
        let wait = tokio::time::timeout(std::time::Duration::from_secs(3), self.task);
        if wait.await.is_err() {
            tracing::warn!("requests were under way when the API was closed");
        }
    }
}

fn router(routes: Vec<Route>, token: &str) -> Router {
    let mut router = Router::new();
    for route in routes {
        router = router.route(route.path, route.handler);
    }
    let token: Arc<str> = token.into();
    router
        .fallback(problem::no_such_route)
        .method_not_allowed_fallback(problem::wrong_method)
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(axum::middleware::from_fn(move |request, next| {
            auth::check(Arc::clone(&token), request, next)
        }))
}

/// Reads a JSON body.
fn parse<T: serde::de::DeserializeOwned>(body: &[u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|e| Problem::bad_request(format!("not understood: {e}")))
}
