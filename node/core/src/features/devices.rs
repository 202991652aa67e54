//! The account and its devices: create, rename, link, revoke.

use teahouse_protocols::account::AccountOp;
use teahouse_protocols::codec::Text;
use teahouse_protocols::ids::DeviceId;
use teahouse_protocols::membership::{History, MemberOp, TopicKind};
use teahouse_protocols::words::RecoveryWords;

use crate::command::{Devices, Refusal, Reply};
use crate::engine::{accounts, inbox, pairing, topics};
use crate::features::contacts;
use crate::tx::{Fail, Tx};

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Devices) -> Result<Reply, Fail> {
    match c {
        Devices::Create { name, device_name } => {
            let name = name.trim();
            if name.is_empty() {
                return Err(Refusal::Invalid { why: "a name has at least one letter".into() }.into());
            }
            let (account, entropy) = accounts::create(tx, name, device_name.trim())?;
            let private = topics::create(tx, TopicKind::Private, History::All, None)?;
            tx.edit_me(|me| me.private = Some(private))?;
            contacts::make_card_keys(tx)?;
            let words = RecoveryWords::from_entropy(entropy).to_string();
            Ok(Reply::Created { account, words })
        }
        Devices::Rename { name } => {
            let name = Text::try_from(name.trim())
                .map_err(|_| Refusal::Invalid { why: "a name has at most 64 bytes".into() })?;
            accounts::append(tx, AccountOp::SetProfile { name })?;
            Ok(Reply::Done)
        }
        Devices::LinkStart => pairing::start(tx),
        Devices::LinkJoin { code, device_name } => pairing::join(tx, &code, device_name),
        Devices::LinkConfirm => pairing::confirm(tx),
        Devices::LinkCancel => pairing::cancel(tx),
        Devices::Revoke { device } => revoke(tx, device),
    }
}

/// Revokes a device: in the account's log, with a cut in every topic, and with new keys
/// that it doesn't get. The card's inbox key rotates too, for it knew the old one.
fn revoke(tx: &mut Tx<'_>, device: DeviceId) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let own = accounts::devices_of(tx, account)?;
    if !own.contains(&device) {
        return Err(Refusal::NotFound { what: "device".into() }.into());
    }
    if device == me.device && own.len() == 1 {
        return Err(Refusal::NotAllowed {
            why: "this is the account's only device".into(),
        }
        .into());
    }
    accounts::append(tx, AccountOp::RevokeDevice { device })?;
    for topic in accounts::topic_ids(tx)? {
        if !topics::members(tx, topic)?.contains(&account) {
            continue;
        }
        let cut = topics::cuts_of(tx, topic, account)?.into_iter().find(|c| c.device == device);
        if let Some(cut) = cut {
            topics::operate(tx, topic, MemberOp::CutDevice { cut })?;
        } else if device != me.device {
            // It never wrote here; what it must lose is the key.
            for parcel in topics::rekey(tx, topic)? {
                let item = teahouse_protocols::inbox::InboxItem::Key(parcel.clone());
                inbox::send(tx, DeviceId(parcel.to), vec![item])?;
            }
        }
    }
    if device != me.device {
        contacts::make_card_keys(tx)?;
    }
    Ok(Reply::Done)
}
