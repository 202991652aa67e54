//! Which relays this account uses.

use teahouse_protocols::account::AccountOp;
use teahouse_protocols::link::Link;

use super::parse;
use crate::command::{Refusal, Relays, Reply};
use crate::engine::accounts;
use crate::tables::{RELAYS, RelayRow};
use crate::tx::{Fail, Tx, capped};

/// Decides a command about relays.
pub(crate) fn relays(tx: &mut Tx<'_>, c: Relays) -> Result<Reply, Fail> {
    match c {
        Relays::Use { link } => {
            let Link::RelayInvite(invite) = parse(&link)? else {
                return Err(
                    Refusal::Invalid { why: "this is no relay's invite link".into() }.into()
                );
            };
            let relay = invite.relay.id;
            use_relay(tx, invite.relay, invite.code.0)?;
            Ok(Reply::Added { account: None, topic: None, relay: Some(relay) })
        }
        Relays::Forget { relay } => {
            let account = tx.account()?;
            let log = accounts::log(tx, account)?.ok_or(Refusal::NoAccount)?;
            let mut list: Vec<_> = log.state().relays.to_vec();
            let before = list.len();
            list.retain(|r| r.id != relay);
            if list.len() == before {
                return Err(Refusal::NotFound { what: "relay".into() }.into());
            }
            accounts::append(tx, AccountOp::SetRelays { relays: capped(list) })?;
            tx.mem.mail_all = true;
            Ok(Reply::Done)
        }
    }
}

pub(super) fn use_relay(
    tx: &mut Tx<'_>,
    relay: teahouse_protocols::account::RelayAddr,
    code: [u8; 16],
) -> Result<(), Fail> {
    let account = tx.account()?;
    let id = relay.id;
    let log = accounts::log(tx, account)?.ok_or(Refusal::NoAccount)?;
    let mut list: Vec<_> = log.state().relays.to_vec();
    if list.len() >= 8 {
        return Err(Refusal::Limit { what: "relays".into(), max: 8 }.into());
    }
    list.retain(|r| r.id != id);
    list.push(relay);
    let mut row: RelayRow = tx.typed(&RELAYS, &id.0)?.unwrap_or_default();
    row.code = Some(code);
    tx.put(&RELAYS, &id.0, &row)?;
    accounts::append(tx, AccountOp::SetRelays { relays: capped(list) })?;
    tx.mem.mail_all = true;
    tx.mem.mail_due = true;
    Ok(())
}
