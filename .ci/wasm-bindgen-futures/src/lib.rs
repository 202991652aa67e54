//! Empty stand-in: see `[patch.crates-io]` in the workspace's `Cargo.toml`.
