//! Strangers' texts that stand beside one's own words: on one line, in one direction, so that
//! none can look like a line of somebody else's.

/// Whether a character moves the cursor, ends the line, or turns the direction of text around.
#[must_use]
pub fn is_odd(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{061c}' | '\u{200e}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// The text on one line of at most `max` bytes, without [odd](is_odd) characters, and with one
/// space where there were several: enough of them would push what follows to the next line.
#[must_use]
pub fn one_line(text: &str, max: usize) -> String {
    let mut line = String::new();
    let mut space = false;
    for c in text.chars() {
        if c.is_whitespace() || c.is_control() {
            space = !line.is_empty();
            continue;
        }
        if is_odd(c) {
            continue;
        }
        if line.len() + usize::from(space) + c.len_utf8() > max {
            break;
        }
        if std::mem::take(&mut space) {
            line.push(' ');
        }
        line.push(c);
    }
    line
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{is_odd, one_line};

    proptest! {
        #[test]
        fn a_line_is_one_line(text in "\\PC{0,40}[\u{202e}\n\u{2028} ]{0,9}\\PC{0,40}", max in 0usize..60) {
            let line = one_line(&text, max);
            prop_assert!(line.len() <= max);
            prop_assert!(!line.chars().any(is_odd));
            prop_assert!(!line.contains("  ") && line.trim() == line);
            prop_assert_eq!(one_line(&line, max), line);
        }
    }

    #[test]
    fn what_looks_like_another_line_does_not() {
        let nasty = "to count\r\n\u{2028}Teahouse asks you:\u{202e} wolla";
        assert_eq!(one_line(nasty, 128), "to count Teahouse asks you: wolla");
        assert_eq!(one_line("茶馆", 4), "茶");
        assert_eq!(one_line("早上好 🍵", 100), "早上好 🍵");
    }
}
