//! A person's node: the core, the network, functions of its programs and the local API in one
//! process.

use std::path::PathBuf;

use crate::api::{Api, Serves};
use crate::config::{self, Role};
use crate::handle::Handle;
use crate::programs::Functions;
use crate::runtime::{Node, NodeConfig};

use super::{RunError, announce, told_to_stop};

/// Runs until told to stop. `ready` is called once the API answers, with its port.
pub async fn run(
    config: NodeConfig,
    api_port: u16,
    ready: impl FnOnce(&Node, u16),
) -> Result<(), RunError> {
    let data = config.data.clone();
    let node = Node::start(config)?;
    let functions = Functions::start(node.handle().clone(), None);
    let serves = Serves::Device(node.handle().clone());
    let api = announce(&data, Role::Device, &serves, api_port).await?;
    ready(&node, api.port());
    let by_itself = tokio::select! {
        () = told_to_stop() => false,
        () = node.handle().stopped() => true,
    };
    // First nobody new finds the node, then it finishes what it was asked.
    config::remove_api_file(&data);
    api.stop().await;
    drop(functions);
    // It blocks for a moment, and nothing else is left to do.
    tokio::task::block_in_place(|| node.shutdown());
    if by_itself { Err(RunError::Ended) } else { Ok(()) }
}

/// The local API of a node that another program runs, such as the window: commands find it as
/// they find one of `teahouse run`.
pub struct Served {
    data: PathBuf,
    api: Api,
    functions: Functions,
}

/// Opens the local API for a node, on any free port, and announces it in its folder.
pub async fn serve(handle: Handle, data: PathBuf) -> Result<Served, RunError> {
    let functions = Functions::start(handle.clone(), None);
    let api = announce(&data, Role::Device, &Serves::Device(handle), 0).await?;
    Ok(Served { data, api, functions })
}

impl Served {
    /// Takes no more requests. Before the node is stopped.
    pub async fn close(self) {
        config::remove_api_file(&self.data);
        self.api.stop().await;
        drop(self.functions);
    }
}
