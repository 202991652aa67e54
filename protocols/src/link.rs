//! Links: contact cards, relay invitations, pairing codes and products as text or QR code.
//!
//! `teahouse:<kind>/<data>` with the kinds `card`, `relay`, `pair`, `feed`, `program` and `order`; the data is the
//! value's bytes in Base32 (RFC 4648, no padding). Case doesn't matter when reading. All
//! upper case, a link stays within the alphanumeric mode of QR codes (5.5 bits a character
//! instead of 8). A card's and a product's bytes are the signed ones; the others are plain
//! postcard of the fields in order: they name keys, and whoever hands over the link vouches
//! for it. Links to products have functions of their own ([`parse_order`], [`order_uri`]):
//! no place that asks for a contact takes one.

use data_encoding::BASE32_NOPAD;
use serde::{Deserialize, Serialize};

use crate::account::RelayAddr;
use crate::card::{CardError, LinkSecret, VerifiedCard};
use crate::codec::{self, Bytes, DecodeError, List, Text, Wire};
use crate::ids::{AppId, DeviceId, TopicId};
use crate::package::MAX_LAUNCH;
use crate::pay::{Receipt, VerifiedProduct};

/// Longest link, in bytes of text; longer ones are refused before decoding.
pub const MAX_LINK: usize = 8 * 1024;

/// Longest receipt as text, in bytes.
pub const MAX_RECEIPT: usize = 64 + Receipt::MAX_BYTES / 5 * 8;

/// The version of invitations and pairing codes that this build writes and reads.
pub const VERSION: u8 = 1;

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Link {
    /// A contact card.
    Card(Box<VerifiedCard>),
    /// An invitation to a relay and its community.
    RelayInvite(RelayInvite),
    /// A code to link a second device.
    Pair(PairCode),
    /// A public feed.
    Feed(FeedLink),
    /// A Mini Program.
    Program(ProgramLink),
}

/// An invitation to a relay: where it is, the right to use it, and who says hello.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayInvite {
    /// [`VERSION`].
    pub version: u8,
    /// The relay.
    pub relay: RelayAddr,
    /// What the relay admits its holder for.
    pub code: LinkSecret,
    /// A signed contact card of somebody who brings newcomers into the community's group.
    pub greeter: Option<Bytes<2048>>,
    /// The community's name, as the inviter writes it.
    pub community: Text<64>,
}

/// What an existing device shows so that a new one can find it (see [`crate::pairing`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PairCode {
    /// [`VERSION`].
    pub version: u8,
    /// The existing device.
    pub device: DeviceId,
    /// Shows that the new device has seen the code. Good for one attempt.
    pub secret: LinkSecret,
    /// Multiaddresses of the existing device, best first.
    pub addrs: List<Text<160>, 8>,
}

/// A public feed, and who can be asked for it. The topic's id vouches for all the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FeedLink {
    /// [`VERSION`].
    pub version: u8,
    /// The feed.
    pub topic: TopicId,
    /// What it is called, as whoever shared the link has it: shown until the feed has come.
    pub name: Text<64>,
    /// Devices that have it: a publisher's, or that of whoever shared the link.
    pub providers: List<Provider, 4>,
}

/// A Mini Program, and who can be asked for it. Its id vouches for all the rest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramLink {
    /// [`VERSION`].
    pub version: u8,
    /// The program.
    pub app: AppId,
    /// Its developer's key.
    pub developer: [u8; 32],
    /// What it is called; with the key it gives the id.
    pub name: Text<64>,
    /// The version code that whoever shared the link has, as they say: worth asking for once.
    pub code: u32,
    /// Devices that have it.
    pub providers: List<Provider, 2>,
    /// What the program is told when the link opens it.
    pub launch: Text<MAX_LAUNCH>,
}

/// A device that serves something, and where to find it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Provider {
    /// The device.
    pub device: DeviceId,
    /// Multiaddresses, best first.
    pub addrs: List<Text<160>, 4>,
    /// Relays through which it can be met.
    pub relays: List<RelayAddr, 2>,
}

/// Why a text is no usable link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It doesn't begin with `teahouse:`.
    #[error("not a teahouse link")]
    NotALink,
    /// A kind that this build doesn't know.
    #[error("a link of an unknown kind")]
    UnknownKind,
    /// Longer than [`MAX_LINK`].
    #[error("link is too long")]
    TooLong,
    /// The data isn't Base32: a character is missing or wrong.
    #[error("link is damaged")]
    Damaged,
    /// The data isn't what the kind says.
    #[error(transparent)]
    Decode(#[from] DecodeError),
    /// The contact card or product in it is refused.
    #[error(transparent)]
    Card(#[from] CardError),
}

const SCHEME: &str = "teahouse:";
const CARD: &str = "card/";
const RELAY: &str = "relay/";
const PAIR: &str = "pair/";
const FEED: &str = "feed/";
const PROGRAM: &str = "program/";
const ORDER: &str = "order/";
const RECEIPT: &str = "receipt/";

impl Link {
    /// Reads a link; surrounding white space and case don't matter. Cards, the greeter's
    /// included, are verified.
    pub fn parse(text: &str) -> Result<Self, LinkError> {
        let rest = after_scheme(text)?;
        if let Some(data) = strip(rest, CARD) {
            let card = VerifiedCard::from_bytes(&from_base32(data)?)?;
            return Ok(Self::Card(Box::new(card)));
        }
        if let Some(data) = strip(rest, RELAY) {
            let invite: RelayInvite = codec::decode(&from_base32(data)?)?;
            invite.greeter_card()?;
            return Ok(Self::RelayInvite(invite));
        }
        if let Some(data) = strip(rest, PAIR) {
            return Ok(Self::Pair(codec::decode(&from_base32(data)?)?));
        }
        if let Some(data) = strip(rest, FEED) {
            return Ok(Self::Feed(codec::decode(&from_base32(data)?)?));
        }
        if let Some(data) = strip(rest, PROGRAM) {
            return Ok(Self::Program(codec::decode(&from_base32(data)?)?));
        }
        Err(LinkError::UnknownKind)
    }

    /// The link in lower case, to send as text.
    #[must_use]
    pub fn to_uri(&self) -> String {
        self.to_qr_text().to_ascii_lowercase()
    }

    /// The link in upper case, to draw as a QR code in alphanumeric mode.
    #[must_use]
    pub fn to_qr_text(&self) -> String {
        let (kind, data) = match self {
            Self::Card(card) => (CARD, BASE32_NOPAD.encode(card.bytes())),
            Self::RelayInvite(invite) => (RELAY, BASE32_NOPAD.encode(&codec::encode(invite))),
            Self::Pair(code) => (PAIR, BASE32_NOPAD.encode(&codec::encode(code))),
            Self::Feed(feed) => (FEED, BASE32_NOPAD.encode(&codec::encode(feed))),
            Self::Program(link) => (PROGRAM, BASE32_NOPAD.encode(&codec::encode(link))),
        };
        format!("{SCHEME}{kind}{data}").to_ascii_uppercase()
    }
}

impl RelayInvite {
    /// The greeter's contact card, verified.
    pub fn greeter_card(&self) -> Result<Option<VerifiedCard>, CardError> {
        self.greeter.as_ref().map(|bytes| VerifiedCard::from_bytes(bytes)).transpose()
    }
}

impl Wire for RelayInvite {
    const NAME: &'static str = "relay invite";
    const MAX_BYTES: usize = 1 + RelayAddr::MAX_BYTES + 16 + (1 + 2 + 2048) + (1 + 64);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for PairCode {
    const NAME: &'static str = "pairing code";
    const MAX_BYTES: usize = 1 + 32 + 16 + (1 + 8 * (2 + 160));

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for FeedLink {
    const NAME: &'static str = "feed link";
    const MAX_BYTES: usize = 1 + 32 + (1 + 64) + (1 + 4 * Provider::MAX_BYTES);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)
    }
}

impl Wire for ProgramLink {
    const NAME: &'static str = "program link";
    const MAX_BYTES: usize =
        1 + 32 + 32 + (1 + 64) + 5 + (1 + 2 * Provider::MAX_BYTES) + (2 + MAX_LAUNCH);

    fn check(&self) -> Result<(), DecodeError> {
        check_version(Self::NAME, self.version)?;
        if self.app != AppId::of(&self.developer, &self.name) {
            return Err(DecodeError::malformed(Self::NAME, "not the id of key and name"));
        }
        Ok(())
    }
}

impl Provider {
    const MAX_BYTES: usize = 32 + (1 + 4 * (2 + 160)) + (1 + 2 * RelayAddr::MAX_BYTES);
}

const fn check_version(name: &'static str, version: u8) -> Result<(), DecodeError> {
    if version != VERSION {
        return Err(DecodeError::UnknownVersion { name, version });
    }
    Ok(())
}

fn after_scheme(text: &str) -> Result<&str, LinkError> {
    let text = text.trim();
    if text.len() > MAX_LINK {
        return Err(LinkError::TooLong);
    }
    strip(text, SCHEME).ok_or(LinkError::NotALink)
}

/// Reads a link to a product, which is verified. See [`Link::parse`].
pub fn parse_order(text: &str) -> Result<VerifiedProduct, LinkError> {
    let data = strip(after_scheme(text)?, ORDER).ok_or(LinkError::UnknownKind)?;
    Ok(VerifiedProduct::from_bytes(&from_base32(data)?)?)
}

/// The link to a product in lower case, to send as text.
#[must_use]
pub fn order_uri(product: &VerifiedProduct) -> String {
    order_qr_text(product).to_ascii_lowercase()
}

/// The link to a product in upper case, to draw as a QR code in alphanumeric mode.
#[must_use]
pub fn order_qr_text(product: &VerifiedProduct) -> String {
    let data = BASE32_NOPAD.encode(product.bytes());
    format!("{SCHEME}{ORDER}{data}").to_ascii_uppercase()
}

/// A receipt as text, in lower case: whoever gets it checks it offline.
#[must_use]
pub fn receipt_uri(receipt: &Receipt) -> String {
    let data = BASE32_NOPAD.encode(&codec::encode(receipt));
    format!("{SCHEME}{RECEIPT}{data}").to_ascii_lowercase()
}

/// Reads a receipt, unverified: [`Receipt::verify`] says what it shows. Longer than other links
/// may be: it holds an offer's lines and the records of three keys.
pub fn parse_receipt(text: &str) -> Result<Receipt, LinkError> {
    let text = text.trim();
    if text.len() > MAX_RECEIPT {
        return Err(LinkError::TooLong);
    }
    let rest = strip(text, SCHEME).ok_or(LinkError::NotALink)?;
    let data = strip(rest, RECEIPT).ok_or(LinkError::UnknownKind)?;
    Ok(codec::decode(&from_base32(data)?)?)
}

fn strip<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

fn from_base32(data: &str) -> Result<Vec<u8>, LinkError> {
    BASE32_NOPAD.decode(data.to_ascii_uppercase().as_bytes()).map_err(|_| LinkError::Damaged)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        Link, LinkError, List, MAX_LINK, PairCode, ProgramLink, Provider, RelayInvite, VERSION,
    };
    use crate::account::RelayAddr;
    use crate::account::testing::{device, wire_holds};
    use crate::card::tests::{relay, verified};
    use crate::card::{ContactCard, LinkSecret};
    use crate::codec::{Text, Wire, encode};
    use crate::ids::{AppId, RelayId};
    use crate::sign::Signed;

    fn invite() -> RelayInvite {
        RelayInvite {
            version: VERSION,
            relay: relay(),
            code: LinkSecret([3; 16]),
            greeter: Some(verified().bytes().to_vec().try_into().unwrap()),
            community: "老街茶馆".try_into().unwrap(),
        }
    }

    fn pair() -> PairCode {
        PairCode {
            version: VERSION,
            device: device(2),
            secret: LinkSecret([4; 16]),
            addrs: vec!["/ip4/192.168.1.5/udp/4001/quic-v1".try_into().unwrap()]
                .try_into()
                .unwrap(),
        }
    }

    fn program() -> ProgramLink {
        let providers =
            vec![Provider { device: device(2), addrs: List::default(), relays: List::default() }];
        ProgramLink {
            version: VERSION,
            app: AppId::of(&[7; 32], "早餐"),
            developer: [7; 32],
            name: "早餐".try_into().unwrap(),
            code: 3,
            providers: providers.try_into().unwrap(),
            launch: "table=4".try_into().unwrap(),
        }
    }

    fn links() -> [Link; 4] {
        [
            Link::Card(Box::new(verified())),
            Link::RelayInvite(invite()),
            Link::Pair(pair()),
            Link::Program(program()),
        ]
    }

    #[test]
    fn a_program_link_names_the_program_that_it_says() {
        let mut link = program();
        link.name = "午餐".try_into().unwrap();
        assert!(Link::parse(&Link::Program(link).to_uri()).is_err());
    }

    #[test]
    fn one_encoding() {
        wire_holds(&invite());
        wire_holds(&pair());
        wire_holds(&program());
    }

    #[test]
    fn links_survive_case_and_space() {
        for link in links() {
            let uri = link.to_uri();
            let qr = link.to_qr_text();
            assert!(uri.starts_with("teahouse:") && !uri.contains(char::is_uppercase));
            assert!(qr.bytes().all(|b| b.is_ascii_digit()
                || b.is_ascii_uppercase()
                || b" $%*+-./:".contains(&b)));
            let mixed: String = uri
                .chars()
                .enumerate()
                .map(|(i, c)| if i % 3 == 0 { c.to_ascii_uppercase() } else { c })
                .collect();
            for text in [uri.clone(), qr, mixed, format!("\n\u{3000}{uri} ")] {
                assert_eq!(Link::parse(&text).unwrap(), link);
            }
        }
    }

    #[test]
    fn a_changed_character_is_refused_or_another_link() {
        for link in links() {
            let uri = link.to_uri();
            for at in 0..uri.len() {
                let mut text = uri.clone().into_bytes();
                text[at] = if text[at] == b'b' { b'c' } else { b'b' };
                let read = Link::parse(&String::from_utf8(text).unwrap());
                match &link {
                    Link::Card(_) => assert!(read.is_err(), "character {at}"),
                    _ => assert!(read.as_ref() != Ok(&link), "character {at}"),
                }
                assert!(Link::parse(&uri[..at]).is_err(), "cut at {at}");
            }
        }
    }

    #[test]
    fn names_what_is_wrong() {
        for (text, why) in [
            ("", LinkError::NotALink),
            ("https://example.org", LinkError::NotALink),
            ("teahousé:", LinkError::NotALink),
            ("teahouse:", LinkError::UnknownKind),
            ("teahouse:coin/aaaa", LinkError::UnknownKind),
            ("teahouse:card/a!", LinkError::Damaged),
            ("teahouse:card/aaaa=", LinkError::Damaged),
        ] {
            assert_eq!(Link::parse(text).unwrap_err(), why, "{text}");
        }
        let long = format!("teahouse:card/{}", "A".repeat(MAX_LINK));
        assert_eq!(Link::parse(&long).unwrap_err(), LinkError::TooLong);
        let mut bad = invite();
        bad.greeter = Some(vec![1, 2, 3].try_into().unwrap());
        let bad = Link::RelayInvite(bad).to_uri();
        assert!(matches!(Link::parse(&bad), Err(LinkError::Card(_))));
    }

    #[test]
    fn every_value_within_its_bounds_fits_into_a_link() {
        let longest = [
            ContactCard::MAX_BYTES + Signed::<ContactCard>::OVERHEAD,
            RelayInvite::MAX_BYTES,
            PairCode::MAX_BYTES,
            ProgramLink::MAX_BYTES,
        ];
        for bytes in longest {
            assert!("teahouse:program/".len() + (bytes * 8).div_ceil(5) <= MAX_LINK);
        }
        let addr: Text<128> = "a".repeat(128).try_into().unwrap();
        let mut full = invite();
        full.relay = RelayAddr { id: RelayId([0; 32]), addrs: vec![addr; 4].try_into().unwrap() };
        full.greeter = Some(vec![0; 2048].try_into().unwrap());
        full.community = "a".repeat(64).as_str().try_into().unwrap();
        assert_eq!(encode(&full).len(), RelayInvite::MAX_BYTES);
        let mut full = pair();
        let addr: Text<160> = "a".repeat(160).try_into().unwrap();
        full.addrs = vec![addr; 8].try_into().unwrap();
        assert_eq!(encode(&full).len(), PairCode::MAX_BYTES);
    }

    proptest! {
        #[test]
        fn any_text_is_answered(text in "\\PC{0,40}", data in "[a-z2-7]{0,200}", kind in 0..3_usize) {
            let _ = Link::parse(&text);
            let kind = ["card", "relay", "pair"][kind];
            if let Ok(link) = Link::parse(&format!("teahouse:{kind}/{data}")) {
                prop_assert_eq!(link.to_uri(), format!("teahouse:{kind}/{data}"));
            }
        }
    }
}
