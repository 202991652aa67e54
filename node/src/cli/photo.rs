//! `photo`, and what the commands for chats, Moments and feeds share: pictures on their way
//! into a message, and out of one.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, Subcommand};
use serde_json::json;
use teahouse_core::command::MessageId;
use teahouse_core::photos::NewPhoto;
use teahouse_core::view;
use teahouse_protocols::ids::TopicId;
use teahouse_protocols::photo::MAX_PHOTOS;

use super::Global;
use super::resolve;
use super::session::{Need, Session};
use super::show::{bytes, json, line};
use crate::media::{MAX_FILE, Which};

/// Photos of messages.
#[derive(Debug, Subcommand)]
pub(super) enum Photo {
    /// Save a message's photo in full size
    Save {
        /// The chat
        chat: String,
        /// `last`, or as `read` shows it
        message: String,
        #[command(flatten)]
        to: To,
    },
}

/// Where a photo goes.
#[derive(Debug, Args)]
#[command(after_help = "\
The preview came with the words; the picture itself comes from a device that has it: its
author's, or that of somebody who has looked at it. One of them must be reachable.")]
pub(super) struct To {
    /// The file, which must not be there yet
    file: PathBuf,
    /// Which of its photos, from 1
    #[arg(long, default_value_t = 1, value_name = "N",
        value_parser = clap::value_parser!(u8).range(1..))]
    number: u8,
}

impl Photo {
    pub(super) fn execute(self, global: &Global) -> Result<()> {
        let Self::Save { chat, message, to } = self;
        let session = &global.session(Need::Network)?;
        let topic = resolve::chat(session, &chat)?.topic;
        let message = resolve::message(session, topic, &message)?;
        to.save(session, topic, message)
    }
}

impl To {
    /// Saves a photo of a message, post or article.
    pub(super) fn save(&self, session: &Session, topic: TopicId, message: MessageId) -> Result<()> {
        let file = &self.file;
        // Before anything is fetched.
        ensure!(!file.exists(), "{} exists already", file.display());
        let index = self.number - 1;
        let picture = session.picture(Which { topic, message, index })?;
        let written = File::create_new(file).and_then(|mut f| {
            f.write_all(&picture)?;
            f.sync_all()
        });
        written.with_context(|| format!("cannot write {}", file.display()))?;
        if session.json {
            return json(&json!({ "file": file, "bytes": picture.len() }));
        }
        line(format!("{}: {}", file.display(), bytes(picture.len() as u64)))
    }
}

/// Takes pictures in that are about to be sent.
pub(super) fn take_in(session: &Session, files: &[PathBuf]) -> Result<Vec<NewPhoto>> {
    if files.len() > MAX_PHOTOS {
        bail!("at most {MAX_PHOTOS} photos at once: these are {}", files.len());
    }
    files.iter().map(|file| one(session, file)).collect()
}

fn one(session: &Session, file: &Path) -> Result<NewPhoto> {
    let name = || file.display().to_string();
    let size = fs::metadata(file)
        .and_then(|m| if m.is_file() { Ok(m.len()) } else { Err(ErrorKind::IsADirectory.into()) })
        .with_context(name)?;
    if size > MAX_FILE as u64 {
        bail!("{}: a photo has at most {}, not {}", name(), bytes(MAX_FILE as u64), bytes(size));
    }
    let read = fs::read(file).with_context(name)?;
    session.take_in(read).with_context(name)
}

/// Photos in words: `[photo 1200×800, 312.4 KiB]`.
pub(super) fn words(photos: &[view::Photo]) -> String {
    let one = |p: &view::Photo| {
        let p = &p.photo;
        format!("[photo {}×{}, {}]", p.width, p.height, bytes(p.size))
    };
    photos.iter().map(one).collect::<Vec<_>>().join(" ")
}
