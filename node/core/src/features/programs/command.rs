//! What can be asked of Mini Programs.

use rand_core::Rng;
use serde::{Deserialize, Serialize};
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::{AppId, TopicId};
use teahouse_protocols::lines::one_line;
use teahouse_protocols::link::{Link, ProgramLink, Provider, VERSION};
use teahouse_protocols::package::{MAX_LAUNCH, Power, VerifiedPackage};

use super::{
    GRANTS, Installed, MAX_PROGRAMS, NAME, SECRET, all, grant_id, granted, installed, packages,
    service, state, storage,
};
use crate::command::{Chat, Refusal, Reply};
use crate::engine::accounts;
use crate::features::{chat, contacts};
use crate::tx::{Effect, Fail, Tx, capped};
use crate::view::Blob;

/// Most bytes of a card's title.
pub const MAX_CARD: usize = 256;

/// A command to Mini Programs.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Install a package, or a newer one of a program that is installed. Replies
    /// [`Reply::Program`].
    Install {
        /// The package in one piece.
        package: Blob,
    },
    /// Install a program by its link: its package is asked for from those whom the link names.
    /// Replies [`Reply::Program`].
    Add {
        /// `teahouse:program/…`.
        link: String,
    },
    /// Remove a program, with what it keeps and what it was allowed.
    Uninstall {
        /// The program.
        app: AppId,
    },
    /// Say whether a program may have a power.
    Grant {
        /// The program.
        app: AppId,
        /// The power.
        power: Power,
        /// Yes or no; nothing to be asked again.
        allowed: Option<bool>,
    },
    /// Keep something for a program, on this device.
    Put {
        /// The program.
        app: AppId,
        /// 1 to 128 bytes.
        key: String,
        /// At most 64 KiB; nothing to drop what is there.
        value: Option<Blob>,
    },
    /// Share something with the members of a chat, for a program that was allowed to. Replies
    /// [`Reply::Message`], by which the key's [`Stamp`](super::state::Stamp) is known; or
    /// [`Reply::Done`] where it stood so.
    PutShared {
        /// The program.
        app: AppId,
        /// The chat.
        topic: TopicId,
        /// 1 to 128 bytes.
        key: String,
        /// At most 16 KiB.
        value: Blob,
    },
    /// Send a card into a chat: its title and a link to the program, as
    /// [`Share`](Command::Share) makes it. Replies [`Reply::Message`].
    Send {
        /// The program.
        app: AppId,
        /// The chat.
        topic: TopicId,
        /// What stands on the card: one line of at most 256 bytes.
        title: String,
        /// What the program is told when the card opens it: at most 1 KiB.
        #[serde(default)]
        launch: String,
    },
    /// A link to a program; this account's devices give it to who uses the link. Replies
    /// [`Reply::Link`].
    Share {
        /// The program.
        app: AppId,
        /// What the program is told when the link opens it: at most 1 KiB.
        #[serde(default)]
        launch: String,
    },
}

pub(crate) fn command(tx: &mut Tx<'_>, c: Command) -> Result<Reply, Fail> {
    match c {
        Command::Install { package } => {
            let package = VerifiedPackage::from_bytes(&package.0).map_err(invalid)?;
            let manifest = package.manifest().get();
            let (app, code) = (manifest.app(), manifest.version.code);
            let (name, developer) = (manifest.name.to_string(), manifest.developer);
            packages::put(tx, &package)?;
            note(tx, app, name, developer, code, Vec::new())?;
            Ok(Reply::Program { app })
        }
        Command::Add { link } => {
            let Link::Program(link) = Link::parse(&link).map_err(invalid)? else {
                return Err(invalid("this link is no program"));
            };
            let (app, name) = (link.app, link.name.to_string());
            // What the link says of versions is its word alone: worth asking for, no more.
            note(tx, app, name, link.developer, 0, link.providers.into_inner())?;
            service::hear(tx, app, link.code)?;
            Ok(Reply::Program { app })
        }
        Command::Uninstall { app } => {
            require(tx, app)?;
            for power in Power::ALL {
                if granted(tx, app, power)?.is_some() {
                    contacts::put_record(tx, GRANTS, grant_id(app, power), Vec::new())?;
                }
            }
            contacts::put_record(tx, NAME, app.0, Vec::new())?;
            service::forget(tx, app)?;
            tx.out.push(Effect::Peers);
            Ok(Reply::Done)
        }
        Command::Grant { app, power, allowed } => {
            require(tx, app)?;
            let value = allowed.map_or_else(Vec::new, |yes| vec![u8::from(yes)]);
            contacts::put_record(tx, GRANTS, grant_id(app, power), value)?;
            Ok(Reply::Done)
        }
        Command::Put { app, key, value } => {
            require(tx, app)?;
            storage::OWN.put(tx, app, &key, value.map(|v| v.0))?;
            Ok(Reply::Done)
        }
        Command::PutShared { app, topic, key, value } => {
            require(tx, app)?;
            state::put(tx, app, topic, key, value.0)
        }
        Command::Share { app, launch } => Ok(Reply::Link { link: share(tx, app, &launch)? }),
        Command::Send { app, topic, title, launch } => {
            let title = one_line(&title, MAX_CARD);
            // Whoever gets the card opens the first link in it.
            if title.split_whitespace().any(|word| Link::parse(word).is_ok()) {
                return Err(invalid("a card's title holds no link"));
            }
            let link = share(tx, app, &launch)?;
            let text = if title.is_empty() { link } else { format!("{title}\n{link}") };
            chat::command(tx, Chat::Send { topic, text, reply_to: None, mentions: Vec::new() })
        }
    }
}

fn invalid(why: impl std::fmt::Display) -> Fail {
    Refusal::Invalid { why: why.to_string() }.into()
}

fn require(tx: &Tx<'_>, app: AppId) -> Result<Installed, Fail> {
    let known = installed(tx, app)?;
    Ok(known.ok_or_else(|| Refusal::NotFound { what: "program installed".into() })?)
}

/// Notes for all devices that a program is installed.
fn note(
    tx: &mut Tx<'_>,
    app: AppId,
    name: String,
    developer: [u8; 32],
    code: u32,
    mut providers: Vec<Provider>,
) -> Result<(), Fail> {
    // Refused while this device is still taking over the account.
    contacts::private_topic(tx)?;
    let known = installed(tx, app)?;
    if known.is_none() && all(tx)?.len() >= MAX_PROGRAMS {
        let what = "programs installed".into();
        return Err(Refusal::Limit { what, max: MAX_PROGRAMS as u64 }.into());
    }
    if contacts::secret(tx, SECRET)?.is_none() {
        let mut secret = [0; 32];
        tx.rng.fill_bytes(&mut secret);
        contacts::put_secret(tx, SECRET, secret.to_vec())?;
    }
    // Whoever shared it now is asked first; who was known stays.
    for old in known.iter().flat_map(|k| &k.providers) {
        if providers.len() < service::MAX_PROVIDERS
            && providers.iter().all(|p| p.device != old.device)
        {
            providers.push(old.clone());
        }
    }
    let row = Installed {
        name,
        developer,
        code: code.max(known.as_ref().map_or(0, |k| k.code)),
        providers,
        shared: known.as_ref().is_some_and(|k| k.shared),
        since: known.as_ref().map_or(tx.now, |k| k.since),
    };
    if known.as_ref() != Some(&row) {
        put(tx, app, &row)?;
    }
    service::look(tx, app);
    tx.out.push(Effect::Peers);
    Ok(())
}

/// Notes for all devices that a package of this version was verified here.
pub(super) fn raise(tx: &mut Tx<'_>, app: AppId, code: u32) -> Result<(), Fail> {
    match installed(tx, app)? {
        Some(known) if code > known.code => put(tx, app, &Installed { code, ..known }),
        _ => Ok(()),
    }
}

fn put(tx: &mut Tx<'_>, app: AppId, row: &Installed) -> Result<(), Fail> {
    let value = postcard::to_stdvec(row).map_err(Fail::peer)?;
    contacts::put_record(tx, NAME, app.0, value)
}

fn share(tx: &mut Tx<'_>, app: AppId, launch: &str) -> Result<String, Fail> {
    let mut known = require(tx, app)?;
    if !known.shared {
        known.shared = true;
        put(tx, app, &known)?;
    }
    let launch = launch
        .try_into()
        .map_err(|_| invalid(format!("what a link says has at most {MAX_LAUNCH} bytes")))?;
    let (account, device) = (tx.account()?, tx.me()?.device);
    let addrs: Vec<Text<160>> =
        tx.mem.addrs.iter().filter_map(|a| a.as_str().try_into().ok()).collect();
    let relays = accounts::relays_of(tx, account)?;
    let mut providers = vec![Provider { device, addrs: capped(addrs), relays: capped(relays) }];
    providers.extend(known.providers.into_iter().filter(|p| p.device != device));
    let link = ProgramLink {
        version: VERSION,
        app,
        developer: known.developer,
        name: known.name.as_str().try_into().unwrap_or_default(),
        code: packages::code(tx, app)?,
        providers: capped(providers),
        launch,
    };
    Ok(Link::Program(link).to_uri())
}
