//! `moments`: the timeline, posting, and words on posts.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use teahouse_core::command::{Command, MessageId};
use teahouse_core::moments::query::{Comment, Post, Timeline};
use teahouse_core::moments::{Audience, Command as Ask};
use teahouse_protocols::ids::{AccountId, TopicId};

use super::people::done;
use super::photo;
use super::resolve;
use super::session::{Need, Session};
use super::show::{block, json, line, moment, tidy};

/// Posts that a name is looked for among.
const NEWEST: usize = 100;

/// Read friends' Moments, and post.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse moments
  teahouse moments post 'What a morning'
  teahouse moments post 'Surprise party!' --except Bob
  teahouse moments post 'From the hill' --photo view.jpg
  teahouse moments save last view.jpg
  teahouse moments like last
  teahouse moments comment last 'So it is'

POST is `last` (the newest), or as the timeline shows it, for instance 3fa2c91b:17.
Likes and comments are seen by those who are friends of yours and of whoever posted.")]
pub(super) struct Moments {
    /// How many posts
    #[arg(long, default_value_t = 20, value_name = "N")]
    limit: usize,
    /// Only those of this contact, or of `me`
    #[arg(long, value_name = "WHO")]
    of: Option<String>,
    #[command(subcommand)]
    ask: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Post to all friends, or to some of them
    Post {
        /// The text
        #[arg(required_unless_present = "photo")]
        text: Option<String>,
        /// A photo: JPEG, PNG, WebP or GIF (may be repeated)
        #[arg(long, value_name = "FILE")]
        photo: Vec<PathBuf>,
        /// Not to this contact (may be repeated)
        #[arg(long, value_name = "WHO", conflicts_with = "only")]
        except: Vec<String>,
        /// To this contact alone (may be repeated); `me` for nobody else
        #[arg(long, value_name = "WHO")]
        only: Vec<String>,
    },
    /// Save a post's photo in full size
    Save {
        /// The post
        post: String,
        #[command(flatten)]
        to: photo::To,
    },
    /// Like a post
    Like {
        /// The post
        post: String,
        /// No longer
        #[arg(long)]
        undo: bool,
    },
    /// Comment on a post
    Comment {
        /// The post
        post: String,
        /// What to say
        text: String,
        /// Answer this comment, as the timeline shows it
        #[arg(long, value_name = "COMMENT")]
        reply_to: Option<String>,
    },
    /// Take back a post or comment of yours
    Delete {
        /// The post or comment
        what: String,
    },
}

impl Moments {
    pub(super) const fn need(&self) -> Need {
        if matches!(self.ask, Some(Act::Save { .. })) { Need::Network } else { Need::Account }
    }

    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self.ask {
            None => show(session, self.limit, self.of.as_deref()),
            Some(Act::Post { text, photo, except, only }) => {
                let audience = audience(session, &except, &only)?;
                let photos = photo::take_in(session, &photo)?;
                let text = text.unwrap_or_default();
                submit(session, Ask::Post { text, photos, audience }, "Posted.")
            }
            Some(Act::Save { post, to }) => {
                let post = find(session, &post)?;
                to.save(session, post.topic, post.id)
            }
            Some(Act::Like { post, undo }) => {
                let post = find(session, &post)?;
                let said = if undo { "No longer liked." } else { "Liked." };
                submit(session, Ask::Like { topic: post.topic, post: post.id, on: !undo }, said)
            }
            Some(Act::Comment { post, text, reply_to }) => {
                let post = find(session, &post)?;
                let reply_to = match reply_to {
                    Some(name) => {
                        let found = post.comments.iter().find(|c| name_of(c.topic, c.id) == name);
                        let found = found.context("there is no such comment on this post")?;
                        Some((found.topic, found.id))
                    }
                    None => None,
                };
                let command = Ask::Comment { topic: post.topic, post: post.id, text, reply_to };
                submit(session, command, "Said.")
            }
            Some(Act::Delete { what }) => {
                let (topic, target) = find_own(session, &what)?;
                submit(session, Ask::Delete { topic, target }, "Taken back.")
            }
        }
    }
}

fn submit(session: &Session, command: Ask, said: &str) -> Result<()> {
    let reply = session.submit(Command::Moments(command))?;
    session.note_offline();
    if session.json {
        return json(&reply);
    }
    done(session, said)
}

fn audience(session: &Session, except: &[String], only: &[String]) -> Result<Audience> {
    let named = |who: &[String]| -> Result<Vec<AccountId>> {
        let others = who.iter().filter(|w| *w != "me");
        others.map(|w| Ok(resolve::contact(session, w)?.account)).collect()
    };
    Ok(match (except, only) {
        ([], []) => Audience::Friends,
        (except, []) => Audience::Except(named(except)?),
        (_, only) => Audience::Only(named(only)?),
    })
}

fn newest(session: &Session) -> Result<Vec<Post>> {
    session.ask(&Timeline { limit: NEWEST, ..Timeline::default() })
}

fn find(session: &Session, name: &str) -> Result<Post> {
    let posts = newest(session)?;
    if name == "last" {
        return posts.into_iter().next().context("there is no post yet");
    }
    let mut found = posts.into_iter().filter(|p| name_of(p.topic, p.id) == name);
    match (found.next(), found.next()) {
        (Some(post), None) => Ok(post),
        (None, _) => bail!("there is no post {} among the newest {NEWEST}", tidy(name)),
        _ => bail!("{} names more than one post", tidy(name)),
    }
}

fn find_own(session: &Session, name: &str) -> Result<(TopicId, MessageId)> {
    let posts = newest(session)?;
    let own_posts = posts.iter().filter(|p| p.mine).map(|p| (p.topic, p.id));
    let comments = posts.iter().flat_map(|p| &p.comments);
    let own_comments = comments.filter(|c| c.mine).map(|c| (c.topic, c.id));
    let mut own = own_posts.chain(own_comments);
    if name == "last" {
        return own.next().context("you have posted nothing lately");
    }
    own.find(|(topic, id)| name_of(*topic, *id) == name)
        .with_context(|| format!("{} is nothing of yours among the newest posts", tidy(name)))
}

/// What a post or comment is called here: enough of its topic and device, and its number.
fn name_of(topic: TopicId, id: MessageId) -> String {
    format!("{}{}:{}", &topic.to_hex()[..4], &id.device.to_hex()[..4], id.seq)
}

fn show(session: &Session, limit: usize, of: Option<&str>) -> Result<()> {
    let of = match of {
        None => None,
        Some("me") => session.identity()?.account,
        Some(who) => Some(resolve::contact(session, who)?.account),
    };
    let posts = session.ask(&Timeline { before: None, of, limit: limit.max(1) })?;
    if session.json {
        return json(&posts);
    }
    if posts.is_empty() {
        return line("Nothing yet. Post something: teahouse moments post 'Hello'");
    }
    for post in &posts {
        show_post(post)?;
    }
    Ok(())
}

fn show_post(post: &Post) -> Result<()> {
    let who = if post.mine { "me".to_owned() } else { tidy(&post.name) };
    let audience = match &post.audience {
        None | Some(Audience::Friends) => String::new(),
        Some(Audience::Except(list)) => format!("  (hidden from {})", list.len()),
        Some(Audience::Only(list)) if list.is_empty() => "  (only for me)".into(),
        Some(Audience::Only(list)) => format!("  (shown to {})", list.len()),
    };
    line(format!("{}  {who}  {}{audience}", name_of(post.topic, post.id), moment(post.time)))?;
    match &post.text {
        Some(text) if text.is_empty() => {}
        Some(text) => line(format!("  {}", block(text, 2)))?,
        None => line("  (the text has not arrived yet)")?,
    }
    if !post.photos.is_empty() {
        line(format!("  {}", photo::words(&post.photos)))?;
    }
    if !post.likes.is_empty() {
        let names: Vec<String> = post.likes.iter().map(|p| tidy(&p.name)).collect();
        line(format!("  ♥ {}", names.join(", ")))?;
    }
    for comment in &post.comments {
        show_comment(comment)?;
    }
    Ok(())
}

fn show_comment(c: &Comment) -> Result<()> {
    let who = if c.mine { "me".to_owned() } else { tidy(&c.by.name) };
    let to = c.answers.as_ref().map(|p| format!(" to {}", tidy(&p.name))).unwrap_or_default();
    line(format!("  {}  {who}{to}: {}", name_of(c.topic, c.id), block(&c.text, 4)))
}
