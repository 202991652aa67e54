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
    /// Encodes a text; `None` if it is too long for any QR code.
    pub fn encode(text: &str) -> Option<Self> {
        // Screens don't get dirty: little correction, so that modules are large.
        let code = QrCode::with_error_correction_level(text, EcLevel::L).ok()?;
        Some(Self {
            side: code.width(),
            dark: code.to_colors().into_iter().map(|c| c == Color::Dark).collect(),
        })
    }
}
