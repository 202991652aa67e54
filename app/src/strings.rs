//! Every word the window shows, in English. Each text is a function with a name of its own,
//! so that a catalogue (Fluent) can stand behind the same names later.
//!
//! Pages bring their own words, in English and Chinese side by side (`words!`); which are
//! shown says [`language`]. It stays English until this file has its Chinese, too: a window in
//! two languages at once helps nobody.

use core::sync::atomic::{AtomicBool, Ordering};

use teahouse_node::core::view;

/// A language of the window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    /// English.
    English,
    /// Simplified Chinese.
    Chinese,
}

static CHINESE: AtomicBool = AtomicBool::new(false);

/// The window's language.
#[must_use]
pub fn language() -> Language {
    if CHINESE.load(Ordering::Relaxed) { Language::Chinese } else { Language::English }
}

/// Chooses the window's language. Models made before keep theirs.
pub fn speak(language: Language) {
    CHINESE.store(language == Language::Chinese, Ordering::Relaxed);
}

/// The text of the window's language.
#[must_use]
pub fn either<T>(english: T, chinese: T) -> T {
    match language() {
        Language::English => english,
        Language::Chinese => chinese,
    }
}

/// Texts in English and Chinese, each a function.
macro_rules! words {
    ($($name:ident = $english:literal, $chinese:literal;)*) => {$(
        #[doc = concat!("“", $english, "”")]
        #[must_use]
        pub fn $name() -> &'static str {
            $crate::strings::either($english, $chinese)
        }
    )*};
}
pub(crate) use words;

macro_rules! texts {
    ($($name:ident = $text:literal;)*) => {$(
        #[doc = concat!("“", $text, "”")]
        #[must_use]
        pub const fn $name() -> &'static str {
            $text
        }
    )*};
}

texts! {
    app_name = "Teahouse";
    cancel = "Cancel";
    save = "Save";
    you = "You";
    unnamed_person = "Unnamed";
    unnamed_group = "Unnamed group";
    busy = "Teahouse is busy: try again in a moment.";
    starting = "Opening your data…";
    copied = "Copied.";

    // Days
    today = "Today";
    yesterday = "Yesterday";

    // Welcome
    welcome_line = "Talk with people, with nobody's permission.";
    welcome_new = "New here?";
    welcome_create = "Create account";
    welcome_name = "Your name";
    welcome_name_hint = "The name others see";
    welcome_link = "Do you have Teahouse on another device?";
    welcome_link_hint = "teahouse:pair/…";
    welcome_link_field = "Link code";
    welcome_link_button = "Link this device";
    welcome_link_how = "On the other device: Me, Devices, Link a device. Copy the code, and paste it here.";
    welcome_look = "Just curious?";
    welcome_look_how = "A few people who live on this machine only, and like to talk.";
    welcome_look_button = "Look around the town";
    welcome_creating = "Creating…";
    welcome_linking = "Connecting to the other device…";

    // The words
    words_title = "Your 24 words";
    words_why = "Whoever has these words is you. Write them down, on paper, in this order, and keep them safe. They are shown only now. This version can't bring an account back with them yet: until a later one can, keep a second device linked.";
    words_keep = "Your 24 words are shown only now. Close again to leave without them.";
    words_done = "I wrote them down";

    // Rail
    rail_chats = "Chats";
    rail_contacts = "Contacts";
    rail_me = "Me";
    town_how = "This is the town: real nodes, but only on this machine. Nothing here is kept.";
    town_leave = "Leave the town";

    // Chat list
    chats_filter = "Search chats";
    chats_new_group = "New group";
    chats_none = "No chats yet. Add a friend under Contacts.";
    chats_none_found = "No chat by that name.";
    chat_requested = "Not accepted yet";
    chat_left = "You are no longer in this chat";
    chat_blocked = "Blocked";
    chat_draft = "Draft:";
    chat_mark_read = "Mark as read";
    chat_hide = "Take off the list";

    // Conversation
    conversation_none = "Choose a chat, or press Ctrl+K.";
    conversation_empty = "No messages yet.";
    conversation_opening = "Opening…";
    conversation_details = "Details";
    conversation_bottom = "Latest messages";
    conversation_waiting = "You can write when they accept.";
    conversation_left = "You can read this chat, but no longer write in it.";
    conversation_blocked = "You blocked this person. To write, unblock them under Details.";
    timer = "Disappearing messages";
    timer_how = "For what is written from now on, by everybody here.";
    message_pending = "This message's text has not arrived yet.";
    message_recalled = "This message was recalled.";
    message_hidden = "An admin hid this message.";
    message_expired = "This message's time was up.";
    message_unknown = "Update Teahouse to read this message.";
    message_forwarded = "Forwarded";
    message_program = "Mini Program";
    message_actions = "Message actions";
    message_copy = "Copy text";
    message_reply = "Reply";
    message_react = "React";
    message_forward = "Forward…";
    message_recall = "Recall";
    message_hide = "Hide for everybody";
    delivery_how = "queued: safe on this device. relayed: a relay holds it for them, for some weeks. delivered: a device of theirs signed for it.";
    recall_how = "A message can be taken back for two minutes. Everybody's Teahouse is asked to erase this message. Who has read or copied it still knows it.";
    quote_missing = "A message that is not here";
    compose_hint = "Message";
    compose_send = "Send";
    compose_sending = "Sending…";
    compose_replying = "Replying to";
    compose_cancel_reply = "Stop replying";
    compose_full = "Too many messages are being sent: wait a moment.";
    compose_long = "This message is too long to send: 64 KiB is the most.";

    // Contacts
    contacts_add = "Add contact";
    contacts_add_how = "Paste a contact card (teahouse:card/…) or an invite link of a community (teahouse:relay/…).";
    contacts_link = "Card or link";
    contacts_link_hint = "teahouse:…";
    contacts_greeting = "Greeting";
    contacts_greeting_hint = "Say who you are";
    contacts_add_button = "Add";
    contacts_asked = "Asked. You can talk when they accept.";
    contacts_relay_used = "The relay is used from now on.";
    contacts_filter = "Search contacts";
    contacts_none = "Nobody yet. Show your card under Me, or add somebody else's.";
    contacts_requests = "Requests";
    contacts_waiting = "Not accepted yet";
    contacts_friends = "Friends";
    contacts_blocked = "Blocked";
    contact_none = "Choose a person.";
    contact_accept = "Accept";
    contact_decline = "Decline";
    contact_block = "Block";
    contact_unblock = "Unblock";
    contact_delete = "Delete contact";
    contact_delete_how = "They leave your contacts. The chat stays, and they can still write in it: block them to stop that.";
    contact_block_how = "In your chat with them you see nothing that they write from now on, and they are told nothing; it shows if you unblock them. In groups that you share, you still see each other.";
    contact_message = "Send message";
    contact_open = "Open chat";
    contact_remark = "Your name for them";
    contact_safety = "Safety number";
    contact_safety_how = "Compare this number with theirs, by voice or in person. If both are equal, nobody stands between you.";
    contact_safety_copy = "Copy safety number";
    contact_verified = "We compared it: equal";
    contact_disputed = "Something is wrong with this account: two different changes of its root key exist. Trust nothing new from it until you get a fresh card from this person.";
    contact_wants = "wants to be your contact";

    // Me
    me_card = "My card";
    me_devices = "Devices";
    me_relays = "Relays";
    me_name = "Your name";
    me_rename = "Change name";
    card_how = "Send a friend this link; they paste it under Contacts, Add contact. The QR code holds the same link, for any QR reader. It may be used by 10 people.";
    card_void = "A device was removed: this is a new card. Those made before may lead nowhere now.";
    card_renewed = "Your relays have changed: this is a new card. The old one names the relays of before.";
    card_qr = "QR code of your contact card";
    card_copy = "Copy link";
    card_making = "Making your card…";
    card_again = "Make a new card";
    card_revoke = "Revoke this card";
    card_revoked = "Revoked: nobody can use that card any more.";
    card_too_long = "This card is too long for a QR code. Send the link.";
    device_this = "this device";
    device_revoked = "revoked";
    device_unnamed = "Unnamed device";
    device_revoke = "Revoke";
    device_revoke_how = "It opens nothing that is sent from now on. What it already has, it keeps. Contact cards made before lead nowhere then: show new ones.";
    device_link = "Link a device";
    device_link_how = "On the new device, choose “Link this device” and paste this code. Bring it over on a USB stick, by a message to yourself, or with a QR reader. It is valid for 10 minutes and one attempt.";
    device_link_code = "Link code";
    device_copy_code = "Copy code";
    device_compare = "Compare these digits with those on the other device.";
    device_equal = "They are equal";
    device_compare_new = "Compare these digits with those on the other device, and confirm there.";
    device_stop = "Stop linking";
    relay_add = "Add relay";
    relay_link = "Relay invite link";
    relay_link_hint = "teahouse:relay/…";
    relay_none = "No relay yet. Without one, messages arrive only while both of you are online.";
    relay_silent = "Not reached yet";
    relay_forget = "Stop using";
    relay_forget_how = "Your contacts are told that you can no longer be reached there.";

    // Groups
    group_new = "New group";
    group_title = "Group name";
    group_title_hint = "Sunday walk";
    group_who = "Who joins?";
    group_nobody = "Add contacts first: a group needs people.";
    group_history = "Those who join later may read what was written before";
    group_create = "Create group";
    group_members = "Members";
    group_invite = "Invite…";
    group_invite_title = "Invite to the group";
    group_invite_none = "All your contacts are members.";
    group_remove = "Remove";
    group_remove_how = "They can read what they already have, and nothing that is written from now on.";
    group_rename = "Rename";
    group_notice = "Notice";
    group_notice_hint = "What everybody should know";
    group_last_owner = "To leave, make somebody else an owner first.";
    group_leave = "Leave group";
    group_leave_how = "You can read what you already have, and nothing that is written from now on.";
    group_role = "Role";
    role_member = "member";
    role_owner = "owner";
    role_admin = "admin";

    // Go to, forward
    go_title = "Go to";
    go_hint = "Name of a chat or person";
    go_none = "Nothing by that name.";
    forward_title = "Forward to";

    // Alarms
    alarms_hide = "Hide";
    revoked = "This device was removed from its account. It receives nothing any more.";
    disputed = "Your account's root key was changed twice at once. Your contacts accept nothing new from you until they get a fresh card.";
    broken = "Teahouse can't open its data";
    broken_how = "If Teahouse is open in another window, go on there. Otherwise, close this one and start again.";
}

/// Sunday is 0.
#[must_use]
pub fn weekday(day: i64) -> &'static str {
    const NAMES: [&str; 7] =
        ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
    NAMES.get(usize::try_from(day).unwrap_or(0)).copied().unwrap_or_default()
}

/// Sunday is 0.
#[must_use]
pub fn weekday_short(day: i64) -> &'static str {
    &weekday(day)[..3]
}

fn month(month: i64) -> &'static str {
    const NAMES: [&str; 12] = [
        "January",
        "February",
        "March",
        "April",
        "May",
        "June",
        "July",
        "August",
        "September",
        "October",
        "November",
        "December",
    ];
    NAMES.get(usize::try_from(month - 1).unwrap_or(0)).copied().unwrap_or_default()
}

/// A date of this year.
#[must_use]
pub fn date_short(month_number: i64, day: i64) -> String {
    format!("{day} {}", month(month_number).get(..3).unwrap_or_default())
}

/// A whole date.
#[must_use]
pub fn date_long(year: i64, month_number: i64, day: i64) -> String {
    format!("{day} {} {year}", month(month_number))
}

/// When a message goes.
#[must_use]
pub fn disappears(when: &str) -> String {
    format!("disappears {when}")
}

/// After how long messages disappear.
#[must_use]
pub fn timer_after(seconds: u32) -> String {
    if seconds == 0 { "Off".into() } else { format!("After {}", view::duration(seconds)) }
}

/// How a relay does that answers.
#[must_use]
pub fn relay_well(when: &str) -> String {
    format!("Answered {when}")
}

/// How a relay does that refuses or can't be reached.
#[must_use]
pub fn relay_trouble(why: &str) -> String {
    format!("Trouble: {why}")
}

/// Why a request for contact is not with the other side.
#[must_use]
pub fn request_waits(why: &str) -> String {
    capital(why)
}

/// Why messages have not arrived.
#[must_use]
pub fn messages_wait(count: u64, why: &str) -> String {
    match count {
        1 => format!("Not arrived yet: {why}"),
        n => format!("{n} have not arrived yet: {why}"),
    }
}

fn capital(text: &str) -> String {
    let mut letters = text.chars();
    letters.next().map_or_else(String::new, |first| first.to_uppercase().chain(letters).collect())
}

/// A button's accessible name: what it does, to whom.
#[must_use]
pub fn doing(what: &str, whom: &str) -> String {
    format!("{what}: {whom}")
}

/// The accessible name of something with a count.
#[must_use]
pub fn with_unread(name: &str, unread: u64) -> String {
    if unread == 0 { name.into() } else { format!("{name}, {unread} unread") }
}

/// How many messages came below.
#[must_use]
pub fn below(n: usize) -> String {
    match n {
        0 => conversation_bottom().into(),
        1 => "1 new message".into(),
        n => format!("{n} new messages"),
    }
}

/// How many members.
#[must_use]
pub fn members(n: usize) -> String {
    if n == 1 { "1 member".into() } else { format!("{n} members") }
}

/// How many devices a person has.
#[must_use]
pub fn devices(n: u32) -> String {
    if n == 1 { "1 device".into() } else { format!("{n} devices") }
}

/// Their own name, where the remark differs.
#[must_use]
pub fn calls_themselves(name: &str) -> String {
    format!("calls themselves {name}")
}

/// Copying history to a new device.
#[must_use]
pub fn copying(topics: u32, envelopes: u64) -> String {
    format!("Copying your history: {envelopes} messages and changes in {topics} chats so far…")
}

/// Linking failed.
#[must_use]
pub fn linking_failed(why: &str) -> String {
    format!("Linking failed: {why}")
}

/// A question before something that can't be undone.
#[must_use]
pub fn sure(what: &str, whom: &str) -> String {
    if whom.is_empty() { format!("{what}?") } else { format!("{what} {whom}?") }
}

/// How many alarms more.
#[must_use]
pub fn alarms_more(n: usize) -> String {
    format!("and {n} more")
}

/// A reaction's accessible name.
#[must_use]
pub fn reaction(emoji: &str, count: usize) -> String {
    format!("{emoji} {count}")
}
