//! What the timeline shows, as plain values, and how they are made.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_node::core::command::MessageId;
use teahouse_node::core::moments::Audience;
use teahouse_node::core::moments::query::{Comment, OnePost, Person, Post, Timeline};
use teahouse_node::core::query::{self, Query};
use teahouse_node::core::store::{Snapshot, StorageError};
use teahouse_node::core::view::Photo;
use teahouse_node::protocols::ids::{AccountId, Millis, TopicId};

use super::words;
use crate::pages::Around;
use crate::pages::moments::pictures::{self, Picture};
use crate::photos::previews;
use crate::strings;
use crate::vm::Zone;

/// Posts asked for at first, and more each time the end is near.
pub const PAGE: usize = 30;
/// Posts kept at most.
pub const MOST: usize = 600;
/// Posts before and after those on the screen whose pictures are kept.
const AROUND: usize = 6;
/// Names listed, at most.
const NAMES: usize = 30;
/// A text of more lines, or of more letters, is folded.
const LINES: usize = 8;
const LETTERS: usize = 480;

/// A post's or comment's place: its topic, and its name there.
pub type Key = (TopicId, MessageId);

/// What the page wants to see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ask {
    /// How many posts.
    pub limit: usize,
    /// Positions of posts whose pictures are wanted; none while the page is not on the screen.
    pub near: (usize, usize),
}

impl Default for Ask {
    fn default() -> Self {
        Self { limit: PAGE, near: (0, 0) }
    }
}

/// The timeline.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Feed {
    /// The newest first.
    pub posts: Vec<Arc<Card>>,
    /// How many were asked for.
    pub limit: usize,
    /// Whether there are older ones.
    pub more: bool,
    /// Pictures near what is on the screen, by [`Tile::hash`].
    pub pictures: BTreeMap<[u8; 32], Picture>,
}

/// A post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Card {
    /// Its place.
    pub key: Key,
    /// The author.
    pub account: AccountId,
    /// What the author is called here.
    pub name: String,
    /// When, in words.
    pub when: String,
    /// The text; `None` while it has not come.
    pub text: Option<String>,
    /// The beginning of a text that is too long to be shown whole at first.
    pub folded: Option<String>,
    /// Its photos.
    pub photos: Vec<Tile>,
    /// Whether it is one's own.
    pub mine: bool,
    /// Of an own post: to whom it is shown, in words.
    pub audience: String,
    /// Who likes it, in words; empty for nobody.
    pub likes: String,
    /// Whether oneself does.
    pub liked: bool,
    /// The oldest first.
    pub comments: Vec<Line>,
}

/// A photo's place on a post.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tile {
    /// Which one.
    pub hash: [u8; 32],
    /// Whether its preview has come.
    pub here: bool,
    /// Width by height, within sane bounds.
    pub shape: (u16, u16),
    /// Bytes in full size.
    pub bytes: u64,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// Its place.
    pub key: Key,
    /// Who says it.
    pub name: String,
    /// Who says it to whom, in words.
    pub by: String,
    /// What.
    pub text: String,
    /// When, in words.
    pub when: String,
    /// Whether it is one's own.
    pub mine: bool,
}

/// Makes the model.
pub(super) fn load(ask: &Ask, around: &Around<'_, Feed>) -> Result<Feed, StorageError> {
    let limit = ask.limit.clamp(1, MOST);
    let nothing = Feed::default();
    let was = around.was.unwrap_or(&nothing);
    let mut raw = Vec::new();
    let mut new = if around.fresh || was.limit != limit {
        raw = timeline(around.snapshot, limit + 1)?;
        let more = raw.len() > limit;
        raw.truncate(limit);
        let named = names(around.snapshot, &raw)?;
        let mut posts = cards(&raw, &named, around.now, around.zone);
        // Pointers stay the same where nothing changed: it is cheap to compare.
        let old: BTreeMap<Key, &Arc<Card>> = was.posts.iter().map(|p| (p.key, p)).collect();
        for post in &mut posts {
            if let Some(old) = old.get(&post.key).filter(|old| **old == post) {
                *post = Arc::clone(old);
            }
        }
        Feed { posts, limit, more, pictures: BTreeMap::new() }
    } else {
        Feed { pictures: BTreeMap::new(), ..was.clone() }
    };
    new.pictures = near(ask, around.snapshot, was, &new.posts, &raw)?;
    Ok(new)
}

fn timeline(s: &Snapshot, limit: usize) -> Result<Vec<Post>, StorageError> {
    let mut posts: Vec<Post> = Vec::new();
    while posts.len() < limit {
        let before = posts.last().map(|p| (p.time, p.topic, p.id));
        // An answer has a bound of its own.
        let next = Timeline { before, of: None, limit: limit - posts.len() }.run(s)?;
        if next.is_empty() {
            break;
        }
        posts.extend(next);
    }
    Ok(posts)
}

/// Names of people whom own posts name, if any do.
fn names(s: &Snapshot, posts: &[Post]) -> Result<BTreeMap<AccountId, String>, StorageError> {
    let named = |p: &Post| match &p.audience {
        Some(Audience::Except(list) | Audience::Only(list)) => !list.is_empty(),
        Some(Audience::Friends) | None => false,
    };
    if !posts.iter().any(named) {
        return Ok(BTreeMap::new());
    }
    Ok(query::contacts(s)?.into_iter().map(|c| (c.account, c.name)).collect())
}

/// The pictures near what is on the screen.
fn near(
    ask: &Ask,
    s: &Snapshot,
    was: &Feed,
    posts: &[Arc<Card>],
    raw: &[Post],
) -> Result<BTreeMap<[u8; 32], Picture>, StorageError> {
    let mut pictures = BTreeMap::new();
    let (from, to) = ask.near;
    if from >= to {
        return Ok(pictures);
    }
    let wanted = from.saturating_sub(AROUND)..to.saturating_add(AROUND).min(posts.len());
    for (at, card) in posts.iter().enumerate().take(wanted.end).skip(wanted.start) {
        let tiles = || card.photos.iter().filter(|t| t.here);
        if tiles().all(|t| was.pictures.contains_key(&t.hash)) {
            pictures.extend(tiles().map(|t| (t.hash, was.pictures[&t.hash].clone())));
            continue;
        }
        let asked;
        let post = match raw.get(at) {
            Some(post) => Some(post),
            None => {
                let (topic, id) = card.key;
                asked = OnePost { topic, id }.run(s)?;
                asked.as_ref()
            }
        };
        let photos = post.map(|p| p.photos.as_slice()).unwrap_or_default();
        for photo in photos {
            let hash = name(photo);
            let (Some(bytes), None) = (&photo.preview, pictures.get(&hash)) else { continue };
            let known = was.pictures.get(&hash).cloned();
            let picture = known.unwrap_or_else(|| pictures::decode(&bytes.0, photos.len()));
            pictures.insert(hash, picture);
        }
    }
    Ok(pictures)
}

/// What a picture is known by: its preview's own bytes, whatever its author says of the photo.
fn name(photo: &Photo) -> [u8; 32] {
    photo.preview.as_ref().map_or([0; 32], |b| previews::name(&b.0))
}

/// Posts as they are shown; `named` are the people whom own posts name.
pub fn cards(
    posts: &[Post],
    named: &BTreeMap<AccountId, String>,
    now: Millis,
    zone: &Zone,
) -> Vec<Arc<Card>> {
    posts.iter().map(|p| Arc::new(card(p, named, now, zone))).collect()
}

fn card(p: &Post, named: &BTreeMap<AccountId, String>, now: Millis, zone: &Zone) -> Card {
    let text = p.text.as_deref().map(str::trim_end);
    Card {
        key: (p.topic, p.id),
        account: p.account,
        name: called(&p.name, false),
        when: when(zone, p.time, now),
        text: text.map(str::to_owned),
        folded: text.and_then(folded),
        photos: p
            .photos
            .iter()
            .map(|photo| Tile {
                hash: name(photo),
                here: photo.preview.is_some(),
                shape: (photo.photo.width.max(1), photo.photo.height.max(1)),
                bytes: photo.photo.size,
            })
            .collect(),
        mine: p.mine,
        audience: p.audience.as_ref().map_or_else(String::new, |a| audience(a, named)),
        likes: likes(p),
        liked: p.liked,
        comments: p.comments.iter().map(|c| line(c, now, zone)).collect(),
    }
}

/// The day, and the time of day; of another year, the day alone.
fn when(zone: &Zone, at: Millis, now: Millis) -> String {
    let (then, today) = (zone.moment(at), zone.moment(now).day);
    let day = zone.short(at, now);
    if then.day == today || today - then.day > 180 {
        return day;
    }
    format!("{day} {}", then.clock())
}

fn called(name: &str, me: bool) -> String {
    let name = crate::vm::one_line(name.trim());
    match name {
        _ if me => words::you().into(),
        name if name.is_empty() => strings::unnamed_person().into(),
        name => name,
    }
}

/// To whom a post is shown, in words.
fn audience(audience: &Audience, named: &BTreeMap<AccountId, String>) -> String {
    let list = |accounts: &[AccountId]| {
        let name = |a: &AccountId| named.get(a).map_or(strings::unnamed_person(), String::as_str);
        let shown: Vec<&str> = accounts.iter().take(NAMES).map(name).collect();
        words::names(&shown, accounts.len() - shown.len())
    };
    match audience {
        Audience::Friends => words::all().into(),
        Audience::Except(accounts) => words::except_names(&list(accounts)),
        Audience::Only(accounts) if accounts.is_empty() => words::nobody().into(),
        Audience::Only(accounts) => words::only_names(&list(accounts)),
    }
}

fn likes(p: &Post) -> String {
    let mut names: Vec<&str> = p.likes.iter().map(|l| l.name.as_str()).collect();
    let more = names.len().saturating_sub(NAMES);
    names.truncate(NAMES);
    words::names(&names, more)
}

fn line(c: &Comment, now: Millis, zone: &Zone) -> Line {
    let name = called(&c.by.name, false);
    let by = match &c.answers {
        Some(Person { name: to, .. }) => words::replies(&name, &called(to, false)),
        None => name.clone(),
    };
    let (key, when) = ((c.topic, c.id), when(zone, c.time, now));
    Line { key, by, name, text: c.text.replace(char::is_control, " "), when, mine: c.mine }
}

/// The beginning of a text that is too long to be shown whole at first.
fn folded(text: &str) -> Option<String> {
    let by_lines = text.match_indices('\n').nth(LINES - 1).map(|(at, _)| at);
    let by_letters = text.char_indices().nth(LETTERS).map(|(at, _)| at);
    let end = match (by_lines, by_letters) {
        (Some(a), Some(b)) => a.min(b),
        (a, b) => a.or(b)?,
    };
    Some(format!("{}…", text[..end].trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_texts_are_folded_at_a_letter() {
        assert_eq!(folded("short"), None);
        assert_eq!(folded(&"字".repeat(LETTERS)), None);
        let long = folded(&"字".repeat(LETTERS + 1)).unwrap();
        assert_eq!(long.chars().count(), LETTERS + 1);
        let lines = folded(&"a\n".repeat(30)).unwrap();
        assert_eq!(lines.lines().count(), LINES);
    }

    #[test]
    fn an_audience_is_told_in_words() {
        let (a, b) = (AccountId([1; 32]), AccountId([2; 32]));
        let named: BTreeMap<_, _> = [(a, "Mei".to_owned()), (b, "Bob".to_owned())].into();
        let told = |x: Audience| audience(&x, &named);
        assert_eq!(told(Audience::Friends), words::all());
        assert_eq!(told(Audience::Only(Vec::new())), words::nobody());
        assert_eq!(told(Audience::Only(vec![a, b])), "Only Mei, Bob");
        assert_eq!(told(Audience::Except(vec![b])), "All friends except Bob");
        let many: Vec<_> = (0..40).map(|i| AccountId([i; 32])).collect();
        assert!(told(Audience::Only(many)).ends_with("and 10 more"));
    }
}
