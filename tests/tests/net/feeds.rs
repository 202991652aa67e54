//! A feed's article and its photo go on from follower to stranger.

use std::fs;
use std::io::Cursor;

use image::{DynamicImage, ImageFormat, Rgb, RgbImage};
use teahouse_core::feeds::query::Article;
use teahouse_protocols::link::{FeedLink, Link};

use crate::process::{Home, Node, text, until};

const PAPER: &str = "Morning paper";

/// A picture that no encoder makes small, so that it doesn't travel as a preview.
fn picture() -> Vec<u8> {
    let mut state = 7_u64;
    let noise = RgbImage::from_fn(400, 300, |_, _| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let [r, g, b, ..] = state.to_le_bytes();
        Rgb([r, g, b])
    });
    let mut png = Cursor::new(Vec::new());
    DynamicImage::from(noise).write_to(&mut png, ImageFormat::Png).expect("it can be encoded");
    png.into_inner()
}

/// A link to the feed, once the node knows where it is reached.
fn shared(node: &Node) -> (String, FeedLink) {
    until("the link names an address", || {
        let link = text(&node.json(&["feed", "link", PAPER]), "/link");
        let Ok(Link::Feed(feed)) = Link::parse(&link) else { panic!("{link}") };
        (!feed.providers.first()?.addrs.is_empty()).then_some((link, feed))
    })
}

/// Follows, and waits until the newest article shows with its photo's preview.
fn follow(node: &Node, link: &str) -> Article {
    node.json(&["feed", "follow", link]);
    until("the article comes", || {
        let all: Vec<Article> = node.read(&["feed", "read", PAPER]);
        all.into_iter().next().filter(|a| a.said.is_some() && !a.photos.is_empty())
    })
}

#[test]
fn a_stranger_reads_through_a_follower_while_the_publisher_is_off() {
    let home = Home::new();
    let at = |name: &str| home.path().join(name).display().to_string();
    let mut ann = Node::device(&home, "ann").with_account("Ann");
    let mut bob = Node::device(&home, "bob").with_account("Bob");
    ann.up();
    bob.up();
    let (bridge, flood) = (at("bridge.png"), at("flood.md"));
    fs::write(&bridge, picture()).expect("a file");
    let words = "The bridge stands.\n\n![the bridge](photo:0)";
    fs::write(&flood, words).expect("a file");
    ann.json(&["feed", "create", PAPER, "--about", "What happens in our street"]);
    ann.json(&["feed", "publish", PAPER, "The flood", &flood, "--photo", &bridge]);
    let (link, of_ann) = shared(&ann);

    // Bob looks at the photo, and passes the feed on.
    let read = follow(&bob, &link);
    assert_eq!(read.said, Some(("The flood".to_owned(), words.to_owned())));
    let bobs = at("bob.jpg");
    bob.json(&["feed", "save", PAPER, "last", &bobs]);
    let (through, of_bob) = shared(&bob);
    assert_ne!(of_bob.providers[0].device, of_ann.providers[0].device, "Bob's link names Bob");
    ann.kill();

    let mut cy = Node::device(&home, "cy").with_account("Cy");
    cy.up();
    let seen = follow(&cy, &through);
    assert_eq!((&seen.id, &seen.said), (&read.id, &read.said));
    assert_eq!(seen.photos[0].photo, read.photos[0].photo);
    let cys = at("cy.jpg");
    cy.json(&["feed", "save", PAPER, "last", &cys]);
    let (theirs, ours) = (fs::read(&bobs).expect("saved"), fs::read(&cys).expect("saved"));
    assert!(ours == theirs && ours.len() > 10_000, "{} and {} bytes", theirs.len(), ours.len());
    let photo = image::load_from_memory(&ours).expect("a picture");
    assert_eq!((photo.width(), photo.height()), (400, 300));
    assert!(!ann.is_up(), "the publisher was off all the time");
}
