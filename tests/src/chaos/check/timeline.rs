//! Moments after the healing: friends see what was posted and said for them, and nobody what was
//! taken back.

use std::collections::{BTreeMap, BTreeSet};

use teahouse_core::moments::query::{self as moments, OnePost, Timeline};
use teahouse_core::moments::tables::{DELETED, POSTS, PostRow};
use teahouse_core::query::{self, Query};
use teahouse_core::store::ReadExt;
use teahouse_core::tables::Status;
use teahouse_protocols::ids::{AccountId, TopicId};

use super::rows::{key, log_row};
use crate::chaos::plan::{Check, Town, name_of, short};
use crate::chaos::truth::{Comment, Post, numbers_in};
use crate::world::moments::Place;

/// Honest people's devices that are in their accounts.
type Live = BTreeMap<AccountId, Vec<usize>>;

impl Town {
    /// Whether Moments have come to where they belong.
    pub(super) fn moments_there(&self, devices: &[usize]) -> Check {
        let mut live = Live::new();
        for device in devices {
            let account = query::identity(&self.world.snapshot(*device)).expect("reads").account;
            live.entry(account.expect("an account")).or_default().push(*device);
        }
        for (number, post) in &self.moments.posts {
            self.post_is_there(*number, post, &live)?;
        }
        for devices in live.values() {
            self.same_timeline(devices)?;
        }
        let by_place = self.moments.comments.values().map(|c| (c.at, c)).collect();
        for (number, comment) in &self.moments.comments {
            self.comment_is_there(*number, comment, &by_place, &live)?;
        }
        self.likes_are_there(&live)
    }

    /// A post is with the author's friends whom its rule allows, or nowhere, if it was taken
    /// back.
    fn post_is_there(&self, number: u64, post: &Post, live: &Live) -> Check {
        if !self.counts(post.at, post.author, live) {
            return Ok(());
        }
        let gone = self.is_gone(post.at, post.author, live);
        if gone.is_none() {
            return Ok(());
        }
        for (account, devices) in live {
            let reads = *account == post.author
                || self.moments.rule_allows(post.at.0, *account)
                    && self.are_friends(*account, post.author, live);
            for device in devices.iter().filter(|_| reads) {
                let s = self.world.snapshot(*device);
                let there = |e: &str| {
                    format!(
                        "post {number} ({} in {}) of {} {e} device {device} of {}{}",
                        name_of(post.at.1),
                        short(post.at.0),
                        self.name(post.author),
                        self.name(*account),
                        self.state_of(*device, post.at)
                    )
                };
                let (topic, id) = post.at;
                let shown = OnePost { topic, id }.run(&s).expect("reads");
                match shown {
                    Some(_) if gone == Some(true) => {
                        return Err(there("was taken back and is shown on"));
                    }
                    None if gone == Some(false) => return Err(there("never came to")),
                    Some(shown) if gone == Some(false) => {
                        let mut numbers = BTreeSet::new();
                        numbers_in(shown.text.unwrap_or_default().as_bytes(), &mut numbers);
                        if !numbers.contains(&number) {
                            return Err(there("came without its text to"));
                        }
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Devices of one account show the same.
    fn same_timeline(&self, devices: &[usize]) -> Check {
        let all = |device: usize| -> BTreeMap<Place, moments::Post> {
            let posts = Timeline::default().run(&self.world.snapshot(device)).expect("reads");
            posts.into_iter().map(|p| ((p.topic, p.id), timeless(p))).collect()
        };
        for pair in devices.windows(2) {
            let (one, two) = (all(pair[0]), all(pair[1]));
            let places: BTreeSet<&Place> = one.keys().chain(two.keys()).collect();
            for at in places {
                let (a, b) = (one.get(at), two.get(at));
                if a != b {
                    return Err(format!(
                        "devices {} and {} show {} in {} differently: {a:?} and {b:?}",
                        pair[0],
                        pair[1],
                        name_of(at.1),
                        short(at.0)
                    ));
                }
            }
        }
        Ok(())
    }

    /// A comment is with all who are friends of everybody who is concerned, and were all along
    /// since they met.
    fn comment_is_there(
        &self,
        number: u64,
        comment: &Comment,
        by_place: &BTreeMap<Place, &Comment>,
        live: &Live,
    ) -> Check {
        let Some(post) = self.moments.posts.values().find(|p| p.at == comment.post) else {
            return Ok(());
        };
        // The post, and what is answered.
        let mut around: Vec<(Place, AccountId)> = vec![(post.at, post.author)];
        let mut next = Some(comment.at);
        while let Some(at) = next {
            let Some(said) = by_place.get(&at) else { return Ok(()) };
            around.push((at, said.by));
            next = said.answers;
        }
        let stands = around.iter().all(|(at, by)| {
            self.counts(*at, *by, live) && self.is_gone(*at, *by, live) == Some(false)
        });
        let near = |a: AccountId, b: AccountId| {
            a == b || self.are_friends(a, b, live) && self.were_friends(a, b)
        };
        let all_near = around.iter().all(|(_, a)| around.iter().all(|(_, b)| near(*a, *b)));
        if !stands || !all_near {
            return Ok(());
        }
        for (account, devices) in live {
            let reads = *account == post.author || self.moments.rule_allows(post.at.0, *account);
            if !reads || !around.iter().all(|(_, by)| near(*account, *by)) {
                continue;
            }
            for device in devices {
                let (topic, id) = post.at;
                let s = self.world.snapshot(*device);
                let shown = OnePost { topic, id }.run(&s).expect("reads");
                let comments = shown.map(|p| p.comments).unwrap_or_default();
                if !comments.iter().any(|c| (c.topic, c.id) == comment.at) {
                    return Err(format!(
                        "comment {number} ({}) of {} on {} of {} is not shown on device {device} of {}{}",
                        name_of(comment.at.1),
                        self.name(comment.by),
                        name_of(id),
                        self.name(post.author),
                        self.name(*account),
                        self.state_of(*device, comment.at)
                    ));
                }
            }
        }
        Ok(())
    }

    /// What somebody asked for last, all on one device, is what the post's author is shown.
    fn likes_are_there(&self, live: &Live) -> Check {
        for ((at, by), likes) in &self.moments.likes {
            let Some(post) = self.moments.posts.values().find(|p| p.at == *at) else { continue };
            let Some((device, on)) = likes.done.last() else { continue };
            let sure = likes.asked == likes.answered
                && likes.done.iter().all(|(d, _)| d == device)
                && live.get(by).is_some_and(|all| all.contains(device));
            let author = post.author;
            let near = *by == author
                || self.are_friends(*by, author, live) && self.were_friends(*by, author);
            let stands =
                self.counts(*at, author, live) && self.is_gone(*at, author, live) == Some(false);
            if !sure || !near || !stands {
                continue;
            }
            for reader in live.get(&author).into_iter().flatten() {
                let s = self.world.snapshot(*reader);
                let shown = OnePost { topic: at.0, id: at.1 }.run(&s).expect("reads");
                let likes = shown.is_some_and(|p| p.likes.iter().any(|l| l.account == *by));
                if likes != *on {
                    return Err(format!(
                        "device {reader} says {likes} of {} liking {}; it said {on}",
                        self.name(*by),
                        name_of(at.1)
                    ));
                }
            }
        }
        Ok(())
    }

    /// Whether what an honest account wrote counts, as all of its devices say.
    fn counts(&self, at: Place, by: AccountId, live: &Live) -> bool {
        live.get(&by).is_some_and(|devices| {
            devices.iter().all(|d| {
                log_row(&self.world.snapshot(*d), at.0, at.1)
                    .is_some_and(|row| row.status == Status::Accepted)
            })
        })
    }

    /// Whether something was taken back, as its author's devices say; `None` where that may not
    /// have come to everybody.
    fn is_gone(&self, at: Place, by: AccountId, live: &Live) -> Option<bool> {
        let Some(asked) = self.moments.taken_back.get(&at) else { return Some(false) };
        let devices = live.get(&by)?;
        let row = key(&[&at.0.0, &at.1.device.0, &at.1.seq.to_be_bytes()]);
        let gone = |d: &usize| self.world.snapshot(*d).contains(&DELETED, &row).expect("reads");
        // Who was removed from an account mails nothing any more.
        let mailed = !self.profile.by_mail || asked.iter().all(|d| devices.contains(d));
        (mailed && devices.iter().all(gone)).then_some(true)
    }

    /// Whether two honest accounts are each other's friends, as all of their devices say.
    fn are_friends(&self, a: AccountId, b: AccountId, live: &Live) -> bool {
        let says = |of: AccountId, who: AccountId| {
            live.get(&of).is_some_and(|d| self.world.friendships.now(of, who, d))
        };
        says(a, b) && says(b, a)
    }

    /// Whether two accounts have been friends ever since they met.
    fn were_friends(&self, a: AccountId, b: AccountId) -> bool {
        let friends = &self.world.friendships;
        friends.unbroken(a, b) && friends.unbroken(b, a)
    }

    /// For a report: what a device has of something.
    fn state_of(&self, device: usize, at: Place) -> String {
        let s = self.world.snapshot(device);
        let row = key(&[&at.0.0, &at.1.device.0, &at.1.seq.to_be_bytes()]);
        let post: Option<PostRow> = s.get_typed(&POSTS, &row).expect("reads");
        let knows = |topic: TopicId| s.contains(&teahouse_core::tables::TOPICS, &topic.0);
        format!(
            "; there: topic {}, envelope {:?}, text {:?}{}",
            knows(at.0).expect("reads"),
            log_row(&s, at.0, at.1).map(|r| r.status),
            post.map(|p| p.text.is_some()),
            if self.profile.by_mail { " (by mail)" } else { "" }
        )
    }
}

/// A post without what depends on when something came: times for display are those by which
/// something was here, where its author's clock goes ahead.
fn timeless(mut post: moments::Post) -> moments::Post {
    post.time = 0;
    post.comments.iter_mut().for_each(|c| c.time = 0);
    post.comments.sort_by_key(|c| (c.topic, c.id));
    post
}
