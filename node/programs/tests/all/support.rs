//! A host with the real child, and short ways to say what tests say often.

use std::path::PathBuf;

use teahouse_programs::ui::{Event, Kind, Start, View};
use teahouse_programs::{Code, Host, HostCommand, Instance, Launch, ProgramError};

pub(crate) const CHILD: &str = env!("CARGO_BIN_EXE_teahouse-program-host");

pub(crate) fn host() -> Host {
    Host::new(HostCommand { program: PathBuf::from(CHILD), args: Vec::new() })
}

pub(crate) async fn open(host: &Host, source: &str) -> Result<Instance, ProgramError> {
    host.open(Launch { app: [7; 32], code: Code::javascript(source) }).await
}

pub(crate) fn start() -> Vec<Event> {
    vec![Event::Start(Start {
        locale: "en".to_owned(),
        launch: "hello".to_owned(),
        now: 1_800_000_000,
        seed: 4_000_000_000,
        dark_mode: false,
    })]
}

/// Opens a program and has it start.
pub(crate) async fn run(host: &Host, source: &str) -> Result<(Instance, View), ProgramError> {
    let mut instance = open(host, source).await?;
    let view = instance.update(start()).await?;
    Ok((instance, view))
}

/// The error that a program ends or begins with.
pub(crate) async fn failure(host: &Host, source: &str) -> ProgramError {
    run(host, source).await.map(|(_, view)| view).expect_err("the program must fail")
}

pub(crate) fn tap(view: &View, label: &str) -> Vec<Event> {
    let tapped = view.nodes.iter().find_map(|node| match &node.kind {
        Kind::Button(button) if button.label == label => Some(Event::Tap {
            key: node.key.clone(),
            action: button.action.clone(),
            x: 0.0,
            y: 0.0,
        }),
        _ => None,
    });
    vec![tapped.unwrap_or_else(|| panic!("no button {label:?} in {view:?}"))]
}

/// All texts of a view, in order.
pub(crate) fn texts(view: &View) -> Vec<&str> {
    let texts = view.nodes.iter().filter_map(|node| match &node.kind {
        Kind::Text(text) => Some(text.content.as_str()),
        _ => None,
    });
    texts.collect()
}
