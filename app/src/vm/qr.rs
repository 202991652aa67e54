//! A QR code as squares.

use qrcode::{Color, EcLevel, QrCode};

/// A QR code.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Qr {
    /// Modules a side, without the quiet zone.
    pub side: usize,
    /// Row by row, whether a module is dark: `side * side` of them.
    pub dark: Vec<bool>,
}

impl Qr {
    /// Encodes one of our links; `None` if it is too long for any QR code. Links mean the
    /// same in upper case, and that takes a third less room.
    pub fn of_link(link: &str) -> Option<Self> {
        let text = link.to_ascii_uppercase();
        // Screens don't get dirty: little correction, so that modules are large.
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        Some(Self {
            side: code.width(),
            dark: code.to_colors().into_iter().map(|c| c == Color::Dark).collect(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_are_encoded_in_the_smaller_alphabet() {
        let link = format!("teahouse:card/{}", "a2".repeat(400));
        let qr = Qr::of_link(&link).unwrap();
        assert_eq!(qr.dark.len(), qr.side * qr.side);
        let bytes = QrCode::with_error_correction_level(&link, EcLevel::L).unwrap();
        assert!(qr.side < bytes.width());
        // The corner of a finder pattern.
        assert!(qr.dark[..7].iter().all(|dark| *dark) && !qr.dark[7]);
        assert_eq!(Qr::of_link(&"a".repeat(5_000)), None);
    }
}
