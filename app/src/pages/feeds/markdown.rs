//! An article's Markdown as plain blocks, read once, on the bridge's worker.
//!
//! Other people's text: whatever it says, nothing is fetched and nothing is opened. Of
//! pictures only the article's own photos are shown (`photo:0`); any other stays its words and
//! its address. HTML is text. Nesting, blocks, pieces and links are bounded.

use std::collections::BTreeSet;

use pulldown_cmark::{CodeBlockKind, Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use teahouse_node::protocols::feed::MAX_ARTICLE;

use crate::vm::confuses;

/// Blocks of a text; the rest is left out, and told.
pub const MAX_BLOCKS: usize = 2_000;
/// Pieces of a line; a new one begins wherever its look changes.
const MAX_PIECES: usize = 20_000;
/// Links that can be followed; further ones are text.
const MAX_LINKS: usize = 500;
/// Quotes and lists within each other that are told apart; deeper ones are drawn there.
const MAX_DEPTH: usize = 6;
/// The longest address of a link, in bytes; what is longer leads nowhere.
const MAX_ADDRESS: usize = 2_048;
/// Letters of the words under a photo.
const MAX_WORDS: usize = 300;
/// Letters of a block: longer ones are cut in two, for each is laid out whole.
const MAX_LETTERS: usize = 4_000;

/// A text.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Text {
    /// From top to bottom.
    pub blocks: Vec<Block>,
    /// Where links lead.
    pub links: Vec<String>,
    /// Whether something is left out.
    pub cut: bool,
}

/// A block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Block {
    /// How far it is moved in, in steps of a list's items.
    pub inset: u8,
    /// How many quotes it stands in.
    pub quote: u8,
    /// Before its first line: an item's point or number.
    pub mark: String,
    /// What it is.
    pub kind: Kind,
}

/// What a block is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kind {
    /// A heading of a level from 1 to 6.
    Heading(u8, Vec<Piece>),
    /// A paragraph.
    Paragraph(Vec<Piece>),
    /// Text as it was typed.
    Code(String),
    /// One of the article's photos, and its words.
    Photo(usize, String),
    /// A line across.
    Rule,
}

/// Text of one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// The text.
    pub text: String,
    /// Its look.
    pub look: Look,
    /// The link that it is, by its place in [`Text::links`].
    pub link: Option<usize>,
}

/// How text looks.
#[expect(clippy::struct_excessive_bools, reason = "each can stand with each")]
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Look {
    /// Emphasis.
    pub emphasis: bool,
    /// Strong emphasis.
    pub strong: bool,
    /// Struck out.
    pub struck: bool,
    /// Code.
    pub code: bool,
}

impl Text {
    /// Reads Markdown with so many photos. Photos that it does not name stand at its end.
    #[must_use]
    pub fn read(markdown: &str, photos: usize) -> Self {
        // No article is longer.
        let markdown = markdown.get(..MAX_ARTICLE).unwrap_or(markdown);
        let mut reader = Reader { photos, ..Reader::default() };
        let parser = Parser::new_ext(markdown, Options::ENABLE_STRIKETHROUGH);
        for event in parser {
            if reader.text.blocks.len() >= MAX_BLOCKS || reader.pieces_read >= MAX_PIECES {
                reader.text.cut = true;
                break;
            }
            reader.event(event);
        }
        reader.end_of_block();
        let named = core::mem::take(&mut reader.named);
        let mut text = reader.text;
        for photo in (0..photos).filter(|i| !named.contains(i)) {
            let (mark, kind) = (String::new(), Kind::Photo(photo, String::new()));
            text.blocks.push(Block { inset: 0, quote: 0, mark, kind });
        }
        text
    }

    /// Its first words, for a list of articles.
    #[must_use]
    pub fn lead(&self, letters: usize) -> String {
        let mut lead = String::new();
        for block in &self.blocks {
            let Kind::Paragraph(pieces) = &block.kind else { continue };
            if !lead.is_empty() {
                lead.push(' ');
            }
            lead.extend(pieces.iter().map(|p| p.text.as_str()));
            if lead.chars().count() > letters {
                let short: String = lead.chars().take(letters).collect();
                return format!("{}…", crate::vm::one_line(short.trim_end()));
            }
        }
        crate::vm::one_line(&lead)
    }
}

#[derive(Default)]
struct Reader {
    text: Text,
    photos: usize,
    /// Photos that the text names.
    named: BTreeSet<usize>,
    /// The block that is being read.
    pieces: Vec<Piece>,
    pieces_read: usize,
    look: [usize; 3],
    heading: Option<u8>,
    code: Option<String>,
    /// The number of each open list's next item; `None` for points.
    lists: Vec<Option<u64>>,
    quotes: usize,
    /// The mark of an item that nothing was read of yet.
    mark: String,
    /// The open link, and links within it that are none.
    link: Option<usize>,
    /// An open picture: its photo, if it is one of ours, its address, and its words.
    picture: Option<(Option<usize>, String, String)>,
}

const EMPHASIS: usize = 0;
const STRONG: usize = 1;
const STRUCK: usize = 2;

impl Reader {
    fn event(&mut self, event: Event<'_>) {
        match event {
            Event::Start(tag) => self.start(tag),
            Event::End(tag) => self.end(tag),
            Event::Code(text) => self.say(&text, true),
            Event::Text(text) | Event::Html(text) | Event::InlineHtml(text) => {
                self.say(&text, false);
            }
            Event::SoftBreak => self.say(" ", false),
            Event::HardBreak => self.say("\n", false),
            Event::Rule => {
                self.end_of_block();
                self.push(Kind::Rule);
            }
            // Not asked of the parser.
            Event::InlineMath(_)
            | Event::DisplayMath(_)
            | Event::FootnoteReference(_)
            | Event::TaskListMarker(_) => {}
        }
    }

    fn start(&mut self, tag: Tag<'_>) {
        match tag {
            Tag::Paragraph | Tag::HtmlBlock => self.end_of_block(),
            Tag::Heading { level, .. } => {
                self.end_of_block();
                self.heading = Some(match level {
                    HeadingLevel::H1 => 1,
                    HeadingLevel::H2 => 2,
                    HeadingLevel::H3 => 3,
                    HeadingLevel::H4 => 4,
                    HeadingLevel::H5 => 5,
                    HeadingLevel::H6 => 6,
                });
            }
            Tag::BlockQuote(_) => {
                self.end_of_block();
                self.quotes += 1;
            }
            Tag::CodeBlock(CodeBlockKind::Fenced(_) | CodeBlockKind::Indented) => {
                self.end_of_block();
                self.code = Some(String::new());
            }
            Tag::List(first) => {
                self.end_of_block();
                self.lists.push(first);
            }
            Tag::Item => {
                self.end_of_block();
                self.mark = match self.lists.last_mut() {
                    Some(Some(number)) => {
                        let mark = format!("{number}.");
                        *number = number.saturating_add(1);
                        mark
                    }
                    _ => "•".into(),
                };
            }
            Tag::Emphasis => self.look[EMPHASIS] += 1,
            Tag::Strong => self.look[STRONG] += 1,
            Tag::Strikethrough => self.look[STRUCK] += 1,
            Tag::Link { dest_url, .. } => self.link = self.address(&dest_url),
            Tag::Image { dest_url, .. } => {
                let own = dest_url.strip_prefix("photo:").and_then(|n| n.parse().ok());
                let own = own.filter(|i| *i < self.photos);
                let address: String = dest_url.chars().take(MAX_ADDRESS).collect();
                self.picture.get_or_insert((own, address, String::new()));
            }
            // Not asked of the parser.
            Tag::FootnoteDefinition(_)
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition
            | Tag::Table(_)
            | Tag::TableHead
            | Tag::TableRow
            | Tag::TableCell
            | Tag::Superscript
            | Tag::Subscript
            | Tag::MetadataBlock(_) => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        let close = |depth: &mut usize| *depth = depth.saturating_sub(1);
        match tag {
            TagEnd::Paragraph | TagEnd::HtmlBlock | TagEnd::Heading(_) | TagEnd::CodeBlock => {
                self.end_of_block();
            }
            TagEnd::BlockQuote(_) => {
                self.end_of_block();
                close(&mut self.quotes);
            }
            TagEnd::List(_) => {
                self.end_of_block();
                self.lists.pop();
            }
            TagEnd::Item => {
                self.end_of_block();
                self.mark.clear();
            }
            TagEnd::Emphasis => close(&mut self.look[EMPHASIS]),
            TagEnd::Strong => close(&mut self.look[STRONG]),
            TagEnd::Strikethrough => close(&mut self.look[STRUCK]),
            TagEnd::Link => self.link = None,
            TagEnd::Image => self.end_of_picture(),
            _ => {}
        }
    }

    /// A place for a link's address, if it leads anywhere.
    fn address(&mut self, to: &str) -> Option<usize> {
        let nowhere = to.is_empty() || to.len() > MAX_ADDRESS || to.starts_with('#');
        if nowhere || self.text.links.len() >= MAX_LINKS {
            return None;
        }
        self.text.links.push(to.to_owned());
        Some(self.text.links.len() - 1)
    }

    fn say(&mut self, text: &str, code: bool) {
        if let Some(block) = &mut self.code {
            block.push_str(text);
            return;
        }
        if let Some((_, _, words)) = &mut self.picture {
            words.push_str(text);
            return;
        }
        let [emphasis, strong, struck] = self.look.map(|depth| depth > 0);
        let look = Look { emphasis, strong, struck, code };
        let text: String = text.chars().map(plain).collect();
        match self.pieces.last_mut() {
            Some(last) if last.look == look && last.link == self.link => last.text += &text,
            _ => {
                self.pieces_read += 1;
                self.pieces.push(Piece { text, look, link: self.link });
            }
        }
    }

    /// A photo is a block of its own; a picture from elsewhere is its words and its address.
    fn end_of_picture(&mut self) {
        let Some((own, address, words)) = self.picture.take() else { return };
        if let Some(photo) = own {
            let heading = self.heading;
            self.end_of_block();
            self.heading = heading;
            self.named.insert(photo);
            let words: String = words.chars().map(plain).take(MAX_WORDS).collect();
            self.push(Kind::Photo(photo, words));
            return;
        }
        let outer = self.link;
        if outer.is_none() {
            self.link = self.address(&address);
        }
        self.say(if words.trim().is_empty() { &address } else { &words }, false);
        self.link = outer;
    }

    /// What was read becomes a block.
    fn end_of_block(&mut self) {
        if let Some(code) = self.code.take() {
            for part in parts(code.trim_end_matches('\n')) {
                self.push(Kind::Code(part.to_owned()));
            }
            return;
        }
        let heading = self.heading.take();
        let mut pieces = core::mem::take(&mut self.pieces);
        if let Some(last) = pieces.last_mut() {
            last.text.truncate(last.text.trim_end().len());
        }
        pieces.retain(|p| !p.text.is_empty());
        while !pieces.is_empty() {
            let rest = cut(&mut pieces);
            self.push(match heading {
                Some(level) => Kind::Heading(level, pieces),
                None => Kind::Paragraph(pieces),
            });
            pieces = rest;
        }
    }

    fn push(&mut self, kind: Kind) {
        let depth = |n: usize| n.min(MAX_DEPTH) as u8;
        let mark = core::mem::take(&mut self.mark);
        let (inset, quote) = (depth(self.lists.len()), depth(self.quotes));
        self.text.blocks.push(Block { inset, quote, mark, kind });
    }
}

/// Line breaks are kept; what would only confuse is a space.
fn plain(c: char) -> char {
    if c != '\n' && confuses(c) { ' ' } else { c }
}

/// Keeps what fits into one block, and gives back the rest.
fn cut(pieces: &mut Vec<Piece>) -> Vec<Piece> {
    let mut room = MAX_LETTERS;
    for i in 0..pieces.len() {
        let letters = pieces[i].text.chars().count();
        if letters <= room {
            room -= letters;
            continue;
        }
        let mut rest = pieces.split_off(i);
        let at = rest[0].text.char_indices().nth(room).map_or(0, |(at, _)| at);
        let after = rest[0].text.split_off(at);
        let mut begun = rest[0].clone();
        core::mem::swap(&mut begun.text, &mut rest[0].text);
        rest[0].text = after;
        if !begun.text.is_empty() {
            pieces.push(begun);
        }
        return rest;
    }
    Vec::new()
}

/// Code in parts that can each be laid out whole.
fn parts(code: &str) -> impl Iterator<Item = &str> {
    let mut rest = code;
    core::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.char_indices().nth(MAX_LETTERS).map_or(rest.len(), |(at, _)| at);
        // At the end of a line, where there is one.
        let end = match rest[..end].rfind('\n') {
            Some(line) if end < rest.len() && line > 0 => line + 1,
            _ => end,
        };
        let (part, after) = rest.split_at(end);
        rest = after;
        Some(part.trim_end_matches('\n'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(kind: &Kind) -> String {
        match kind {
            Kind::Heading(_, pieces) | Kind::Paragraph(pieces) => {
                pieces.iter().map(|p| p.text.as_str()).collect()
            }
            Kind::Code(text) => text.clone(),
            Kind::Photo(i, words) => format!("[{i}] {words}"),
            Kind::Rule => "---".into(),
        }
    }

    fn all(text: &Text) -> Vec<String> {
        text.blocks.iter().map(|b| words(&b.kind)).collect()
    }

    #[test]
    fn markdown_becomes_blocks() {
        let text = Text::read(
            "# Rain\n\nAt *last*, **it** ~~never~~ `rains`\non.\n\n\
             1. one\n2. two\n   - deep\n\n> said\n\n```\na\nb\n```\n\n---\n",
            0,
        );
        let said = ["Rain", "At last, it never rains on.", "one", "two", "deep", "said", "a\nb"];
        assert_eq!(all(&text)[..7], said);
        assert_eq!(text.blocks[7].kind, Kind::Rule);
        assert!(matches!(text.blocks[0].kind, Kind::Heading(1, _)));
        let Kind::Paragraph(pieces) = &text.blocks[1].kind else { panic!("{:?}", text.blocks[1]) };
        let looks: Vec<_> = pieces.iter().map(|p| p.look).collect();
        assert!(looks[1].emphasis && looks[3].strong && looks[5].struck && looks[7].code);
        let marks: Vec<_> = text.blocks[2..6].iter().map(|b| b.mark.as_str()).collect();
        assert_eq!(marks, ["1.", "2.", "•", ""]);
        assert_eq!((text.blocks[4].inset, text.blocks[5].quote), (2, 1));
        assert_eq!(text.lead(10), "At last, i…");
    }

    #[test]
    fn only_the_articles_own_photos_are_pictures() {
        let text = Text::read(
            "Look: ![the *bridge*](photo:1) and ![far](https://example.org/pixel.png), \
             ![](photo:7) ![x](file:///etc/passwd)",
            3,
        );
        assert_eq!(all(&text)[..2], ["Look:", "[1] the bridge"]);
        assert_eq!(all(&text)[2].trim(), "and far, photo:7 x");
        let rest: Vec<_> = text.blocks[3..].iter().map(|b| b.kind.clone()).collect();
        assert_eq!(rest, [Kind::Photo(0, String::new()), Kind::Photo(2, String::new())]);
        assert_eq!(text.links[0], "https://example.org/pixel.png");
    }

    #[test]
    fn links_keep_their_address_and_html_is_text() {
        let text = Text::read(
            "[a bank](https://evil.example/) <b onclick=x>bold</b> [top](#top) <https://b.example>\n\n\
             <script>alert(1)</script>\n",
            0,
        );
        assert_eq!(text.links, ["https://evil.example/", "https://b.example"]);
        assert!(all(&text)[0].contains("<b onclick=x>bold</b> top https://b.example"));
        assert_eq!(all(&text)[1], "<script>alert(1)</script>");
        let turned = Text::read("a\u{202e}b\u{7}c", 0);
        assert_eq!(all(&turned), ["a b c"]);
    }

    #[test]
    fn hostile_text_is_bounded() {
        let long = |pattern: &str| pattern.repeat(MAX_ARTICLE / pattern.len());
        for pattern in [
            ">",
            "> ",
            "- ",
            "* a\n",
            "[",
            "![",
            "](",
            "[a](",
            "*",
            "**a",
            "_a ",
            "`",
            "``a",
            "a\n\n",
            "1. ",
            "<",
            "<a ",
            "&",
            "#",
            "~~",
            "[a](b)",
            "![](photo:0)",
            "\\",
            "\n>",
            "茶",
            "a *b* ",
            "    x\n",
            "|a|b|\n",
            "[a]: b\n",
            "[![",
        ] {
            let started = std::time::Instant::now();
            let text = Text::read(&long(pattern), 9);
            assert!(text.blocks.len() <= MAX_BLOCKS + 16 + 9, "{pattern:?}");
            assert!(text.links.len() <= MAX_LINKS);
            for block in &text.blocks {
                assert!(usize::from(block.quote.max(block.inset)) <= MAX_DEPTH);
                assert!(words(&block.kind).chars().count() <= MAX_LETTERS + 8, "{pattern:?}");
            }
            // A development build; nothing here grows with the square of the length.
            assert!(started.elapsed().as_secs() < 5, "{pattern:?} {:?}", started.elapsed());
        }
    }

    #[test]
    fn nothing_is_lost_where_a_block_is_cut() {
        let long = "word ".repeat(2_000);
        assert_eq!(all(&Text::read(&long, 0)).concat(), long.trim_end());
        let code = format!("```\n{}```", "line of code\n".repeat(900));
        let lines: usize = all(&Text::read(&code, 0)).iter().map(|c| c.lines().count()).sum();
        assert_eq!(lines, 900);
    }
}
