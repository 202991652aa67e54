//! A made-up node: models that tests write, actions that tests read.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;

use teahouse_app::bridge::{Action, Answer, Link};
use teahouse_app::photos::news::News;
use teahouse_app::vm::{self, ChatRow, Me, Model, Stage, Zone};
use teahouse_node::core::command::{Command, MessageId, Reply};
use teahouse_node::core::view::{self, ChatKind, ChatState, ContactState, Content};
use teahouse_node::protocols::ids::{AccountId, DeviceId, RelayId, TopicId};
use teahouse_node::protocols::membership::Role;

/// 2026-11-22 09:30 UTC.
pub(crate) const NOW: u64 = 1_795_339_800_000;
pub(crate) const MINUTE: u64 = 60_000;

pub(crate) const ME: AccountId = AccountId([1; 32]);
pub(crate) const MEI: AccountId = AccountId([2; 32]);
pub(crate) const CHEN: AccountId = AccountId([3; 32]);
pub(crate) const WITH_MEI: TopicId = TopicId([21; 32]);
pub(crate) const WALK: TopicId = TopicId([22; 32]);

/// What the window's other side was told, and what it says.
#[derive(Default)]
pub(crate) struct Inner {
    pub(crate) model: Arc<Model>,
    pub(crate) answers: VecDeque<Answer>,
    pub(crate) actions: Vec<Action>,
    pub(crate) news: VecDeque<News>,
    /// Refuse everything: the queue is full.
    pub(crate) full: bool,
}

#[derive(Clone, Default)]
pub(crate) struct MadeUp(pub(crate) Rc<RefCell<Inner>>);

impl Link for MadeUp {
    fn send(&mut self, action: Action) -> bool {
        let mut inner = self.0.borrow_mut();
        if !inner.full {
            inner.actions.push(action);
        }
        !inner.full
    }

    fn model(&mut self) -> Arc<Model> {
        Arc::clone(&self.0.borrow().model)
    }

    fn answer(&mut self) -> Option<Answer> {
        self.0.borrow_mut().answers.pop_front()
    }

    fn news(&mut self) -> Option<News> {
        self.0.borrow_mut().news.pop_front()
    }
}

impl MadeUp {
    pub(crate) fn new(model: Model) -> Self {
        let made_up = Self::default();
        made_up.set(model);
        made_up
    }

    pub(crate) fn set(&self, model: Model) {
        self.0.borrow_mut().model = Arc::new(model);
    }

    pub(crate) fn change(&self, change: impl FnOnce(&mut Model)) {
        let mut model = Model::clone(&self.0.borrow().model);
        change(&mut model);
        self.set(model);
    }

    /// The commands handed over since the last call, with their tickets.
    pub(crate) fn commands(&self) -> Vec<(u64, Command)> {
        let actions = core::mem::take(&mut self.0.borrow_mut().actions);
        actions
            .into_iter()
            .filter_map(|a| match a {
                Action::Submit { ticket, command } => Some((ticket, command)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn answer(&self, ticket: u64, result: Result<Reply, &str>) {
        let result = result.map_err(str::to_owned);
        let qr = match &result {
            Ok(
                Reply::Card { link }
                | Reply::Code { link }
                | Reply::Link { link }
                | Reply::Product { link, .. },
            ) => vm::Qr::of_link(link).map(Arc::new),
            _ => None,
        };
        self.0.borrow_mut().answers.push_back(Answer { ticket, result, qr });
    }
}

pub(crate) fn nobody() -> Model {
    Model { stage: Stage::Running, linking: Some(view::Linking::Idle), ..Model::default() }
}

pub(crate) fn chat(topic: TopicId, title: &str, peer: Option<AccountId>) -> view::Chat {
    view::Chat {
        topic,
        kind: if peer.is_some() { ChatKind::Direct } else { ChatKind::Group },
        title: title.into(),
        peer,
        state: ChatState::Active,
        preview: "Tea at four?".into(),
        preview_by: String::new(),
        delivery: None,
        hidden: false,
        time: NOW - 5 * MINUTE,
        unread: 0,
        draft: String::new(),
        notice: String::new(),
        timer: 0,
        members: 2,
    }
}

pub(crate) fn chats() -> Vec<view::Chat> {
    let walk = view::Chat {
        preview: "Chen: 九点半在茶馆门口见，别忘了带伞 ☂".into(),
        unread: 3,
        notice: "Meet at the teahouse door. Bring an umbrella.".into(),
        members: 3,
        ..chat(WALK, "Sunday walk 周日散步", None)
    };
    let mut all = vec![walk, chat(WITH_MEI, "Mei 梅", Some(MEI))];
    let more = [
        ("Old Wang", ChatState::Active, "The shop opens at seven.", 0),
        ("Book club", ChatState::Left, "", 0),
        ("Ada", ChatState::Requested, "", 0),
        (
            "A person with a very long name that does not fit on the line",
            ChatState::Active,
            "and a preview that is very much too long for the list, as previews often are",
            120,
        ),
    ];
    for (i, (title, state, preview, unread)) in (0u8..).zip(more) {
        let id = [40 + i; 32];
        all.push(view::Chat {
            state,
            preview: preview.into(),
            unread,
            time: NOW - (u64::from(i) + 1) * 30 * 60 * MINUTE,
            draft: if i == 0 { "I will be there at".into() } else { String::new() },
            ..chat(TopicId(id), title, Some(AccountId(id)))
        });
    }
    all
}

pub(crate) fn message(seq: u64, author: AccountId, time: u64, text: &str) -> view::Message {
    let name = match author {
        MEI => "Mei 梅",
        CHEN => "Chen",
        _ => "Lin",
    };
    view::Message {
        topic: WITH_MEI,
        id: MessageId { device: DeviceId(author.0), seq },
        author,
        author_name: name.into(),
        mine: author == ME,
        time,
        photos: Vec::new(),
        content: Content::Text(text.into()),
        reply_to: None,
        mentions: Vec::new(),
        forwarded: false,
        expires: None,
        reactions: Vec::new(),
        delivery: (author == ME).then_some(view::Delivery {
            relayed: 1,
            relays: 2,
            delivered: 0,
            recipients: 1,
            read: 0,
            without_relay: 0,
            elsewhere: false,
        }),
    }
}

/// Something of every kind.
pub(crate) fn talk() -> Vec<view::Message> {
    let day = 24 * 60 * MINUTE;
    let mut all = vec![
        message(
            1,
            MEI,
            NOW - day - 9 * MINUTE,
            "Good morning! 早上好！今天天气真好，要不要一起去喝茶？",
        ),
        message(2, ME, NOW - day - 8 * MINUTE, "Yes! 好啊 😀👍"),
        message(
            3,
            MEI,
            NOW - day - 7 * MINUTE,
            "Tea at four?\nThe one by the bridge, with the garden. They have the new Longjing, and if we come early enough we get the table at the window.",
        ),
        message(4, ME, NOW - 40 * MINUTE, "Four is good. I'll bring Chen."),
        message(5, CHEN, NOW - 30 * MINUTE, "Here I am."),
        message(6, MEI, NOW - 20 * MINUTE, "gone"),
        message(7, ME, NOW - 15 * MINUTE, "A forwarded thing that goes away"),
        message(8, MEI, NOW - 10 * MINUTE, "pending"),
        message(
            9,
            MEI,
            NOW - 5 * MINUTE,
            "Averylongwordthatcannotbebrokenanywhereandisthereforewiderthanthebubblewouldliketobe_Averylongwordthatcannotbebrokenanywhere",
        ),
    ];
    all[1].delivery = Some(view::Delivery {
        delivered: 1,
        recipients: 1,
        read: 1,
        relayed: 2,
        relays: 2,
        without_relay: 0,
        elsewhere: false,
    });
    all[2].reactions = vec![("👍".into(), vec![ME, CHEN]), ("❤".into(), vec![CHEN])];
    all[3].reply_to = Some(all[2].id);
    all[5].content = Content::Recalled;
    all[6].forwarded = true;
    all[6].expires = Some(NOW + 60 * MINUTE);
    all[7].content = Content::Pending;
    all
}

pub(crate) fn members() -> Vec<view::Member> {
    let member = |account, name: &str, role| view::Member {
        account,
        name: name.into(),
        role,
        me: account == ME,
    };
    vec![
        member(MEI, "Mei 梅", Role::Admin),
        member(ME, "Lin", Role::Owner),
        member(CHEN, "Chen", Role::Member),
    ]
}

pub(crate) fn conversation(chat: &view::Chat, messages: &[view::Message]) -> Arc<vm::Conversation> {
    let zone = Zone::utc();
    vm::conversation(
        chat,
        &vm::Around {
            waiting: &[],
            members: &members(),
            me: Some(ME),
            more: false,
            now: NOW,
            zone: &zone,
        },
        messages,
        &[],
        |_| None,
    )
}

pub(crate) fn contacts() -> Vec<view::Contact> {
    let person = |account, name: &str, state, greeting: &str| view::Contact {
        account,
        name: name.into(),
        own_name: name.into(),
        state,
        greeting: greeting.into(),
        time: NOW,
        topic: (account == MEI).then_some(WITH_MEI),
        verified: false,
        disputed: false,
        devices: 2,
    };
    vec![
        person(MEI, "Mei 梅", ContactState::Friend, ""),
        person(CHEN, "Chen", ContactState::Friend, ""),
        person(
            AccountId([4; 32]),
            "Old Wang",
            ContactState::Asking,
            "It's Wang, from the market. 你好",
        ),
        person(AccountId([5; 32]), "Ada", ContactState::Requested, ""),
        person(AccountId([6; 32]), "Spammer", ContactState::Blocked, ""),
    ]
}

/// A lived-in account with a conversation open.
pub(crate) fn full(open: TopicId) -> Model {
    let zone = Zone::utc();
    let all = chats();
    let chat = all.iter().find(|c| c.topic == open);
    let relay = |n: u8, trouble: &str, last| view::Relay {
        name: String::new(),
        relay: RelayId([n; 32]),
        addrs: vec![format!("/dns4/relay{n}.example.org/udp/4001/quic-v1")],
        tokens: 20,
        tags: 3,
        last_answer: last,
        trouble: trouble.into(),
        waiting: u64::from(n) * 2,
    };
    let chat_rows: Arc<[ChatRow]> = vm::chat_rows(&all, NOW, &zone);
    Model {
        stage: Stage::Running,
        demo: false,
        me: Me {
            account: Some(ME),
            name: "Lin".into(),
            device: Some(DeviceId([1; 32])),
            revoked: false,
            disputed: false,
        },
        chats: chat_rows,
        conversation: chat.map(|c| conversation(c, &talk())),
        contacts: vm::contact_rows(&contacts()),
        safety: Some((
            MEI,
            "12345 67890 12345 67890 12345 67890\n12345 67890 12345 67890 12345 67890".into(),
        )),
        devices: vec![
            view::Device {
                device: DeviceId([1; 32]),
                name: "This computer".into(),
                this: true,
                revoked: false,
            },
            view::Device {
                device: DeviceId([7; 32]),
                name: "Laptop".into(),
                this: false,
                revoked: false,
            },
            view::Device {
                device: DeviceId([8; 32]),
                name: "Old phone".into(),
                this: false,
                revoked: true,
            },
        ]
        .into(),
        linking: Some(view::Linking::Idle),
        relays: vm::relay_rows(
            &[relay(1, "", Some(NOW - MINUTE)), relay(2, "it could not be reached", None)],
            NOW,
            &zone,
        ),
        alarms: Arc::new([]),
        program: None,
        pages: std::collections::BTreeMap::new(),
    }
}
