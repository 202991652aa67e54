//! What people do in Moments, in a call each.

use teahouse_core::command::{Command, MessageId, Refusal, Reply};
use teahouse_core::moments::query::{Post, Timeline};
use teahouse_core::moments::{self, Audience};
use teahouse_core::query::Query;
use teahouse_protocols::ids::TopicId;

use super::World;

/// Where a post or a comment stands.
pub type Place = (TopicId, MessageId);

impl World {
    /// Posts a text.
    pub fn post(
        &mut self,
        device: usize,
        text: &str,
        audience: Audience,
    ) -> Result<Place, Refusal> {
        let command = moments::Command::Post { text: text.into(), photos: Vec::new(), audience };
        Ok(placed(self.ask(device, Command::Moments(command))?))
    }

    /// Comments on a post, or on a comment there.
    pub fn comment(
        &mut self,
        device: usize,
        (topic, post): Place,
        text: &str,
        reply_to: Option<Place>,
    ) -> Result<Place, Refusal> {
        let command = moments::Command::Comment { topic, post, text: text.into(), reply_to };
        Ok(placed(self.ask(device, Command::Moments(command))?))
    }

    /// Likes a post, or no longer.
    pub fn like(&mut self, device: usize, (topic, post): Place, on: bool) -> Result<(), Refusal> {
        let command = moments::Command::Like { topic, post, on };
        self.ask(device, Command::Moments(command)).map(|_| ())
    }

    /// Takes back a post or comment.
    pub fn delete(&mut self, device: usize, (topic, target): Place) -> Result<(), Refusal> {
        let command = moments::Command::Delete { topic, target };
        self.ask(device, Command::Moments(command)).map(|_| ())
    }

    /// The posts that a device shows.
    #[must_use]
    pub fn timeline(&self, device: usize) -> Vec<Post> {
        Timeline::default().run(&self.snapshot(device)).expect("reads")
    }

    /// The texts of those, newest first.
    #[must_use]
    pub fn posts(&self, device: usize) -> Vec<String> {
        let text = |p: Post| p.text.unwrap_or_else(|| "(not here)".into());
        self.timeline(device).into_iter().map(text).collect()
    }

    /// A post as a device shows it.
    #[must_use]
    pub fn shown(&self, device: usize, (topic, id): Place) -> Option<Post> {
        moments::query::OnePost { topic, id }.run(&self.snapshot(device)).expect("reads")
    }

    /// The comments on a post that a device shows.
    #[must_use]
    pub fn comments(&self, device: usize, post: Place) -> Vec<String> {
        let post = self.shown(device, post);
        post.map(|p| p.comments.into_iter().map(|c| c.text).collect()).unwrap_or_default()
    }
}

fn placed(reply: Reply) -> Place {
    match reply {
        Reply::Message { topic, message } => (topic, message),
        other => panic!("said: {other:?}"),
    }
}
