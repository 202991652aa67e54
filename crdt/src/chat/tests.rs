use proptest::prelude::*;

use super::*;
use crate::segment::{Entry, MAX_KEY_BYTES};
use crate::tests::hex;

fn target() -> impl Strategy<Value = MessageRef> {
    (0u8..3, 0u64..4).prop_map(|(d, seq)| MessageRef { device: [d; 32], seq })
}

fn message() -> impl Strategy<Value = Message> {
    (
        any::<[u8; 32]>(),
        proptest::option::of(target()),
        proptest::collection::btree_set(any::<[u8; 32]>(), 0..4),
        any::<bool>(),
        proptest::option::of(1u32..),
    )
        .prop_map(|(body, reply_to, mentions, forwarded, expires_after)| Message {
            body,
            reply_to,
            mentions: mentions.into_iter().collect(),
            forwarded,
            expires_after,
        })
}

/// Any entry; few targets and Lamport numbers, so that they meet.
pub(crate) fn chat_entry() -> impl Strategy<Value = ChatEntry> {
    let lamport = 0u64..5;
    prop_oneof![
        3 => message().prop_map(ChatEntry::Message),
        1 => message().prop_map(ChatEntry::Album),
        2 => (target(), "[👍🍵❤]", any::<bool>(), lamport.clone()).prop_map(
            |(target, emoji, on, lamport)| ChatEntry::Reaction { target, emoji, on, lamport }
        ),
        1 => target().prop_map(|target| ChatEntry::Recall { target }),
        1 => (".{0,20}", lamport.clone()).prop_map(|(text, lamport)| ChatEntry::Title { text, lamport }),
        1 => (".{0,20}", lamport.clone()).prop_map(|(text, lamport)| ChatEntry::Notice { text, lamport }),
        1 => (".{0,8}", lamport.clone()).prop_map(|(text, lamport)| ChatEntry::Nickname { text, lamport }),
        1 => (any::<u32>(), lamport.clone()).prop_map(|(seconds, lamport)| ChatEntry::Timer { seconds, lamport }),
        1 => (0u8..2, "[ab]", any::<Vec<u8>>(), lamport).prop_map(
            |(app, key, value, lamport)| ChatEntry::State { app: [app; 32], key, value, lamport }
        ),
    ]
}

fn text_entry(n: usize, make: impl Fn(String) -> ChatEntry) -> Result<Entry, EntryError> {
    make("x".repeat(n)).to_entry(1)
}

proptest! {
    #[test]
    fn entries_come_back(entry in chat_entry(), seq in 0u64..1000) {
        let wire = entry.to_entry(seq).unwrap();
        prop_assert_eq!(ChatEntry::from_entry(seq, &wire).unwrap(), entry);
    }

    #[test]
    fn one_spelling(entry in chat_entry(), at: prop::sample::Index, to: u8) {
        let mut wire = entry.to_entry(7).unwrap();
        let at = at.index(wire.value.len());
        wire.value[at] = to;
        if let Ok(read) = ChatEntry::from_entry(7, &wire) {
            prop_assert_eq!(read.to_entry(7).unwrap(), wire);
        }
    }

    #[test]
    fn random_values_never_panic(value in proptest::collection::vec(any::<u8>(), 0..200)) {
        for key in ["title", "m/-", ""] {
            let wire = Entry { key: key.into(), value: value.clone() };
            let _ = ChatEntry::from_entry(0, &wire);
        }
    }
}

#[test]
fn keys() {
    let state = |app: u8, key: &str| {
        let (app, key) = ([app; 32], key.to_owned());
        ChatEntry::State { app, key, value: vec![1], lamport: 1 }.key(9)
    };
    assert_eq!(state(1, "a"), state(1, "a"));
    assert!(state(1, "a") != state(1, "b") && state(1, "a") != state(2, "a"));
    assert!(state(1, &"k".repeat(MAX_STATE_KEY_BYTES)).len() <= MAX_KEY_BYTES);
    let target = MessageRef { device: [255; 32], seq: u64::MAX };
    let long =
        ChatEntry::Reaction { target, emoji: "e".repeat(MAX_EMOJI_BYTES), on: true, lamport: 1 };
    assert!(long.key(1).len() <= MAX_KEY_BYTES);
    let message = ChatEntry::Message(Message {
        body: [0; 32],
        reply_to: None,
        mentions: vec![],
        forwarded: false,
        expires_after: None,
    });
    let keys: Vec<_> = [0, 1, 63, 64, 5000].map(|n| message.key(n)).into();
    assert_eq!(keys, ["m/-", "m/00", "m/0z", "m/10-", "m/20D7"].map(str::to_owned));
    assert!(keys.is_sorted());
    assert_eq!(message_seq("m/1D7"), Some(5000 % 4096));
    assert_eq!(message_seq("title"), None);
}

/// The wire form of every kind is fixed for ever.
#[test]
fn vectors() {
    let target = MessageRef { device: [1; 32], seq: 300 };
    let ones = "01".repeat(32);
    let cases = [
        (
            ChatEntry::Message(Message {
                body: [1; 32],
                reply_to: Some(target),
                mentions: vec![[1; 32]],
                forwarded: true,
                expires_after: Some(60),
            }),
            format!("00{ones}01{ones}ac0201{ones}01013c"),
        ),
        (
            ChatEntry::Reaction { target, emoji: "a".into(), on: true, lamport: 2 },
            format!("01{ones}ac0201610102"),
        ),
        (ChatEntry::Recall { target }, format!("02{ones}ac02")),
        (ChatEntry::Title { text: "T".into(), lamport: 2 }, "03015402".into()),
        (ChatEntry::Notice { text: "T".into(), lamport: 2 }, "04015402".into()),
        (ChatEntry::Nickname { text: "T".into(), lamport: 2 }, "05015402".into()),
        (ChatEntry::Timer { seconds: 300, lamport: 2 }, "06ac0202".into()),
        (
            ChatEntry::Album(Message {
                body: [1; 32],
                reply_to: None,
                mentions: Vec::new(),
                forwarded: false,
                expires_after: None,
            }),
            format!("07{ones}00000000"),
        ),
        (
            ChatEntry::State { app: [1; 32], key: "a".into(), value: vec![9], lamport: 2 },
            format!("08{ones}0161010902"),
        ),
    ];
    assert_eq!(cases.len(), usize::from(ChatEntry::VARIANTS));
    for (entry, expected) in cases {
        let wire = entry.to_entry(5).unwrap();
        assert_eq!(hex(&wire.value), expected, "{entry:?}");
    }
}

#[test]
fn bounds() {
    let title = |text| ChatEntry::Title { text, lamport: 1 };
    let notice = |text| ChatEntry::Notice { text, lamport: 1 };
    let nick = |text| ChatEntry::Nickname { text, lamport: 1 };
    assert!(text_entry(MAX_TITLE_BYTES, title).is_ok());
    assert!(text_entry(MAX_TITLE_BYTES + 1, title).is_err());
    assert!(text_entry(MAX_NOTICE_BYTES, notice).is_ok());
    assert!(text_entry(MAX_NOTICE_BYTES + 1, notice).is_err());
    assert!(text_entry(MAX_NICKNAME_BYTES, nick).is_ok());
    assert!(text_entry(MAX_NICKNAME_BYTES + 1, nick).is_err());
    let reaction = |emoji| ChatEntry::Reaction {
        target: MessageRef { device: [0; 32], seq: 1 },
        emoji,
        on: true,
        lamport: 1,
    };
    let state = |key: usize, value: usize| {
        let (key, value) = ("k".repeat(key), vec![0; value]);
        ChatEntry::State { app: [0; 32], key, value, lamport: 1 }.to_entry(1)
    };
    assert!(state(MAX_STATE_KEY_BYTES, MAX_STATE_BYTES).is_ok());
    assert!(state(MAX_STATE_KEY_BYTES + 1, 0).is_err() && state(0, 0).is_err());
    assert!(state(1, MAX_STATE_BYTES + 1).is_err());
    assert!(text_entry(0, reaction).is_err());
    assert!(text_entry(MAX_EMOJI_BYTES, reaction).is_ok());
    assert!(text_entry(MAX_EMOJI_BYTES + 1, reaction).is_err());

    let message = |mentions: Vec<[u8; 32]>, expires_after| {
        ChatEntry::Message(Message {
            body: [0; 32],
            reply_to: None,
            mentions,
            forwarded: false,
            expires_after,
        })
        .to_entry(1)
    };
    let many = |n: u8| (0..n).map(|i| [i; 32]).collect::<Vec<_>>();
    assert!(message(many(32), Some(1)).is_ok());
    assert!(message(many(33), None).is_err());
    assert!(message(vec![[2; 32], [1; 32]], None).is_err());
    assert!(message(vec![[1; 32], [1; 32]], None).is_err());
    assert!(message(vec![], Some(0)).is_err());
}

#[test]
fn wrong_keys_unknown_kinds_and_second_spellings_are_refused() {
    let entry = ChatEntry::Timer { seconds: 5, lamport: 1 };
    let good = entry.to_entry(1).unwrap();
    let read = |key: &str, value: &[u8]| {
        ChatEntry::from_entry(1, &Entry { key: key.into(), value: value.into() })
    };
    assert_eq!(read(&good.key, &good.value), Ok(entry));
    assert_eq!(read("title", &good.value), Err(EntryError::WrongKey));
    assert_eq!(read("timer", &[9, 1, 1]), Err(EntryError::Unknown));
    assert_eq!(read("timer", &[6, 0x85, 0, 1]), Err(EntryError::NotCanonical));
    assert_eq!(read("timer", &[6, 5, 1, 0]), Err(EntryError::Malformed("trailing bytes")));
    assert_eq!(read("timer", &[6, 5]), Err(EntryError::Malformed("undecodable")));
    assert_eq!(read("timer", &[]), Err(EntryError::Malformed("empty")));
    // A message under another envelope's number.
    let message = ChatEntry::Message(Message {
        body: [0; 32],
        reply_to: None,
        mentions: vec![],
        forwarded: false,
        expires_after: None,
    });
    let wire = message.to_entry(1).unwrap();
    assert_eq!(ChatEntry::from_entry(2, &wire), Err(EntryError::WrongKey));
}

#[test]
fn the_view() {
    let (a, b) = ([1; 32], [2; 32]);
    let target = MessageRef { device: a, seq: 1 };
    let reaction =
        |emoji: &str, on, lamport| ChatEntry::Reaction { target, emoji: emoji.into(), on, lamport };
    let title = |text: &str, lamport| ChatEntry::Title { text: text.into(), lamport };
    let mut view = ChatView::default();
    view.add(a, 2, reaction("👍", true, 1));
    view.add(b, 1, reaction("👍", true, 2));
    view.add(b, 2, reaction("🍵", true, 3));
    view.add(a, 3, reaction("👍", false, 4));
    let on = view.reactions_on(&target);
    assert_eq!(on.len(), 2);
    assert_eq!(on["👍"], BTreeSet::from([b]));
    assert_eq!(on["🍵"], BTreeSet::from([b]));

    view.add(b, 3, title("by b", 5));
    view.add(a, 4, title("by a, at the same time", 5));
    assert_eq!(view.title.as_ref().unwrap().value, "by b");
    view.add(a, 5, title("later", 6));
    assert_eq!(view.title.as_ref().unwrap().value, "later");
    assert_eq!(view.next_lamport(), 7);

    let nick = |text: &str| ChatEntry::Nickname { text: text.into(), lamport: 1 };
    view.add(a, 6, nick("Ada"));
    view.add(b, 4, nick("Bo"));
    assert_eq!(view.nickname(&a), Some("Ada"));
    assert_eq!(view.nickname(&b), Some("Bo"));

    view.add(b, 5, ChatEntry::Recall { target });
    assert!(!view.is_recalled(&target, |who| *who == a));
    view.add(a, 7, ChatEntry::Recall { target });
    assert!(view.is_recalled(&target, |who| *who == a));
}
