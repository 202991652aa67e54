//! What `teahouse run` runs: a person's [`device`] or a community's [`relay`], each with its
//! local API, until it is told to stop.

pub mod device;
pub mod relay;
mod relay_content;
mod relay_driver;

use std::path::Path;

use tokio::signal;

use crate::api::{Api, Serves};
use crate::config::{self, ApiFile, ConfigError, Role};
use crate::runtime::StartError;

/// Why a role ended with an error.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It did not start.
    #[error(transparent)]
    Start(#[from] StartError),
    /// The folder.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The local API can't listen.
    #[error("cannot open the local API: {0}")]
    Api(std::io::Error),
    /// The core ended by itself: a bug, told in the log.
    #[error("the node stopped by itself; the log says why")]
    Ended,
}

impl From<teahouse_core::store::OpenError> for RunError {
    fn from(e: teahouse_core::store::OpenError) -> Self {
        Self::Start(e.into())
    }
}

/// Opens the API and announces it in the folder.
pub(crate) async fn announce(
    dir: &Path,
    role: Role,
    serves: &Serves,
    port: u16,
) -> Result<Api, RunError> {
    let api = Api::start(serves, port).await.map_err(RunError::Api)?;
    let token = api.token().to_owned();
    let file = ApiFile { port: api.port(), token, role, pid: std::process::id() };
    config::save_api_file(dir, &file)?;
    Ok(api)
}

/// Waits for ctrl-c or, on Unix, SIGTERM.
pub(crate) async fn told_to_stop() {
    let ctrl_c = async {
        if signal::ctrl_c().await.is_err() {
            // Without a handler the default action ends the process.
            std::future::pending::<()>().await;
        }
    };
    #[cfg(unix)]
    {
        let terminate = async {
            match signal::unix::signal(signal::unix::SignalKind::terminate()) {
                Ok(mut terminate) => {
                    terminate.recv().await;
                }
                Err(_) => std::future::pending().await,
            }
        };
        tokio::select! { () = ctrl_c => {}, () = terminate => {} }
    }
    #[cfg(not(unix))]
    ctrl_c.await;
}
