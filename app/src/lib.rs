//! Teahouse's desktop app, as a library so that tests can drive the real thing.
//!
//! Three kinds of code, and they don't mix:
//!
//! - [`bridge`] runs the node and everything that waits. It turns views into [`vm`] models.
//! - [`vm`] holds those models: plain values, made once per change, shared by `Arc`.
//! - [`shell`], `screens` and `widgets` draw models and emit [`bridge::Action`]s. They never
//!   wait, never read the disk, and keep only what a person is doing just now.
//!
//! Features beyond chats and contacts are [`pages`], which have both halves in one folder.
//!
//! [`photos`] are chosen, shown and looked at in the same way everywhere.
//!
//! Words live in [`strings`], colours and spaces in [`theme`].

pub mod bridge;
pub mod pages;
pub mod photos;
pub mod shell;
pub mod strings;
pub mod theme;
pub mod vm;

mod desk;
mod screens;
mod widgets;
