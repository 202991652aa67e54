//! Photos in chats: they arrive with their previews, are sent on, and go with their message.

use teahouse_core::command::{Chat, Command, MessageId, Reply};
use teahouse_core::photos::{NewPhoto, PHOTOS, PREVIEWS};
use teahouse_core::query;
use teahouse_core::store::{KeyRange, ReadExt};
use teahouse_core::view::{self, Blob};
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::photo::{MAX_PREVIEW, Photo};
use teahouse_tests::world::World;

fn photo(n: u8) -> NewPhoto {
    let photo = Photo { hash: [n; 32], key: [n; 32], size: 70_000, width: 640, height: 480 };
    NewPhoto { photo, preview: Blob(vec![n; MAX_PREVIEW]) }
}

fn send(
    w: &mut World,
    device: usize,
    topic: TopicId,
    text: &str,
    photos: Vec<NewPhoto>,
) -> MessageId {
    let send = Chat::SendPhotos { topic, text: text.into(), photos, reply_to: None };
    match w.ask(device, Command::Chat(send)) {
        Ok(Reply::Message { message, .. }) => message,
        other => panic!("send: {other:?}"),
    }
}

fn shown(w: &World, device: usize, topic: TopicId, id: MessageId) -> view::Message {
    query::message(&w.snapshot(device), topic, id).unwrap().unwrap()
}

#[test]
fn photos_arrive_are_sent_on_and_taken_back() {
    let mut w = World::new(51);
    let relay = w.add_relay();
    let link = w.invite(relay, None);
    let (a, b, c) = (w.add_device(), w.add_device(), w.add_device());
    for (device, name) in [(a, "Ann"), (b, "Bob"), (c, "Cy")] {
        w.create(device, name);
        w.use_relay(device, &link);
    }
    let chat = w.befriend(a, b);
    let other = w.befriend(b, c);
    w.run(5_000);
    w.set_online(b, false);
    let nine: Vec<NewPhoto> = (1..=9).map(photo).collect();
    let m = send(&mut w, a, chat, "the garden", nine.clone());
    w.run(20_000);
    w.set_online(a, false);
    w.set_online(b, true);
    w.run(60_000);
    let came = shown(&w, b, chat, m);
    assert_eq!(came.content, view::Content::Text("the garden".into()));
    assert_eq!(came.photos.len(), 9);
    for (got, sent) in came.photos.iter().zip(&nine) {
        assert_eq!((&got.photo, got.preview.as_ref()), (&sent.photo, Some(&sent.preview)));
    }
    let list = query::chats(&w.snapshot(b)).unwrap();
    assert!(list.iter().any(|l| l.preview == "[photo] the garden"), "{list:?}");
    // Sent on, without a word of where it is from.
    let forward = Chat::Forward { from: chat, message: m, to: other };
    let Ok(Reply::Message { message: on, .. }) = w.ask(b, Command::Chat(forward)) else {
        panic!("forwarded")
    };
    w.run(20_000);
    assert_eq!(shown(&w, c, other, on).photos, came.photos);
    // Taken back: photos and previews go with it.
    w.set_online(a, true);
    w.ask(a, Command::Chat(Chat::Recall { topic: chat, message: m })).unwrap();
    w.run(60_000);
    for device in [a, b] {
        let gone = shown(&w, device, chat, m);
        assert_eq!((gone.content, gone.photos.len()), (view::Content::Recalled, 0));
        let s = w.snapshot(device);
        let prefix = KeyRange::prefix(&chat.0);
        assert!(s.scan(&PHOTOS, &prefix, false, 10).unwrap().is_empty());
        assert!(s.scan(&PREVIEWS, &prefix, false, 10).unwrap().is_empty());
        w.rebuild(device).unwrap();
        assert!(w.snapshot(device).scan(&PHOTOS, &prefix, false, 10).unwrap().is_empty());
    }
    let none =
        Chat::SendPhotos { topic: chat, text: String::new(), photos: vec![], reply_to: None };
    assert!(w.ask(a, Command::Chat(none)).is_err(), "nothing at all");
    let ten: Vec<NewPhoto> = (1..=10).map(photo).collect();
    let many = Chat::SendPhotos { topic: chat, text: "x".into(), photos: ten, reply_to: None };
    assert!(w.ask(a, Command::Chat(many)).is_err(), "ten photos");
}
