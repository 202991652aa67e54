//! Safety numbers: 60 digits that two people compare to know that nobody sits between
//! them.
//!
//! # Derivation
//! For each party, `h₀ = hash(SAFETY, [0x01, account id, current root key])` and
//! `hᵢ = hash(SAFETY, [hᵢ₋₁, account id, current root key])` up to `h₄₀₉₆` (the rounds make
//! it dearer to search for a key whose digits look alike). The first 30 bytes of the last
//! one, as six big-endian 40-bit numbers modulo 100,000, are the party's 30 digits. The
//! smaller party's digits come first, so both sides see the same 60: about 200 bits, 100
//! for either party.
//!
//! The number changes when either rotates the root key, and never when devices come and go.

use std::fmt;

use crate::ids::AccountId;
use crate::sign::{self, Domain};

const ROUNDS: usize = 4096;

/// The number of a pair of accounts: 12 groups of 5 decimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SafetyNumber([u32; 12]);

impl SafetyNumber {
    /// The number for two parties, each an account and its current root key. The order
    /// doesn't matter.
    #[must_use]
    pub fn new(a: (&AccountId, &[u8; 32]), b: (&AccountId, &[u8; 32])) -> Self {
        let mut halves = [digits(a), digits(b)];
        halves.sort_unstable();
        let mut groups = [0; 12];
        groups[..6].copy_from_slice(&halves[0]);
        groups[6..].copy_from_slice(&halves[1]);
        Self(groups)
    }

    /// The groups, each below 100,000.
    #[must_use]
    pub const fn groups(&self) -> &[u32; 12] {
        &self.0
    }

    /// Whether a text that somebody typed or scanned is this number. White space doesn't
    /// matter, full-width digits count; anything else makes it false.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let typed = text.chars().filter(|c| !c.is_whitespace()).map(|c| match c {
            '\u{ff10}'..='\u{ff19}' => char::from_u32(u32::from(c) - 0xff10 + 0x30).unwrap_or(c),
            c => c,
        });
        let own = self.to_string();
        typed.eq(own.chars().filter(|c| *c != ' '))
    }
}

/// Twelve groups separated by spaces.
impl fmt::Display for SafetyNumber {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, group) in self.0.iter().enumerate() {
            if i > 0 {
                f.write_str(" ")?;
            }
            write!(f, "{group:05}")?;
        }
        Ok(())
    }
}

fn digits((account, root): (&AccountId, &[u8; 32])) -> [u32; 6] {
    let mut h = sign::hash(Domain::SAFETY, &[&[1], &account.0, root]);
    for _ in 0..ROUNDS {
        h = sign::hash(Domain::SAFETY, &[&h, &account.0, root]);
    }
    let mut groups = [0; 6];
    for (group, bytes) in groups.iter_mut().zip(h.chunks_exact(5)) {
        let number = bytes.iter().fold(0_u64, |n, b| n << 8 | u64::from(*b));
        *group = (number % 100_000) as u32;
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::SafetyNumber;
    use crate::ids::AccountId;

    #[test]
    fn symmetric_fixed_and_bound_to_all_four() {
        let (a, b) = (AccountId([1; 32]), AccountId([2; 32]));
        let (ra, rb) = ([3; 32], [4; 32]);
        let number = SafetyNumber::new((&a, &ra), (&b, &rb));
        assert_eq!(number, SafetyNumber::new((&b, &rb), (&a, &ra)));
        let c = AccountId([9; 32]);
        for other in [
            SafetyNumber::new((&c, &ra), (&b, &rb)),
            SafetyNumber::new((&a, &[9; 32]), (&b, &rb)),
            SafetyNumber::new((&a, &ra), (&c, &rb)),
            SafetyNumber::new((&a, &ra), (&b, &[9; 32])),
            SafetyNumber::new((&a, &rb), (&b, &ra)),
        ] {
            assert_ne!(other, number);
            // A stranger in the middle changes one half only: the other stays.
            assert!(!other.matches(&number.to_string()));
        }
        let text = number.to_string();
        assert_eq!(text.len(), 71);
        assert!(text.split(' ').all(|g| g.len() == 5));
    }

    #[test]
    fn comparing_forgives_spacing_only() {
        let number =
            SafetyNumber::new((&AccountId([1; 32]), &[3; 32]), (&AccountId([2; 32]), &[4; 32]));
        let text = number.to_string();
        assert!(number.matches(&text));
        assert!(number.matches(&text.replace(' ', "\n")));
        let wide: String = text
            .chars()
            .map(|c| c.to_digit(10).map_or(c, |d| char::from_u32(0xff10 + d).unwrap()))
            .collect();
        assert!(number.matches(&wide));
        assert!(!number.matches(""));
        assert!(!number.matches(&text[..70]));
        assert!(!number.matches(&format!("{text}0")));
        let first = u8::from(text.as_bytes()[0] == b'0').to_string();
        assert!(!number.matches(&format!("{first}{}", &text[1..])));
    }
}
