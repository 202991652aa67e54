//! Identifiers: 32-byte newtypes, one per concept, so that they can't be mixed up.

use core::fmt;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

macro_rules! ids {
    ($($(#[$doc:meta])* $name:ident;)*) => {$(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 32]);

        impl $name {
            /// The raw bytes.
            #[must_use]
            pub const fn as_bytes(&self) -> &[u8; 32] {
                &self.0
            }

            /// All 64 lower-case hexadecimal digits.
            #[must_use]
            pub fn to_hex(&self) -> String {
                HEXLOWER.encode(&self.0)
            }

            /// Parses 64 lower-case hexadecimal digits.
            #[must_use]
            pub fn from_hex(s: &str) -> Option<Self> {
                let bytes = HEXLOWER.decode(s.as_bytes()).ok()?;
                Some(Self(bytes.try_into().ok()?))
            }
        }

        // Short on purpose: enough to tell two apart in a log, too little to be an address.
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({})", stringify!($name), HEXLOWER.encode(&self.0[..4]))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.to_hex())
            }
        }

        // On the wire 32 bytes; in text formats (the API's JSON) hexadecimal.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                if s.is_human_readable() {
                    s.serialize_str(&self.to_hex())
                } else {
                    self.0.serialize(s)
                }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                if d.is_human_readable() {
                    let text = String::deserialize(d)?;
                    Self::from_hex(&text)
                        .ok_or_else(|| de::Error::custom("expected 64 hexadecimal digits"))
                } else {
                    <[u8; 32]>::deserialize(d).map(Self)
                }
            }
        }

        impl From<[u8; 32]> for $name {
            fn from(b: [u8; 32]) -> Self {
                Self(b)
            }
        }
    )*};
}

ids! {
    /// An account: the hash of its genesis record, so it survives key rotation.
    AccountId;
    /// A device: its ed25519 public key, which is also its libp2p `PeerId`.
    DeviceId;
    /// A topic: the hash of its genesis operation.
    TopicId;
    /// A record of an account log: the hash of its signed bytes.
    RecordId;
    /// A membership operation: the hash of its signed bytes.
    OpId;
    /// An epoch: the hash of its signed key message.
    EpochId;
    /// An envelope: the hash of its signed frame.
    EnvelopeId;
    /// The hash of a sealed body or a sealed change.
    SealedHash;
    /// A mailbox tag: an ed25519 public key; who can sign for it may read it.
    Tag;
    /// A relay: its ed25519 public key, which is also its libp2p `PeerId`.
    RelayId;
    /// An issuer's money: the hash of its signed description.
    AssetId;
    /// An offer: the hash of its signed bytes.
    OfferId;
    /// A payment order: the hash of its signed bytes.
    OrderId;
    /// A payment channel: the hash of the signed request that it was first opened by.
    ChannelId;
    /// A voucher: the hash of its signed bytes.
    VoucherId;
    /// A Mini Program: the hash of its developer's key and its name.
    AppId;
    /// A package of a Mini Program: the hash of its signed manifest.
    PackageId;
}

/// Milliseconds since the Unix epoch, as somebody claimed or a clock showed.
pub type Millis = u64;
