//! People: cards, requests, accepting, blocking, remarks; and what one's own devices share
//! in the private topic (read marks, drafts, secrets).

use rand_core::Rng;
use teahouse_crdt::segment::Entry;
use teahouse_crdt::{PrivateEntry, TypedEntry};
use teahouse_protocols::account::AccountOp;
use teahouse_protocols::card::{ContactCard, LinkSecret, VerifiedCard};
use teahouse_protocols::epoch::{GroupKeys, PairwiseHpke};
use teahouse_protocols::ids::{AccountId, DeviceId, Millis, OpId, Tag, TopicId};
use teahouse_protocols::inbox::{ContactRequest, InboxItem, open_request, seal_request};
use teahouse_protocols::link::Link;
use teahouse_protocols::mailbox::secret_hash;
use teahouse_protocols::membership::{History, MemberOp, Role, TopicKind};
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::SigningKey;

use crate::command::{Contacts, Refusal, Relays, Reply};
use crate::engine::{accounts, inbox, letters, mail, topics};
use crate::features::chat::invalid;
use crate::features::{Applied, Feature, choose, groups, next_lamport};
use crate::store::{KeyRange, ReadExt, StorageError};
use crate::tables::{
    CONTACTS, Chosen, ContactValue, DRAFTS, LAMPORT, LOG, READ_MARKS, RELAYS, REQUESTS, RelayRow,
    Request, SECRETS, SETTINGS, TOPICS, Topic,
};
use crate::tx::{Fail, Tx, capped};

pub(crate) const FEATURE: Feature = Feature {
    name: "contacts",
    kinds: &[TopicKind::Private],
    tables: &[&CONTACTS, &READ_MARKS, &SECRETS, &SETTINGS, &DRAFTS, &LAMPORT],
    apply,
};

/// Most requests kept, both ways.
const MAX_REQUESTS: usize = 512;

/// What is kept of a card that was handed out, by its secret.
#[derive(serde::Serialize, serde::Deserialize)]
struct CardUse {
    left: u32,
    welcome_to: Option<TopicId>,
}

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Contacts) -> Result<Reply, Fail> {
    match c {
        Contacts::Card { uses, welcome_to } => card(tx, uses, welcome_to),
        Contacts::RevokeCard { link } => {
            let Link::Card(card) = parse(&link)? else { return Err(not_a_card().into()) };
            put_secret(tx, &card_name(&card.card().secret.0), Vec::new())?;
            mail::reopen_card(tx)?;
            Ok(Reply::Done)
        }
        Contacts::Add { link, greeting } => match parse(&link)? {
            Link::Card(card) => ask(tx, &card, &greeting, None),
            Link::RelayInvite(invite) => {
                let relay = invite.relay.id;
                use_relay(tx, invite.relay.clone(), invite.code.0)?;
                match invite.greeter_card().map_err(Fail::peer)? {
                    Some(card) => ask(tx, &card, &greeting, Some(relay)),
                    None => Ok(Reply::Added { account: None, topic: None, relay: Some(relay) }),
                }
            }
            Link::Pair(_) => Err(not_a_card().into()),
        },
        Contacts::Accept { account } => {
            let older = contact(tx, account)?.topic;
            let topic = accept(tx, account, older)?;
            Ok(Reply::Topic { topic })
        }
        Contacts::Decline { account } => {
            let mut request = require_request(tx, account)?;
            request.declined = true;
            tx.put(&REQUESTS, &account.0, &request)?;
            hide(tx, request.topic, true)?;
            Ok(Reply::Done)
        }
        Contacts::Block { account } => edit(tx, account, |c| c.blocked = true),
        Contacts::Unblock { account } => edit(tx, account, |c| c.blocked = false),
        Contacts::Remark { account, name } => {
            if name.len() > 64 {
                return Err(Refusal::Invalid { why: "a name has at most 64 bytes".into() }.into());
            }
            edit(tx, account, |c| c.remark = name)
        }
        Contacts::Verify { account, verified } => edit(tx, account, |c| c.verified = verified),
        Contacts::Delete { account } => edit(tx, account, |c| c.friend = false),
    }
}

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

fn use_relay(
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

/// Makes the keys that stand on contact cards, and tells the account's log.
pub(crate) fn make_card_keys(tx: &mut Tx<'_>) -> Result<(), Fail> {
    let inbox_key = OpeningKey::generate(tx.rng);
    let mut seed = [0; 32];
    tx.rng.fill_bytes(&mut seed);
    let tag = Tag(SigningKey::from_bytes(&seed).verifying_key().to_bytes());
    put_secret(tx, "card inbox", inbox_key.to_bytes().to_vec())?;
    put_secret(tx, "card tag", seed.to_vec())?;
    accounts::append(tx, AccountOp::SetCard { inbox_key: inbox_key.public(), tag })?;
    tx.mem.mail_due = true;
    Ok(())
}

fn card(tx: &mut Tx<'_>, uses: u32, welcome_to: Option<TopicId>) -> Result<Reply, Fail> {
    let account = tx.account()?;
    let me = tx.me()?;
    if let Some(topic) = welcome_to
        && topics::my_role(tx, topic)? < Some(Role::Admin)
    {
        return Err(Refusal::NotAllowed {
            why: "only an admin can welcome people into the group".into(),
        }
        .into());
    }
    let mut secret = [0; 16];
    tx.rng.fill_bytes(&mut secret);
    let value = CardUse { left: uses.clamp(1, 100_000), welcome_to };
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    put_secret(tx, &card_name(&secret), value)?;
    mail::reopen_card(tx)?;
    let log = accounts::log(tx, account)?.ok_or(Refusal::NoAccount)?;
    let state = log.state();
    let keys = state.card.ok_or_else(|| Fail::peer("the account has no card keys"))?;
    let relays: Vec<_> = state.relays.iter().take(2).cloned().collect();
    let card = ContactCard {
        version: 1,
        account,
        device: me.device,
        name: state.name.clone(),
        inbox_key: keys.inbox_key,
        tag: keys.tag,
        relays: capped(relays),
        secret: LinkSecret(secret),
        proof: ContactCard::proof_for(&log, &me.device).map_err(Fail::peer)?,
    };
    let card = VerifiedCard::sign(card, &me.key).map_err(Fail::peer)?;
    Ok(Reply::Card { link: Link::Card(Box::new(card)).to_uri() })
}

/// Asks the owner of a card for contact, and proposes a direct chat.
fn ask(
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
    if greeting.len() > 400 {
        return Err(Refusal::Invalid { why: "a greeting has at most 400 bytes".into() }.into());
    }
    let known: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    if let Some(request) = &known
        && request.incoming
        && !request.declined
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
pub(super) fn make_room(tx: &mut Tx<'_>) -> Result<(), Fail> {
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

/// Whether nothing of a topic is told, asked for or served: a stranger's proposal, and the
/// direct chat with a blocked account. A chat that an equal one superseded is not quiet:
/// somebody may write in it yet.
pub(crate) fn is_quiet(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    if is_proposal(tx, topic)? {
        return Ok(true);
    }
    let peer = topics::row(tx, topic)?.and_then(|r| r.peer);
    Ok(match peer {
        Some(peer) => contact(tx, peer)?.blocked,
        None => false,
    })
}

/// Whether a stranger proposed this direct chat and nobody here said yes: unanswered,
/// declined, or pushed out by newer requests.
pub(crate) fn is_proposal(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    let Some(row) = topics::row(tx, topic)? else { return Ok(false) };
    let (true, Some(peer)) = (row.proposed, row.peer) else { return Ok(false) };
    let request: Option<Request> = tx.typed(&REQUESTS, &peer.0)?;
    Ok(row.hidden || request.is_some_and(|r| r.incoming && r.topic == topic))
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

/// Whether nobody wrote in a chat. Asked of the log, not of its rows: a rebuild makes those
/// again, one topic after the other.
fn is_unwritten(tx: &Tx<'_>, topic: TopicId) -> Result<bool, StorageError> {
    Ok(tx.first(&LOG, &topic.0)?.is_none())
}

/// All direct chats with somebody; more than one where both asked, or asked again.
fn direct_with(tx: &Tx<'_>, them: AccountId) -> Result<Vec<(TopicId, Topic)>, StorageError> {
    let rows: Vec<(Vec<u8>, Topic)> = tx.scan_typed(&TOPICS, &KeyRange::all(), false, 65_536)?;
    Ok(rows
        .into_iter()
        .filter(|(_, row)| row.peer == Some(them))
        .filter_map(|(key, row)| Some((TopicId(key.try_into().ok()?), row)))
        .collect())
}

/// There are two direct chats, for both asked: the one with the smaller id stays, on both
/// sides. The other is shown no longer, unless somebody wrote or writes in it.
fn settle_mutual(
    tx: &mut Tx<'_>,
    them: AccountId,
    mine: TopicId,
    theirs: TopicId,
) -> Result<TopicId, Fail> {
    if mine == theirs {
        return Ok(mine);
    }
    let (keep, drop) = if mine < theirs { (mine, theirs) } else { (theirs, mine) };
    let empty = is_unwritten(tx, drop)?;
    // Both agreed: neither is a proposal any longer.
    hide(tx, keep, false)?;
    hide(tx, drop, false)?;
    if empty {
        hide(tx, drop, true)?;
    }
    edit(tx, them, |c| c.topic = Some(keep))?;
    if keep == mine {
        // Our request may never reach them; this does not depend on it.
        for device in accounts::devices_of(tx, them)? {
            let welcome = topics::welcome(tx, mine, device, History::All)?;
            let items = groups::own_pack_then(tx, InboxItem::Welcome(Box::new(welcome)))?;
            inbox::send(tx, device, items)?;
        }
    }
    topics::welcome_own(tx, keep)?;
    Ok(keep)
}

fn hide(tx: &mut Tx<'_>, topic: TopicId, hidden: bool) -> Result<(), StorageError> {
    if let Some(mut row) = topics::row(tx, topic)? {
        row.hidden = hidden;
        if !hidden {
            row.proposed = false;
            // Acknowledgements were held back while it was a proposal.
            tx.mem.acks_due.insert(topic);
        }
        tx.put(&TOPICS, &topic.0, &row)?;
    }
    Ok(())
}

/// Says yes to a request. `mine` is the direct chat that was there before or that we
/// proposed ourselves. Returns the one that stays.
fn accept(tx: &mut Tx<'_>, them: AccountId, mine: Option<TopicId>) -> Result<TopicId, Fail> {
    let request = require_request(tx, them)?;
    let topic = request.topic;
    hide(tx, topic, false)?;
    tx.del(&REQUESTS, &them.0)?;
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
    crate::engine::sync::hello_all(tx)?;
    Ok(kept)
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
        tx.del(&REQUESTS, &them.0)?;
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
    crate::engine::sync::hello_all(tx)
}

/// Whether an account's invitations are taken: of contacts and of whom we asked for contact
/// (their yes may come after their invitation), unless blocked.
pub(crate) fn welcomes_from(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    let c = contact(tx, account)?;
    let asked = tx.typed::<Request>(&REQUESTS, &account.0)?.is_some_and(|r| !r.incoming);
    Ok((c.friend || asked) && !c.blocked)
}

/// Whether both agreed to be contacts.
pub(crate) fn is_friend(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    Ok(contact(tx, account)?.friend)
}

/// Whether an account is blocked here.
pub(crate) fn is_blocked(tx: &mut Tx<'_>, account: AccountId) -> Result<bool, Fail> {
    Ok(contact(tx, account)?.blocked)
}

fn contact(tx: &Tx<'_>, account: AccountId) -> Result<ContactValue, StorageError> {
    let row: Option<Chosen<ContactValue>> = tx.typed(&CONTACTS, &account.0)?;
    Ok(row.map(|r| r.value).unwrap_or_default())
}

fn edit(
    tx: &mut Tx<'_>,
    account: AccountId,
    f: impl FnOnce(&mut ContactValue),
) -> Result<Reply, Fail> {
    if tx.account()? == account || accounts::log(tx, account)?.is_none() {
        return Err(Refusal::NotFound { what: "contact".into() }.into());
    }
    let before = contact(tx, account)?;
    let mut value = before.clone();
    f(&mut value);
    // Whoever is blocked stays so since then, whatever else is changed.
    // Otherwise an answer comes after what it answers, though the clock was set back.
    if !(before.blocked && value.blocked) {
        let request: Option<Request> = tx.typed(&REQUESTS, &account.0)?;
        value.time = tx.now.max(before.time).max(request.map_or(0, |r| r.time));
    }
    let private = private_topic(tx)?;
    let lamport = next_lamport(tx, private)?;
    let value = postcard::to_stdvec(&value).map_err(Fail::peer)?;
    write(tx, PrivateEntry::Contact { account: account.0, value, lamport })
}

/// When a request comes: after all that was decided about this account before, though the
/// clock was set back. See [`answered`].
fn request_time(tx: &Tx<'_>, account: AccountId) -> Result<Millis, StorageError> {
    Ok(tx.now.max(contact(tx, account)?.time.saturating_add(1)))
}

fn require_request(tx: &Tx<'_>, account: AccountId) -> Result<Request, Fail> {
    let request: Option<Request> = tx.typed(&REQUESTS, &account.0)?;
    Ok(request
        .filter(|r| r.incoming)
        .ok_or_else(|| Refusal::NotFound { what: "request".into() })?)
}

/// The private topic of this account.
pub(crate) fn private_topic(tx: &mut Tx<'_>) -> Result<TopicId, Fail> {
    tx.me()?.private.ok_or_else(|| {
        Refusal::NotAllowed { why: "this device is still taking over the account".into() }.into()
    })
}

/// Writes one entry into the private topic.
pub(crate) fn write(tx: &mut Tx<'_>, entry: PrivateEntry) -> Result<Reply, Fail> {
    let topic = private_topic(tx)?;
    letters::append(tx, topic, &[], |seq, _| Ok(vec![entry.to_entry(seq).map_err(invalid)?]))?;
    Ok(Reply::Done)
}

fn put_secret(tx: &mut Tx<'_>, name: &str, value: Vec<u8>) -> Result<(), Fail> {
    let topic = private_topic(tx)?;
    let lamport = next_lamport(tx, topic)?;
    write(tx, PrivateEntry::Secret { name: name.to_owned(), value, lamport })?;
    Ok(())
}

fn secret(tx: &Tx<'_>, name: &str) -> Result<Option<Vec<u8>>, StorageError> {
    let row: Option<Chosen<Vec<u8>>> = tx.typed(&SECRETS, name.as_bytes())?;
    Ok(row.map(|r| r.value).filter(|v| !v.is_empty()))
}

/// The key of the card's tag.
pub(crate) fn card_tag_key(tx: &Tx<'_>) -> Result<Option<SigningKey>, StorageError> {
    Ok(secret(tx, "card tag")?
        .and_then(|b| <[u8; 32]>::try_from(b).ok())
        .map(|seed| SigningKey::from_bytes(&seed)))
}

/// Hashes of the invite secrets in force, at most 32, as the relay gets them.
pub(crate) fn card_secret_hashes(tx: &Tx<'_>) -> Result<Vec<[u8; 32]>, StorageError> {
    let rows: Vec<(Vec<u8>, Chosen<Vec<u8>>)> =
        tx.scan_typed(&SECRETS, &KeyRange::prefix(CARD_PREFIX.as_bytes()), true, 4_096)?;
    let mut newest: Vec<(u64, [u8; 32])> = Vec::new();
    for (key, row) in rows {
        let used: Option<CardUse> = postcard::from_bytes(&row.value).ok();
        if used.is_none_or(|u| u.left == 0) {
            continue;
        }
        let hex = key.get(CARD_PREFIX.len()..).unwrap_or_default();
        if let Some(secret) = unhex(hex) {
            newest.push((row.lamport, secret_hash(&secret)));
        }
    }
    newest.sort_unstable_by(|a, b| b.cmp(a));
    newest.truncate(32);
    Ok(newest.into_iter().map(|(_, h)| h).collect())
}

const CARD_PREFIX: &str = "c/";

/// A secret's name: the prefix and 15 of its bytes, in base64 to fit 32 bytes.
fn card_name(secret: &[u8; 16]) -> String {
    let mut name = CARD_PREFIX.to_owned();
    name.push_str(&data_encoding::BASE64URL_NOPAD.encode(secret));
    name
}

fn unhex(encoded: &[u8]) -> Option<[u8; 16]> {
    data_encoding::BASE64URL_NOPAD.decode(encoded).ok()?.try_into().ok()
}

fn parse(link: &str) -> Result<Link, Fail> {
    Link::parse(link).map_err(|e| Refusal::Invalid { why: e.to_string() }.into())
}

fn not_a_card() -> Refusal {
    Refusal::Invalid { why: "this link is no contact card".into() }
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    let Ok(entry) = PrivateEntry::from_entry(change.seq, entry) else { return Ok(()) };
    match entry {
        PrivateEntry::Contact { account, value, lamport } => {
            let Ok(value) = postcard::from_bytes::<ContactValue>(&value) else { return Ok(()) };
            choose(tx, &CONTACTS, &account, change, lamport, value)?;
            answered(tx, AccountId(account))
        }
        PrivateEntry::ReadMark { topic: of, upto_time, lamport } => {
            choose(tx, &READ_MARKS, &of, change, lamport, upto_time)
        }
        PrivateEntry::Secret { name, value, lamport } => {
            choose(tx, &SECRETS, name.as_bytes(), change, lamport, value)
        }
        PrivateEntry::Draft { topic: of, text, lamport } => {
            choose(tx, &DRAFTS, &of, change, lamport, text)
        }
        PrivateEntry::Setting { name, value, lamport } => {
            choose(tx, &SETTINGS, name.as_bytes(), change, lamport, value)
        }
    }
}

/// Another device of this account knows that both are in a direct chat by their will.
pub(crate) fn agreed(tx: &mut Tx<'_>, topic: TopicId) -> Result<(), StorageError> {
    let Some(row) = topics::row(tx, topic)? else { return Ok(()) };
    if row.proposed {
        hide(tx, topic, false)?;
    }
    match row.peer {
        Some(peer) => answered(tx, peer),
        None => Ok(()),
    }
}

/// One of this account's devices said yes, or heard it: what was proposed is a chat, on every
/// device, and an empty one beside the chat that the two settled for is not shown.
fn answered(tx: &mut Tx<'_>, them: AccountId) -> Result<(), StorageError> {
    let c = contact(tx, them)?;
    let Some(kept) = c.topic else { return Ok(()) };
    let request: Option<Request> = tx.typed(&REQUESTS, &them.0)?;
    // A yes answers what was asked before it: told again by a replay, it must not answer
    // what was asked since.
    if c.friend && request.is_some_and(|r| r.topic == kept && r.time <= c.time) {
        tx.del(&REQUESTS, &them.0)?;
    }
    for (topic, row) in direct_with(tx, them)? {
        // Acknowledgements were held back while they were blocked.
        tx.mem.acks_due.insert(topic);
        let agreed = c.friend && row.proposed && (topic == kept || !is_proposal(tx, topic)?);
        // The one that stays is shown, whatever was settled before.
        if agreed || topic == kept && !row.proposed && row.hidden {
            hide(tx, topic, false)?;
        }
        let proposed = topics::row(tx, topic)?.is_none_or(|r| r.proposed);
        if topic != kept && !proposed && is_unwritten(tx, topic)? {
            hide(tx, topic, true)?;
        }
    }
    Ok(())
}
