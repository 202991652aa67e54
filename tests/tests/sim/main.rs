//! Scenarios over the simulated world: what people do, step by step.

mod story;
