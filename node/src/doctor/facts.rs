//! What is known of a folder, a device and a relay: what the doctor judges.

use std::path::{Path, PathBuf};

use teahouse_core::view;
use teahouse_protocols::ids::Millis;

use crate::config::{self, Role};
use crate::handle::NodeStatus;
use crate::roles::relay::RelayView;
use crate::runtime::now;

/// Newest messages of each chat that are looked at.
pub const LOOKED_AT: usize = 100;

/// What is known.
#[derive(Debug)]
pub struct Facts {
    /// The folder.
    pub data: PathBuf,
    /// What it belongs to; `None` when there is nothing.
    pub role: Option<Role>,
    /// Whether others than its owner may read it.
    pub readable_by_others: bool,
    /// Whether a node runs on it.
    pub running: bool,
    /// Why it can't be opened or read.
    pub broken: Option<String>,
    /// Bytes free on its disk, where that can be found out.
    pub disk_free: Option<u64>,
    /// The clock.
    pub now: Millis,
    /// Of a device.
    pub device: Option<DeviceFacts>,
    /// Of a relay.
    pub relay: Option<RelayView>,
}

/// What is known of a device.
#[derive(Debug)]
pub struct DeviceFacts {
    /// The node's state.
    pub status: NodeStatus,
    /// Who it is.
    pub identity: view::Identity,
    /// Its relays.
    pub relays: Vec<view::Relay>,
    /// What waits, chat by chat and relay by relay.
    pub waiting: Vec<view::Waiting>,
    /// Its alarms.
    pub alarms: Vec<view::Alarm>,
    /// Chats with messages that are not delivered.
    pub undelivered: Vec<Undelivered>,
}

/// Messages of a chat that have not reached everybody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undelivered {
    /// The chat's title.
    pub chat: String,
    /// How this account stands to it.
    pub state: view::ChatState,
    /// How many somebody has not got who can't fetch them from a relay either.
    pub queued: usize,
    /// How many wait at relays.
    pub relayed: usize,
    /// The time of the oldest queued one.
    pub oldest: Millis,
    /// Relays that the newest queued one is meant for.
    pub relays: u32,
}

/// What waits among a chat's newest messages; `None` for nothing.
pub fn undelivered(chat: &view::Chat, newest: &[view::Message]) -> Option<Undelivered> {
    let mut all = Undelivered {
        chat: chat.title.clone(),
        state: chat.state,
        queued: 0,
        relayed: 0,
        oldest: Millis::MAX,
        relays: 0,
    };
    for m in newest {
        let Some(d) = m.delivery.filter(|d| d.delivered < d.recipients) else { continue };
        if d.relayed > 0 && d.without_relay == 0 {
            all.relayed += 1;
        } else if !d.elsewhere {
            all.queued += 1;
            all.oldest = all.oldest.min(m.time);
            all.relays = d.relays;
        }
    }
    (all.queued + all.relayed > 0).then_some(all)
}

impl Facts {
    /// What can be seen from outside.
    pub fn of_folder(data: &Path) -> Self {
        Self {
            data: data.to_owned(),
            role: config::role_of(data),
            readable_by_others: readable_by_others(data),
            running: false,
            broken: None,
            disk_free: disk_free(data),
            now: now(),
            device: None,
            relay: None,
        }
    }
}

#[cfg(unix)]
fn readable_by_others(dir: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(dir).is_ok_and(|m| m.permissions().mode() & 0o077 != 0)
}

#[cfg(not(unix))]
fn readable_by_others(_: &Path) -> bool {
    false
}

/// Bytes free on the folder's disk, asked of `df` (POSIX): the standard library has no call
/// for it. `None` where there is no `df`.
pub(super) fn disk_free(dir: &Path) -> Option<u64> {
    let mut dir = dir;
    while !dir.exists() {
        dir = dir.parent()?;
    }
    let out = std::process::Command::new("df").arg("-Pk").arg(dir).output().ok()?;
    let text = String::from_utf8(out.stdout).ok()?;
    let free = text.lines().nth(1)?.split_whitespace().rev().nth(2)?;
    free.parse::<u64>().ok()?.checked_mul(1024)
}
