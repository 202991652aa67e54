//! What goes to the terminal: plain text in which nothing that a stranger wrote can move the
//! cursor, JSON, QR codes.

use std::io::{self, Write};

use anyhow::Result;
use qrcode::render::unicode::Dense1x2;
use qrcode::{EcLevel, QrCode};
use serde::Serialize;
use teahouse_core::command::MessageId;
use teahouse_core::view;
use teahouse_protocols::ids::Millis;
use teahouse_protocols::lines::is_odd;

use super::photo;

/// Writes a line to standard output.
pub(super) fn line(text: impl AsRef<str>) -> Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_ref().as_bytes())?;
    out.write_all(b"\n")?;
    out.flush()?;
    Ok(())
}

/// Writes a value as JSON, for people who read it.
pub(super) fn json(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

/// Writes a value as one line of JSON.
pub(super) fn json_line(value: &impl Serialize) -> Result<()> {
    line(serde_json::to_string(value)?)
}

/// Text on one line, without control characters: escape sequences of strangers stay words.
pub(super) fn tidy(text: &str) -> String {
    text.chars().map(|c| if is_control(c) { ' ' } else { c }).collect()
}

/// Text with its line breaks, each indented; without other control characters.
pub(super) fn block(text: &str, indent: usize) -> String {
    let lines: Vec<String> = text.split('\n').map(|l| tidy(l.trim_end_matches('\r'))).collect();
    lines.join(&format!("\n{:indent$}", ""))
}

/// Control characters, and those that turn the direction of text around.
fn is_control(c: char) -> bool {
    is_odd(c)
}

/// The first eight digits of an id: enough to tell two apart.
pub(super) fn short(id: &str) -> String {
    id.chars().take(8).collect()
}

/// A message's id as `read` shows it and other commands take it.
pub(super) fn short_message(id: &MessageId) -> String {
    format!("{}:{}", short(&id.device.to_hex()), id.seq)
}

/// A relay's host name, for people.
pub(super) fn host(relay: &view::Relay) -> String {
    crate::doctor::relay_name(relay)
}

/// The day and the minute of a time, in UTC.
pub(super) fn day_and_minute(time: Millis) -> (String, String) {
    let seconds = time / 1000;
    let (days, rest) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let minute = format!("{:02}:{:02}", rest / 3600, rest / 60 % 60);
    (format!("{year:04}-{month:02}-{day:02}"), minute)
}

/// Day and minute in one.
pub(super) fn moment(time: Millis) -> String {
    let (day, minute) = day_and_minute(time);
    format!("{day} {minute} UTC")
}

/// The date of a day since 1970-01-01 (Howard Hinnant, "chrono-compatible low-level date
/// algorithms", `civil_from_days`, for days that are not negative).
const fn civil(days: u64) -> (u64, u64, u64) {
    let z = days + 719_468;
    let era = z / 146_097;
    let doe = z % 146_097;
    let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
    let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
    let mp = (5 * doy + 2) / 153;
    let day = doy - (153 * mp + 2) / 5 + 1;
    let month = if mp < 10 { mp + 3 } else { mp - 9 };
    let year = yoe + era * 400 + if month <= 2 { 1 } else { 0 };
    (year, month, day)
}

/// A number of bytes, for people.
pub(super) fn bytes(n: u64) -> String {
    for (unit, shift) in [("GiB", 30), ("MiB", 20), ("KiB", 10)] {
        if n >> shift > 0 {
            let tenths = (u128::from(n) * 10) >> shift;
            return format!("{}.{} {unit}", tenths / 10, tenths % 10);
        }
    }
    format!("{n} bytes")
}

/// A QR code in half blocks. A terminal is dark as a rule, so the light modules are drawn.
pub(super) fn qr(text: &str) -> Result<String> {
    let upper = text.to_ascii_uppercase();
    let code = QrCode::with_error_correction_level(upper, EcLevel::L)?;
    Ok(code.render::<Dense1x2>().dark_color(Dense1x2::Light).light_color(Dense1x2::Dark).build())
}

/// What a message says.
pub(super) fn content(content: &view::Content) -> String {
    match content {
        view::Content::Text(text) => text.clone(),
        view::Content::Pending => "(its text has not arrived yet)".into(),
        view::Content::Recalled => "(taken back)".into(),
        view::Content::Hidden => "(hidden by an admin)".into(),
        view::Content::Expired => "(disappeared)".into(),
        view::Content::Unknown => "(made by a newer version: update to read)".into(),
    }
}

/// A message on a line of its own (or more, if it has more); `quote` is what it answers.
pub(super) fn message(m: &view::Message, quote: Option<&str>) -> String {
    let (_, minute) = day_and_minute(m.time);
    let who = if m.mine { "me".to_owned() } else { tidy(&m.author_name) };
    let reply = quote.map(|quote| format!("[to {quote}] "));
    let forwarded = if m.forwarded { "(forwarded) " } else { "" };
    let said = content(&m.content);
    let mut text = match (m.photos.is_empty(), said.is_empty()) {
        (true, _) => block(&said, 7),
        (false, true) => photo::words(&m.photos),
        (false, false) => format!("{} {}", photo::words(&m.photos), block(&said, 7)),
    };
    if let view::Content::Text(said) = &m.content
        && let Some(card) = crate::programs::card(said)
    {
        let name = tidy(&card.name);
        text.push_str("\n       (Mini Program “");
        text.push_str(&name);
        text.push_str("”: teahouse program install LINK)");
    }
    let reactions: Vec<String> = m
        .reactions
        .iter()
        .map(|(emoji, by)| match by.len() {
            1 => format!("  ({})", tidy(emoji)),
            n => format!("  ({} {n})", tidy(emoji)),
        })
        .collect();
    let delivery = m.delivery.map(|d| format!(" ({})", d.words()));
    format!(
        "{minute}  {who}: {}{forwarded}{text}{}  [{}]{}",
        reply.unwrap_or_default(),
        reactions.concat(),
        short_message(&m.id),
        delivery.unwrap_or_default()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        let at = |s: u64| moment(s * 1000);
        assert_eq!(at(0), "1970-01-01 00:00 UTC");
        assert_eq!(at(951_782_400), "2000-02-29 00:00 UTC");
        assert_eq!(at(1_795_305_599), "2026-11-21 23:59 UTC");
        assert_eq!(at(4_107_542_399), "2100-02-28 23:59 UTC");
        assert_eq!(at(4_107_542_400), "2100-03-01 00:00 UTC");
    }

    #[test]
    fn strangers_cannot_write_to_the_terminal() {
        let nasty = "hi\x1b]0;pwned\x07 \u{9b}31m \u{202e}evil\r\nsecond\x08";
        for shown in [tidy(nasty), block(nasty, 2).replace('\n', "")] {
            assert!(!shown.chars().any(is_control), "{shown:?}");
        }
        assert_eq!(block("a\nb", 2), "a\n  b");
    }

    #[test]
    fn sizes() {
        assert_eq!(bytes(1023), "1023 bytes");
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(u64::MAX), "17179869183.9 GiB");
    }

    #[test]
    fn a_link_fits_into_a_qr_code() {
        let link = format!("teahouse:relay/{}", "a2".repeat(2000));
        assert!(qr(&link).unwrap().lines().count() > 40);
        assert!(qr(&"a".repeat(5000)).is_err());
    }
}
