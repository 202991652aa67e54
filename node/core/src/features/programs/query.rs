//! Mini Programs as they are shown and run.

use serde::{Deserialize, Serialize};
use teahouse_protocols::ids::{AppId, Millis, PackageId, TopicId};
use teahouse_protocols::lines::one_line;
use teahouse_protocols::package::{Manifest, Power};

use super::state::{self, Stamp};
use super::tables::{
    PROGRAM_COMING, PROGRAM_PACKAGES, PROGRAM_PAGES, PROGRAM_ROOM, PROGRAM_STATE, PROGRAM_STORAGE,
    Room,
};
use super::{Installed, all, granted, installed, login_key, packages, storage};
use crate::query::Query;
use crate::store::{Read, ReadExt, StorageError, Table};
use crate::tables::{RECORDS, SECRETS};
use crate::view::Blob;

/// A program that is installed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Program {
    /// The program.
    pub app: AppId,
    /// What it is called.
    pub name: String,
    /// Its developer's key.
    pub developer: PackageKey,
    /// Since when it is installed.
    pub since: Millis,
    /// The package that runs here; `None` until one is here.
    pub package: Option<Packed>,
    /// Of one that is coming: how many of its pages are here, and how many it has.
    pub coming: Option<(u32, u32)>,
    /// What it may be given: what its package names, with the person's word where they gave it.
    pub powers: Vec<Asks>,
    /// Bytes that it keeps on this device.
    pub keeps: u64,
}

/// A developer's key: an id like any other where it is shown.
pub type PackageKey = PackageId;

/// A package, in short.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Packed {
    /// Its name among all packages.
    pub id: PackageId,
    /// The version, for people.
    pub version: String,
    /// The version, to be compared.
    pub code: u32,
    /// What it is for, in its developer's words.
    pub description: String,
    /// Whether it has a part at its developer's node.
    pub cloud: bool,
}

/// A power that a program names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asks {
    /// The power.
    pub power: Power,
    /// What for, in the developer's words.
    pub reason: String,
    /// What the person said; `None` while they were not asked.
    pub allowed: Option<bool>,
}

/// Longest text of a manifest, in bytes: each is shown on one line among the window's own words.
const LINE: usize = 512;

const SHOWN: &[&Table] =
    &[&RECORDS, &PROGRAM_PACKAGES, &PROGRAM_COMING, &PROGRAM_PAGES, &PROGRAM_ROOM];

fn program(s: &dyn Read, app: AppId, row: Installed) -> Result<Program, StorageError> {
    let manifest = packages::whole(s, app)?;
    let mut powers = Vec::new();
    for asked in manifest.iter().flat_map(|m| &m.get().req_permissions) {
        powers.push(Asks {
            power: asked.power,
            reason: one_line(&asked.reason, LINE),
            allowed: granted(s, app, asked.power)?,
        });
    }
    let coming = match packages::coming(s, app)? {
        Some(next) => {
            let total = next.get().all_pages().len() as u32;
            let missing = packages::missing(s, next.get())?.len() as u32;
            Some((total.saturating_sub(missing), total))
        }
        None => None,
    };
    let package = manifest.map(|signed| {
        let id = packages::id(&signed);
        let Manifest { version, description, cloud, .. } = signed.get();
        Packed {
            id,
            version: one_line(&version.name, LINE),
            code: version.code,
            description: one_line(description, LINE),
            cloud: cloud.is_some(),
        }
    });
    let room: Option<Room> = s.get_typed(&PROGRAM_ROOM, &app.0)?;
    Ok(Program {
        app,
        name: one_line(&row.name, LINE),
        developer: PackageId(row.developer),
        since: row.since,
        package,
        coming,
        powers,
        keeps: room.unwrap_or_default().bytes,
    })
}

/// The programs that are installed, by name.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Programs {}

impl Query for Programs {
    type Out = Vec<Program>;
    const NAME: &'static str = "programs.list";
    const ABOUT: &'static str = "the programs that are installed";
    const READS: &'static [&'static Table] = SHOWN;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let mut out = Vec::new();
        for (app, row) in all(s)? {
            out.push(program(s, app, row)?);
        }
        out.sort_by(|a: &Program, b| a.name.cmp(&b.name).then(a.app.cmp(&b.app)));
        Ok(out)
    }
}

/// One program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneProgram {
    /// The program.
    pub app: AppId,
}

impl Query for OneProgram {
    type Out = Option<Program>;
    const NAME: &'static str = "programs.program";
    const ABOUT: &'static str = "one program (`app`)";
    const READS: &'static [&'static Table] = SHOWN;

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        let Some(row) = installed(s, self.app)? else { return Ok(None) };
        program(s, self.app, row).map(Some)
    }
}

/// The package of a program, in one piece.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackageOf {
    /// The program.
    pub app: AppId,
}

impl Query for PackageOf {
    type Out = Option<Blob>;
    const NAME: &'static str = "programs.package";
    const ABOUT: &'static str = "the package of a program in one piece (`app`)";
    const READS: &'static [&'static Table] = &[&RECORDS, &PROGRAM_PACKAGES, &PROGRAM_PAGES];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if installed(s, self.app)?.is_none() {
            return Ok(None);
        }
        Ok(packages::bytes(s, self.app)?.map(Blob))
    }
}

/// What a program keeps under a key, on this device.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stored {
    /// The program.
    pub app: AppId,
    /// The key.
    pub key: String,
}

impl Query for Stored {
    type Out = Option<Blob>;
    const NAME: &'static str = "programs.stored";
    const ABOUT: &'static str = "what a program keeps under a key (`app`, `key`)";
    const READS: &'static [&'static Table] = &[&PROGRAM_STORAGE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        Ok(storage::OWN.get(s, self.app, &self.key)?.map(Blob))
    }
}

/// The keys under which a program keeps something, in order.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredKeys {
    /// The program.
    pub app: AppId,
    /// What they begin with.
    pub prefix: String,
}

impl Query for StoredKeys {
    type Out = Vec<String>;
    const NAME: &'static str = "programs.stored_keys";
    const ABOUT: &'static str = "the keys under which a program keeps something (`app`, `prefix`)";
    const READS: &'static [&'static Table] = &[&PROGRAM_STORAGE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        storage::OWN.keys(s, self.app, &self.prefix)
    }
}

/// The public key by which a program knows this account.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LoginKey {
    /// The program.
    pub app: AppId,
}

impl Query for LoginKey {
    type Out = Option<Blob>;
    const NAME: &'static str = "programs.login";
    const ABOUT: &'static str = "the public key by which a program knows this account (`app`)";
    const READS: &'static [&'static Table] = &[&SECRETS, &RECORDS];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        if installed(s, self.app)?.is_none() {
            return Ok(None);
        }
        let key = login_key(s, self.app)?;
        Ok(key.map(|k| Blob(k.verifying_key().to_bytes().to_vec())))
    }
}

/// What a program shares with the members of a chat under a key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Shared {
    /// The program.
    pub app: AppId,
    /// The chat.
    pub topic: TopicId,
    /// The key.
    pub key: String,
}

impl Query for Shared {
    type Out = Option<Blob>;
    const NAME: &'static str = "programs.shared";
    const ABOUT: &'static str =
        "what a program shares with a chat's members under a key (`app`, `topic`, `key`)";
    const READS: &'static [&'static Table] = &[&PROGRAM_STATE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        Ok(state::get(s, self.topic, self.app, &self.key)?.map(Blob))
    }
}

/// The keys under which a program shares something in a chat, in order, with who wrote each
/// last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SharedKeys {
    /// The program.
    pub app: AppId,
    /// The chat.
    pub topic: TopicId,
    /// What they begin with.
    pub prefix: String,
}

impl Query for SharedKeys {
    type Out = Vec<Stamp>;
    const NAME: &'static str = "programs.shared_keys";
    const ABOUT: &'static str =
        "the keys under which a program shares something in a chat (`app`, `topic`, `prefix`)";
    const READS: &'static [&'static Table] = &[&PROGRAM_STATE];

    fn run(&self, s: &dyn Read) -> Result<Self::Out, StorageError> {
        state::stamps(s, self.topic, self.app, &self.prefix)
    }
}
