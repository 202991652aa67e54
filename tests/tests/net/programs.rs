//! A Mini Program goes from one running node to another, and runs there.

use teahouse_core::programs::query::Program;
use teahouse_protocols::link::Link;

use crate::process::{Home, Node, text, until};

const BREAKFAST: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/breakfast");

#[test]
fn a_program_is_installed_by_its_link_and_opened() {
    let home = Home::new();
    let mut ann = Node::device(&home, "ann").with_account("Ann");
    let mut bob = Node::device(&home, "bob").with_account("Bob");
    ann.up();
    bob.up();
    // Ann's node says where it is once it listens.
    let link = until("the link names an address", || {
        let link = text(&ann.json(&["program", "publish", BREAKFAST]), "/link");
        let Ok(Link::Program(program)) = Link::parse(&link) else { panic!("{link}") };
        (!program.providers.first()?.addrs.is_empty()).then_some(link)
    });
    bob.json(&["program", "install", &link]);
    until("the package has come", || {
        let all: Vec<Program> = bob.read(&["program"]);
        all.first()?.package.is_some().then_some(())
    });
    ann.stop();
    let opened = bob.tell(&["program", "open", "breakfast"]);
    let shown = String::from_utf8_lossy(&opened.stdout).into_owned();
    assert!(opened.status.success(), "{shown}{}", String::from_utf8_lossy(&opened.stderr));
    assert!(shown.contains("Soy milk") && shown.contains("Nothing chosen yet"), "{shown}");
    assert!(shown.contains("asks to keep things on this device"), "{shown}");
}
