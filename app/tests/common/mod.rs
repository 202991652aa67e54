//! What the window's tests have in common: the window in a harness, and hands and eyes that
//! go by its accessibility tree, as a screen reader would. The harness itself fails on
//! controls without a name and on letters that no font has.

#![allow(dead_code, reason = "not every test needs all of it")]

pub(crate) mod made_up;
pub(crate) mod people;

use std::time::{Duration, Instant};

use egui::Role;
use egui_kittest::kittest::{NodeT as _, Queryable as _};
use egui_kittest::{Harness, Node};
use teahouse_app::shell::Shell;
use teahouse_app::theme;

use self::made_up::MadeUp;

pub(crate) type Window = Harness<'static, Shell>;

/// Longer than anything takes.
pub(crate) const PATIENCE: Duration = Duration::from_mins(1);

/// A window of this size, in points.
pub(crate) fn window_of(shell: Shell, size: [f32; 2]) -> Window {
    Harness::builder()
        .with_size(size)
        .with_max_steps(16)
        .with_context_setup(theme::install)
        .build_ui_state(|ui, shell: &mut Shell| shell.ui(ui), shell)
}

/// A window over a made-up node.
pub(crate) fn window(node: &MadeUp, size: [f32; 2]) -> Window {
    window_of(Shell::new(Box::new(node.clone())), size)
}

/// Clicks the one thing of this name.
pub(crate) fn click(window: &mut Window, label: &str) {
    // What has come meanwhile moves what is to be clicked.
    window.run();
    window.get_by_label(label).click();
    window.run();
}

/// The field of this name; a label beside it may say the same.
pub(crate) fn field<'w>(window: &'w Window, name: &'w str) -> Node<'w> {
    let is_field = |node: &Node<'_>| {
        [Role::TextInput, Role::MultilineTextInput].contains(&node.accesskit_node().role())
    };
    let mut fields = window.get_all_by_label(name).filter(is_field);
    let field = fields.next().expect("a field of this name");
    assert!(fields.next().is_none(), "two fields are called {name}");
    field
}

/// Types into a field as a keyboard would.
pub(crate) fn write(window: &mut Window, name: &str, text: &str) {
    field(window, name).focus();
    window.run();
    field(window, name).type_text(text);
    window.run();
}

/// Whether something's name contains this.
pub(crate) fn has(window: &Window, label: &str) -> bool {
    window.query_all_by_label_contains(label).next().is_some()
}

/// Goes on until something's name contains this.
pub(crate) fn wait(window: &mut Window, label: &str) {
    until(window, label, |window| has(window, label));
}

/// Goes on until nothing's name contains this: what stood below has moved up by then.
pub(crate) fn gone(window: &mut Window, label: &str) {
    until(window, &format!("end of {label}"), |window| !has(window, label));
}

/// Goes on until this is so.
pub(crate) fn until(window: &mut Window, what: &str, mut done: impl FnMut(&mut Window) -> bool) {
    let started = Instant::now();
    while !done(window) {
        assert!(started.elapsed() < PATIENCE, "no {what:?} on the screen");
        std::thread::sleep(Duration::from_millis(10));
        window.run();
    }
}
