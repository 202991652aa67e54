//! The program itself.
//!
//! Because of this test cargo builds `teahouse` beside the test programs of the workspace,
//! where the process tests (`tests/tests/net`) find it.

use std::process::Command;

#[test]
fn it_knows_its_version_and_refuses_what_it_does_not_know() {
    let run = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_teahouse")).args(arguments).output().unwrap()
    };
    let version = run(&["--version"]);
    assert!(version.status.success());
    let said = String::from_utf8_lossy(&version.stdout).into_owned();
    assert!(said.contains(env!("CARGO_PKG_VERSION")), "{said}");
    assert_eq!(run(&["brew"]).status.code(), Some(2));
}
