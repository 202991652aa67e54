//! Scenarios with real `teahouse` processes on loopback: what no simulation can show.
//!
//! [`process`] starts, kills and asks them; [`search`] looks for what must not be somewhere.
//! Every wait is a poll with a deadline that says what it waited for; nothing is proved by
//! having slept. A test that fails keeps its folders, with the processes' logs, and says
//! where they are.

mod apart;
mod binary;
mod damage;
mod feeds;
mod functions;
mod killed;
mod pay;
mod process;
mod programs;
mod relay_knows;
mod search;
