//! Scenarios over the simulated world: what people do, step by step.

mod mended_features;
mod mended_mail;
mod story;
