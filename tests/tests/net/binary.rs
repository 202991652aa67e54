//! Where the `teahouse` under test is.
//!
//! It belongs to another package, so that cargo names no `CARGO_BIN_EXE_teahouse` here. It
//! lies beside this test (`target/<profile>/teahouse`), put there by `cargo build` or by an
//! integration test of its own package. Where it is missing or older than the library that
//! this test was linked with, it is built, in the same profile.

use std::env::consts::EXE_SUFFIX;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::time::SystemTime;

/// The program, up to date.
pub(crate) fn teahouse() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let test = std::env::current_exe().expect("a test has a path");
        let deps = test.parent().expect("target/<profile>/deps");
        let folder = deps.parent().expect("target/<profile>");
        let binary = folder.join(format!("teahouse{EXE_SUFFIX}"));
        if modified(&binary).is_none_or(|built| newest_library(deps) > Some(built)) {
            build(folder);
        }
        assert!(
            binary.exists(),
            "{} is missing: `cargo build -p teahouse-node` makes it",
            binary.display()
        );
        binary
    })
}

fn build(folder: &Path) {
    let name = folder.file_name().and_then(|n| n.to_str()).unwrap_or("debug");
    let profile = if name == "debug" { "dev" } else { name };
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    eprintln!("building the `teahouse` to test (profile {profile}) …");
    let mut build = Command::new(cargo);
    build
        .args(["build", "--package", "teahouse-node", "--bin", "teahouse", "--profile", profile])
        .current_dir(env!("CARGO_MANIFEST_DIR"));
    // What cargo tells this test about its package would make build scripts run again.
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_"].iter().any(|start| text.starts_with(start)) {
            build.env_remove(&name);
        }
    }
    let built = build.status();
    assert!(built.is_ok_and(|status| status.success()), "`teahouse` can't be built");
}

fn newest_library(deps: &Path) -> Option<SystemTime> {
    let ours = |path: &Path| {
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        name.starts_with("libteahouse_node-")
            && path.extension().is_some_and(|extension| extension == "rlib")
    };
    let all = fs::read_dir(deps).ok()?.flatten().map(|entry| entry.path());
    all.filter(|path| ours(path)).filter_map(|path| modified(&path)).max()
}

fn modified(path: &Path) -> Option<SystemTime> {
    fs::metadata(path).ok()?.modified().ok()
}
