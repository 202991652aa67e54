//! The host against children that lie: scripts which say what no honest child would.

use std::path::PathBuf;
use std::time::Duration;

use proptest::prelude::*;
use tokio::sync::{mpsc, watch};

use super::process::read_frames;
use super::*;
use crate::ui::{Effect, Kind, Node, Request as Ask};
use crate::wire::{self, FromChild, ToChild};

const EMPTY: Code = Code::Component(Vec::new());

fn page(rev: u64) -> View {
    let node = Node { key: "p".into(), parent: None, kind: Kind::Page("p".into()) };
    View { rev, nodes: vec![node], effects: Vec::new() }
}

fn ready() -> FromChild {
    FromChild::Ready(Sandbox::default())
}

fn opened(program: u64) -> FromChild {
    FromChild::Opened { program, result: Ok(()) }
}

fn updated(view: View) -> FromChild {
    FromChild::Updated { program: 0, result: Ok(view) }
}

/// A child that says what is given: before anything, after it was asked to open a program,
/// and after it was asked to update it. Then it stays.
fn child(folder: &tempfile::TempDir, says: [Vec<FromChild>; 3]) -> HostCommand {
    let asks = [
        wire::encode(&ToChild::Open { program: 0, code: EMPTY }).unwrap(),
        wire::encode(&ToChild::Update { program: 0, events: Vec::new() }).unwrap(),
        Vec::new(),
    ];
    let mut script = Vec::new();
    for (step, (frames, ask)) in says.iter().zip(asks).enumerate() {
        let path = folder.path().join(step.to_string());
        let bytes: Vec<u8> = frames.iter().flat_map(|f| wire::encode(f).unwrap()).collect();
        std::fs::write(&path, bytes).unwrap();
        let (path, len) = (path.display(), ask.len());
        script.push(format!("cat {path}; head -c {len} >/dev/null; "));
    }
    script.push("exec sleep 60".to_owned());
    HostCommand {
        program: PathBuf::from("/bin/sh"),
        args: vec!["-c".into(), script.concat().into()],
    }
}

fn impatient(command: HostCommand) -> Host {
    let (requests, received) = mpsc::channel(QUEUE);
    let (sender, status) = watch::channel(None);
    let mut actor = Actor::new(command, received, sender);
    actor.update_wait = Duration::from_millis(200);
    actor.open_wait = Duration::from_secs(5);
    tokio::spawn(actor.run());
    Host { requests, status }
}

/// Opens a program in such a child and updates it once.
async fn outcome(says: [Vec<FromChild>; 3]) -> Result<View, ProgramError> {
    let folder = tempfile::tempdir().unwrap();
    let host = impatient(child(&folder, says));
    let mut program = host.open(Launch { app: [0; 32], code: EMPTY }).await?;
    program.update(Vec::new()).await
}

#[tokio::test]
async fn an_honest_script_is_believed() {
    let says = [vec![ready()], vec![opened(0)], vec![updated(page(1))]];
    assert_eq!(outcome(says).await, Ok(page(1)));
}

#[tokio::test]
async fn a_child_that_hangs_is_ended() {
    let says = [vec![ready()], vec![opened(0)], vec![]];
    assert_eq!(outcome(says).await, Err(ProgramError::TookTooLong));
}

#[tokio::test]
async fn views_beyond_the_bounds_are_not_believed() {
    let node = page(1).nodes.remove(0);
    let child = |key: &str, parent| Node { key: key.into(), parent, kind: Kind::Divider };
    let with = |nodes: Vec<Node>| View { rev: 1, nodes, effects: Vec::new() };
    let effect = Effect { id: 0, request: Ask::Notice("x".repeat(300)) };
    for view in [
        View::default(),
        with(vec![child("a", None)]),
        with(vec![node.clone(), child("p", Some(0))]),
        with(vec![node.clone(), child("a", Some(1))]),
        with(vec![node.clone(), child("a", Some(u32::MAX))]),
        with(vec![node.clone(), child("a", Some(0)), child("b", Some(1))]),
        with(vec![Node { key: "k".repeat(65), ..node.clone() }]),
        View { effects: vec![effect], ..page(1) },
    ] {
        let result = outcome([vec![ready()], vec![opened(0)], vec![updated(view.clone())]]).await;
        assert!(matches!(result, Err(ProgramError::BadView(_))), "{view:?}: {result:?}");
    }
    // More than is ever decoded: not even a view.
    let view = with(vec![node; limits::NODES + 1]);
    let result = outcome([vec![ready()], vec![opened(0)], vec![updated(view)]]).await;
    assert_eq!(result, Err(ProgramError::HostDied));
}

#[tokio::test]
async fn answers_that_nobody_asked_for_end_the_child() {
    let died = Err(ProgramError::HostDied);
    assert_eq!(outcome([vec![ready(), ready()], vec![], vec![]]).await, died);
    assert_eq!(outcome([vec![ready()], vec![opened(1)], vec![]]).await, died);
    assert_eq!(outcome([vec![ready()], vec![updated(page(1))], vec![]]).await, died);
    assert_eq!(outcome([vec![ready()], vec![opened(0)], vec![opened(0)]]).await, died);
    let early = outcome([vec![opened(0), ready()], vec![], vec![]]).await;
    assert!(matches!(early, Err(ProgramError::CannotStart(_))), "{early:?}");
    // An answer twice: the first one stands, the second ends the child.
    let folder = tempfile::tempdir().unwrap();
    let says = [vec![ready()], vec![opened(0)], vec![updated(page(1)), updated(page(2))]];
    let host = impatient(child(&folder, says));
    let mut program = host.open(Launch { app: [0; 32], code: EMPTY }).await.unwrap();
    assert_eq!(program.update(Vec::new()).await, Ok(page(1)));
    assert_eq!(program.update(Vec::new()).await, Err(ProgramError::HostDied));
}

#[tokio::test]
async fn words_of_the_child_are_cut() {
    let long = ProgramError::Trapped("\u{7}\n".repeat(10_000));
    let says = vec![FromChild::Updated { program: 0, result: Err(long) }];
    let error = outcome([vec![ready()], vec![opened(0)], says]).await.unwrap_err();
    let text = error.to_string();
    assert!(text.len() < 400 && !text.contains(char::is_control), "{text:?}");
}

/// All that a reader makes of some bytes.
fn frames(bytes: &[u8]) -> Vec<std::io::Result<FromChild>> {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(async {
        let (sender, mut receiver) = mpsc::channel(1);
        let reading = read_frames(bytes, sender);
        let taking = async {
            let mut all = Vec::new();
            while let Some(frame) = receiver.recv().await {
                all.push(frame);
            }
            all
        };
        tokio::join!(reading, taking).1
    })
}

proptest! {
    #[test]
    fn garbage_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        let read = frames(&bytes);
        // It ends with an error, and nothing is read after one.
        prop_assert!(read.last().is_some_and(Result::is_err));
        prop_assert_eq!(read.iter().filter(|frame| frame.is_err()).count(), 1);
    }

    #[test]
    fn damaged_frames_never_panic(
        kind in 0usize..4,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
    ) {
        let error = ProgramError::Threw("why".into());
        let frame = [
            ready(),
            opened(3),
            updated(page(9)),
            FromChild::Updated { program: 1, result: Err(error) },
        ];
        let mut bytes = wire::encode(&frame[kind]).unwrap();
        for (index, byte) in &damage {
            let at = index.index(bytes.len());
            bytes[at] = *byte;
        }
        for frame in frames(&bytes).into_iter().flatten() {
            if let FromChild::Updated { result: Ok(view), .. } = frame {
                _ = check::view(&view);
                _ = check::follows(&view, Some(view.rev / 2));
            }
        }
        if damage.is_empty() {
            prop_assert_eq!(frames(&bytes).remove(0).unwrap(), frame.into_iter().nth(kind).unwrap());
        }
    }
}

#[test]
fn a_promise_of_4_gib_reserves_nothing() {
    let read = frames(&[0xff, 0xff, 0xff, 0xff, 1]);
    assert_eq!(read[0].as_ref().unwrap_err().kind(), std::io::ErrorKind::InvalidData);
    // Within the bound, but never sent.
    let read = frames(&[0, 0, 64, 0, 1]);
    assert_eq!(read[0].as_ref().unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}
