//! Groups: create, invite, remove, leave, roles, title, notice, nicknames.
//!
//! Who is in is the engine's (membership); this feature's rows are the shared fields.

use teahouse_crdt::TypedEntry;
use teahouse_crdt::chat::ChatEntry;
use teahouse_crdt::segment::Entry;
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::inbox::InboxItem;
use teahouse_protocols::membership::{History, MemberOp, Role, TopicKind};

use crate::command::{Groups, Refusal, Reply};
use crate::engine::{accounts, inbox, topics};
use crate::features::chat::{field_key, write};
use crate::features::{Applied, Feature, choose, contacts, next_lamport};
use crate::store::StorageError;
use crate::tables::{CHANGES, ChangeRow, FIELDS, Field, LAMPORT, NICKNAMES, message_key, pair_key};
use crate::tx::{Fail, Tx, capped};

pub(crate) const FEATURE: Feature = Feature {
    name: "groups",
    kinds: &[TopicKind::Direct, TopicKind::Group],
    apply,
    projects: &[&FIELDS, &CHANGES, &NICKNAMES, &LAMPORT],
    ..Feature::NONE
};

/// Decides a command.
pub(crate) fn command(tx: &mut Tx<'_>, c: Groups) -> Result<Reply, Fail> {
    match c {
        Groups::Create { title, members, share_history } => {
            require_title(&title)?;
            let history = if share_history { History::All } else { History::FromJoining };
            for member in &members {
                require_contact(tx, *member)?;
            }
            let topic = topics::create(tx, TopicKind::Group, history, None)?;
            let lamport = next_lamport(tx, topic)?;
            for member in members {
                invite(tx, topic, member)?;
            }
            write(tx, topic, ChatEntry::Title { text: title, lamport })?;
            // One's own other devices are in, too.
            topics::welcome_own(tx, topic)?;
            Ok(Reply::Topic { topic })
        }
        Groups::Invite { topic, account } => {
            require_contact(tx, account)?;
            invite(tx, topic, account)?;
            Ok(Reply::Done)
        }
        Groups::Remove { topic, account } => {
            require_group(tx, topic)?;
            let cuts = topics::cuts_of(tx, topic, account)?;
            topics::operate(tx, topic, MemberOp::Remove { account, cuts: capped(cuts) })?;
            Ok(Reply::Done)
        }
        Groups::Leave { topic } => {
            require_group(tx, topic)?;
            let account = tx.account()?;
            let cuts = topics::cuts_of(tx, topic, account)?;
            topics::operate(tx, topic, MemberOp::Leave { cuts: capped(cuts) })?;
            Ok(Reply::Done)
        }
        Groups::SetRole { topic, account, role } => {
            require_group(tx, topic)?;
            topics::operate(tx, topic, MemberOp::SetRole { account, role })?;
            Ok(Reply::Done)
        }
        Groups::ShareHistory { topic, share } => {
            require_group(tx, topic)?;
            let history = if share { History::All } else { History::FromJoining };
            topics::operate(tx, topic, MemberOp::SetHistory { history })?;
            Ok(Reply::Done)
        }
        Groups::Rename { topic, title } => {
            require_title(&title)?;
            require_group(tx, topic)?;
            let lamport = next_lamport(tx, topic)?;
            write(tx, topic, ChatEntry::Title { text: title, lamport })
        }
        Groups::Notice { topic, text } => {
            require_group(tx, topic)?;
            if topics::my_role(tx, topic)? < Some(Role::Admin) {
                return Err(
                    Refusal::NotAllowed { why: "only an admin sets the notice".into() }.into()
                );
            }
            let lamport = next_lamport(tx, topic)?;
            write(tx, topic, ChatEntry::Notice { text, lamport })
        }
        Groups::Nickname { topic, name } => {
            require_group(tx, topic)?;
            let lamport = next_lamport(tx, topic)?;
            write(tx, topic, ChatEntry::Nickname { text: name, lamport })
        }
    }
}

/// Adds an account, and seals a welcome to each of its devices.
pub(crate) fn invite(tx: &mut Tx<'_>, topic: TopicId, account: AccountId) -> Result<(), Fail> {
    let state = require_group(tx, topic)?;
    let grant = state.now().history;
    topics::operate(tx, topic, MemberOp::Add { account, role: Role::Member, history: grant })?;
    // The joiner's first epoch: under "from joining" nothing older is ever given to it.
    let parcels = topics::rekey(tx, topic)?;
    let joiner = accounts::devices_of(tx, account)?;
    for device in topics::devices(tx, topic)? {
        if joiner.contains(&device) {
            let welcome = topics::welcome(tx, topic, device, grant)?;
            let items = own_pack_then(tx, InboxItem::Welcome(Box::new(welcome)))?;
            inbox::send(tx, device, items)?;
        } else if let Some(p) = parcels.iter().find(|p| p.to == device.0) {
            // The members' first need is to know who came: its devices and prekeys.
            let pack = accounts::pack(tx, account, &[])?;
            let items = vec![own_account(tx)?, InboxItem::Account(pack), InboxItem::Key(p.clone())];
            inbox::send(tx, device, items)?;
        }
    }
    Ok(())
}

fn own_account(tx: &mut Tx<'_>) -> Result<InboxItem, Fail> {
    let account = tx.account()?;
    Ok(InboxItem::Account(accounts::pack(tx, account, &[])?))
}

/// One's own account first, so that the recipient knows who speaks.
pub(crate) fn own_pack_then(tx: &mut Tx<'_>, item: InboxItem) -> Result<Vec<InboxItem>, Fail> {
    Ok(vec![own_account(tx)?, item])
}

/// A title is what a group is found by.
fn require_title(title: &str) -> Result<(), Fail> {
    if title.trim().is_empty() {
        let why = "a group's title has at least one letter".into();
        return Err(Refusal::Invalid { why }.into());
    }
    Ok(())
}

fn require_contact(tx: &mut Tx<'_>, account: AccountId) -> Result<(), Fail> {
    if contacts::is_friend(tx, account)? {
        return Ok(());
    }
    Err(Refusal::NotAllowed { why: "only contacts can be invited".into() }.into())
}

fn require_group(
    tx: &mut Tx<'_>,
    topic: TopicId,
) -> Result<std::sync::Arc<crate::tx::TopicState>, Fail> {
    let state = topics::require(tx, topic)?;
    if state.now().kind == TopicKind::Group {
        return Ok(state);
    }
    Err(Refusal::NotAllowed { why: "this chat is no group".into() }.into())
}

fn apply(tx: &mut Tx<'_>, change: &Applied<'_>, entry: &Entry) -> Result<(), StorageError> {
    let Ok(entry) = ChatEntry::from_entry(change.seq, entry) else { return Ok(()) };
    let (field, text, lamport) = match entry {
        ChatEntry::Title { text, lamport } => (Field::Title, text, lamport),
        // Who was no admin when writing sets no notice, on every replica alike.
        ChatEntry::Notice { text, lamport } if change.role >= Role::Admin => {
            (Field::Notice, text, lamport)
        }
        ChatEntry::Nickname { text, lamport } => {
            let key = pair_key(&change.topic.0, &change.account.0);
            return choose(tx, &NICKNAMES, &key, change, lamport, text);
        }
        _ => return Ok(()),
    };
    set_field(tx, change, field, lamport, text)
}

/// Takes in that somebody set a shared field of a chat: who set what when is told, too.
pub(crate) fn set_field(
    tx: &mut Tx<'_>,
    change: &Applied<'_>,
    field: Field,
    lamport: u64,
    text: String,
) -> Result<(), StorageError> {
    let row = ChangeRow { account: change.account, field: field as u8, text: text.clone() };
    tx.put(&CHANGES, &message_key(change.topic, change.time, change.id()), &row)?;
    choose(tx, &FIELDS, &field_key(change.topic, field), change, lamport, text)
}
