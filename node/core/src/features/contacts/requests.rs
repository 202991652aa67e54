//! Requests for contact, both ways, until both have agreed.

use teahouse_protocols::card::VerifiedCard;
use teahouse_protocols::epoch::{GroupKeys, PairwiseHpke};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, OpId, TopicId};
use teahouse_protocols::inbox::{ContactRequest, InboxItem, open_request, seal_request};
use teahouse_protocols::membership::{History, MemberOp, Role, TopicKind};
use teahouse_protocols::seal::OpeningKey;

use super::cards::{CardUse, card_name};
use super::direct::{direct_with, hide, settle_mutual};
use super::private::{put_secret, secret};
use super::{contact, direct, edit, is_blocked, is_friend};
use crate::command::{Refusal, Reply};
use crate::engine::{accounts, inbox, mail, topics};
use crate::features::groups;
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{REQUESTS, Request, TOPICS};
use crate::tx::{Fail, Tx, capped};

/// Most requests kept, both ways.
const MAX_REQUESTS: usize = 512;

/// A stranger's request came, sealed to the card's inbox key.
pub(crate) fn request(tx: &mut Tx<'_>, sealed: &[u8]) -> Result<(), Fail> {
    let account = tx.account()?;
    let key = secret(tx, "card inbox")?
        .and_then(|b| <[u8; 32]>::try_from(b).ok())
        .map(OpeningKey::from_bytes)
        .ok_or_else(|| Fail::peer("this account has no card"))?;
    let signed = open_request(sealed, account, &key).map_err(Fail::peer)?;
    let request = signed.get();
    let them = request.account;
    if is_blocked(tx, them)? {
        return Err(Fail::peer("a request by a blocked account"));
    }
    let name = card_name(&request.secret);
    let card: Option<CardUse> = secret(tx, &name)?.and_then(|b| postcard::from_bytes(&b).ok());
    let known: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    if known.as_ref().is_some_and(|r| r.incoming && r.topic == request.welcome.topic) {
        return Ok(());
    }
    if known.is_none() && tx.count(&REQUESTS, &KeyRange::all(), MAX_REQUESTS)? >= MAX_REQUESTS {
        make_room(tx)?;
    }
    accounts::learn(tx, &request.pack, &|a| *a == them)?;
    if accounts::account_of(tx, request.from)? != Some(them)
        || !accounts::is_active(tx, request.from)?
    {
        return Err(Fail::peer("a request by a device that is not its account's"));
    }
    let mut welcome_to = None;
    let mut invited = false;
    if let Some(mut card) = card
        && card.left > 0
    {
        card.left -= 1;
        invited = true;
        welcome_to = card.welcome_to;
        let value = postcard::to_stdvec(&card).map_err(Fail::peer)?;
        put_secret(tx, &name, value)?;
        if card.left == 0 {
            mail::reopen_card(tx)?;
        }
    }
    let topic = topics::take_welcome(tx, &request.welcome, std::slice::from_ref(&key), them, true)?;
    let row = topics::row(tx, topic)?.ok_or_else(|| Fail::peer("no topic"))?;
    if row.kind != TopicKind::Direct || row.peer != Some(them) {
        return Err(Fail::peer("a request must propose a direct chat between the two"));
    }
    // What they proposed before is superseded by what they propose now.
    if let Some(r) = known.as_ref().filter(|r| r.incoming) {
        hide(tx, r.topic, true)?;
    }
    let friend = is_friend(tx, them)?;
    let asked = asked(tx, them)?;
    let stored = Request {
        incoming: true,
        name: request.name.to_string(),
        greeting: request.greeting.to_string(),
        time: request_time(tx, them)?,
        topic,
        declined: false,
        invited,
    };
    // Where both asked, what this account said stays, too.
    if known.as_ref().is_some_and(|r| !r.incoming) {
        direct::keep_greeting(tx, them)?;
    }
    tx.put(&REQUESTS, &them.0, &stored)?;
    if asked.is_some() || welcome_to.is_some() || friend {
        // Their yes to our request may have come before their own request: then the chat
        // that the two have is the one that we proposed.
        let mine = asked.or(contact(tx, them)?.topic);
        accept(tx, them, mine)?;
    }
    if invited && let Some(group) = welcome_to {
        // The card promised it; a group that cannot take the newcomer does not undo the rest.
        match groups::invite(tx, group, them) {
            Ok(()) | Err(Fail::Refusal(_)) => {}
            Err(other) => return Err(other),
        }
    }
    Ok(())
}

/// Makes room for a request: the oldest that was declined goes, else the oldest of whom
/// came without a card's secret. Those never push out who was invited, nor whom we asked.
pub(in crate::features) fn make_room(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let rows: Vec<(Vec<u8>, Request)> =
        tx.scan_typed(&REQUESTS, &KeyRange::all(), false, MAX_REQUESTS)?;
    let oldest = rows
        .into_iter()
        .filter(|(_, r)| r.incoming && (r.declined || !r.invited))
        .min_by_key(|(_, r)| (!r.declined, r.time))
        .ok_or_else(|| Fail::peer("too many requests wait for an answer"))?;
    hide(tx, oldest.1.topic, true)?;
    Ok(tx.del(&REQUESTS, &oldest.0)?)
}

/// They accepted our request.
pub(crate) fn accepted(
    tx: &mut Tx<'_>,
    them: AccountId,
    _from: DeviceId,
    topic: TopicId,
) -> Result<(), Fail> {
    let known: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    let row = topics::row(tx, topic)?;
    if row.is_none_or(|r| r.peer != Some(them)) {
        return Err(Fail::peer("accepts what was not asked"));
    }
    let asked = asked(tx, them)?.is_some();
    if known.as_ref().is_some_and(|r| !r.incoming) {
        direct::answer(tx, them)?;
    } else if !asked && !is_friend(tx, them)? {
        return Err(Fail::peer("accepts what was not asked"));
    }
    let before = contact(tx, them)?;
    if !before.friend {
        hide(tx, topic, false)?;
        edit(tx, them, |c| {
            c.friend = true;
            c.topic = Some(topic);
        })?;
        topics::welcome_own(tx, topic)?;
        // They may have kept an older chat of the two, and settled for the same.
        if let Some(older) = before.topic {
            settle_mutual(tx, them, older, topic)?;
        }
    } else if before.topic == Some(topic) {
        // Another device of ours heard it first, and the private topic told us.
        hide(tx, topic, false)?;
    }
    topics::tell_again(tx, them)?;
    tx.mem.hello_due = true;
    Ok(())
}

/// Asks the owner of a card for contact, and proposes a direct chat.
pub(super) fn ask(
    tx: &mut Tx<'_>,
    card: &VerifiedCard,
    greeting: &str,
    relay: Option<teahouse_protocols::ids::RelayId>,
) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    let card = card.card();
    let them = card.account;
    if them == account {
        return Err(Refusal::NotAllowed { why: "this is your own card".into() }.into());
    }
    if is_blocked(tx, them)? {
        let why = "you blocked them: unblock them first".into();
        return Err(Refusal::NotAllowed { why }.into());
    }
    if greeting.len() > 400 {
        return Err(Refusal::Invalid { why: "a greeting has at most 400 bytes".into() }.into());
    }
    let known: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    if let Some(request) = &known
        && request.incoming
    {
        // They asked first: this is a yes.
        let older = contact(tx, them)?.topic;
        let topic = accept(tx, them, older)?;
        return Ok(Reply::Added { account: Some(them), topic: Some(topic), relay });
    }
    if is_friend(tx, them)? {
        let topic = contact(tx, them)?.topic;
        return Ok(Reply::Added { account: Some(them), topic, relay });
    }
    // Their account's log starts with what the card proves.
    let records: Vec<_> = card
        .proof
        .iter()
        .filter_map(|r| teahouse_protocols::codec::Bytes::try_from(r.to_vec()).ok())
        .collect();
    let pack = teahouse_protocols::inbox::AccountPack {
        records: capped(records),
        prekeys: teahouse_protocols::codec::List::default(),
    };
    accounts::learn(tx, &pack, &|a| *a == them)?;
    let log = accounts::log(tx, them)?.ok_or_else(|| Fail::peer("account vanished"))?;
    if log.state().devices.get(&card.device).is_some_and(|d| d.revoked.is_some()) {
        return Err(Refusal::NotAllowed {
            why: "this card was made by a device that its owner has removed; ask for a new one"
                .into(),
        }
        .into());
    }
    // A removed device knows the keys on older cards: the newest known are asked.
    let (inbox_key, tag) =
        log.state().card.map_or((card.inbox_key, card.tag), |keys| (keys.inbox_key, keys.tag));
    let topic = match asked(tx, them)? {
        Some(topic) => topic,
        None => {
            let topic = topics::create(tx, TopicKind::Direct, History::All, Some(them))?;
            topics::operate(
                tx,
                topic,
                MemberOp::Add { account: them, role: Role::Member, history: History::All },
            )?;
            let mut row = topics::row(tx, topic)?.ok_or_else(|| Fail::peer("no topic"))?;
            row.proposed = true;
            tx.put(&TOPICS, &topic.0, &row)?;
            topic
        }
    };
    let (epoch, secret) = topics::epoch_for_sending(tx, topic)?;
    let head = topics::head(tx, epoch)?.ok_or_else(|| Fail::peer("no epoch"))?;
    let parcel =
        PairwiseHpke.parcel(&head, &secret, them.0, &inbox_key, tx.rng).map_err(Fail::peer)?;
    let welcome = topics::welcome_with(tx, topic, vec![parcel], History::All)?;
    let own_name = crate::features::chat::own_name(tx, account)?;
    let text = |s: &str| s.try_into().map_err(Fail::peer);
    let request = ContactRequest {
        version: 1,
        account,
        from: me.device,
        to: them,
        secret: card.secret.0,
        name: text(&own_name)?,
        greeting: greeting.try_into().map_err(Fail::peer)?,
        pack: accounts::pack(tx, account, &[])?,
        welcome,
    };
    let sealed = seal_request(request, &me.key, &inbox_key, tx.rng).map_err(Fail::peer)?;
    inbox::ask(tx, card.device, tag, card.secret.0, sealed, card.relays.to_vec())?;
    let row = Request {
        incoming: false,
        name: card.name.to_string(),
        greeting: greeting.to_owned(),
        time: request_time(tx, them)?,
        topic,
        declined: false,
        invited: false,
    };
    tx.put(&REQUESTS, &them.0, &row)?;
    // Whichever of our devices hears their yes can act on it.
    topics::welcome_own(tx, topic)?;
    Ok(Reply::Added { account: Some(them), topic: Some(topic), relay })
}

/// The direct chat that this account proposed to another and that awaits an answer, whichever
/// of its devices asked.
fn asked(tx: &mut Tx<'_>, them: AccountId) -> Result<Option<TopicId>, Fail> {
    let known: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    if let Some(request) = known.filter(|r| !r.incoming) {
        return Ok(Some(request.topic));
    }
    let own = tx.account()?;
    for (topic, _) in direct_with(tx, them)?.into_iter().filter(|(_, row)| row.proposed) {
        let state = topics::require(tx, topic)?;
        if state.log.get(&OpId(topic.0)).is_some_and(|first| first.get().account == own) {
            return Ok(Some(topic));
        }
    }
    Ok(None)
}

/// Says yes to a request. `mine` is the direct chat that was there before or that we
/// proposed ourselves. Returns the one that stays.
pub(super) fn accept(
    tx: &mut Tx<'_>,
    them: AccountId,
    mine: Option<TopicId>,
) -> Result<TopicId, Fail> {
    let request = require_request(tx, them)?;
    let topic = request.topic;
    hide(tx, topic, false)?;
    direct::answer(tx, them)?;
    edit(tx, them, |c| {
        c.friend = true;
        c.blocked = false;
        c.topic = Some(topic);
    })?;
    for device in accounts::devices_of(tx, them)? {
        let items = groups::own_pack_then(tx, InboxItem::Accepted(topic))?;
        inbox::send(tx, device, items)?;
    }
    // Our other devices join the chat, too.
    topics::welcome_own(tx, topic)?;
    let kept = match mine {
        Some(mine) => settle_mutual(tx, them, mine, topic)?,
        None => topic,
    };
    topics::tell_again(tx, them)?;
    tx.mem.hello_due = true;
    Ok(kept)
}

/// When a request comes: after all that was decided about this account before, though the
/// clock was set back. See [`super::direct::answered`].
fn request_time(tx: &Tx<'_>, account: AccountId) -> Result<Millis, StorageError> {
    Ok(tx.now.max(contact(tx, account)?.time.saturating_add(1)))
}

pub(super) fn require_request(tx: &Tx<'_>, account: AccountId) -> Result<Request, Fail> {
    let request: Option<Request> = tx.typed(&REQUESTS, &account.0)?;
    Ok(request
        .filter(|r| r.incoming)
        .ok_or_else(|| Refusal::NotFound { what: "request".into() })?)
}
