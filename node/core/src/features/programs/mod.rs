//! Mini Programs: which are installed, their packages, what each keeps and what it may do.
//!
//! That a program is installed, and what it was allowed, stand in records that the account's
//! devices share; its package and what it keeps lie on each device. A package is asked for
//! from the link's providers and one's own devices (`service`), and proves itself. Running a
//! program is the node's (`teahouse-programs`); what it asks for comes here as ordinary
//! commands and queries.
//!
//! - `command`: what can be asked for.
//! - `tables`: the rows.
//! - `packages`: taking packages in, page by page.
//! - `service`: asking for packages, and giving them.
//! - `storage`: what programs keep.
//! - `state`: what programs share with the members of a chat.
//! - `query`: programs as they are shown and run.

mod command;
mod packages;
pub mod query;
mod service;
pub mod state;
mod storage;
pub mod tables;

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AppId, Millis};
use teahouse_protocols::link::Provider;
use teahouse_protocols::membership::TopicKind;
use teahouse_protocols::package::{Manifest, Power};
use teahouse_protocols::sign::{self, Domain, Signed, SigningKey};

use crate::features::Feature;
use crate::query::Asked;
use crate::store::{Key, KeyRange, Read, ReadExt, StorageError};
use crate::tables::{Chosen, RECORDS, SECRETS, record_key};

pub(crate) use self::command::command;
pub use self::command::{Command, MAX_CARD};
pub(crate) use self::service::Fetches;
pub(crate) use self::storage::Shelf;
pub use self::storage::{MAX_KEY, MAX_KEYS, MAX_ROOM, MAX_VALUE};

/// The feature's name, as in [`RECORDS`].
const NAME: &str = "programs";
/// The name of records of what programs were allowed.
const GRANTS: &str = "program grants";
/// The name of the secret from which programs' login keys follow.
const SECRET: &str = "programs";
/// Most programs that an account has installed.
pub const MAX_PROGRAMS: usize = 64;

pub(crate) const FEATURE: Feature = Feature {
    name: NAME,
    kinds: &[TopicKind::Direct, TopicKind::Group],
    apply: state::apply,
    projects: &[&tables::PROGRAM_STATE, &tables::PROGRAM_STATE_ROOM],
    tables: tables::ALL,
    queries: &[
        Asked::of::<query::Programs>(),
        Asked::of::<query::OneProgram>(),
        Asked::of::<query::PackageOf>(),
        Asked::of::<query::Stored>(),
        Asked::of::<query::StoredKeys>(),
        Asked::of::<query::LoginKey>(),
        Asked::of::<query::Shared>(),
        Asked::of::<query::SharedKeys>(),
    ],
    service: Some(service::SERVICE),
    ..Feature::NONE
};

/// What this account's devices share about a program that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Installed {
    /// What it is called; with the key it gives the id.
    pub name: String,
    /// Its developer's key.
    pub developer: [u8; 32],
    /// The highest version code that one of the account's devices verified: no package with a
    /// lower one is taken. What a link says of it decides nothing.
    pub code: u32,
    /// Whom to ask for it.
    pub providers: Vec<Provider>,
    /// Whether strangers who ask for it are given it: a link was made.
    pub shared: bool,
    /// Since when.
    pub since: Millis,
}

/// What is kept about a program; `None` for one that is not installed.
pub(crate) fn installed(read: &dyn Read, app: AppId) -> Result<Option<Installed>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &app.0))?;
    Ok(row.and_then(|r| postcard::from_bytes(&r.value).ok()))
}

/// Whether a program was removed, on whichever device. What this build can't read, as a newer
/// one wrote it, is no removal: what the program keeps stays.
pub(crate) fn removed(read: &dyn Read, app: AppId) -> Result<bool, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &record_key(NAME, &app.0))?;
    Ok(row.is_some_and(|r| r.value.is_empty()))
}

/// All programs that are installed.
pub(crate) fn all(read: &dyn Read) -> Result<Vec<(AppId, Installed)>, StorageError> {
    let prefix = Key::new().text(NAME).into_bytes();
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        read.scan_typed(&RECORDS, &KeyRange::prefix(&prefix), false, 4_096)?;
    let programs = rows.into_iter().filter_map(|(key, row)| {
        let app = AppId(*key.last_chunk::<32>()?);
        Some((app, postcard::from_bytes(&row.value).ok()?))
    });
    Ok(programs.take(MAX_PROGRAMS).collect())
}

/// Under which id it is kept what a program was allowed. A record each, so that what is taken
/// back on one device is not given again by what another says of something else.
fn grant_id(app: AppId, power: Power) -> [u8; 32] {
    let index = Power::ALL.iter().position(|p| *p == power).unwrap_or_default() as u8;
    sign::hash(Domain::PROGRAM_GRANT, &[&app.0, &[index]])
}

/// The manifest of the package that runs here.
pub(crate) fn manifest(
    read: &dyn Read,
    app: AppId,
) -> Result<Option<Signed<Manifest>>, StorageError> {
    packages::whole(read, app)
}

/// What the person said to a program's wish; `None` while they were not asked.
pub(crate) fn granted(
    read: &dyn Read,
    app: AppId,
    power: Power,
) -> Result<Option<bool>, StorageError> {
    let key = record_key(GRANTS, &grant_id(app, power));
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&RECORDS, &key)?;
    Ok(row.and_then(|r| r.value.first().map(|said| *said == 1)))
}

/// The key by which one program knows this account, on all its devices. No two programs'
/// keys can be told to belong together without the secret.
pub(crate) fn login_key(read: &dyn Read, app: AppId) -> Result<Option<SigningKey>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = read.get_typed(&SECRETS, SECRET.as_bytes())?;
    let Some(secret) = row.map(|r| r.value).filter(|v| v.len() == 32) else { return Ok(None) };
    let seed = sign::hash(Domain::PROGRAM_LOGIN, &[&secret, &app.0]);
    Ok(Some(SigningKey::from_bytes(&seed)))
}
