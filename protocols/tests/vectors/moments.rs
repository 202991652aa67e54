//! Photos, and words on posts.

use teahouse_protocols::codec::encode;
use teahouse_protocols::epoch::EpochSecret;
use teahouse_protocols::ids::{AccountId, TopicId};
use teahouse_protocols::moments::{Place, Said, Word, hint, open_word, post_ref, seal_word};
use teahouse_protocols::photo::{Captioned, Photo, Previews};

use crate::json::{Node, fields, hex, node};
use crate::samples::{bytes, device, list, rng, text};
use crate::suite::Suite;

pub(crate) fn photos() -> Suite {
    let mut suite = Suite::new(
        "photos",
        "protocols/src/photo.rs",
        "Texts with photos and previews, as the bodies of messages and posts.",
    );
    let photo =
        Photo { hash: [0x11; 32], key: [0x22; 32], size: 300_000, width: 1200, height: 900 };
    let both = Captioned { text: text("breakfast"), photos: list([photo.clone()]) };
    let wire = suite.plain("text and photo", &both);
    suite.plain("text alone", &Captioned { text: text("breakfast"), photos: list([]) });
    suite.plain("photo alone", &Captioned { text: text(""), photos: list([photo.clone()]) });
    suite.refuse_usual::<Captioned>(&wire, 0);
    suite.refuse::<Captioned>("neither text nor photo", &[0, 0]);
    for (name, bad) in [
        ("a photo of no bytes", Photo { size: 0, ..photo.clone() }),
        ("a photo without width", Photo { width: 0, ..photo.clone() }),
        ("a photo beyond the bound", Photo { size: u64::MAX, ..photo }),
    ] {
        let bad = Captioned { text: text(""), photos: list([bad]) };
        suite.refuse::<Captioned>(name, &encode(&bad));
    }
    suite.plain("previews", &Previews(list([bytes(b"a small picture"), bytes(b"another")])));
    suite.refuse::<Previews>("no previews", &[0]);
    suite
}

pub(crate) fn words_on_posts() -> Suite {
    let mut suite = Suite::new(
        "words_on_posts",
        "protocols/src/moments.rs, protocols/src/seal.rs (aead_seal)",
        "Likes, comments and replies, sealed under the post's key and one secret of each \
         circle. The first two bytes of the plaintext are its length, little endian; zeros pad \
         it to a multiple of 256. Associated data are reference, topic, device and number.",
    );
    let (circle, second) = (EpochSecret::from_bytes([7; 32]), EpochSecret::from_bytes([8; 32]));
    let post_key = [5; 32];
    let on = post_ref(&post_key);
    let place = |n: u8, seq| Place { topic: TopicId([n; 32]), device: device(n), seq };
    let (post, at) = (place(1, 3), place(2, 300));
    let by = AccountId([0xac; 32]);
    let comment = |parent| Word {
        version: 1,
        post,
        parent,
        by,
        said: Said::Comment { text: text("so it is") },
    };
    let like = Word { said: Said::Like { on: true, lamport: 300 }, ..comment(None) };
    let mut rng = rng(0x44);
    for (name, word, circles) in [
        ("comment", comment(None), vec![&circle]),
        ("like", like.clone(), vec![&circle]),
        ("reply", comment(Some(place(3, 1))), vec![&circle, &second]),
    ] {
        let sealed = seal_word(&word, &at, &post_key, &circles, &mut rng);
        let opened = open_word(&sealed, &at, by, &post, &post_key, &circles);
        assert_eq!(opened.unwrap(), word);
        let hints: Vec<Node> = circles.iter().map(|c| hex(hint(&on, c))).collect();
        let secrets: Vec<Node> = circles.iter().map(|c| hex(*c.circle_key())).collect();
        suite.case(fields! {
            "name": name,
            "post key": hex(post_key),
            "reference": hex(on.0),
            "circle keys": secrets,
            "hints": hints,
            "stands at": node(&at),
            "value": node(&word),
            "wire": hex(encode(&word)),
            "sealed": hex(&sealed),
        });
    }
    let wire = encode(&comment(None));
    suite.refuse_usual::<Word>(&wire, 0);
    let empty = Word { said: Said::Comment { text: text("") }, ..comment(None) };
    suite.refuse::<Word>("an empty comment", &encode(&empty));
    let parent = Word { parent: Some(at), ..like };
    suite.refuse::<Word>("a like of a comment", &encode(&parent));
    suite
}
