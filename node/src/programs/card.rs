//! A message that carries a program: its link, recognised where it is shown.

use teahouse_protocols::link::{Link, ProgramLink};

/// Words of a message that are looked at.
const MAX_WORDS: usize = 512;

/// The program that a text offers: the first link to one in it. The link's id follows from
/// its developer's key and its name, so that the name shown is the program's own.
#[must_use]
pub fn card(text: &str) -> Option<ProgramLink> {
    text.split_whitespace().take(MAX_WORDS).find_map(|word| match Link::parse(word) {
        Ok(Link::Program(link)) => Some(link),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use teahouse_protocols::codec::{List, Text};
    use teahouse_protocols::ids::AppId;
    use teahouse_protocols::link::{Link, ProgramLink};

    use super::card;

    #[test]
    fn a_link_in_a_text_is_a_card() {
        let link = ProgramLink {
            version: 1,
            app: AppId::of(&[1; 32], "Tea"),
            developer: [1; 32],
            name: "Tea".try_into().unwrap(),
            code: 1,
            providers: List::default(),
            launch: Text::default(),
        };
        let uri = Link::Program(link.clone()).to_uri();
        assert_eq!(card(&format!("look:\n{uri} nice, isn't it?")), Some(link));
        for text in ["", "teahouse:program/", "no card here", &uri[..uri.len() - 2]] {
            assert_eq!(card(text), None, "{text}");
        }
    }
}
