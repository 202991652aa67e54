//! Scenarios over the simulated world: what people do, step by step.

#![allow(clippy::unwrap_used, clippy::many_single_char_names, reason = "stories, not services")]

mod cannot;
mod channels;
mod chaos;
mod feeds;
mod functions;
mod market;
mod mended_devices;
mod mended_features;
mod mended_mail;
mod mended_people;
mod mended_sync;
mod moments;
mod pay;
mod photos;
mod programs;
mod story;
mod town;
