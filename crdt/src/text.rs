//! Compact text for keys. Text sorts as the bytes or numbers it stands for, so that a range of
//! keys is a range of actors, or of messages in the order of their numbers.

/// Ascending in ASCII, which is what makes the encoding keep its order.
const ALPHABET: &[u8; 64] = b"-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz";

/// Six bits a character, most significant first: 22 characters for 16 bytes, 43 for 32.
pub(crate) fn encode_bytes(bytes: &[u8], out: &mut String) {
    let mut held: u32 = 0;
    let mut bits = 0;
    for &byte in bytes {
        held = held << 8 | u32::from(byte);
        bits += 8;
        while bits >= 6 {
            bits -= 6;
            out.push(digit(held >> bits));
        }
        held &= (1 << bits) - 1;
    }
    if bits > 0 {
        out.push(digit(held << (6 - bits)));
    }
}

/// The inverse of [`encode_bytes`] for `N` bytes; `None` for any other text.
pub(crate) fn decode_bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    if text.len() != (N * 8).div_ceil(6) {
        return None;
    }
    let mut out = [0; N];
    let mut filled = 0;
    let mut held: u32 = 0;
    let mut bits = 0;
    for c in text.bytes() {
        held = held << 6 | value(c)?;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            *out.get_mut(filled)? = (held >> bits) as u8;
            filled += 1;
            held &= (1 << bits) - 1;
        }
    }
    // The bits left over must be zero: one spelling per value.
    (filled == N && held == 0).then_some(out)
}

/// A number as its count of digits and then the digits: 1 to 12 characters that sort as numbers.
pub(crate) fn encode_number(n: u64, out: &mut String) {
    let digits = (64 - n.leading_zeros()).div_ceil(6);
    out.push(digit(digits));
    for i in (0..digits).rev() {
        out.push(digit((n >> (6 * i)) as u32));
    }
}

/// The inverse of [`encode_number`]; `None` for any other text.
pub(crate) fn decode_number(text: &str) -> Option<u64> {
    let (count, digits) = text.as_bytes().split_first()?;
    let count = value(*count)? as usize;
    if digits.len() != count || count > 11 {
        return None;
    }
    let mut n: u128 = 0;
    for &c in digits {
        n = n << 6 | u128::from(value(c)?);
    }
    let n = u64::try_from(n).ok()?;
    let canonical = (64 - n.leading_zeros()).div_ceil(6) as usize == count;
    canonical.then_some(n)
}

/// The character for the low six bits of `n`.
fn digit(n: u32) -> char {
    char::from(ALPHABET[(n & 63) as usize])
}

fn value(c: u8) -> Option<u32> {
    let at = ALPHABET.binary_search(&c).ok()?;
    u32::try_from(at).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn bytes_text(bytes: &[u8]) -> String {
        let mut s = String::new();
        encode_bytes(bytes, &mut s);
        s
    }

    fn number_text(n: u64) -> String {
        let mut s = String::new();
        encode_number(n, &mut s);
        s
    }

    proptest! {
        #[test]
        fn bytes_come_back_and_keep_their_order(a: [u8; 16], b: [u8; 16]) {
            let (ta, tb) = (bytes_text(&a), bytes_text(&b));
            prop_assert_eq!(ta.len(), 22);
            prop_assert_eq!(decode_bytes::<16>(&ta), Some(a));
            prop_assert_eq!(ta.cmp(&tb), a.cmp(&b));
        }

        #[test]
        fn numbers_come_back_and_keep_their_order(a: u64, b: u64, shift in 0u32..64) {
            let (a, b) = (a >> shift, b >> (63 - shift));
            let (ta, tb) = (number_text(a), number_text(b));
            prop_assert_eq!(decode_number(&ta), Some(a));
            prop_assert_eq!(ta.cmp(&tb), a.cmp(&b));
        }

        #[test]
        fn one_spelling(text in "[-0-9A-Z_a-z]{0,23}") {
            if let Some(n) = decode_number(&text) {
                prop_assert_eq!(number_text(n), text.clone());
            }
            if let Some(b) = decode_bytes::<16>(&text) {
                prop_assert_eq!(bytes_text(&b), text);
            }
        }
    }

    #[test]
    fn extremes() {
        for n in [0, 1, 63, 64, u64::MAX] {
            assert_eq!(decode_number(&number_text(n)), Some(n));
        }
        assert_eq!(number_text(0), "-");
        assert_eq!(bytes_text(&[0; 16]).len(), 22);
        assert_eq!(bytes_text(&[255; 32]).len(), 43);
    }
}
