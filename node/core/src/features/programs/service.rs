//! Asking for packages, and giving them.
//!
//! A device that lacks a package asks its providers and its account's other devices, one at a
//! time; whoever has it offers the manifest, and gives page by page what is asked for. The
//! manifest is signed by the developer and names the pages, so that nobody on the way can
//! change any of it; a provider can at most be silent, and is then passed over.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_protocols::codec;
use teahouse_protocols::ids::{AppId, DeviceId, Millis};
use teahouse_protocols::package::{self, Manifest, ProgramFrame};
use teahouse_protocols::sign::Signed;

use super::tables::{PROGRAM_COMING, PROGRAM_PACKAGES, PROGRAM_ROOM};
use super::{Installed, all, command, installed, packages, removed, state, storage};
use crate::engine::accounts;
use crate::features::services::{self, Prepared, Service, Wanted};
use crate::store::{KeyRange, Read, ReadExt, StorageError};
use crate::tx::{Fail, Tx, best_effort};

pub(super) const SERVICE: Service =
    Service { number: package::SERVICE, prepare, take, met, tend, wanted };

/// Most providers that are remembered of one program.
pub(super) const MAX_PROVIDERS: usize = 8;
/// Most providers of one program to be connected to.
const DIALLED: usize = 3;
/// Pages that are asked for at once.
const WINDOW: usize = 4;
/// A provider that sends nothing for so long is passed over.
const PATIENCE: Millis = 15_000;
/// When all were asked in vain, they are asked again after this.
const AGAIN: Millis = 60_000;

/// What is being fetched. Volatile: losing it costs a round trip, for pages are stored as they
/// come.
#[derive(Debug, Default)]
pub(crate) struct Fetches {
    /// Whether programs were looked at since the start.
    looked: bool,
    /// At most one for each program that is installed.
    under_way: BTreeMap<AppId, Fetch>,
    /// Who was asked in vain.
    tried: BTreeMap<AppId, BTreeSet<DeviceId>>,
    /// When to ask them again.
    again: Option<Millis>,
    /// Version codes that links named: asked for once. At most one for each program that is
    /// installed.
    heard: BTreeMap<AppId, u32>,
}

#[derive(Debug)]
struct Fetch {
    from: DeviceId,
    /// At most [`WINDOW`].
    asked: BTreeSet<[u8; 32]>,
    /// When something last came.
    since: Millis,
}

/// A frame, with its manifest verified.
enum Word {
    Plain(ProgramFrame),
    Offer(Box<Signed<Manifest>>),
}

fn prepare(read: &dyn Read, bytes: &[u8]) -> Option<Prepared> {
    let word = match codec::decode::<ProgramFrame>(bytes).ok()? {
        ProgramFrame::Offer { app, manifest } => {
            // What nobody here wants is not worth a look at its signature.
            installed(read, app).ok()??;
            let claimed = Signed::<Manifest>::claimed(&manifest).ok()?;
            if claimed.app() != app {
                return None;
            }
            if claimed.version.code <= packages::code(read, app).ok()? {
                Word::Plain(ProgramFrame::Unknown { app })
            } else {
                Word::Offer(Box::new(Signed::from_bytes(&manifest).ok()?))
            }
        }
        frame => Word::Plain(frame),
    };
    Some(Box::new(word))
}

fn take(tx: &mut Tx<'_>, from: DeviceId, prepared: Prepared) -> Result<(), Fail> {
    let Ok(word) = prepared.downcast::<Word>() else { return Ok(()) };
    match *word {
        Word::Offer(manifest) => offered(tx, from, &manifest),
        Word::Plain(ProgramFrame::Ask { app, above }) => {
            let serves = serves(tx, app, from)?;
            match if serves { packages::newer(tx, app, above)? } else { None } {
                Some(manifest) => {
                    let manifest = manifest.try_into().map_err(Fail::peer)?;
                    say(tx, from, &ProgramFrame::Offer { app, manifest })
                }
                None => say(tx, from, &ProgramFrame::Unknown { app }),
            }
        }
        Word::Plain(ProgramFrame::Want { app, page }) => {
            let serves = serves(tx, app, from)?;
            match if serves { packages::page(tx, app, &page)? } else { None } {
                Some(bytes) => {
                    let bytes = bytes.try_into().map_err(Fail::peer)?;
                    say(tx, from, &ProgramFrame::Page { app, bytes })
                }
                None => say(tx, from, &ProgramFrame::Unknown { app }),
            }
        }
        Word::Plain(ProgramFrame::Page { app, bytes }) => page(tx, from, app, bytes.into_inner()),
        Word::Plain(ProgramFrame::Unknown { app }) => {
            if tx.mem.programs.under_way.get(&app).is_some_and(|f| f.from == from) {
                pass_over(tx, app);
            }
            Ok(())
        }
        // Prepared as an offer.
        Word::Plain(ProgramFrame::Offer { .. }) => Ok(()),
    }
}

/// Whether a device is given a program: strangers are not even told that it is here, unless a
/// link to it was made.
fn serves(tx: &mut Tx<'_>, app: AppId, to: DeviceId) -> Result<bool, Fail> {
    // What it doesn't take now it asks for again.
    if tx.mem.peers.get(&to).is_none_or(|p| p.full) {
        return Ok(false);
    }
    let Some(known) = installed(tx, app)? else { return Ok(false) };
    Ok(known.shared || is_own(tx, to)?)
}

fn is_own(tx: &mut Tx<'_>, device: DeviceId) -> Result<bool, Fail> {
    let account = tx.account()?;
    Ok(accounts::account_of(tx, device)? == Some(account) && accounts::is_active(tx, device)?)
}

/// Whether a device is one that this one would ask.
fn is_asked(tx: &mut Tx<'_>, known: &Installed, device: DeviceId) -> Result<bool, Fail> {
    Ok(known.providers.iter().any(|p| p.device == device) || is_own(tx, device)?)
}

fn offered(tx: &mut Tx<'_>, from: DeviceId, next: &Signed<Manifest>) -> Result<(), Fail> {
    let app = next.get().app();
    let Some(known) = installed(tx, app)? else { return Ok(()) };
    let code = next.get().version.code;
    // Neither unasked, nor older than what is here or what own devices verified.
    let asked = match tx.mem.programs.under_way.get(&app) {
        Some(fetch) => fetch.from == from,
        None => is_asked(tx, &known, from)?,
    };
    if !asked {
        return Ok(());
    }
    if code < known.code || code <= packages::code(tx, app)? {
        pass_over(tx, app);
        return Ok(());
    }
    let coming = packages::coming(tx, app)?;
    if packages::better(coming.as_ref(), next) {
        packages::expect(tx, next)?;
    } else if coming.is_none_or(|c| c.id() != next.id()) {
        // Another package is under way; this provider has not got it.
        pass_over(tx, app);
        return Ok(());
    }
    let fetch = Fetch { from, asked: BTreeSet::new(), since: tx.now };
    tx.mem.programs.under_way.insert(app, fetch);
    go_on(tx, app)
}

fn page(tx: &mut Tx<'_>, from: DeviceId, app: AppId, bytes: Vec<u8>) -> Result<(), Fail> {
    let Some(fetch) = tx.mem.programs.under_way.get_mut(&app) else { return Ok(()) };
    let hash = *blake3::hash(&bytes).as_bytes();
    if fetch.from != from || !fetch.asked.remove(&hash) {
        return Ok(());
    }
    fetch.since = tx.now;
    let Some(coming) = packages::coming(tx, app)? else { return Ok(()) };
    let named = packages::missing(tx, coming.get())?.into_iter().find(|(h, _)| *h == hash);
    if named.is_some_and(|(_, size)| size == bytes.len()) {
        packages::put_page(tx, app, &hash, bytes)?;
    }
    go_on(tx, app)
}

/// Asks for what is missing of a package, or is done with it.
fn go_on(tx: &mut Tx<'_>, app: AppId) -> Result<(), Fail> {
    let Some(coming) = packages::coming(tx, app)? else { return Ok(()) };
    let missing = packages::missing(tx, coming.get())?;
    if missing.is_empty() {
        packages::settle(tx, app, &coming)?;
        let code = coming.get().version.code;
        tx.mem.programs.under_way.remove(&app);
        tx.mem.programs.tried.remove(&app);
        if tx.mem.programs.heard.get(&app).is_some_and(|heard| *heard <= code) {
            tx.mem.programs.heard.remove(&app);
        }
        tx.mem.records_due = true;
        // The account's other devices look for it, too.
        return Ok(best_effort(command::raise(tx, app, code))?);
    }
    let Some(fetch) = tx.mem.programs.under_way.get_mut(&app) else { return Ok(()) };
    let from = fetch.from;
    let mut wants = Vec::new();
    for (page, _) in missing {
        if fetch.asked.len() < WINDOW && fetch.asked.insert(page) {
            wants.push(page);
        }
    }
    wants.into_iter().try_for_each(|page| say(tx, from, &ProgramFrame::Want { app, page }))
}

/// The provider that is asked just now has it not, or not any more.
fn pass_over(tx: &mut Tx<'_>, app: AppId) {
    if let Some(fetch) = tx.mem.programs.under_way.remove(&app) {
        tx.mem.programs.tried.entry(app).or_default().insert(fetch.from);
        tx.mem.records_due = true;
    }
}

/// Programs are looked at once more: there may be somebody to ask.
pub(super) fn look(tx: &mut Tx<'_>, app: AppId) {
    tx.mem.programs.tried.remove(&app);
    tx.mem.records_due = true;
}

/// A link said that there is such a version.
pub(super) fn hear(tx: &mut Tx<'_>, app: AppId, code: u32) -> Result<(), StorageError> {
    if code > packages::code(tx, app)? {
        tx.mem.programs.heard.insert(app, code);
    }
    Ok(())
}

fn met(tx: &mut Tx<'_>, device: DeviceId) -> Result<(), Fail> {
    for tried in tx.mem.programs.tried.values_mut() {
        tried.remove(&device);
    }
    tx.mem.records_due = true;
    // Of what is here a provider may have something newer.
    for (app, known) in all(tx)? {
        let above = packages::code(tx, app)?;
        if above > 0
            && !tx.mem.programs.under_way.contains_key(&app)
            && is_asked(tx, &known, device)?
        {
            say(tx, device, &ProgramFrame::Ask { app, above })?;
        }
    }
    Ok(())
}

fn tend(tx: &mut Tx<'_>) -> Result<Option<Millis>, Fail> {
    let now = tx.now;
    let late: Vec<AppId> = tx
        .mem
        .programs
        .under_way
        .iter()
        .filter(|(_, f)| now >= f.since + PATIENCE || !tx.mem.peers.contains_key(&f.from))
        .map(|(app, _)| *app)
        .collect();
    for app in late {
        pass_over(tx, app);
    }
    if tx.mem.programs.again.is_some_and(|at| at <= now) {
        tx.mem.programs.again = None;
        tx.mem.programs.tried.clear();
        // Who was asked has nothing of the kind: it was a link's word, and no more.
        tx.mem.programs.heard.clear();
        tx.mem.records_due = true;
    }
    let due = std::mem::take(&mut tx.mem.records_due);
    if (due || !tx.mem.programs.looked) && tx.me()?.account.is_some() {
        tx.mem.programs.looked = true;
        sweep(tx)?;
        for (app, known) in lacking(tx)? {
            ask_somebody(tx, app, &known)?;
        }
        if !tx.mem.programs.tried.is_empty() && tx.mem.programs.again.is_none() {
            tx.mem.programs.again = Some(now + AGAIN);
        }
    }
    let fetches = tx.mem.programs.under_way.values().map(|f| f.since + PATIENCE);
    Ok(fetches.chain(tx.mem.programs.again).min())
}

/// Programs whose package is not here, or not the one that another device has.
fn lacking(tx: &mut Tx<'_>) -> Result<Vec<(AppId, Installed)>, StorageError> {
    let mut lacking = Vec::new();
    for (app, known) in all(tx)? {
        let code = packages::code(tx, app)?;
        let wanted = tx.mem.programs.heard.get(&app).copied().unwrap_or(0).max(known.code);
        if code == 0 || code < wanted || packages::is_coming(tx, app)? {
            lacking.push((app, known));
        }
    }
    Ok(lacking)
}

fn ask_somebody(tx: &mut Tx<'_>, app: AppId, known: &Installed) -> Result<(), Fail> {
    if tx.mem.programs.under_way.contains_key(&app) {
        return Ok(());
    }
    let mut candidates: Vec<DeviceId> = known.providers.iter().map(|p| p.device).collect();
    let account = tx.account()?;
    candidates.extend(accounts::devices_of(tx, account)?);
    let tried = tx.mem.programs.tried.get(&app);
    let next = candidates.into_iter().find(|device| {
        tx.mem.peers.contains_key(device) && tried.is_none_or(|t| !t.contains(device))
    });
    let Some(from) = next else { return Ok(()) };
    let above = packages::code(tx, app)?;
    let fetch = Fetch { from, asked: BTreeSet::new(), since: tx.now };
    tx.mem.programs.under_way.insert(app, fetch);
    say(tx, from, &ProgramFrame::Ask { app, above })
}

/// Forgets what programs had that are not installed any more: another device said so.
fn sweep(tx: &mut Tx<'_>) -> Result<(), StorageError> {
    let mut here = BTreeSet::new();
    for table in [&PROGRAM_PACKAGES, &PROGRAM_COMING, &PROGRAM_ROOM] {
        let keys = tx.scan(table, &KeyRange::all(), false, 4_096)?;
        here.extend(keys.into_iter().filter_map(|(key, _)| key.try_into().ok().map(AppId)));
    }
    for app in here {
        if removed(tx, app)? {
            forget(tx, app)?;
        }
    }
    Ok(())
}

/// Forgets all that this device has of a program.
pub(super) fn forget(tx: &mut Tx<'_>, app: AppId) -> Result<(), StorageError> {
    tx.mem.programs.under_way.remove(&app);
    tx.mem.programs.tried.remove(&app);
    tx.mem.programs.heard.remove(&app);
    packages::clear(tx, app)?;
    state::clear(tx, app)?;
    storage::clear(tx, app)
}

fn wanted(tx: &mut Tx<'_>) -> Result<Vec<Wanted>, StorageError> {
    let own = tx.me()?.device;
    let mut wanted = Vec::new();
    for (_, row) in lacking(tx)? {
        for p in row.providers.into_iter().filter(|p| p.device != own).take(DIALLED) {
            wanted.push(Wanted {
                device: p.device,
                relays: p.relays.into_inner(),
                addrs: p.addrs.iter().map(|a| a.to_string()).collect(),
            });
        }
    }
    Ok(wanted)
}

fn say(tx: &mut Tx<'_>, to: DeviceId, frame: &ProgramFrame) -> Result<(), Fail> {
    services::say(tx, to, package::SERVICE, codec::encode(frame))
}
