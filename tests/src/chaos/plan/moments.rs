//! What people do in Moments: posts to some, likes, comments and replies, and what is taken back.

use std::collections::BTreeSet;

use teahouse_core::command::Command;
use teahouse_core::moments::query::Post;
use teahouse_core::moments::{self, Audience};
use teahouse_core::{query, view};
use teahouse_protocols::ids::{AccountId, DeviceId};

use super::replies::Asked;
use super::{Town, name_of, short};
use crate::chaos::truth::{Comment, MARK, Post as Posted};
use crate::world::moments::Place;
use crate::world::{Audience as Members, Said};

/// Newest posts among which people choose.
const LOOKED_AT: usize = 30;

/// What a command to Moments was for.
#[derive(Debug, Clone)]
pub(super) enum Moment {
    Post { number: u64, audience: Audience },
    Comment { number: u64, post: Place, answers: Option<Place> },
    Like { post: Place, on: bool },
}

impl Town {
    /// One thing that somebody does in Moments.
    pub(super) fn moment(&mut self, person: usize, device: usize) {
        let who = format!("{} on {device}", self.people[person].name);
        let account = self.people[person].account;
        match self.below(100) {
            0..40 => self.post(account, device, &who),
            40..60 => {
                let Some(post) = self.post_on(device, false) else { return };
                let at = (post.topic, post.id);
                let on = self.coin(650);
                self.tell("act: like", format!("{who} {on} on {}", place(at)));
                let (topic, post) = at;
                let command = moments::Command::Like { topic, post, on };
                let asked = Asked::Moment(Moment::Like { post: at, on });
                self.moments.likes.entry((at, account)).or_default().asked += 1;
                self.ask(device, Command::Moments(command), asked);
            }
            60..85 => {
                let Some(post) = self.post_on(device, false) else { return };
                let answers = if self.coin(400) { self.pick(&post.comments) } else { None };
                let answers = answers.map(|c| (c.topic, c.id));
                let number = self.number(account);
                let text = format!("{MARK}{number}~");
                let at = (post.topic, post.id);
                self.tell("act: comment", format!("{who} on {} number {number}", place(at)));
                let command = moments::Command::Comment {
                    topic: post.topic,
                    post: post.id,
                    text,
                    reply_to: answers,
                };
                let asked = Asked::Moment(Moment::Comment { number, post: at, answers });
                self.ask(device, Command::Moments(command), asked);
            }
            _ => {
                let at = if self.coin(600) {
                    let Some(post) = self.post_on(device, true) else { return };
                    (post.topic, post.id)
                } else {
                    let Some(post) = self.post_on(device, false) else { return };
                    let mine: Vec<_> = post.comments.into_iter().filter(|c| c.mine).collect();
                    let Some(comment) = self.pick(&mine) else { return };
                    (comment.topic, comment.id)
                };
                self.tell("act: take back in Moments", format!("{who} {}", place(at)));
                self.moments.taken_back.entry(at).or_default().insert(device);
                let command = moments::Command::Delete { topic: at.0, target: at.1 };
                self.ask(device, Command::Moments(command), Asked::Plain);
            }
        }
    }

    /// The villain posts, as everybody does.
    pub(crate) fn post_as(&mut self, account: AccountId, device: usize) {
        let who = format!("{} on {device}", self.name(account));
        self.post(account, device, &who);
    }

    fn post(&mut self, account: AccountId, device: usize, who: &str) {
        let contacts = query::contacts(&self.world.snapshot(device)).expect("reads");
        let mut named: Vec<AccountId> = contacts
            .iter()
            .filter(|c| c.state == view::ContactState::Friend && self.coin(400))
            .map(|c| c.account)
            .collect();
        named.sort_unstable();
        let audience = match self.below(10) {
            6..8 if !named.is_empty() => Audience::Except(named),
            8.. => Audience::Only(named),
            _ => Audience::Friends,
        };
        let number = self.number(account);
        let kind = match &audience {
            Audience::Friends => "friends".into(),
            Audience::Except(list) => format!("all but {}", self.names(list)),
            Audience::Only(list) => format!("only {}", self.names(list)),
        };
        self.tell("act: post", format!("{who} to {kind} number {number}"));
        let command = moments::Command::Post {
            text: format!("{MARK}{number}~"),
            photos: Vec::new(),
            audience: audience.clone(),
        };
        let asked = Asked::Moment(Moment::Post { number, audience });
        self.ask(device, Command::Moments(command), asked);
    }

    fn names(&self, list: &[AccountId]) -> String {
        let names: Vec<String> = list.iter().map(|a| self.name(*a)).collect();
        names.join(" ")
    }

    fn number(&mut self, account: AccountId) -> u64 {
        self.next_number += 1;
        self.moments.written_by.insert(self.next_number, account);
        self.next_number
    }

    fn post_on(&mut self, device: usize, mine: bool) -> Option<Post> {
        let mut posts = self.world.timeline(device);
        posts.retain(|p| p.mine || !mine);
        posts.truncate(LOOKED_AT);
        self.pick(&posts)
    }

    /// Something was acknowledged to who wrote it.
    pub(super) fn said_in_moments(&mut self, said: &Said, asked: Moment) {
        let at = (said.topic, said.message);
        let device = said.device;
        let Some(person) = self.owner(device) else { return };
        let by = self.people[person].account;
        match asked {
            Moment::Post { number, audience } => {
                self.moments.topics.entry(said.topic).or_insert((by, audience));
                let out = self.out_for_all(said, by);
                self.world.suspects.extend(&out);
                let post = Posted { at, author: by, device, time: said.at, out };
                self.moments.posts.insert(number, post);
            }
            Moment::Comment { number, post, answers } => {
                self.moments.topics.entry(said.topic).or_insert((by, Audience::Friends));
                let comment = Comment { at, by, device, post, answers };
                self.moments.comments.insert(number, comment);
            }
            Moment::Like { .. } => {}
        }
    }

    /// Devices that are out of their accounts, as all devices know that could give them what is
    /// said: the author's, and their siblings.
    fn out_for_all(&self, said: &Said, author: AccountId) -> BTreeSet<usize> {
        let known = |id: &DeviceId| self.world.devices.iter().position(|d| d.id == *id);
        let mut out = BTreeSet::new();
        for device in said.audience.out.iter().filter_map(known) {
            let Some(owner) = self.owner(device) else { continue };
            let own = &self.people[owner];
            let authors = self.people.iter().filter(|p| p.account == author);
            let mut givers = authors.flat_map(|p| &p.devices).chain(&own.devices);
            let all_know = givers.all(|giver| {
                *giver == device
                    || own.revoked.contains(giver)
                    || self.up(*giver)
                        && Members::of(&self.world.snapshot(*giver), said.topic)
                            .out
                            .contains(&self.world.devices[device].id)
            });
            if all_know {
                out.insert(device);
            }
        }
        out
    }

    /// A like was answered: done, or refused.
    pub(super) fn liked(&mut self, device: usize, post: Place, on: Option<bool>) {
        let Some(person) = self.owner(device) else { return };
        let likes = self.moments.likes.entry((post, self.people[person].account)).or_default();
        likes.answered += 1;
        likes.done.extend(on.map(|on| (device, on)));
    }
}

fn place(at: Place) -> String {
    format!("{} in {}", name_of(at.1), short(at.0))
}
