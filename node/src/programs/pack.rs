//! From a folder with a `manifest.json` to a signed package.
//!
//! The manifest has the names of the W3C's `MiniApp` manifest
//! (<https://www.w3.org/TR/miniapp-manifest/>); what it says beyond that is not read. All
//! files of the folder go into the package, but for the manifest itself, what begins with a
//! dot, and `README.md`. Links to other places are refused: they could lead anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use teahouse_protocols::codec::{List, Text};
use teahouse_protocols::ids::DeviceId;
use teahouse_protocols::package::{
    self, Cloud, MAX_CONTENT, MAX_FILES, Manifest, PackageError, Permission, Power, Release,
    VerifiedPackage, is_path,
};
use teahouse_protocols::sign::SigningKey;

/// The name of the manifest in a folder.
pub const MANIFEST: &str = "manifest.json";
/// Folders within folders at most.
const MAX_DEPTH: usize = 8;

/// Why a folder can't be packed.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// A file or folder can't be read.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The manifest is not understood.
    #[error("{MANIFEST}: {0}")]
    Manifest(String),
    /// A file that can't be in a package.
    #[error("{}: {why}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        why: &'static str,
    },
    /// It breaks a rule of packages.
    #[error(transparent)]
    Package(#[from] PackageError),
}

#[derive(Deserialize)]
struct Told {
    name: String,
    version: ToldVersion,
    #[serde(default)]
    description: String,
    #[serde(default)]
    lang: String,
    pages: Vec<String>,
    #[serde(default)]
    icons: Vec<ToldIcon>,
    #[serde(default)]
    req_permissions: Vec<ToldPermission>,
    #[serde(default)]
    cloud: Option<ToldCloud>,
}

#[derive(Deserialize)]
struct ToldCloud {
    main: String,
}

#[derive(Deserialize)]
struct ToldVersion {
    code: u32,
    #[serde(default)]
    name: String,
}

#[derive(Deserialize)]
struct ToldIcon {
    src: String,
}

#[derive(Deserialize)]
struct ToldPermission {
    name: Power,
    #[serde(default)]
    reason: String,
}

/// Packs a folder and signs it, without its functions: to try it out.
pub fn folder(dir: &Path, key: &SigningKey) -> Result<VerifiedPackage, PackError> {
    packed(dir, key, None)
}

/// Packs a folder and signs it. Its functions, if it has some, run on this device.
pub fn folder_for(
    dir: &Path,
    key: &SigningKey,
    device: DeviceId,
) -> Result<VerifiedPackage, PackError> {
    packed(dir, key, Some(device))
}

fn packed(
    dir: &Path,
    key: &SigningKey,
    device: Option<DeviceId>,
) -> Result<VerifiedPackage, PackError> {
    let path = dir.join(MANIFEST);
    let text = fs::read_to_string(&path).map_err(|source| PackError::Read { path, source })?;
    let told: Told = serde_json::from_str(&text).map_err(|e| PackError::Manifest(e.to_string()))?;
    let draft = draft(told, device)?;
    let mut files = BTreeMap::new();
    read(dir, "", 0, &mut files)?;
    Ok(VerifiedPackage::new(draft, &files, key)?)
}

fn draft(told: Told, device: Option<DeviceId>) -> Result<Manifest, PackError> {
    let mut permissions: Vec<Permission> = Vec::new();
    for asked in told.req_permissions {
        let reason = text("a reason", &asked.reason)?;
        permissions.push(Permission { power: asked.name, reason });
    }
    permissions.sort_by_key(|p| p.power);
    let cloud = match (told.cloud, device) {
        (Some(cloud), Some(device)) => Some(Cloud { device, main: text("cloud", &cloud.main)? }),
        _ => None,
    };
    Ok(Manifest {
        form: package::VERSION,
        developer: [0; 32],
        name: text("name", &told.name)?,
        version: Release { code: told.version.code, name: text("version", &told.version.name)? },
        description: text("description", &told.description)?,
        lang: text("lang", &told.lang)?,
        pages: list("pages", told.pages.iter().map(|p| text("a page", p)))?,
        icons: list("icons", told.icons.iter().map(|i| text("an icon", &i.src)))?,
        req_permissions: list("req_permissions", permissions.into_iter().map(Ok))?,
        cloud,
        files: List::default(),
    })
}

fn text<const N: usize>(what: &str, value: &str) -> Result<Text<N>, PackError> {
    value.try_into().map_err(|_| PackError::Manifest(format!("{what} is over {N} bytes")))
}

fn list<T, const N: usize>(
    what: &str,
    items: impl Iterator<Item = Result<T, PackError>>,
) -> Result<List<T, N>, PackError> {
    let items = items.collect::<Result<Vec<T>, PackError>>()?;
    items.try_into().map_err(|_| PackError::Manifest(format!("{what} has more than {N} entries")))
}

fn read(
    dir: &Path,
    prefix: &str,
    depth: usize,
    files: &mut BTreeMap<String, Vec<u8>>,
) -> Result<(), PackError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| PackError::Read { path, source }
    };
    for entry in fs::read_dir(dir).map_err(failed(dir))? {
        let entry = entry.map_err(failed(dir))?;
        let path = entry.path();
        let refuse = |why| PackError::File { path: entry.path(), why };
        let name = entry.file_name();
        let name = name.to_str().ok_or_else(|| refuse("its name is not UTF-8"))?;
        if name.starts_with('.') || prefix.is_empty() && matches!(name, MANIFEST | "README.md") {
            continue;
        }
        let inside = format!("{prefix}{name}");
        if !is_path(&inside) {
            return Err(refuse("a package can't have a file of this name"));
        }
        let kind = entry.file_type().map_err(failed(&path))?;
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                return Err(refuse("too many folders within folders"));
            }
            read(&path, &format!("{inside}/"), depth + 1, files)?;
        } else if kind.is_file() {
            let size = entry.metadata().map_err(failed(&path))?.len();
            if size > MAX_CONTENT as u64 {
                return Err(refuse("a package has at most 4 MiB"));
            }
            if files.len() == MAX_FILES {
                return Err(refuse("a package has at most 256 files"));
            }
            files.insert(inside, fs::read(&path).map_err(failed(&path))?);
        } else {
            return Err(refuse("neither a file nor a folder"));
        }
    }
    Ok(())
}
