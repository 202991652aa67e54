//! From a folder with a `manifest.json` to a signed package.
//!
//! The manifest has the names of the W3C's `MiniApp` manifest
//! (<https://www.w3.org/TR/miniapp-manifest/>); what it says beyond that is not read. Files of
//! the folder go into the package if they are of a kind that programs use ([`KINDS`]); what is
//! hidden, looks like a key, or is anything else stays behind ([`left_out`]). Links to other
//! places are refused: they could lead anywhere.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER;
use serde::Deserialize;
use teahouse_protocols::codec::{List, Text};
use teahouse_protocols::ids::DeviceId;
use teahouse_protocols::package::{
    self, Cloud, MAX_CONTENT, MAX_FILES, Manifest, PackageError, Permission, Power, Release,
    VerifiedPackage, is_path,
};
use teahouse_protocols::sign::SigningKey;
use zeroize::Zeroizing;

/// The name of the manifest in a folder.
pub const MANIFEST: &str = "manifest.json";
/// Kinds of files that go into a package, by the end of their names: whoever is given the
/// program is given all of it.
pub const KINDS: [&str; 12] =
    ["js", "wasm", "json", "txt", "csv", "md", "png", "jpg", "jpeg", "webp", "gif", "svg"];
/// Ends of names of files that hold keys, as a rule.
const KEYS: [&str; 10] =
    ["key", "pem", "p12", "pfx", "jks", "keystore", "gpg", "asc", "ppk", "seed"];
/// Files that stay behind and are told, at most.
const MAX_LEFT: usize = 64;
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
    let mut found = Found::default();
    read(dir, "", 0, &mut found)?;
    for (path, bytes) in &found.files {
        if holds(bytes, key) {
            let why = "it holds the key that signs this program: nobody else may have it";
            return Err(PackError::File { path: dir.join(path), why });
        }
    }
    Ok(VerifiedPackage::new(draft, &found.files, key)?)
}

/// What [`folder`] leaves behind, by its place in the folder: what is hidden, what looks like a
/// key, and what is not of a kind that programs use.
pub fn left_out(dir: &Path) -> Result<Vec<String>, PackError> {
    let mut found = Found::default();
    read(dir, "", 0, &mut found)?;
    Ok(found.left)
}

/// What is in a folder.
#[derive(Default)]
struct Found {
    files: BTreeMap<String, Vec<u8>>,
    left: Vec<String>,
}

/// Whether a file of this name goes into the package.
fn is_kept(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    let end = Path::new(&name).extension().and_then(|e| e.to_str()).unwrap_or_default();
    !name.starts_with("id_") && !KEYS.contains(&end) && KINDS.contains(&end)
}

/// Whether a file holds the signing key, as bytes or digits, or anybody's key in text form.
fn holds(bytes: &[u8], key: &SigningKey) -> bool {
    let seed = Zeroizing::new(key.to_bytes());
    let digits = Zeroizing::new(HEXLOWER.encode(&seed[..]));
    let has = |needle: &[u8]| bytes.windows(needle.len()).any(|w| w.eq_ignore_ascii_case(needle));
    bytes.windows(seed.len()).any(|w| w == &seed[..])
        || has(digits.as_bytes())
        || has(b"PRIVATE KEY-----")
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

fn read(dir: &Path, prefix: &str, depth: usize, found: &mut Found) -> Result<(), PackError> {
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
        if prefix.is_empty() && matches!(name, MANIFEST | "README.md") {
            continue;
        }
        let inside = format!("{prefix}{name}");
        let kind = entry.file_type().map_err(failed(&path))?;
        if name.starts_with('.') || kind.is_file() && !is_kept(name) {
            if found.left.len() < MAX_LEFT {
                found.left.push(inside);
            }
            continue;
        }
        if !is_path(&inside) {
            return Err(refuse("a package can't have a file of this name"));
        }
        if kind.is_dir() {
            if depth == MAX_DEPTH {
                return Err(refuse("too many folders within folders"));
            }
            read(&path, &format!("{inside}/"), depth + 1, found)?;
        } else if kind.is_file() {
            let size = entry.metadata().map_err(failed(&path))?.len();
            if size > MAX_CONTENT as u64 {
                return Err(refuse("a package has at most 4 MiB"));
            }
            if found.files.len() == MAX_FILES {
                return Err(refuse("a package has at most 256 files"));
            }
            found.files.insert(inside, fs::read(&path).map_err(failed(&path))?);
        } else {
            return Err(refuse("neither a file nor a folder"));
        }
    }
    Ok(())
}
