//! What each fuzz target does with its bytes. Shared by the fuzz crate
//! (`protocols/fuzz`) and by the stable test that replays the corpora (`corpora.rs`).
//!
//! Every body takes bytes as a stranger could send them, goes as deep as a receiver would,
//! and panics when something that must hold doesn't: above all, that bytes which are
//! accepted are the only spelling of what they mean.

#![allow(clippy::unwrap_used)]

mod logs;
mod pay;

use std::fmt::Debug;

use teahouse_protocols::account::{AccountLog, AccountRecord};
use teahouse_protocols::card::{ContactCard, VerifiedCard};
use teahouse_protocols::codec::{Wire, decode, encode};
use teahouse_protocols::cursor::Cursor;
use teahouse_protocols::envelope::{Envelope, open_body, sealed_hash};
use teahouse_protocols::epoch::{EpochHead, EpochSecret, GroupKeys, PairwiseHpke, Parcel};
use teahouse_protocols::functions::{Call, CallFrame, MAX_CALL_LIFE};
use teahouse_protocols::ids::{AccountId, DeviceId, RelayId, Tag};
use teahouse_protocols::inbox::{
    AccountPack, ContactRequest, InboxItem, InboxMessage, Letter, Welcome, message_prekey,
    open_message, open_request,
};
use teahouse_protocols::link::Link;
use teahouse_protocols::mailbox::{
    Reply, Request, Right, TopicMail, check_open, check_read, check_write, open_topic_mail,
};
use teahouse_protocols::membership::{MembershipLog, MembershipRecord};
use teahouse_protocols::package::{
    MAX_CONTENT, MAX_PAGES, Manifest, Package, ProgramFrame, VerifiedPackage,
};
use teahouse_protocols::pairing::{PairFrame, PairNew, PairOld};
use teahouse_protocols::prekey::PrekeyBundle;
use teahouse_protocols::seal::OpeningKey;
use teahouse_protocols::sign::{Signable, Signed, SigningKey};
use teahouse_protocols::sync::Frame;

use self::logs::{account_log, membership_log};
use self::pay::{pay_form, pay_receipt, pay_reply, pay_request};

/// A target's name and what it does.
pub(crate) type Target = (&'static str, fn(&[u8]));

/// Every target. The fuzz crate has a binary for each, the corpus a folder.
pub(crate) const TARGETS: &[Target] = &[
    ("account_log", account_log),
    ("account_record", account_record),
    ("call_frame", call_frame),
    ("contact_card", contact_card),
    ("contact_request", contact_request),
    ("cursor", cursor),
    ("envelope", envelope),
    ("epoch", epoch),
    ("inbox_message", inbox_message),
    ("link", link),
    ("mailbox_reply", mailbox_reply),
    ("mailbox_request", mailbox_request),
    ("membership_log", membership_log),
    ("membership_record", membership_record),
    ("pair_frame", pair_frame),
    ("pay_form", pay_form),
    ("pay_receipt", pay_receipt),
    ("pay_reply", pay_reply),
    ("pay_request", pay_request),
    ("prekey_bundle", prekey_bundle),
    ("program_frame", program_frame),
    ("program_package", program_package),
    ("sync_frame", sync_frame),
    ("topic_mail", topic_mail),
];

/// Runs the target of that name.
#[allow(dead_code, reason = "used by the fuzz crate only")]
pub(crate) fn run(name: &str, data: &[u8]) {
    let (_, body) = TARGETS.iter().find(|(n, _)| *n == name).expect("a known target");
    body(data);
}

/// The value that the bytes are, if any, after checking that no others are it.
fn plain<T: Wire + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    let value = decode::<T>(data).ok()?;
    assert!(data.len() <= T::MAX_BYTES);
    assert_eq!(encode(&value), data, "a second spelling");
    // Printing is part of receiving: refused values are logged.
    let _ = format!("{value:?}");
    Some(value)
}

/// The signed value that the bytes are, if any. Signatures can't be guessed, so the bytes
/// are tried as a payload too.
fn signed<T: Signable + PartialEq + Debug>(data: &[u8]) -> Option<T> {
    if let Ok(signed) = Signed::<T>::from_bytes(data) {
        assert_eq!(signed.bytes(), data);
        assert_eq!(Some(signed.get()), plain::<T>(&encode(signed.get())).as_ref());
        return Some(plain::<T>(&encode(signed.get())).unwrap());
    }
    plain(data)
}

fn secret() -> EpochSecret {
    EpochSecret::from_bytes([7; 32])
}

fn key(n: u8) -> SigningKey {
    SigningKey::from_bytes(&[n; 32])
}

fn device(n: u8) -> DeviceId {
    DeviceId(key(n).verifying_key().to_bytes())
}

fn link(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let Ok(link) = Link::parse(text) else { return };
    assert_eq!(link.to_uri(), text.trim().to_ascii_lowercase(), "a second spelling");
    for again in [link.to_uri(), link.to_qr_text()] {
        assert_eq!(Link::parse(&again).unwrap(), link);
    }
}

fn account_record(data: &[u8]) {
    let Some(record) = signed::<AccountRecord>(data) else { return };
    let _ = record.verify_consent();
    let _ = (record.grants(), record.ends());
    if let Ok(record) = Signed::from_bytes(data)
        && let Ok(log) = AccountLog::open(record)
    {
        assert_eq!(log.records().count(), 1);
    }
}

fn membership_record(data: &[u8]) {
    signed::<MembershipRecord>(data);
    if let Ok(record) = Signed::from_bytes(data)
        && let Ok(log) = MembershipLog::new(record)
    {
        let now = log.evaluate(&|_, _| true);
        assert_eq!(now.membership().members.len(), 1);
    }
}

fn prekey_bundle(data: &[u8]) {
    if let Some(bundle) = signed::<PrekeyBundle>(data) {
        assert!(!bundle.replaces(&bundle));
        let _ = bundle.prekey_id();
    }
}

fn call_frame(data: &[u8]) {
    if let Some(CallFrame::Call { call, .. }) = plain(data)
        && let Some(call) = signed::<Call>(&call)
    {
        assert!(call.expires > call.made && call.expires - call.made <= MAX_CALL_LIFE);
    }
}

fn program_frame(data: &[u8]) {
    if let Some(ProgramFrame::Offer { manifest, .. }) = plain(data) {
        program_manifest(&manifest);
    }
}

fn program_package(data: &[u8]) {
    program_manifest(data);
    plain::<Package>(data);
    if let Ok(package) = VerifiedPackage::from_bytes(data) {
        assert_eq!(package.to_bytes().unwrap(), data, "a second spelling");
    }
}

fn program_manifest(data: &[u8]) {
    let Some(manifest) = signed::<Manifest>(data) else { return };
    let all: usize = manifest.all_pages().iter().map(|(_, size)| size).sum();
    assert!(all <= MAX_CONTENT && manifest.all_pages().len() <= MAX_PAGES);
    assert!(manifest.files.iter().all(|f| manifest.file(&f.path) == Some(f)));
}

fn contact_card(data: &[u8]) {
    if let Some(card) = signed::<ContactCard>(data) {
        let _ = card.verify_proof();
    }
    if let Ok(card) = VerifiedCard::from_bytes(data) {
        let link = Link::Card(Box::new(card));
        assert_eq!(Link::parse(&link.to_uri()).unwrap(), link);
    }
}

fn envelope(data: &[u8]) {
    let Ok(envelope) = Envelope::from_bytes(data) else { return };
    assert_eq!(envelope.bytes(), data);
    let _ = envelope.verify();
    if let Ok(opened) = envelope.open(&secret()) {
        for key in &opened.body_keys {
            let _ = open_body(key, data);
        }
    }
}

fn cursor(data: &[u8]) {
    signed::<Cursor>(data);
}

fn epoch(data: &[u8]) {
    signed::<EpochHead>(data);
    if let Some(p) = plain::<Parcel>(data) {
        parcel(&p);
    }
}

fn parcel(parcel: &Parcel) {
    if let Ok((head, secret)) = PairwiseHpke.open(parcel, &OpeningKey::from_bytes([0x44; 32])) {
        assert_eq!(secret.commitment(), head.get().commitment);
    }
}

fn inbox_message(data: &[u8]) {
    let _ = message_prekey(data);
    let recipient = OpeningKey::from_bytes([0x44; 32]);
    if let Ok(opened) = open_message(data, device(2), &recipient) {
        assert_eq!(opened.get().to, device(2));
        items(opened.get());
    }
    if let Some(message) = signed::<InboxMessage>(data) {
        items(&message);
    }
}

fn items(message: &InboxMessage) {
    for item in &message.items {
        match item {
            InboxItem::Account(p) => pack(p),
            InboxItem::Key(p) => parcel(p),
            InboxItem::Welcome(w) => welcome(w),
            InboxItem::Ops(_, ops) => ops.iter().for_each(|op| membership_record(op)),
            InboxItem::Letters(all) => letters(all),
            InboxItem::Cursor(c) => cursor(c),
            InboxItem::Accepted(_) => {}
        }
    }
}

fn contact_request(data: &[u8]) {
    let card = OpeningKey::from_bytes([0x45; 32]);
    let _ = open_request(data, AccountId([0xac; 32]), &card);
    if let Some(request) = signed::<ContactRequest>(data) {
        pack(&request.pack);
        welcome(&request.welcome);
    }
}

fn pack(pack: &AccountPack) {
    let records = pack.records.iter().filter_map(|r| Signed::from_bytes(r).ok());
    if let Ok(log) = AccountLog::from_records(records) {
        let active: Vec<DeviceId> = log.state().active_devices().copied().collect();
        assert!(active.iter().all(|d| log.proof_of(d).is_some()));
    }
    pack.prekeys.iter().for_each(|p| prekey_bundle(p));
}

fn welcome(welcome: &Welcome) {
    let records = welcome.records.iter().filter_map(|r| Signed::from_bytes(r).ok());
    if let Ok(log) = MembershipLog::from_records(welcome.topic, records) {
        let _ = log.evaluate(&|_, _| true);
    }
    welcome.parcels.iter().for_each(parcel);
    welcome.accounts.iter().for_each(pack);
}

fn letters(letters: &[Letter]) {
    for letter in letters {
        envelope(&letter.envelope);
        for body in &letter.bodies {
            let _ = sealed_hash(body);
        }
    }
}

fn sync_frame(data: &[u8]) {
    match plain::<Frame>(data) {
        Some(Frame::Account(p)) => pack(&p),
        Some(Frame::Ops(_, ops)) => ops.iter().for_each(|op| membership_record(op)),
        Some(Frame::Want(_, runs)) => {
            assert!(runs.iter().all(|r| r.from > 0 && r.to > 0));
        }
        Some(Frame::Page { letters: l, .. } | Frame::Push(_, l)) => letters(&l),
        Some(Frame::Keys(parcels)) => parcels.iter().for_each(parcel),
        Some(Frame::Cursor(c)) => cursor(&c),
        Some(Frame::Inbox(sealed)) => inbox_message(&sealed),
        Some(Frame::Pair(frame)) => pair_frame(&frame),
        _ => {}
    }
}

fn mailbox_request(data: &[u8]) {
    let relay = RelayId(key(90).verifying_key().to_bytes());
    match plain::<Request>(data) {
        Some(Request::Open { tag, kind, proof, .. }) => {
            let _ = check_open(tag, relay, &kind, &proof);
        }
        Some(Request::Deposit { tag, items, right: Right::Member(proof) }) => {
            let _ = check_write(tag, relay, &items, &proof);
        }
        Some(Request::Fetch { reads, .. }) => {
            for read in &reads {
                let _ = check_read(read.tag, relay, &[0xc4; 32], &read.proof);
            }
        }
        _ => {}
    }
}

fn mailbox_reply(data: &[u8]) {
    if let Some(Reply::Items { items, .. }) = plain::<Reply>(data) {
        for (tag, _, sealed) in &items {
            let _ = open_topic_mail(sealed, &secret(), *tag);
            let _ = message_prekey(sealed);
        }
    }
}

fn topic_mail(data: &[u8]) {
    let tag: Tag = secret().tag(2_800);
    for mail in [plain::<TopicMail>(data), open_topic_mail(data, &secret(), tag).ok()] {
        match mail {
            Some(TopicMail::Envelope(e)) => envelope(&e),
            Some(TopicMail::Body(b)) => {
                let _ = sealed_hash(&b);
            }
            Some(TopicMail::Cursor(c)) => cursor(&c),
            Some(TopicMail::Op(op)) => membership_record(&op),
            None => {}
        }
    }
}

fn pair_frame(data: &[u8]) {
    let Some(frame) = plain::<PairFrame>(data) else { return };
    // At each side, first thing and after each honest step.
    let account = AccountId([0xac; 32]);
    for steps in 0..3 {
        let mut old = PairOld::new(device(1), account, &mut logs::rng(0x77));
        let code = old.code(Vec::new().try_into().unwrap());
        let (mut new, hello) = PairNew::new(&code, device(2), &mut logs::rng(0x78));
        let mut burnt = false;
        if steps > 0 {
            old.receive(&device(2), &hello).unwrap();
        }
        if steps > 1 {
            burnt = old.receive(&device(2), &PairFrame::Abort).is_err();
        }
        let first = old.receive(&device(2), &frame).is_err();
        assert!(first || !burnt);
        // What was refused stays refused.
        assert!(!first || old.receive(&device(2), &hello).is_err());
        if new.receive(&device(1), &frame, &key(2)).is_err() {
            new.confirm(true).unwrap_err();
        }
    }
}
