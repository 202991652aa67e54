//! Packages on this device: the one that runs, and a newer one that is coming page by page.
//!
//! What runs is whole, always: the manifest moves over when the last page is stored, in the
//! same transaction.

use std::collections::BTreeSet;

use teahouse_protocols::codec::Bytes;
use teahouse_protocols::ids::{AppId, PackageId};
use teahouse_protocols::package::{self, MAX_PAGES, Manifest, Package, VerifiedPackage};
use teahouse_protocols::sign::Signed;

use super::tables::{Head, Heads, PROGRAM_COMING, PROGRAM_HEADS, PROGRAM_PACKAGES, PROGRAM_PAGES};
use crate::command::Refusal;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError, Table};
use crate::tx::{Fail, Tx};

fn page_key(app: AppId, hash: &[u8; 32]) -> Vec<u8> {
    Key::new().fixed(&app.0).fixed(hash).into_bytes()
}

/// What is known of a program's manifests without reading them.
fn heads(read: &dyn Read, app: AppId) -> Result<Heads, StorageError> {
    if let Some(heads) = read.get_typed(&PROGRAM_HEADS, &app.0)? {
        return Ok(heads);
    }
    // From before there were heads: verified once more, until the next package comes.
    let head = |table: &'static Table| -> Result<Option<Head>, StorageError> {
        let Some(bytes) = read.get(table, &app.0)? else { return Ok(None) };
        let manifest = Signed::<Manifest>::from_bytes(&bytes);
        let manifest = manifest.map_err(|_| StorageError::corrupt(table.name, "no manifest"))?;
        Ok(Some(self::head(&manifest)))
    };
    Ok(Heads { whole: head(&PROGRAM_PACKAGES)?, coming: head(&PROGRAM_COMING)? })
}

fn head(manifest: &Signed<Manifest>) -> Head {
    Head { code: manifest.get().version.code, id: manifest.id() }
}

fn manifest(
    read: &dyn Read,
    table: &'static Table,
    app: AppId,
    head: Option<Head>,
) -> Result<Option<Signed<Manifest>>, StorageError> {
    let Some(head) = head else { return Ok(None) };
    let damaged = || StorageError::corrupt(table.name, "no manifest");
    let bytes = read.get(table, &app.0)?.ok_or_else(damaged)?;
    Signed::from_stored(&bytes, &head.id).map(Some).map_err(|_| damaged())
}

/// The package that runs here.
pub(super) fn whole(read: &dyn Read, app: AppId) -> Result<Option<Signed<Manifest>>, StorageError> {
    manifest(read, &PROGRAM_PACKAGES, app, heads(read, app)?.whole)
}

/// The package that is coming.
pub(super) fn coming(
    read: &dyn Read,
    app: AppId,
) -> Result<Option<Signed<Manifest>>, StorageError> {
    manifest(read, &PROGRAM_COMING, app, heads(read, app)?.coming)
}

/// The version code of the package that runs here; 0 for none.
pub(super) fn code(read: &dyn Read, app: AppId) -> Result<u32, StorageError> {
    Ok(heads(read, app)?.whole.map_or(0, |head| head.code))
}

/// The signed manifest of the package that runs here, as bytes, if it is newer than that.
pub(super) fn newer(
    read: &dyn Read,
    app: AppId,
    above: u32,
) -> Result<Option<Vec<u8>>, StorageError> {
    if code(read, app)? <= above {
        return Ok(None);
    }
    read.get(&PROGRAM_PACKAGES, &app.0)
}

/// Whether a package is coming.
pub(super) fn is_coming(read: &dyn Read, app: AppId) -> Result<bool, StorageError> {
    Ok(heads(read, app)?.coming.is_some())
}

/// A page, of whichever package of the program.
pub(super) fn page(
    read: &dyn Read,
    app: AppId,
    hash: &[u8; 32],
) -> Result<Option<Vec<u8>>, StorageError> {
    read.get(&PROGRAM_PAGES, &page_key(app, hash))
}

/// A package that is here in one piece takes the place of an older one.
pub(super) fn put(tx: &mut Tx<'_>, package: &VerifiedPackage) -> Result<(), Fail> {
    let manifest = package.manifest();
    let app = manifest.get().app();
    if let Some(now) = whole(tx, app)? {
        if now.id() == manifest.id() {
            return Ok(());
        }
        may_follow(now.get(), manifest.get())?;
    }
    for (hash, page) in package.pages() {
        tx.put_raw(&PROGRAM_PAGES, &page_key(app, hash), page.clone())?;
    }
    Ok(settle(tx, app, manifest)?)
}

/// Version codes only rise.
fn may_follow(now: &Manifest, next: &Manifest) -> Result<(), Fail> {
    if next.version.code > now.version.code {
        return Ok(());
    }
    let why = format!(
        "version code {} is not above {}, which is here: a program's version only rises",
        next.version.code, now.version.code
    );
    Err(Refusal::NotAllowed { why }.into())
}

/// A newer package is to come, in place of one that was coming.
pub(super) fn expect(tx: &mut Tx<'_>, next: &Signed<Manifest>) -> Result<(), StorageError> {
    let app = next.get().app();
    let heads = Heads { coming: Some(head(next)), ..heads(tx, app)? };
    tx.put_raw(&PROGRAM_COMING, &app.0, next.bytes().to_vec())?;
    tx.put(&PROGRAM_HEADS, &app.0, &heads)?;
    prune(tx, app)
}

/// Whether a manifest is to be preferred to the one that is coming.
pub(super) fn better(coming: Option<&Signed<Manifest>>, next: &Signed<Manifest>) -> bool {
    coming.is_none_or(|c| next.get().version.code > c.get().version.code)
}

/// Pages of the coming package that are not here, with their sizes.
pub(super) fn missing(
    read: &dyn Read,
    next: &Manifest,
) -> Result<Vec<([u8; 32], usize)>, StorageError> {
    let app = next.app();
    let mut missing = Vec::new();
    for (hash, size) in next.all_pages() {
        if !read.contains(&PROGRAM_PAGES, &page_key(app, &hash))? {
            missing.push((hash, size));
        }
    }
    Ok(missing)
}

/// Stores a page of the coming package.
pub(super) fn put_page(
    tx: &mut Tx<'_>,
    app: AppId,
    hash: &[u8; 32],
    page: Vec<u8>,
) -> Result<(), StorageError> {
    tx.put_raw(&PROGRAM_PAGES, &page_key(app, hash), page)
}

/// All pages of a manifest are here: it runs from now on, and what only older ones had goes.
pub(super) fn settle(
    tx: &mut Tx<'_>,
    app: AppId,
    manifest: &Signed<Manifest>,
) -> Result<(), StorageError> {
    let mut heads = Heads { whole: Some(head(manifest)), ..heads(tx, app)? };
    tx.put_raw(&PROGRAM_PACKAGES, &app.0, manifest.bytes().to_vec())?;
    if heads.coming.is_some_and(|c| c.code <= manifest.get().version.code) {
        heads.coming = None;
        tx.del(&PROGRAM_COMING, &app.0)?;
    }
    tx.put(&PROGRAM_HEADS, &app.0, &heads)?;
    prune(tx, app)
}

/// Drops the pages that neither what runs nor what is coming names.
fn prune(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    let mut needed = BTreeSet::new();
    for manifest in [whole(tx, app)?, coming(tx, app)?].into_iter().flatten() {
        needed.extend(manifest.get().all_pages().into_iter().map(|(hash, _)| hash));
    }
    for key in pages_of(tx, app)? {
        if key.last_chunk::<32>().is_none_or(|hash| !needed.contains(hash)) {
            tx.del(&PROGRAM_PAGES, &key)?;
        }
    }
    Ok(())
}

fn pages_of(tx: &Tx<'_>, app: AppId) -> Result<Vec<Vec<u8>>, StorageError> {
    // Of what runs, and of two that were coming one after the other.
    let most = 3 * MAX_PAGES;
    let mut keys = Vec::new();
    tx.visit(&PROGRAM_PAGES, &KeyRange::prefix(&app.0), false, &mut |key, _| {
        keys.push(key.to_vec());
        if keys.len() < most {
            std::ops::ControlFlow::Continue(())
        } else {
            std::ops::ControlFlow::Break(())
        }
    })?;
    Ok(keys)
}

/// Forgets a program's packages.
pub(super) fn clear(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    for key in pages_of(tx, app)? {
        tx.del(&PROGRAM_PAGES, &key)?;
    }
    tx.del(&PROGRAM_HEADS, &app.0)?;
    tx.del(&PROGRAM_PACKAGES, &app.0)?;
    tx.del(&PROGRAM_COMING, &app.0)
}

/// The package that runs here, in one piece.
pub(super) fn bytes(read: &dyn Read, app: AppId) -> Result<Option<Vec<u8>>, StorageError> {
    let Some(manifest) = whole(read, app)? else { return Ok(None) };
    let damaged = |why| StorageError::corrupt(PROGRAM_PAGES.name, why);
    let mut pages = Vec::new();
    for (hash, _) in manifest.get().all_pages() {
        let page = page(read, app, &hash)?.ok_or_else(|| damaged("a page is missing"))?;
        pages.push(Bytes::try_from(page).map_err(|_| damaged("a page is too long"))?);
    }
    let package = Package {
        version: package::VERSION,
        manifest: manifest
            .bytes()
            .to_vec()
            .try_into()
            .map_err(|_| damaged("a manifest is too long"))?,
        pages: pages.try_into().map_err(|_| damaged("too many pages"))?,
    };
    Ok(Some(teahouse_protocols::codec::encode(&package)))
}

/// A package's name among all.
pub(super) const fn id(manifest: &Signed<Manifest>) -> PackageId {
    PackageId(manifest.id())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use teahouse_protocols::codec::{List, Text};
    use teahouse_protocols::package::Release;
    use teahouse_protocols::sign::{self, Signable as _, SigningKey};

    use super::*;
    use crate::features::tests::with_tx;

    fn package() -> VerifiedPackage {
        let draft = Manifest {
            form: package::VERSION,
            developer: [0; 32],
            name: "Tea".try_into().unwrap(),
            version: Release { code: 4, name: Text::default() },
            description: Text::default(),
            lang: Text::default(),
            pages: vec!["main.js".try_into().unwrap()].try_into().unwrap(),
            icons: List::default(),
            req_permissions: List::default(),
            cloud: None,
            files: List::default(),
        };
        let files = BTreeMap::from([("main.js".to_owned(), vec![1])]);
        VerifiedPackage::new(draft, &files, &SigningKey::from_bytes(&[1; 32])).unwrap()
    }

    /// A stranger may ask as often as they like: what was verified once is known by its hash.
    #[test]
    fn a_manifest_is_verified_once() {
        with_tx(|tx| {
            let package = package();
            let app = package.manifest().get().app();
            put(tx, &package).unwrap();
            assert_eq!(code(tx, app).unwrap(), 4);
            assert_eq!(newer(tx, app, 3).unwrap().unwrap(), package.manifest().bytes());
            assert!(newer(tx, app, 4).unwrap().is_none());
            // Another signature, which does not hold, under its own hash: nobody looks at it.
            let mut bytes = package.manifest().bytes().to_vec();
            *bytes.last_mut().unwrap() ^= 1;
            tx.put_raw(&PROGRAM_PACKAGES, &app.0, bytes.clone()).unwrap();
            assert!(whole(tx, app).is_err(), "not what was verified");
            let id = sign::hash(Manifest::DOMAIN, &[&bytes]);
            let heads = Heads { whole: Some(Head { code: 4, id }), coming: None };
            tx.put(&PROGRAM_HEADS, &app.0, &heads).unwrap();
            assert!(whole(tx, app).unwrap().is_some());
            // A store from before there were hashes is verified.
            tx.del(&PROGRAM_HEADS, &app.0).unwrap();
            assert!(whole(tx, app).is_err());
            tx.put_raw(&PROGRAM_PACKAGES, &app.0, package.manifest().bytes().to_vec()).unwrap();
            assert_eq!(whole(tx, app).unwrap().unwrap().id(), package.manifest().id());
            clear(tx, app).unwrap();
            assert_eq!(code(tx, app).unwrap(), 0);
        });
    }
}
