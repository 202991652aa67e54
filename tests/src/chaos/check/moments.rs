//! Moments at any moment: nobody has what was not for them, and what is shown was said, by who
//! it is said to be by.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::moments::query::Timeline;
use teahouse_core::moments::tables::{POSTS, PostRow};
use teahouse_core::query::{self, Query};
use teahouse_core::store::{KeyRange, ReadExt, Snapshot};
use teahouse_core::tables::{EPOCHS, Epoch, LOG, MESSAGES};
use teahouse_protocols::envelope::Envelope;
use teahouse_protocols::ids::{AccountId, EpochId, TopicId};
use teahouse_protocols::membership::TopicKind;

use super::rows::{id_in, log_row, topics_of, typed};
use crate::chaos::plan::{Check, Town, name_of, short};
use crate::chaos::truth::{Post, numbers_in};
use crate::world::Audience;
use crate::world::moments::Place;

impl Town {
    /// What must hold of Moments at any moment.
    pub(super) fn check_moments(&self) -> Check {
        let epochs = self.epochs_of_posts();
        for device in (0..self.world.devices.len()).filter(|d| self.up(*d)) {
            let s = self.world.snapshot(device);
            let Some(account) = query::identity(&s).expect("reads").account else { continue };
            let there = |e| format!("device {device} of {} {e}", self.name(account));
            self.holds_only_its_own(&s, account).map_err(there)?;
            self.reads_only_its_own(&s, device, account, &epochs).map_err(there)?;
            self.shows_what_was_said(&s, account).map_err(there)?;
        }
        Ok(())
    }

    /// No row, key or envelope of a topic is with who is outside its audience.
    fn holds_only_its_own(&self, s: &Snapshot, account: AccountId) -> Check {
        let mut held: BTreeMap<TopicId, &str> = BTreeMap::new();
        for (_, epoch) in typed::<Epoch>(s, &EPOCHS, &KeyRange::all()) {
            held.insert(epoch.topic, "a key");
        }
        for topic in self.moments.topics.keys() {
            if s.first(&LOG, &topic.0).expect("reads").is_some() {
                held.insert(*topic, "an envelope");
            }
        }
        let rows = topics_of(s).into_iter().filter(|(_, row)| row.kind == TopicKind::Moments);
        for (topic, _) in rows {
            held.insert(topic, "the row");
            let messages = s.first(&MESSAGES, &topic.0).expect("reads").is_some();
            if messages || !query::messages(s, topic, None, 1).expect("reads").is_empty() {
                return Err(format!("shows a message in Moments {}", short(topic)));
            }
            if self.moments.topics.contains_key(&topic) {
                continue;
            }
            // Nothing but likes stands there.
            for author in Audience::of(s, topic).accounts {
                if author != account && !self.world.friendships.ever(author, account) {
                    let author = self.name(author);
                    return Err(format!("has Moments of {author}, whose friend it never was"));
                }
            }
        }
        for (topic, (author, rule)) in &self.moments.topics {
            let Some(what) = held.get(topic).filter(|_| *author != account) else { continue };
            let ever = self.world.friendships.ever(*author, account);
            if !ever || !self.moments.rule_allows(*topic, account) {
                return Err(format!(
                    "holds {what} of {}, which {} shows to {rule:?}; it was {} a friend",
                    short(*topic),
                    self.name(*author),
                    if ever { "once" } else { "never" }
                ));
            }
        }
        Ok(())
    }

    /// Who was no friend any more when something was posted, and never since, has neither its
    /// text nor its key; nor has a device that was out of its account.
    fn reads_only_its_own(
        &self,
        s: &Snapshot,
        device: usize,
        account: AccountId,
        epochs: &BTreeMap<u64, EpochId>,
    ) -> Check {
        let mut texts: BTreeMap<u64, Place> = BTreeMap::new();
        for (key, row) in typed::<PostRow>(s, &POSTS, &KeyRange::all()) {
            let at = (TopicId(key[..32].try_into().expect("a topic")), id_in(&key));
            let mut numbers = BTreeSet::new();
            numbers_in(row.text.unwrap_or_default().as_bytes(), &mut numbers);
            for number in numbers {
                if self.moments.written_by.get(&number) != Some(&row.account) {
                    return Err(format!(
                        "shows the text {number} as posted by {}",
                        self.name(row.account)
                    ));
                }
                if let Some(other) = texts.insert(number, at) {
                    let (one, two) = (name_of(other.1), name_of(at.1));
                    return Err(format!("shows the text {number} as {one} and as {two}"));
                }
            }
        }
        for (number, post) in &self.moments.posts {
            if texts.get(number).is_some_and(|at| *at != post.at) {
                return Err(format!("shows post {number} elsewhere than it stands"));
            }
            let why = if post.out.contains(&device) {
                "was out of its account"
            } else if post.author != account
                && !self.world.friendships.since(post.author, account, post.time)
            {
                "was no friend"
            } else {
                continue;
            };
            if texts.contains_key(number) {
                return Err(format!("reads post {number}, but {why} when it was posted"));
            }
            let key = epochs.get(number).map(|e| s.contains(&EPOCHS, &e.0).expect("reads"));
            if key == Some(true) {
                return Err(format!("has the key of post {number}, but {why} when it was posted"));
            }
        }
        Ok(())
    }

    /// Who is shown to have said something said it, there, and is near enough for this account
    /// to know.
    fn shows_what_was_said(&self, s: &Snapshot, account: AccountId) -> Check {
        let ever = |of, who| of == who || self.world.friendships.ever(of, who);
        for post in Timeline::default().run(s).expect("reads") {
            let at = (post.topic, post.id);
            let said_by = post.comments.iter().map(|c| c.by.account);
            for by in said_by.chain(post.likes.iter().map(|p| p.account)) {
                let near = ever(by, account) && ever(account, by);
                if !near || !ever(post.account, account) || !ever(account, post.account) {
                    return Err(format!(
                        "shows what {} says on a post of {}: they were never all friends",
                        self.name(by),
                        self.name(post.account)
                    ));
                }
            }
            for comment in post.comments {
                let mut numbers = BTreeSet::new();
                numbers_in(comment.text.as_bytes(), &mut numbers);
                for number in numbers {
                    let by = comment.by.account;
                    let known = self.moments.comments.get(&number);
                    let moved =
                        known.is_some_and(|k| k.post != at || k.at != (comment.topic, comment.id));
                    if self.moments.written_by.get(&number) != Some(&by) || moved {
                        return Err(format!(
                            "shows comment {number} on {} as said by {}",
                            name_of(at.1),
                            self.name(by)
                        ));
                    }
                }
            }
        }
        Ok(())
    }

    /// Under which epoch each post was sealed.
    fn epochs_of_posts(&self) -> BTreeMap<u64, EpochId> {
        let epoch = |post: &Post| {
            let s = self.up(post.device).then(|| self.world.snapshot(post.device))?;
            let row = log_row(&s, post.at.0, post.at.1)?;
            Some(Envelope::from_bytes(&row.envelope).ok()?.header?.epoch)
        };
        let posts = self.moments.posts.iter();
        posts.filter_map(|(number, post)| Some((*number, epoch(post)?))).collect()
    }
}
