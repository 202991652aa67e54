//! Real nodes on loopback, with a relay for their mail.

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use ::image::{DynamicImage, ImageFormat, RgbImage};
use teahouse_core::command::{Chat, Command, Contacts, Groups, Relays, Reply};
use teahouse_core::view::Message;
use teahouse_protocols::ids::DeviceId;
use tokio::runtime::Runtime;

use super::*;
use crate::Node;
use crate::roles::relay::{RelayNode, RelayOptions};
use crate::town::{card, command, in_group, invite, loopback, node_in, person, wait};

/// A picture that no encoder makes small.
fn picture(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let noise = RgbImage::from_fn(400, 300, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [r, g, b, ..] = state.to_le_bytes();
        ::image::Rgb([r, g, b])
    });
    let mut png = std::io::Cursor::new(Vec::new());
    DynamicImage::from(noise).write_to(&mut png, ImageFormat::Png).unwrap();
    png.into_inner()
}

struct Group {
    runtime: Runtime,
    dir: tempfile::TempDir,
    relay: Option<RelayNode>,
    topic: TopicId,
}

impl Group {
    /// A group of people with these names; the first has made it.
    fn new(names: &[&str]) -> (Self, Vec<Node>) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let entered = runtime.enter();
        let dir = tempfile::tempdir().unwrap();
        let relay = RelayNode::start(RelayOptions {
            data: dir.path().join("relay"),
            store: crate::config::store_options(false),
            listen: Some(loopback()),
            settings: crate::config::RelayFile::default(),
        });
        let relay = relay.unwrap();
        let people: Vec<Node> = names.iter().map(|n| person(dir.path(), n).unwrap()).collect();
        let first = people[0].handle();
        let link = invite(&relay, None).unwrap();
        command(first, Command::Relays(Relays::Use { link })).unwrap();
        let create =
            Groups::Create { title: "Walk".into(), members: Vec::new(), share_history: true };
        let Reply::Topic { topic } = command(first, Command::Groups(create)).unwrap() else {
            panic!("a group")
        };
        let card = card(first, Some(topic)).unwrap();
        let link = invite(&relay, Some(&card)).unwrap();
        for other in &people[1..] {
            let add = Contacts::Add { link: link.clone(), greeting: "hello".into() };
            command(other.handle(), Command::Contacts(add)).unwrap();
            wait("the group", || in_group(other.handle(), topic)).unwrap();
        }
        drop(entered);
        (Self { runtime, dir, relay: Some(relay), topic }, people)
    }

    fn folder(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn submit(&self, node: &Node, command: Command) -> Result<Reply, NodeError> {
        self.runtime.block_on(node.handle().submit(command))
    }

    fn take_in(&self, node: &Node, file: Vec<u8>) -> NewPhoto {
        self.runtime.block_on(node.handle().media().unwrap().take_in(file)).unwrap()
    }

    fn send(&self, node: &Node, photos: Vec<NewPhoto>) -> Which {
        let send =
            Chat::SendPhotos { topic: self.topic, text: String::new(), photos, reply_to: None };
        let Reply::Message { topic, message } = self.submit(node, Command::Chat(send)).unwrap()
        else {
            panic!("a message")
        };
        Which { topic, message, index: 0 }
    }

    fn arrived(node: &Node, which: Which) -> Message {
        let mut found = None;
        let find = || {
            let Which { topic, message, .. } = which;
            found = node.handle().query(|s| query::message(s, topic, message))?;
            Ok(found.as_ref().is_some_and(|m| m.photos.iter().any(|p| p.preview.is_some())))
        };
        wait("the message", find).unwrap();
        found.unwrap()
    }

    fn bring(&self, node: &Node, which: Which) -> Result<Picture, MediaError> {
        self.runtime.block_on(node.handle().media().unwrap().picture(which, |_| ()))
    }

    /// Waits until a device has told how it is reached.
    fn knows(node: &Node, which: Which, of: DeviceId) {
        let Which { topic, message: id, index } = which;
        let asked = Sources { topic, id, index };
        wait("an endpoint", || {
            let source = node.handle().query(|s| asked.run(s))?;
            Ok(source.is_some_and(|s| s.providers.iter().any(|(device, _)| *device == of)))
        })
        .unwrap();
    }

    fn clean(&self, node: &Node) -> u64 {
        self.runtime.block_on(node.handle().media().unwrap().clean()).unwrap()
    }

    fn end(mut self, people: Vec<Node>) {
        drop(people);
        if let Some(relay) = self.relay.take() {
            relay.shutdown();
        }
    }
}

/// Changes a byte of a stored content, in the middle.
fn spoil(folder: &Path, photo: &Photo) {
    let name = data_encoding::HEXLOWER.encode(&photo.hash);
    let path = folder.join(FOLDER).join("data").join(format!("{name}.data"));
    let mut file = OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(photo.size / 2)).unwrap();
    file.write_all(&[0; 64]).unwrap();
}

#[test]
fn a_photo_reaches_others_who_pass_it_on() {
    let (group, mut people) = Group::new(&["Mei", "Bob", "Cy"]);
    let [mei, bob, cy] = &people[..] else { panic!() };
    let file = picture(1);
    let prepared = image::prepare(&file).unwrap();
    let photo = group.take_in(mei, file);
    assert_eq!(photo.preview.0, prepared.preview.jpeg);
    assert_eq!((photo.photo.width, photo.photo.height), (400, 300));
    assert_eq!(photo.photo.size, prepared.full.len() as u64);
    let which = group.send(mei, vec![photo.clone()]);
    assert_eq!(group.bring(mei, which).unwrap().bytes, prepared.full, "one's own, at once");

    let came = Group::arrived(bob, which);
    assert_eq!(came.photos[0].preview.as_ref(), Some(&photo.preview));
    Group::knows(bob, which, mei.handle().device());
    let got = group.bring(bob, which).unwrap();
    assert_eq!((got.kind, &got.bytes), (Kind::Png, &prepared.full));
    assert!(matches!(group.bring(bob, Which { index: 1, ..which }), Err(MediaError::Unknown)));

    // What Mei has is spoilt: no wrong byte is taken, and Bob, who looked at it, has it, too.
    Group::arrived(cy, which);
    Group::knows(cy, which, mei.handle().device());
    Group::knows(cy, which, bob.handle().device());
    spoil(&group.folder("Mei"), &photo.photo);
    let spoilt = group.bring(mei, which);
    assert!(matches!(spoilt, Err(MediaError::Blobs(BlobsError::Refused(_)))), "{spoilt:?}");
    assert_eq!(group.bring(cy, which).unwrap().bytes, prepared.full);

    // Somebody who was never asked anything serves after a start, and is found anew.
    let second = picture(2);
    let full = image::prepare(&second).unwrap().full;
    let which = group.send(bob, vec![group.take_in(bob, second)]);
    Group::arrived(cy, which);
    people.remove(1).shutdown();
    let entered = group.runtime.enter();
    let bob = node_in(&group.folder("Bob")).unwrap();
    drop(entered);
    let cy = &people[1];
    wait("Bob again", || Ok(group.bring(cy, which).is_ok())).unwrap();
    assert_eq!(group.bring(cy, which).unwrap().bytes, full);

    // With the author gone for good, whoever has seen it gives it on.
    let mei = &people[0];
    Group::arrived(mei, which);
    Group::knows(mei, which, cy.handle().device());
    bob.shutdown();
    assert_eq!(group.bring(mei, which).unwrap().bytes, full);
    group.end(people);
}

#[test]
fn what_is_referenced_stays_and_nothing_else() {
    let (group, people) = Group::new(&["Mei", "Bob"]);
    let [mei, bob] = &people[..] else { panic!() };
    let (one, two) = (picture(1), picture(2));
    let first = group.send(mei, vec![group.take_in(mei, one)]);
    let second = group.send(mei, vec![group.take_in(mei, two)]);
    for which in [first, second] {
        Group::arrived(bob, which);
        Group::knows(bob, which, mei.handle().device());
        group.bring(bob, which).unwrap();
    }
    // Taken in and not sent yet: nobody refers to it, and it stays.
    let waiting = group.take_in(mei, picture(3));
    assert_eq!((group.clean(mei), group.clean(bob)), (0, 0));
    let third = group.send(mei, vec![waiting]);
    assert_eq!(group.clean(mei), 0);

    let recall = Chat::Recall { topic: first.topic, message: first.message };
    group.submit(mei, Command::Chat(recall)).unwrap();
    wait("the recall", || {
        let m = bob.handle().query(|s| query::message(s, first.topic, first.message))?;
        Ok(m.is_some_and(|m| m.photos.is_empty()))
    })
    .unwrap();
    assert_eq!((group.clean(mei), group.clean(bob)), (1, 1));
    assert_eq!((group.clean(mei), group.clean(bob)), (0, 0), "only it");
    for node in [mei, bob] {
        assert!(matches!(group.bring(node, first), Err(MediaError::Unknown)));
        group.bring(node, second).unwrap();
    }
    group.bring(mei, third).unwrap();

    // What was given up can't be sent any more.
    let lost = group.take_in(mei, picture(4));
    mei.handle().media().unwrap().waiting().clear();
    assert_eq!(group.clean(mei), 1);
    let send = Chat::SendPhotos {
        topic: first.topic,
        text: String::new(),
        photos: vec![lost],
        reply_to: None,
    };
    let refused = group.submit(mei, Command::Chat(send));
    assert!(matches!(refused, Err(NodeError::Media(MediaError::Gone))), "{refused:?}");
    group.end(people);
}

#[test]
fn without_a_network_pictures_are_taken_in_and_none_is_fetched() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let entered = runtime.enter();
    let config = crate::NodeConfig {
        data: dir.path().to_owned(),
        store: crate::config::store_options(false),
        network: None,
    };
    let node = Node::start(config).unwrap();
    drop(entered);
    let media = node.handle().media().unwrap();
    assert!(!dir.path().join(FOLDER).exists(), "nothing before the first photo");
    let bad = runtime.block_on(media.take_in(b"<html>".to_vec()));
    assert!(matches!(bad, Err(MediaError::Image(_))), "{bad:?}");
    let large = runtime.block_on(media.take_in(vec![0; MAX_FILE + 1]));
    assert!(matches!(large, Err(MediaError::TooLarge)), "{large:?}");
    assert!(!dir.path().join(FOLDER).exists());
    runtime.block_on(media.take_in(picture(1))).unwrap();
    let id = MessageId { device: node.handle().device(), seq: 1 };
    let which = Which { topic: TopicId([1; 32]), message: id, index: 0 };
    let unknown = runtime.block_on(media.picture(which, |_| ()));
    assert!(matches!(unknown, Err(MediaError::Unknown)), "{unknown:?}");
}
