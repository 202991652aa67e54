//! An Official Account: published, read, and passed on while its publisher is off.

use std::io::Write;

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Reply};
use teahouse_core::feeds::Command as Feeds;
use teahouse_core::feeds::query::{Article, Articles};
use teahouse_protocols::ids::TopicId;

use super::cast::Person;
use super::{Cast, Day, Stage, morning};
use crate::town::wait;

const TITLE: &str = "Rain at last 终于下雨了";
const TEXT: &str = "## The street\n\nIt rained from six to nine. *Bring an umbrella.*";

impl<W: Write> Day<'_, W> {
    /// Gives the cast back, and the publisher's node.
    pub(super) fn paper(&mut self, stage: &Stage<'_>, cast: Cast) -> Result<(Cast, Person)> {
        let data = stage.dir.join("paper");
        let paper = Person::start_apart(stage.program, &data, "device")?.named("Morning paper")?;
        morning::join(&paper, &cast.invite)?;
        let create = Feeds::Create {
            name: "Morning paper".into(),
            about: "What happens in our street".into(),
            service: false,
        };
        let Reply::Topic { topic: feed } = paper.ask(Command::Feeds(create))? else {
            bail!("no feed was made")
        };
        let publish =
            Feeds::Publish { feed, title: TITLE.into(), text: TEXT.into(), photos: Vec::new() };
        paper.ask(Command::Feeds(publish))?;
        self.done("the Morning paper, a node of its own, publishes an article")?;

        follow(&cast.mei, &link(&paper, feed)?)?;
        read(&cast.mei, feed)?;
        self.done("Mei follows it by its link, and reads")?;

        let data = paper.stop()?;
        follow(&cast.lin, &link(&cast.mei, feed)?)?;
        read(&cast.lin, feed)?;
        let articles = all(&cast.lin, feed)?;
        ensure!(articles.iter().all(|a| a.by == "Morning paper"), "an article by somebody else");
        self.done("the paper is off: Lin follows by Mei's link, and has the article from her")?;

        let paper = Person::start_apart(stage.program, &data, "device")?;
        Ok((cast, paper))
    }
}

fn link(person: &Person, feed: TopicId) -> Result<String> {
    match person.ask(Command::Feeds(Feeds::Share { feed }))? {
        Reply::Link { link } => Ok(link),
        other => bail!("a link was asked for, not {other:?}"),
    }
}

fn follow(person: &Person, link: &str) -> Result<()> {
    person.ask(Command::Feeds(Feeds::Follow { link: link.to_owned() })).map(|_| ())
}

fn all(person: &Person, feed: TopicId) -> Result<Vec<Article>> {
    person.query(&Articles { feed, before: None, limit: 0 })
}

fn read(person: &Person, feed: TopicId) -> Result<()> {
    wait("the article", || {
        let said = all(person, feed)?.into_iter().find_map(|a| a.said);
        Ok(said.is_some_and(|(title, text)| title == TITLE && text == TEXT))
    })
    .context("the Morning paper")
}
