//! The one way bytes become values and values become bytes.
//!
//! Everything below the envelope's hand-specified outer frame is `postcard` (a compact,
//! non-self-describing serde format: <https://postcard.jamesmunns.com/wire-format>).
//! Decoding is *canonical*: a value has exactly one accepted encoding, so a hash or a
//! signature over bytes is a hash or a signature over the value. Over-long varints,
//! trailing bytes and lists beyond their bound are refused.

use core::fmt;
use core::ops::Deref;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A type with a wire form.
///
/// Enums on the wire only grow at the end: postcard numbers variants by position.
pub trait Wire: Serialize + for<'de> Deserialize<'de> {
    /// The name used in errors and vectors.
    const NAME: &'static str;
    /// Upper bound of the encoded form in bytes; longer input is refused unread.
    const MAX_BYTES: usize;

    /// Checks what the types can't express (sortedness, ranges). Called by [`decode`].
    fn check(&self) -> Result<(), DecodeError> {
        Ok(())
    }
}

/// Why bytes from outside were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// Longer than the type's bound.
    #[error("{name}: {len} bytes exceed the limit of {max}")]
    TooLong {
        /// Type that was expected.
        name: &'static str,
        /// Length received, in bytes.
        len: usize,
        /// The bound, in bytes.
        max: usize,
    },
    /// Not an encoding of this type.
    #[error("{name}: malformed ({why})")]
    Malformed {
        /// Type that was expected.
        name: &'static str,
        /// What is wrong, for a log line.
        why: &'static str,
    },
    /// A valid value in a second spelling.
    #[error("{name}: not the canonical encoding")]
    NotCanonical {
        /// Type that was expected.
        name: &'static str,
    },
    /// A version this build doesn't know.
    #[error("{name}: unknown version {version}")]
    UnknownVersion {
        /// Type that was expected.
        name: &'static str,
        /// The version found.
        version: u8,
    },
}

impl DecodeError {
    /// Shorthand for [`DecodeError::Malformed`].
    #[must_use]
    pub const fn malformed(name: &'static str, why: &'static str) -> Self {
        Self::Malformed { name, why }
    }
}

/// Encodes a value.
///
/// # Panics
/// Never for types of this crate: postcard fails only on types without a known length.
#[must_use]
pub fn encode<T: Wire>(value: &T) -> Vec<u8> {
    postcard::to_stdvec(value).expect("wire types are plain data")
}

/// Decodes a value from exactly `bytes`.
///
/// # Errors
/// See [`DecodeError`]. The bound is checked before anything is read.
pub fn decode<T: Wire>(bytes: &[u8]) -> Result<T, DecodeError> {
    let name = T::NAME;
    if bytes.len() > T::MAX_BYTES {
        return Err(DecodeError::TooLong { name, len: bytes.len(), max: T::MAX_BYTES });
    }
    let (value, rest) = postcard::take_from_bytes::<T>(bytes)
        .map_err(|_| DecodeError::malformed(name, "not decodable"))?;
    if !rest.is_empty() {
        return Err(DecodeError::malformed(name, "trailing bytes"));
    }
    if encode(&value) != bytes {
        return Err(DecodeError::NotCanonical { name });
    }
    value.check()?;
    Ok(value)
}

/// Bytes of at most `N`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Bytes<const N: usize>(Vec<u8>);

/// A list of at most `N` items.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct List<T, const N: usize>(Vec<T>);

/// UTF-8 text of at most `N` bytes.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Text<const N: usize>(String);

/// A value longer than its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} exceeds the limit of {max}")]
pub struct TooLong {
    /// Length given (bytes, or items for a list).
    pub len: usize,
    /// The bound.
    pub max: usize,
}

const fn bound(len: usize, max: usize) -> Result<(), TooLong> {
    if len > max {
        return Err(TooLong { len, max });
    }
    Ok(())
}

impl<const N: usize> Bytes<N> {
    /// The inner bytes.
    #[must_use]
    pub fn into_inner(self) -> Vec<u8> {
        self.0
    }
}

impl<const N: usize> TryFrom<Vec<u8>> for Bytes<N> {
    type Error = TooLong;
    fn try_from(v: Vec<u8>) -> Result<Self, TooLong> {
        bound(v.len(), N)?;
        Ok(Self(v))
    }
}

impl<const N: usize> Deref for Bytes<N> {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Bytes<N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl<const N: usize> Serialize for Bytes<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Bytes<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<const N: usize>;
        impl<const N: usize> de::Visitor<'_> for V<N> {
            type Value = Bytes<N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} bytes")
            }
            fn visit_bytes<E: de::Error>(self, v: &[u8]) -> Result<Bytes<N>, E> {
                bound(v.len(), N).map_err(E::custom)?;
                Ok(Bytes(v.to_vec()))
            }
            fn visit_byte_buf<E: de::Error>(self, v: Vec<u8>) -> Result<Bytes<N>, E> {
                Bytes::try_from(v).map_err(E::custom)
            }
        }
        d.deserialize_bytes(V::<N>)
    }
}

impl<T, const N: usize> Default for List<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> List<T, N> {
    /// The inner vector.
    #[must_use]
    pub fn into_inner(self) -> Vec<T> {
        self.0
    }
}

impl<T, const N: usize> TryFrom<Vec<T>> for List<T, N> {
    type Error = TooLong;
    fn try_from(v: Vec<T>) -> Result<Self, TooLong> {
        bound(v.len(), N)?;
        Ok(Self(v))
    }
}

impl<T, const N: usize> Deref for List<T, N> {
    type Target = [T];
    fn deref(&self) -> &[T] {
        &self.0
    }
}

impl<T, const N: usize> IntoIterator for List<T, N> {
    type Item = T;
    type IntoIter = std::vec::IntoIter<T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl<'a, T, const N: usize> IntoIterator for &'a List<T, N> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;
    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl<T: fmt::Debug, const N: usize> fmt::Debug for List<T, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<T: Serialize, const N: usize> Serialize for List<T, N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for List<T, N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct V<T, const N: usize>(core::marker::PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> de::Visitor<'de> for V<T, N> {
            type Value = List<T, N>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {N} items")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut a: A) -> Result<List<T, N>, A::Error> {
                // The claimed length is refused before anything is allocated for it.
                let hint = a.size_hint().unwrap_or(0);
                bound(hint, N).map_err(de::Error::custom)?;
                let mut v = Vec::with_capacity(hint.min(1024));
                while let Some(item) = a.next_element()? {
                    bound(v.len() + 1, N).map_err(de::Error::custom)?;
                    v.push(item);
                }
                Ok(List(v))
            }
        }
        d.deserialize_seq(V::<T, N>(core::marker::PhantomData))
    }
}

impl<const N: usize> Text<N> {
    /// The inner string.
    #[must_use]
    pub fn into_inner(self) -> String {
        self.0
    }
}

impl<const N: usize> TryFrom<String> for Text<N> {
    type Error = TooLong;
    fn try_from(v: String) -> Result<Self, TooLong> {
        bound(v.len(), N)?;
        Ok(Self(v))
    }
}

impl<const N: usize> TryFrom<&str> for Text<N> {
    type Error = TooLong;
    fn try_from(v: &str) -> Result<Self, TooLong> {
        Self::try_from(v.to_owned())
    }
}

impl<const N: usize> Deref for Text<N> {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl<const N: usize> fmt::Debug for Text<N> {
    // Text is content: it never reaches a log by accident.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes of text", self.0.len())
    }
}

impl<const N: usize> Serialize for Text<N> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(s)
    }
}

impl<'de, const N: usize> Deserialize<'de> for Text<N> {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let s = <String as Deserialize>::deserialize(d)?;
        Self::try_from(s).map_err(de::Error::custom)
    }
}

/// Serde for 64-byte arrays, which serde derives only up to 32.
pub(crate) mod array64 {
    use serde::{Deserializer, Serializer, de, ser::SerializeTuple};

    pub(crate) fn serialize<S: Serializer>(v: &[u8; 64], s: S) -> Result<S::Ok, S::Error> {
        let mut t = s.serialize_tuple(64)?;
        for b in v {
            t.serialize_element(b)?;
        }
        t.end()
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(d: D) -> Result<[u8; 64], D::Error> {
        struct V;
        impl<'de> de::Visitor<'de> for V {
            type Value = [u8; 64];
            fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("64 bytes")
            }
            fn visit_seq<A: de::SeqAccess<'de>>(self, mut a: A) -> Result<[u8; 64], A::Error> {
                let mut out = [0; 64];
                for (i, b) in out.iter_mut().enumerate() {
                    *b = a.next_element()?.ok_or_else(|| de::Error::invalid_length(i, &self))?;
                }
                Ok(out)
            }
        }
        d.deserialize_tuple(64, V)
    }
}

/// Checks that a list is strictly ascending: sets have one spelling.
///
/// # Errors
/// [`DecodeError::Malformed`] when two neighbours are equal or out of order.
pub fn check_ascending<T: Ord>(name: &'static str, items: &[T]) -> Result<(), DecodeError> {
    if items.windows(2).all(|w| w[0] < w[1]) {
        return Ok(());
    }
    Err(DecodeError::malformed(name, "list not strictly ascending"))
}
