//! `feed`: Official Accounts: follow and read them, publish in one's own.

use std::io::Read as _;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::{Command, MessageId, Reply};
use teahouse_core::feeds::Command as Ask;
use teahouse_core::feeds::query::{Article, Articles, Feed as Row, Feeds, MAX_ARTICLES};
use teahouse_protocols::ids::TopicId;

use super::people::done;
use super::photo;
use super::resolve::{Names, pick};
use super::session::{Need, Session};
use super::show::{block, json, line, moment, qr, short, short_message, tidy};

/// How long `follow` waits for the first articles.
const FIRST: Duration = Duration::from_secs(10);

/// Follow Official Accounts, read them, publish.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  teahouse feed                                 those that you follow, and your own
  teahouse feed follow teahouse:feed/…
  teahouse feed read 'Morning paper'            the titles
  teahouse feed read 'Morning paper' last       an article
  teahouse feed create 'Morning paper' --about 'What happens in our street'
  teahouse feed publish 'Morning paper' 'Rain at last' article.md
  teahouse feed publish 'Morning paper' 'The flood' flood.md --photo bridge.jpg
  teahouse feed save 'Morning paper' last bridge.jpg
  teahouse feed link 'Morning paper' --qr

FEED is a name, its beginning, or at least four digits of its id. There is no list of who
follows; whoever is asked for a feed (its publisher, or who gave you the link) sees that you do.")]
pub(super) struct Feed {
    #[command(subcommand)]
    ask: Option<Act>,
}

#[derive(Debug, Subcommand)]
enum Act {
    /// Follow a feed by its link
    Follow {
        /// `teahouse:feed/…`
        link: String,
    },
    /// No longer follow a feed
    Unfollow {
        /// Which
        feed: String,
    },
    /// List a feed's articles, or show one
    Read {
        /// Which feed
        feed: String,
        /// `last`, or an article as the list shows it
        article: Option<String>,
        /// How many titles
        #[arg(long, default_value_t = 20, value_name = "N")]
        limit: usize,
    },
    /// Open a feed of your own
    Create {
        /// Its name
        name: String,
        /// What it is about
        #[arg(long, default_value = "")]
        about: String,
        /// You also answer who writes to you
        #[arg(long)]
        service: bool,
    },
    /// Publish an article
    Publish {
        /// A feed of yours
        feed: String,
        /// The title
        title: String,
        /// A file with Markdown; - or nothing to read standard input. `![words](photo:0)`
        /// is where its first photo stands
        file: Option<String>,
        /// A photo of it: JPEG, PNG, WebP or GIF (may be repeated)
        #[arg(long, value_name = "FILE")]
        photo: Vec<PathBuf>,
    },
    /// Save an article's photo in full size
    Save {
        /// The feed
        feed: String,
        /// `last`, or an article as the list shows it
        article: String,
        #[command(flatten)]
        to: photo::To,
    },
    /// Take an article of yours back
    Delete {
        /// A feed of yours
        feed: String,
        /// `last`, or an article as the list shows it
        article: String,
    },
    /// Show a link to a feed; your node serves whoever uses it
    Link {
        /// Which
        feed: String,
        /// Draw it as a QR code too
        #[arg(long)]
        qr: bool,
    },
}

impl Feed {
    pub(super) const fn need(&self) -> Need {
        if matches!(self.ask, Some(Act::Save { .. })) { Need::Network } else { Need::Account }
    }

    pub(super) fn execute(self, session: &Session) -> Result<()> {
        match self.ask {
            None => list(session),
            Some(Act::Follow { link }) => follow(session, link),
            Some(Act::Unfollow { feed }) => {
                let feed = find(session, &feed, |f| !f.mine)?;
                submit(session, Ask::Unfollow { feed: feed.topic })?;
                done(session, &format!("{} is no longer followed.", tidy(&feed.name)))
            }
            Some(Act::Read { feed, article, limit }) => {
                let feed = find(session, &feed, |_| true)?;
                match article {
                    Some(name) => show(session, &find_article(session, &feed, &name)?),
                    None => titles(session, &feed, limit),
                }
            }
            Some(Act::Create { name, about, service }) => {
                let reply = submit(session, Ask::Create { name: name.clone(), about, service })?;
                if session.json {
                    return json(&reply);
                }
                line(format!("{} is open. Its link: teahouse feed link '{0}'", tidy(&name)))
            }
            Some(Act::Save { feed, article, to }) => {
                let feed = find(session, &feed, |_| true)?;
                let article = find_article(session, &feed, &article)?.id;
                to.save(session, feed.topic, article)
            }
            Some(Act::Publish { feed, title, file, photo }) => {
                let text = text(file.as_deref())?;
                let feed = find(session, &feed, |f| f.mine)?.topic;
                let photos = photo::take_in(session, &photo)?;
                let reply = submit(session, Ask::Publish { feed, title, text, photos })?;
                session.note("followers get this once one does");
                if session.json {
                    return json(&reply);
                }
                line("Published.")
            }
            Some(Act::Delete { feed, article }) => {
                let feed = find(session, &feed, |f| f.mine)?;
                let article = find_article(session, &feed, &article)?.id;
                submit(session, Ask::Delete { feed: feed.topic, article })?;
                done(session, "Taken back.")
            }
            Some(Act::Link { feed, qr: draw }) => {
                let feed = find(session, &feed, |_| true)?.topic;
                let Reply::Link { link } = submit(session, Ask::Share { feed })? else {
                    bail!("unexpected reply")
                };
                if session.json {
                    return json(&json!({ "link": link }));
                }
                if draw {
                    line(qr(&link)?)?;
                }
                line(&link)?;
                session.note("whoever uses the link waits until one does");
                Ok(())
            }
        }
    }
}

fn submit(session: &Session, command: Ask) -> Result<Reply> {
    session.submit(Command::Feeds(command))
}

fn text(file: Option<&str>) -> Result<String> {
    let mut text = String::new();
    match file {
        None | Some("-") => {
            std::io::stdin().lock().read_to_string(&mut text).context("standard input")?;
        }
        Some(path) => {
            text = std::fs::read_to_string(path).with_context(|| path.to_owned())?;
        }
    }
    Ok(text)
}

fn find(session: &Session, name: &str, which: impl Fn(&Row) -> bool) -> Result<Row> {
    let mut feeds = session.ask(&Feeds {})?;
    feeds.retain(which);
    let called = |f: &Row| Names { names: vec![f.name.clone()], ids: vec![f.topic.to_hex()] };
    Ok(pick("feed", name, &feeds, called)?.clone())
}

fn articles(session: &Session, feed: TopicId, limit: usize) -> Result<Vec<Article>> {
    session.ask(&Articles { feed, before: None, limit })
}

fn find_article(session: &Session, feed: &Row, name: &str) -> Result<Article> {
    let all = articles(session, feed.topic, MAX_ARTICLES)?;
    let named = |id: &MessageId| name == "last" || short_message(id) == name;
    let found = all.into_iter().find(|a| named(&a.id));
    found.with_context(|| format!("there is no article {} among the newest", tidy(name)))
}

fn list(session: &Session) -> Result<()> {
    let feeds = session.ask(&Feeds {})?;
    if session.json {
        return json(&feeds);
    }
    if feeds.is_empty() {
        return line("None yet. Follow one (teahouse feed follow LINK), or open your own.");
    }
    for f in feeds {
        let mut words = Vec::new();
        words.extend(f.mine.then_some("yours"));
        words.extend(f.service.then_some("answers who writes"));
        words.extend((!f.here && !f.mine).then_some("nothing has come yet"));
        let words =
            if words.is_empty() { String::new() } else { format!(" ({})", words.join(", ")) };
        let newest = f.newest.map(|(_, title)| tidy(&title)).unwrap_or_default();
        line(format!("{}  {}{words}  {newest}", short(&f.topic.to_hex()), tidy(&f.name)))?;
    }
    Ok(())
}

fn follow(session: &Session, link: String) -> Result<()> {
    let reply = submit(session, Ask::Follow { link })?;
    let Reply::Topic { topic } = reply else { bail!("unexpected reply") };
    let here = || -> Result<Option<Row>> {
        let feeds = session.ask(&Feeds {})?;
        Ok(feeds.into_iter().find(|f| f.topic == topic && f.here))
    };
    let came = if session.online() { session.wait_for(FIRST, here)? } else { None };
    if session.json {
        return json(&json!({ "topic": topic, "here": came.is_some() }));
    }
    match came {
        Some(feed) => line(format!("You follow {}. {}", tidy(&feed.name), tidy(&feed.about))),
        None => {
            line("Followed. Nobody who has it has answered yet; it comes as soon as one does.")?;
            session.note("that needs one");
            Ok(())
        }
    }
}

fn titles(session: &Session, feed: &Row, limit: usize) -> Result<()> {
    let all = articles(session, feed.topic, limit.clamp(1, MAX_ARTICLES))?;
    if session.json {
        return json(&all);
    }
    if all.is_empty() {
        return line("Nothing published yet, as far as is known here.");
    }
    for a in all {
        let title = a.said.map_or("(not here yet)".to_owned(), |(title, _)| tidy(&title));
        line(format!("{}  {}  {title}", short_message(&a.id), moment(a.time)))?;
    }
    Ok(())
}

fn show(session: &Session, a: &Article) -> Result<()> {
    if session.json {
        return json(a);
    }
    let Some((title, text)) = &a.said else {
        bail!("this article has not come yet");
    };
    line(tidy(title))?;
    line(format!("{}, {}", tidy(&a.by), moment(a.time)))?;
    line("")?;
    line(block(text, 0))?;
    for (i, photo) in a.photos.iter().enumerate() {
        line(format!("photo:{i}  {}", photo::words(std::slice::from_ref(photo))))?;
    }
    Ok(())
}
