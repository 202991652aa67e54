//! Numbers of money and their text. Whole minor units only; no fractions anywhere.

use core::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Most decimals of an asset.
pub const MAX_EXPONENT: u8 = 8;

/// A currency by its three capital letters: an ISO 4217 code, or one of the issuer's own for
/// points (ISO leaves those that begin with X to such uses; `XTS` is for tests).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Currency([u8; 3]);

/// Decimals of currencies in ISO 4217 that don't have two.
const DECIMALS: &[(&str, u8)] = &[
    ("BHD", 3),
    ("BIF", 0),
    ("CLF", 4),
    ("CLP", 0),
    ("DJF", 0),
    ("GNF", 0),
    ("IQD", 3),
    ("ISK", 0),
    ("JOD", 3),
    ("JPY", 0),
    ("KMF", 0),
    ("KRW", 0),
    ("KWD", 3),
    ("LYD", 3),
    ("OMR", 3),
    ("PYG", 0),
    ("RWF", 0),
    ("TND", 3),
    ("UGX", 0),
    ("UYI", 0),
    ("UYW", 4),
    ("VND", 0),
    ("VUV", 0),
    ("XAF", 0),
    ("XOF", 0),
    ("XPF", 0),
];

/// Currencies with two decimals that are checked too; other codes are free.
const TWO_DECIMALS: &[&str] = &[
    "AUD", "BRL", "CAD", "CHF", "CNY", "CZK", "DKK", "EUR", "GBP", "HKD", "HUF", "IDR", "ILS",
    "INR", "MOP", "MXN", "MYR", "NOK", "NZD", "PHP", "PLN", "RUB", "SAR", "SEK", "SGD", "THB",
    "TRY", "TWD", "USD", "XCD", "ZAR",
];

impl Currency {
    /// Three capital letters; anything else is none.
    #[must_use]
    pub const fn new(code: [u8; 3]) -> Option<Self> {
        let [a, b, c] = code;
        if a.is_ascii_uppercase() && b.is_ascii_uppercase() && c.is_ascii_uppercase() {
            return Some(Self(code));
        }
        None
    }

    /// Reads three capital letters.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::new(code.as_bytes().try_into().ok()?)
    }

    /// The three letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Invariant: capital letters, which `new` saw to.
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// How many decimals ISO 4217 gives it, where this build knows the currency.
    #[must_use]
    pub fn decimals(&self) -> Option<u8> {
        let code = self.as_str();
        let other = DECIMALS.iter().find(|(c, _)| *c == code).map(|(_, n)| *n);
        other.or_else(|| TWO_DECIMALS.contains(&code).then_some(2))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

// On the wire three bytes; in text formats three letters.
impl Serialize for Currency {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        if s.is_human_readable() { s.serialize_str(self.as_str()) } else { self.0.serialize(s) }
    }
}

impl<'de> Deserialize<'de> for Currency {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        let wrong = || de::Error::custom("expected three capital letters");
        if d.is_human_readable() {
            Self::parse(&String::deserialize(d)?).ok_or_else(wrong)
        } else {
            Self::new(<[u8; 3]>::deserialize(d)?).ok_or_else(wrong)
        }
    }
}

/// An amount with what it takes to show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Money {
    /// The currency.
    pub currency: Currency,
    /// Decimals, at most [`MAX_EXPONENT`].
    pub exponent: u8,
    /// Minor units.
    pub minor: u64,
}

/// Why a text is no amount.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not digits, with at most one point between them.
    #[error("not an amount: write it like 12 or 3.50")]
    NotANumber,
    /// More decimals than the currency has.
    #[error("this currency has at most {most} decimals")]
    TooFine {
        /// How many it has.
        most: u8,
    },
    /// More than can be counted.
    #[error("the amount is too large")]
    TooLarge,
}

/// Minor units as digits with a decimal point: 350 at two decimals is `3.50`.
#[must_use]
pub fn show(minor: u64, exponent: u8) -> String {
    if exponent == 0 {
        return minor.to_string();
    }
    let places = usize::from(exponent);
    let digits = format!("{minor:0>width$}", width = places + 1);
    let (whole, fraction) = digits.split_at(digits.len() - places);
    format!("{whole}.{fraction}")
}

/// Reads digits with at most one decimal point: `3.5` at two decimals is 350. No signs, no
/// separators, nothing rounded.
pub fn parse(text: &str, exponent: u8) -> Result<u64, AmountError> {
    let text = text.trim();
    let (whole, fraction) = match text.split_once('.') {
        Some((whole, fraction)) if !fraction.is_empty() => (whole, fraction),
        Some(_) => return Err(AmountError::NotANumber),
        None => (text, ""),
    };
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    if whole.is_empty() || !digits(whole) || !digits(fraction) {
        return Err(AmountError::NotANumber);
    }
    let spare = usize::from(exponent)
        .checked_sub(fraction.len())
        .ok_or(AmountError::TooFine { most: exponent })?;
    let zeros = core::iter::repeat_n(b'0', spare);
    whole.bytes().chain(fraction.bytes()).chain(zeros).try_fold(0_u64, |sum, digit| {
        sum.checked_mul(10)
            .and_then(|sum| sum.checked_add(u64::from(digit - b'0')))
            .ok_or(AmountError::TooLarge)
    })
}

/// The sum of amounts, or nothing where it can't be counted.
#[must_use]
pub fn sum(amounts: impl IntoIterator<Item = u64>) -> Option<u64> {
    amounts.into_iter().try_fold(0_u64, u64::checked_add)
}

impl Money {
    /// Reads an amount of a currency.
    pub fn parse(text: &str, currency: Currency, exponent: u8) -> Result<Self, AmountError> {
        Ok(Self { currency, exponent, minor: parse(text, exponent)? })
    }
}

/// `3.50 EUR`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", show(self.minor, self.exponent), self.currency)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{
        AmountError, Currency, DECIMALS, MAX_EXPONENT, Money, TWO_DECIMALS, parse, show, sum,
    };

    #[test]
    fn text_and_number() {
        for (text, exponent, minor) in [
            ("3.50", 2, 350),
            ("3.5", 2, 350),
            ("3", 2, 300),
            ("0.05", 2, 5),
            ("007", 0, 7),
            (" 12 ", 0, 12),
            ("1.234", 3, 1_234),
            ("184467440737095516.15", 2, u64::MAX),
            ("18446744073709551615", 0, u64::MAX),
        ] {
            assert_eq!(parse(text, exponent), Ok(minor), "{text}");
        }
        assert_eq!(show(5, 2), "0.05");
        assert_eq!(show(350, 2), "3.50");
        assert_eq!(show(0, 3), "0.000");
        assert_eq!(show(u64::MAX, 0), "18446744073709551615");
        let eur = Currency::parse("EUR").unwrap();
        assert_eq!(Money::parse("3.5", eur, 2).unwrap().to_string(), "3.50 EUR");
    }

    #[test]
    fn what_is_no_amount() {
        for text in
            ["", " ", ".", "3.", ".5", "-1", "+1", "1,5", "1 000", "1.2.3", "1e3", "０", "٣", "0x1"]
        {
            assert_eq!(parse(text, 2), Err(AmountError::NotANumber), "{text}");
        }
        assert_eq!(parse("3.501", 2), Err(AmountError::TooFine { most: 2 }));
        assert_eq!(parse("3.500", 2), Err(AmountError::TooFine { most: 2 }), "nothing rounded");
        assert_eq!(parse("3.0", 0), Err(AmountError::TooFine { most: 0 }));
        assert_eq!(parse("184467440737095516.16", 2), Err(AmountError::TooLarge));
        assert_eq!(parse("184467440737095517", 2), Err(AmountError::TooLarge));
        assert_eq!(parse(&"9".repeat(10_000), 2), Err(AmountError::TooLarge));
        assert_eq!(sum([u64::MAX, 0]), Some(u64::MAX));
        assert_eq!(sum([u64::MAX, 1]), None);
    }

    #[test]
    fn currencies() {
        for wrong in ["eur", "EU", "EURO", "E1R", "", "€€"] {
            assert_eq!(Currency::parse(wrong), None, "{wrong}");
        }
        let decimals = |code| Currency::parse(code).unwrap().decimals();
        assert_eq!(decimals("JPY"), Some(0));
        assert_eq!(decimals("CNY"), Some(2));
        assert_eq!(decimals("KWD"), Some(3));
        assert_eq!(decimals("XTS"), None);
        let all = DECIMALS.iter().map(|(c, _)| *c).chain(TWO_DECIMALS.iter().copied());
        let mut codes: Vec<&str> = all.collect();
        let count = codes.len();
        codes.sort_unstable();
        codes.dedup();
        assert_eq!(codes.len(), count, "a currency stands twice");
        assert!(codes.iter().all(|c| Currency::parse(c).is_some()));
    }

    proptest! {
        #[test]
        fn what_is_shown_reads_back(minor: u64, shift in 0_u32..64, exponent in 0..=MAX_EXPONENT) {
            let minor = minor >> shift;
            prop_assert_eq!(parse(&show(minor, exponent), exponent), Ok(minor));
        }

        #[test]
        fn any_text_is_answered(text in "\\PC{0,24}", exponent: u8) {
            if let Ok(minor) = parse(&text, exponent) {
                prop_assert_eq!(parse(&show(minor, exponent), exponent), Ok(minor));
            }
        }
    }
}
