//! Composite keys whose byte order is the order of their parts.
//!
//! Numbers are big endian, arrays are raw, and strings of varying length are escaped
//! (`00` becomes `00 ff`) and ended by `00 01`, so that `("a", …)` sorts before `("ab", …)`
//! and no part runs into the next. Prefixes of a key are keys: `Key::new().fixed(&topic)`
//! is the prefix of all rows of that topic.

use std::ops::Deref;

use super::error::StorageError;
use super::tables::Table;

const ESCAPE: u8 = 0x00;
const ESCAPED_ZERO: u8 = 0xff;
const END: u8 = 0x01;

/// Composes a key. Dereferences to its bytes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key(Vec<u8>);

impl Key {
    /// The empty key.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// An array: an id or a hash.
    #[must_use]
    pub fn fixed<const N: usize>(mut self, part: &[u8; N]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    /// A byte: a flag or a tag.
    #[must_use]
    pub fn u8(self, part: u8) -> Self {
        self.fixed(&[part])
    }

    /// A number.
    #[must_use]
    pub fn u16(self, part: u16) -> Self {
        self.fixed(&part.to_be_bytes())
    }

    /// A number.
    #[must_use]
    pub fn u32(self, part: u32) -> Self {
        self.fixed(&part.to_be_bytes())
    }

    /// A number.
    #[must_use]
    pub fn u64(self, part: u64) -> Self {
        self.fixed(&part.to_be_bytes())
    }

    /// A number.
    #[must_use]
    pub fn u128(self, part: u128) -> Self {
        self.fixed(&part.to_be_bytes())
    }

    /// Bytes of varying length, with more parts to follow.
    #[must_use]
    pub fn bytes(mut self, part: &[u8]) -> Self {
        for b in part {
            self.0.push(*b);
            if *b == ESCAPE {
                self.0.push(ESCAPED_ZERO);
            }
        }
        self.0.extend_from_slice(&[ESCAPE, END]);
        self
    }

    /// Text, with more parts to follow. Sorts by UTF-8 bytes.
    #[must_use]
    pub fn text(self, part: &str) -> Self {
        self.bytes(part.as_bytes())
    }

    /// The last part, raw: bytes of varying length with nothing after them.
    #[must_use]
    pub fn rest(mut self, part: &[u8]) -> Self {
        self.0.extend_from_slice(part);
        self
    }

    /// The bytes.
    #[must_use]
    pub fn into_bytes(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Key {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Takes a stored key apart, in the order it was composed. A key that doesn't fit is damage:
/// [`StorageError::Corrupt`] of its table.
#[derive(Debug)]
pub struct KeyReader<'a> {
    table: &'static Table,
    left: &'a [u8],
}

impl<'a> KeyReader<'a> {
    /// Reads a key of `table`.
    #[must_use]
    pub const fn new(table: &'static Table, key: &'a [u8]) -> Self {
        Self { table, left: key }
    }

    const fn corrupt(&self, why: &'static str) -> StorageError {
        StorageError::corrupt(self.table.name, why)
    }

    /// An array.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], StorageError> {
        let (part, left) =
            self.left.split_first_chunk().ok_or_else(|| self.corrupt("a key is too short"))?;
        self.left = left;
        Ok(*part)
    }

    /// A byte.
    pub fn u8(&mut self) -> Result<u8, StorageError> {
        self.fixed().map(u8::from_be_bytes)
    }

    /// A number.
    pub fn u16(&mut self) -> Result<u16, StorageError> {
        self.fixed().map(u16::from_be_bytes)
    }

    /// A number.
    pub fn u32(&mut self) -> Result<u32, StorageError> {
        self.fixed().map(u32::from_be_bytes)
    }

    /// A number.
    pub fn u64(&mut self) -> Result<u64, StorageError> {
        self.fixed().map(u64::from_be_bytes)
    }

    /// A number.
    pub fn u128(&mut self) -> Result<u128, StorageError> {
        self.fixed().map(u128::from_be_bytes)
    }

    /// Bytes of varying length.
    pub fn bytes(&mut self) -> Result<Vec<u8>, StorageError> {
        let mut part = Vec::new();
        let mut i = 0;
        while let Some(b) = self.left.get(i) {
            if *b != ESCAPE {
                part.push(*b);
                i += 1;
                continue;
            }
            match self.left.get(i + 1) {
                Some(&ESCAPED_ZERO) => part.push(ESCAPE),
                Some(&END) => {
                    self.left = &self.left[i + 2..];
                    return Ok(part);
                }
                _ => return Err(self.corrupt("a bad escape in a key")),
            }
            i += 2;
        }
        Err(self.corrupt("a key without its end mark"))
    }

    /// Text.
    pub fn text(&mut self) -> Result<String, StorageError> {
        String::from_utf8(self.bytes()?).map_err(|_| self.corrupt("a key that is not UTF-8"))
    }

    /// Everything that is left.
    #[must_use]
    pub const fn rest(self) -> &'a [u8] {
        self.left
    }

    /// Checks that nothing is left.
    pub const fn end(self) -> Result<(), StorageError> {
        if self.left.is_empty() { Ok(()) } else { Err(self.corrupt("a key is too long")) }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    static T: Table = Table::truth("t");

    type Parts = (Vec<u8>, u64, [u8; 2], String, u8);

    fn compose(p: &Parts) -> Key {
        Key::new().bytes(&p.0).u64(p.1).fixed(&p.2).text(&p.3).u8(p.4)
    }

    fn parts() -> impl Strategy<Value = Parts> {
        // Few different bytes, so that shared prefixes and the escapes themselves are common.
        let byte = prop_oneof![Just(0u8), Just(1), Just(0xff), any::<u8>()];
        let number = prop_oneof![0u64..3, any::<u64>()];
        (prop::collection::vec(byte, 0..4), number, any::<[u8; 2]>(), "[\0a\u{ff}]{0,3}", 0u8..3)
    }

    proptest! {
        #[test]
        fn order_and_round_trip(a in parts(), b in parts()) {
            let (ka, kb) = (compose(&a), compose(&b));
            prop_assert_eq!(a.cmp(&b), ka.cmp(&kb));
            let mut r = KeyReader::new(&T, &ka);
            let back =
                (r.bytes().unwrap(), r.u64().unwrap(), r.fixed().unwrap(), r.text().unwrap(), r.u8().unwrap());
            r.end().unwrap();
            prop_assert_eq!(a, back);
        }

        #[test]
        fn hostile_keys_are_refused_or_read(key in prop::collection::vec(0u8..3, 0..24)) {
            let mut r = KeyReader::new(&T, &key);
            if let (Ok(a), Ok(n), Ok(s)) = (r.bytes(), r.u16(), r.text()) {
                let rest = r.rest().to_vec();
                let again = Key::new().bytes(&a).u16(n).text(&s).rest(&rest);
                prop_assert_eq!(&*again, key.as_slice());
            }
        }
    }

    #[test]
    fn short_and_long_keys_name_their_table() {
        let key = Key::new().u32(7).u8(1);
        let mut r = KeyReader::new(&T, &key);
        assert!(matches!(r.u64(), Err(StorageError::Corrupt { table: "t", .. })));
        assert_eq!(r.u32(), Ok(7));
        assert!(r.end().is_err());
    }
}
