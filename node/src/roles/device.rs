//! A person's node: the core, the network and the local API in one process.

use crate::api::Serves;
use crate::config::{self, Role};
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
    // It blocks for a moment, and nothing else is left to do.
    tokio::task::block_in_place(|| node.shutdown());
    if by_itself { Err(RunError::Ended) } else { Ok(()) }
}
