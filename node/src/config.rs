//! Where things are: the data folder, what it belongs to, and the small files beside the
//! database.
//!
//! ```text
//! <data>/teahouse.redb   the database                       (device, relay)
//! <data>/lock            held while a process uses the folder
//! <data>/api.json        port and token of the local API, while a node runs
//! <data>/content/        sealed photos                      (device)
//! <data>/relay.key       the relay's ed25519 seed           (relay)
//! <data>/relay.json      name, public addresses and quotas  (relay)
//! ```
//! The folder is its owner's only (0700), every file 0600.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use teahouse_core::store::{self, StorageError, StoreOptions};
use zeroize::Zeroizing;

/// The environment variable that switches the lossy disk on: for tests that kill the process
/// and mean a power cut.
pub const LOSSY_DISK: &str = "TEAHOUSE_LOSSY_DISK";

const API_FILE: &str = "api.json";
const RELAY_KEY: &str = "relay.key";
const RELAY_FILE: &str = "relay.json";

/// What a data folder belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A person's device.
    Device,
    /// A community's relay.
    Relay,
}

impl Role {
    /// As a word.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Device => "device",
            Self::Relay => "relay",
        }
    }
}

/// Why the data folder can't be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The operating system refused.
    #[error("cannot {action}: {source}")]
    Io {
        /// What was attempted.
        action: String,
        /// Why it failed.
        source: io::Error,
    },
    /// The folder belongs to the other role.
    #[error(
        "{} belongs to a {}, not to a {}: choose another folder with --data",
        dir.display(), found.word(), wanted.word()
    )]
    OtherRole {
        /// The folder.
        dir: PathBuf,
        /// What it holds.
        found: Role,
        /// What was asked for.
        wanted: Role,
    },
    /// A file of ours is not what we write.
    #[error("{} is damaged: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// No home folder is known.
    #[error("no home folder is known: say where the data belongs with --data")]
    NoHome,
    /// The database can't be read.
    #[error(transparent)]
    Storage(StorageError),
    /// The operating system gave no randomness.
    #[error("the operating system gives no randomness")]
    NoRandomness,
}

/// The port and token of a running node's API.
#[derive(Clone, Serialize, Deserialize)]
pub struct ApiFile {
    /// TCP port on 127.0.0.1.
    pub port: u16,
    /// Bearer token: 64 hexadecimal digits.
    pub token: String,
    /// What runs there.
    pub role: Role,
    /// Its process.
    pub pid: u32,
}

/// A relay's settings, as its operator last gave them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RelayFile {
    /// The community's name, shown in invite links.
    pub name: String,
    /// Multiaddresses under which others reach it.
    pub public_addrs: Vec<String>,
    /// Days that deposits are kept.
    pub keep_days: u16,
    /// Most bytes stored altogether.
    pub max_bytes: u64,
    /// Most bytes stored for one tag.
    pub tag_bytes: u64,
    /// TCP port of the content relay; one above the mailbox's where none is given, and no
    /// content relay where it is 0.
    pub content_port: Option<u16>,
}

impl Default for RelayFile {
    fn default() -> Self {
        Self {
            name: "Teahouse".into(),
            public_addrs: Vec::new(),
            keep_days: 30,
            max_bytes: 20 << 30,
            tag_bytes: 64 << 20,
            content_port: None,
        }
    }
}

/// Where a person's data lives when nothing else is said.
pub fn default_data_dir() -> Result<PathBuf, ConfigError> {
    let dirs = directories::ProjectDirs::from("", "", "teahouse").ok_or(ConfigError::NoHome)?;
    Ok(dirs.data_dir().to_owned())
}

/// The folder for a role: `given`, else the default one (a relay's inside the person's, so
/// that one account on one machine can do both).
pub fn data_dir(given: Option<PathBuf>, role: Role) -> Result<PathBuf, ConfigError> {
    match (given, role) {
        (Some(dir), _) => Ok(dir),
        (None, Role::Device) => default_data_dir(),
        (None, Role::Relay) => Ok(default_data_dir()?.join("relay")),
    }
}

/// What the folder belongs to; `None` while nothing is in it.
pub fn role_of(dir: &Path) -> Option<Role> {
    if dir.join(RELAY_KEY).exists() {
        Some(Role::Relay)
    } else if dir.join(store::FILE).exists() {
        Some(Role::Device)
    } else {
        None
    }
}

/// Creates the folder if need be, and refuses one of the other role.
pub fn prepare(dir: &Path, wanted: Role) -> Result<(), ConfigError> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(dir).map_err(failed("create", dir))?;
    match role_of(dir) {
        Some(found) if found != wanted => {
            Err(ConfigError::OtherRole { dir: dir.to_owned(), found, wanted })
        }
        _ => Ok(()),
    }
}

/// How stores are opened: as always, except that `lossy` or [`LOSSY_DISK`]`=1` switches on
/// the disk that forgets unsynced writes.
pub fn store_options(lossy: bool) -> StoreOptions {
    let lossy = lossy || std::env::var_os(LOSSY_DISK).is_some_and(|v| v == "1");
    StoreOptions { lossy, ..StoreOptions::default() }
}

/// The relay's settings; the defaults when there are none yet.
pub fn relay_file(dir: &Path) -> Result<RelayFile, ConfigError> {
    Ok(read_json(&dir.join(RELAY_FILE))?.unwrap_or_default())
}

/// Keeps the relay's settings.
pub fn save_relay_file(dir: &Path, file: &RelayFile) -> Result<(), ConfigError> {
    write_json(&dir.join(RELAY_FILE), file)
}

/// The relay's key, made at the first call.
pub fn relay_secret(dir: &Path) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
    secret_at(&dir.join(RELAY_KEY))
}

/// A private key in a file of its own that only its owner reads, made at the first call.
pub fn secret_at(path: &Path) -> Result<Zeroizing<[u8; 32]>, ConfigError> {
    let mut seed = Zeroizing::new([0u8; 32]);
    match fs::read(path) {
        Ok(bytes) => {
            let bytes = Zeroizing::new(bytes);
            if bytes.len() != seed.len() {
                let why = format!("expected 32 bytes, found {}", bytes.len());
                return Err(ConfigError::Damaged { path: path.to_owned(), why });
            }
            seed.copy_from_slice(&bytes);
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            getrandom::fill(&mut seed[..]).map_err(|_| ConfigError::NoRandomness)?;
            write_private(path, &seed[..])?;
        }
        Err(e) => return Err(failed("read", path)(e)),
    }
    Ok(seed)
}

/// The running node's port and token; `None` when no node says that it runs. The file may
/// be left over from a node that was killed.
pub fn api_file(dir: &Path) -> Result<Option<ApiFile>, ConfigError> {
    read_json(&dir.join(API_FILE))
}

/// Announces the API.
pub fn save_api_file(dir: &Path, file: &ApiFile) -> Result<(), ConfigError> {
    write_json(&dir.join(API_FILE), file)
}

/// Takes the announcement back. Only the holder of the folder's lock may do so.
pub fn remove_api_file(dir: &Path) {
    let path = dir.join(API_FILE);
    if let Err(e) = fs::remove_file(&path)
        && e.kind() != io::ErrorKind::NotFound
    {
        tracing::warn!("cannot remove {}: {e}", path.display());
    }
}

fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<Option<T>, ConfigError> {
    match fs::read(path) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|e| ConfigError::Damaged { path: path.to_owned(), why: e.to_string() }),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("read", path)(e)),
    }
}

fn write_json<T: Serialize>(path: &Path, value: &T) -> Result<(), ConfigError> {
    let bytes = serde_json::to_vec_pretty(value)
        .map_err(|e| ConfigError::Damaged { path: path.to_owned(), why: e.to_string() })?;
    write_private(path, &bytes)
}

/// Writes a file that only its owner reads, whole or not at all, and durably.
fn write_private(path: &Path, bytes: &[u8]) -> Result<(), ConfigError> {
    let write = || -> io::Result<()> {
        let fresh = path.with_extension("new");
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        let mut file = options.open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, path)?;
        #[cfg(unix)]
        if let Some(dir) = path.parent() {
            File::open(dir)?.sync_all()?;
        }
        Ok(())
    };
    write().map_err(failed("write", path))
}

fn failed<'a>(verb: &'a str, path: &'a Path) -> impl Fn(io::Error) -> ConfigError + 'a {
    move |source| ConfigError::Io { action: format!("{verb} {}", path.display()), source }
}

/// What to call this device where nothing is said: its host name.
pub fn device_name() -> String {
    std::env::var("HOSTNAME")
        .or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| (1..=64).contains(&name.len()))
        .unwrap_or_else(|| "computer".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_relay_keeps_its_key_and_a_folder_its_role() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        prepare(&dir, Role::Relay).unwrap();
        let seed = relay_secret(&dir).unwrap();
        assert_eq!(seed, relay_secret(&dir).unwrap());
        assert_ne!(*seed, [0; 32]);
        assert!(matches!(prepare(&dir, Role::Device), Err(ConfigError::OtherRole { .. })));
        prepare(&dir, Role::Relay).unwrap();

        fs::write(dir.join(RELAY_KEY), b"short").unwrap();
        assert!(matches!(relay_secret(&dir), Err(ConfigError::Damaged { .. })));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_reads_our_files() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("new");
        prepare(&dir, Role::Device).unwrap();
        let file = ApiFile { port: 1, token: "t".into(), role: Role::Device, pid: 1 };
        save_api_file(&dir, &file).unwrap();
        let mode = |p: &Path| fs::metadata(p).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&dir), 0o700);
        assert_eq!(mode(&dir.join(API_FILE)), 0o600);
        assert_eq!(api_file(&dir).unwrap().unwrap().port, 1);
        remove_api_file(&dir);
        assert!(api_file(&dir).unwrap().is_none());
    }
}
