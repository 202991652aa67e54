//! Packages of Mini Programs: a signed manifest over files that are named by their hashes, and
//! the words by which a device asks another for one.
//!
//! A program is known by its developer's key and its name ([`AppId::of`]); whoever has neither
//! can't pass off another package as it. The manifest uses the names of the W3C's `MiniApp`
//! manifest where it has them (<https://www.w3.org/TR/miniapp-manifest/>). Files are cut into
//! pages of [`PAGE`] bytes, each named by its BLAKE3 hash: a page proves itself wherever it
//! comes from, so any device that has a package serves it.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::codec::{self, Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AppId, DeviceId, PackageId};
use crate::sign::{self, Domain, Signable, Signed, SignedError, SigningKey};
use crate::sync::MAX_SERVICE;

/// The number of this service ([`crate::sync::Frame::Service`]).
pub const SERVICE: u8 = 4;
/// The version of manifests and packages that this build writes and reads.
pub const VERSION: u8 = 1;
/// Bytes of a page; a file's last one is shorter.
pub const PAGE: usize = 128 * 1024;
/// Most bytes of one file.
pub const MAX_FILE: usize = 16 * PAGE;
/// Most bytes of all files of a package.
pub const MAX_CONTENT: usize = 4 * 1024 * 1024;
/// Most files of a package.
pub const MAX_FILES: usize = 256;
/// Most pages of a package: full ones, and a last one of each file.
pub const MAX_PAGES: usize = MAX_CONTENT / PAGE + MAX_FILES;
/// Most bytes of a manifest, unsigned.
pub const MAX_MANIFEST: usize = 64 * 1024;
/// Most bytes of a signed manifest.
pub const MAX_SIGNED_MANIFEST: usize = MAX_MANIFEST + Signed::<Manifest>::OVERHEAD;
/// Most bytes of a path within a package.
pub const MAX_PATH: usize = 128;
/// Most bytes of what a link or card carries for the program.
pub const MAX_LAUNCH: usize = 1024;

/// A path within a package.
pub type Path = Text<MAX_PATH>;

/// What a program can be allowed. Each is asked for when it is first needed, and can be taken
/// back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Power {
    /// To know the person again: a key for this program alone.
    Login,
    /// To keep things on the device.
    Storage,
    /// To share state with the members of a chat.
    State,
    /// To ask the developer's node.
    Call,
    /// To show the host's button to pay.
    Pay,
    /// To offer a card to send.
    Share,
}

impl Power {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Login, Self::Storage, Self::State, Self::Call, Self::Pay, Self::Share];
}

/// A version of a program (`version` of the W3C's manifest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Release {
    /// From 1; of two packages of one program the higher is newer.
    pub code: u32,
    /// For people.
    pub name: Text<32>,
}

/// What a program means to ask for, and why (`req_permissions` of the W3C's manifest).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Permission {
    /// The power.
    pub power: Power,
    /// In the developer's words; shown as such.
    pub reason: Text<128>,
}

/// A file of a package.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct File {
    /// Relative, its parts separated by `/`, none of them `.` or `..`.
    pub path: Path,
    /// In bytes, at most [`MAX_FILE`].
    pub size: u32,
    /// BLAKE3 of each [`PAGE`] bytes, in order.
    pub pages: List<[u8; 32], { MAX_FILE / PAGE }>,
}

/// The part of a program that runs at its developer's node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cloud {
    /// The one device that answers calls.
    pub device: DeviceId,
    /// The file that it runs.
    pub main: Path,
}

/// What a package is, signed by its developer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// [`VERSION`].
    pub form: u8,
    /// The developer's ed25519 key.
    pub developer: [u8; 32],
    /// 1 to 64 bytes. With the key it names the program for ever.
    pub name: Text<64>,
    /// Which version.
    pub version: Release,
    /// What it is for.
    pub description: Text<512>,
    /// BCP 47; empty for none in particular.
    pub lang: Text<16>,
    /// Files that open; the first is where the program begins.
    pub pages: List<Path, 8>,
    /// Pictures, best first.
    pub icons: List<Path, 4>,
    /// What it may ask for: nothing else is given to it. Strictly ascending by power.
    pub req_permissions: List<Permission, 16>,
    /// Its part at the developer's node.
    pub cloud: Option<Cloud>,
    /// Strictly ascending by path.
    pub files: List<File, MAX_FILES>,
}

impl AppId {
    /// The program of this name by this developer.
    #[must_use]
    pub fn of(developer: &[u8; 32], name: &str) -> Self {
        Self(sign::hash(Domain::PROGRAM, &[developer, name.as_bytes()]))
    }
}

impl Manifest {
    /// Which program it is of.
    #[must_use]
    pub fn app(&self) -> AppId {
        AppId::of(&self.developer, &self.name)
    }

    /// The file at a path.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<&File> {
        let at = self.files.binary_search_by(|f| (*f.path).cmp(path)).ok()?;
        self.files.get(at)
    }

    /// Every page's hash once, and how long the page is; in the order in which files name them.
    #[must_use]
    pub fn all_pages(&self) -> Vec<([u8; 32], usize)> {
        let mut seen = BTreeSet::new();
        let mut all = Vec::new();
        for file in &self.files {
            let mut left = file.size as usize;
            for hash in &file.pages {
                if seen.insert(*hash) {
                    all.push((*hash, left.min(PAGE)));
                }
                left = left.saturating_sub(PAGE);
            }
        }
        all
    }

    /// Whether the program says that it may ask for this.
    #[must_use]
    pub fn names(&self, power: Power) -> Option<&Permission> {
        self.req_permissions.iter().find(|p| p.power == power)
    }
}

impl Wire for Manifest {
    const NAME: &'static str = "program manifest";
    const MAX_BYTES: usize = MAX_MANIFEST;

    fn check(&self) -> Result<(), DecodeError> {
        if self.form != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.form });
        }
        let ensure = |holds, why| {
            if holds { Ok(()) } else { Err(DecodeError::malformed(Self::NAME, why)) }
        };
        let plain = |text: &str| !text.trim().is_empty() && !text.contains(char::is_control);
        ensure(plain(&self.name) && self.name.trim() == &*self.name, "name")?;
        ensure(self.version.code > 0, "version 0")?;
        ensure(self.files.windows(2).all(|w| w[0].path < w[1].path), "files not ascending")?;
        ensure(self.files.iter().all(|f| is_path(&f.path)), "path of a file")?;
        let fits = |f: &File| f.pages.len() == (f.size as usize).div_ceil(PAGE);
        ensure(self.files.iter().all(fits), "size of a file")?;
        let size: u64 = self.files.iter().map(|f| u64::from(f.size)).sum();
        ensure(size <= MAX_CONTENT as u64, "larger than 4 MiB")?;
        let here = |path: &Path| self.file(path).is_some();
        ensure(!self.pages.is_empty(), "no page")?;
        ensure(self.pages.iter().chain(&self.icons).all(here), "a file is not there")?;
        ensure(self.cloud.as_ref().is_none_or(|c| here(&c.main)), "a file is not there")?;
        let powers = self.req_permissions.windows(2).all(|w| w[0].power < w[1].power);
        ensure(powers, "permissions not ascending")
    }
}

impl Signable for Manifest {
    const DOMAIN: Domain = Domain::PACKAGE;
    fn signer(&self) -> [u8; 32] {
        self.developer
    }
}

/// Whether it names a place inside a package and can mean none outside.
#[must_use]
pub fn is_path(path: &str) -> bool {
    path.len() <= MAX_PATH
        && !path.contains(|c: char| c.is_control() || c == '\\' || c == ':')
        && path.split('/').all(|part| !part.is_empty() && part != "." && part != "..")
}

/// A package as one piece: what is handed over as a file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Package {
    /// [`VERSION`].
    pub version: u8,
    /// A signed [`Manifest`].
    pub manifest: Bytes<MAX_SIGNED_MANIFEST>,
    /// The pages in the order of [`Manifest::all_pages`].
    pub pages: List<Bytes<PAGE>, MAX_PAGES>,
}

impl Wire for Package {
    const NAME: &'static str = "program package";
    const MAX_BYTES: usize = 1 + (3 + MAX_SIGNED_MANIFEST) + 2 + MAX_CONTENT + 3 * MAX_PAGES;

    fn check(&self) -> Result<(), DecodeError> {
        if self.version != VERSION {
            return Err(DecodeError::UnknownVersion { name: Self::NAME, version: self.version });
        }
        Ok(())
    }
}

/// Why a package was refused, or can't be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PackageError {
    /// Not one.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// Its manifest is not one, or not signed by the key that it names.
    #[error("the manifest is refused: {0}")]
    Manifest(#[from] SignedError),
    /// A page is not what the manifest says.
    #[error("the package is damaged: a file is not what the manifest says")]
    Damaged,
    /// Beyond a bound, in words.
    #[error("{0}")]
    TooLarge(&'static str),
}

/// A package whose manifest is signed, and whose pages are what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VerifiedPackage {
    manifest: Signed<Manifest>,
    pages: BTreeMap<[u8; 32], Vec<u8>>,
}

impl VerifiedPackage {
    /// Reads and verifies a package. Nothing of it can be changed without being refused.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, PackageError> {
        let package: Package = codec::decode(bytes)?;
        let manifest = Signed::<Manifest>::from_bytes(&package.manifest)?;
        let named = manifest.get().all_pages();
        if named.len() != package.pages.len() {
            return Err(PackageError::Damaged);
        }
        let mut pages = BTreeMap::new();
        for ((hash, size), page) in named.into_iter().zip(package.pages) {
            if page.len() != size || blake3::hash(&page) != hash {
                return Err(PackageError::Damaged);
            }
            pages.insert(hash, page.into_inner());
        }
        Ok(Self { manifest, pages })
    }

    /// Makes and signs a package. `draft` says all but the developer and the files.
    pub fn new(
        draft: Manifest,
        files: &BTreeMap<String, Vec<u8>>,
        key: &SigningKey,
    ) -> Result<Self, PackageError> {
        let mut pages = BTreeMap::new();
        let mut list = Vec::new();
        for (path, bytes) in files {
            let page = |page: &[u8]| {
                let hash = *blake3::hash(page).as_bytes();
                pages.insert(hash, page.to_vec());
                hash
            };
            let hashes: Vec<[u8; 32]> = bytes.chunks(PAGE).map(page).collect();
            list.push(File {
                path: path
                    .as_str()
                    .try_into()
                    .map_err(|_| PackageError::TooLarge("a file's path is over 128 bytes"))?,
                size: u32::try_from(bytes.len())
                    .map_err(|_| PackageError::TooLarge("a file is over 2 MiB"))?,
                pages: hashes
                    .try_into()
                    .map_err(|_| PackageError::TooLarge("a file is over 2 MiB"))?,
            });
        }
        let files = list.try_into().map_err(|_| PackageError::TooLarge("more than 256 files"))?;
        let developer = key.verifying_key().to_bytes();
        let manifest = Manifest { form: VERSION, developer, files, ..draft };
        manifest.check()?;
        if codec::encode(&manifest).len() > MAX_MANIFEST {
            return Err(PackageError::TooLarge("the manifest is over 64 KiB"));
        }
        Ok(Self { manifest: Signed::new(manifest, key), pages })
    }

    /// The package in one piece.
    pub fn to_bytes(&self) -> Result<Vec<u8>, PackageError> {
        let too_large = |_| PackageError::TooLarge("the package is too large");
        let mut pages = Vec::new();
        for (hash, _) in self.manifest.get().all_pages() {
            let page = self.pages.get(&hash).ok_or(PackageError::Damaged)?;
            pages.push(Bytes::try_from(page.clone()).map_err(too_large)?);
        }
        Ok(codec::encode(&Package {
            version: VERSION,
            manifest: self.manifest.bytes().to_vec().try_into().map_err(too_large)?,
            pages: pages.try_into().map_err(too_large)?,
        }))
    }

    /// What it is.
    #[must_use]
    pub const fn manifest(&self) -> &Signed<Manifest> {
        &self.manifest
    }

    /// Its name among all packages.
    #[must_use]
    pub const fn id(&self) -> PackageId {
        PackageId(self.manifest.id())
    }

    /// The pages by their hashes.
    #[must_use]
    pub const fn pages(&self) -> &BTreeMap<[u8; 32], Vec<u8>> {
        &self.pages
    }

    /// The bytes of a file.
    #[must_use]
    pub fn file(&self, path: &str) -> Option<Vec<u8>> {
        let file = self.manifest.get().file(path)?;
        let pages = file.pages.iter().map(|hash| self.pages.get(hash).map(Vec::as_slice));
        Some(pages.collect::<Option<Vec<&[u8]>>>()?.concat())
    }
}

/// One word between a device that wants a program and one that has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ProgramFrame {
    /// "Which package of it have you?" Answered where it is newer than the asker's.
    Ask {
        /// The program.
        app: AppId,
        /// The version code that the asker has; 0 for none.
        above: u32,
    },
    /// The manifest of a package that is whole there.
    Offer {
        /// The program.
        app: AppId,
        /// A signed [`Manifest`].
        manifest: Bytes<MAX_SIGNED_MANIFEST>,
    },
    /// "Send me this page." One at a time, so that an answer is never larger than a page.
    Want {
        /// The program.
        app: AppId,
        /// BLAKE3 of the page.
        page: [u8; 32],
    },
    /// A page.
    Page {
        /// The program.
        app: AppId,
        /// What it is. Its hash says which.
        bytes: Bytes<PAGE>,
    },
    /// "I don't have it", or nothing newer, or that page no longer.
    Unknown {
        /// The program.
        app: AppId,
    },
}

impl Wire for ProgramFrame {
    const NAME: &'static str = "program frame";
    const MAX_BYTES: usize = MAX_SERVICE;
}

const _: () = assert!(1 + 32 + 4 + PAGE <= MAX_SERVICE);
const _: () = assert!(1 + 32 + 4 + MAX_SIGNED_MANIFEST <= MAX_SERVICE);

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::{
        Cloud, List, MAX_CONTENT, MAX_FILE, MAX_FILES, Manifest, PAGE, PackageError, Permission,
        Power, Release, VERSION, VerifiedPackage, is_path,
    };
    use crate::account::testing::device;
    use crate::codec::{Text, Wire};
    use crate::ids::AppId;
    use crate::sign::SigningKey;

    fn key() -> SigningKey {
        SigningKey::from_bytes(&[7; 32])
    }

    fn draft(name: &str) -> Manifest {
        Manifest {
            form: VERSION,
            developer: [0; 32],
            name: name.try_into().unwrap(),
            version: Release { code: 1, name: "1.0".try_into().unwrap() },
            description: Text::default(),
            lang: Text::default(),
            pages: vec!["main.js".try_into().unwrap()].try_into().unwrap(),
            icons: List::default(),
            req_permissions: List::default(),
            cloud: None,
            files: List::default(),
        }
    }

    fn files(more: &[(&str, usize)]) -> BTreeMap<String, Vec<u8>> {
        let main = ("main.js".to_owned(), b"export const update = () => {}".to_vec());
        let fill = |n: usize| (0..n).map(|i| (i % 251) as u8).collect();
        let more = more.iter().map(|(path, size)| ((*path).to_owned(), fill(*size)));
        more.chain([main]).collect()
    }

    #[test]
    fn a_package_survives_the_wire_and_no_byte_can_change() {
        let all = files(&[("a.bin", 3), ("empty", 0), ("same.bin", 3)]);
        let package = VerifiedPackage::new(draft("Tea"), &all, &key()).unwrap();
        assert_eq!(package.pages().len(), 2, "what is the same is there once");
        let bytes = package.to_bytes().unwrap();
        assert_eq!(VerifiedPackage::from_bytes(&bytes).unwrap(), package);
        for (path, content) in &all {
            assert_eq!(package.file(path).as_ref(), Some(content));
        }
        for at in 0..bytes.len() {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert!(VerifiedPackage::from_bytes(&other).is_err(), "byte {at}");
            assert!(VerifiedPackage::from_bytes(&bytes[..at]).is_err(), "cut at {at}");
        }
    }

    #[test]
    fn a_large_file_is_cut_into_pages() {
        let all = files(&[("big.bin", 2 * PAGE + 5)]);
        let package = VerifiedPackage::new(draft("Tea"), &all, &key()).unwrap();
        let again = VerifiedPackage::from_bytes(&package.to_bytes().unwrap()).unwrap();
        assert_eq!(again.file("big.bin"), all.get("big.bin").cloned());
        let sizes: Vec<usize> = package.manifest().get().all_pages().iter().map(|p| p.1).collect();
        assert_eq!(sizes, [PAGE, PAGE, 5, 30]);
    }

    #[test]
    fn a_program_is_its_developers_key_and_its_name() {
        let of = |n: u8, name: &str| {
            let key = SigningKey::from_bytes(&[n; 32]);
            VerifiedPackage::new(draft(name), &files(&[]), &key).unwrap().manifest().get().app()
        };
        assert_eq!(of(1, "Tea"), of(1, "Tea"));
        assert!(of(1, "Tea") != of(2, "Tea") && of(1, "Tea") != of(1, "Teas"));
        let developer = SigningKey::from_bytes(&[1; 32]).verifying_key().to_bytes();
        assert_eq!(of(1, "Tea"), AppId::of(&developer, "Tea"));
    }

    #[test]
    fn what_a_manifest_may_not_say() {
        let of = |edit: &dyn Fn(&mut Manifest)| {
            let mut manifest = draft("Tea");
            edit(&mut manifest);
            VerifiedPackage::new(manifest, &files(&[]), &key())
        };
        assert!(of(&|_| ()).is_ok());
        let text = |s: &str| Text::<128>::try_from(s).unwrap();
        let permission = |power| Permission { power, reason: text("so") };
        let two = |a, b| List::try_from(vec![permission(a), permission(b)]).unwrap();
        assert!(of(&|m| m.req_permissions = two(Power::Login, Power::Pay)).is_ok());
        let wrong: [&dyn Fn(&mut Manifest); 8] = [
            &|m| m.name = Text::default(),
            &|m| m.name = " Tea".try_into().unwrap(),
            &|m| m.name = "Te\na".try_into().unwrap(),
            &|m| m.version.code = 0,
            &|m| m.pages = List::default(),
            &|m| m.icons = vec![text("icon.png")].try_into().unwrap(),
            &|m| m.cloud = Some(Cloud { device: device(1), main: text("server.js") }),
            &|m| m.req_permissions = two(Power::Login, Power::Login),
        ];
        for (n, edit) in wrong.iter().enumerate() {
            assert!(of(edit).is_err(), "{n}");
        }
    }

    #[test]
    fn packages_are_bounded() {
        let of = |all: &BTreeMap<String, Vec<u8>>| VerifiedPackage::new(draft("T"), all, &key());
        let mut many = files(&[]);
        many.extend((1..MAX_FILES).map(|n| (format!("f{n}"), vec![n as u8])));
        assert!(of(&many).is_ok());
        many.insert("one-more".into(), vec![1]);
        assert!(matches!(of(&many), Err(PackageError::TooLarge(_))));
        assert!(of(&files(&[("big", MAX_FILE)])).is_ok());
        assert!(of(&files(&[("big", MAX_FILE + 1)])).is_err());
        assert!(of(&files(&[("a", MAX_FILE), ("b", MAX_CONTENT - MAX_FILE)])).is_err());
        // The longest there is fits.
        let path = |n: usize| format!("{n:0128}");
        let mut long: BTreeMap<String, Vec<u8>> =
            (1..MAX_FILES).map(|n| (path(n), n.to_string().into_bytes())).collect();
        long.extend(files(&[]));
        let package = of(&long).unwrap();
        let bytes = package.to_bytes().unwrap();
        assert!(bytes.len() <= super::Package::MAX_BYTES);
        assert!(VerifiedPackage::from_bytes(&bytes).is_ok());
    }

    #[test]
    fn paths_stay_inside() {
        for path in ["a", "a/b.js", "图/茶.png", "...", "a.b"] {
            assert!(is_path(path), "{path}");
        }
        for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", "./a", "c:a", "a\\b", "a\0"] {
            assert!(!is_path(path), "{path}");
        }
    }

    proptest! {
        #[test]
        fn any_files_read_back(
            all in prop::collection::btree_map("[a-z]{1,9}", prop::collection::vec(any::<u8>(), 0..40), 0..6)
        ) {
            let mut all: BTreeMap<String, Vec<u8>> = all;
            all.extend(files(&[]));
            let package = VerifiedPackage::new(draft("Tea"), &all, &key()).unwrap();
            let again = VerifiedPackage::from_bytes(&package.to_bytes().unwrap()).unwrap();
            prop_assert!(all.iter().all(|(path, bytes)| again.file(path).as_ref() == Some(bytes)));
            prop_assert_eq!(again, package);
        }
    }
}
