//! The way to the town.

use teahouse_node::Handle;
use teahouse_node::town::Town;

/// What keeps the town alive.
pub(super) type Keep = Box<dyn Send>;

/// Starts the town, and gives the handle of the node that the window looks through.
pub(super) fn start() -> Result<(Handle, Keep), String> {
    let town = Town::start().map_err(|e| format!("{e:#}"))?;
    Ok((town.visitor().clone(), Box::new(town)))
}
