//! The bridge's life: opens a node, hands commands over, and refreshes the model when the
//! node's data change.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use teahouse_node::core::command::{Command, Reply};
use teahouse_node::core::store::ChangeSet;
use teahouse_node::protocols::ids::Millis;
use teahouse_node::roles::{RunError, device};
use teahouse_node::tokio;
use teahouse_node::tokio::sync::mpsc;
use teahouse_node::tokio::task::spawn_blocking;
use teahouse_node::tokio::time::{Instant, sleep_until, timeout};
use teahouse_node::{Handle, Node, NodeConfig};

use super::pages::Pages;
use super::photos::{self, Photos};
use super::programs::Programs;
use super::refresh::{Focus, refresh};
use super::{Action, Answer, Ports, QUEUE, Source, town};
use crate::strings;
use crate::vm::{Model, Qr, Stage, Zone};

/// Models follow each other no faster than this: a screen shows 60 a second, and a node
/// that catches up commits hundreds.
pub(super) const PACE: Duration = Duration::from_millis(33);
/// How long to wait after data could not be read.
pub(super) const RETRY: Duration = Duration::from_secs(2);
/// How often it is looked why something in the open chat has not arrived.
const LOOK: Duration = Duration::from_secs(15);
/// How long commands may still become durable after the window was closed.
const LAST_COMMANDS: Duration = Duration::from_secs(5);

/// Runs until the window closes its end.
pub(super) async fn live(first: Source, home: NodeConfig, mut ports: Ports) {
    let mut next = Some(first);
    while let Some(source) = next {
        let demo = matches!(source, Source::Town);
        let data = match &source {
            Source::Home(config) => Some(config.data.clone()),
            Source::Town => None,
        };
        ports.outlet.begin(Model { demo, ..Model::default() });
        // Opening reads the disk; it also needs the runtime's context, which these threads have.
        let opened = spawn_blocking(move || open(source)).await;
        let opened = opened.unwrap_or_else(|_| Err("it crashed while starting".into()));
        let step = match opened {
            Ok((handle, keep)) => {
                // So that commands work beside the window; it works without them.
                let served = match data {
                    Some(data) => device::serve(handle.clone(), data).await,
                    None => Err(RunError::Ended),
                };
                if let Err(e) = &served
                    && !demo
                {
                    eprintln!("teahouse: no commands beside the window: {e}");
                }
                let step = with_node(&handle, demo, &mut ports).await;
                if let Ok(served) = served {
                    served.close().await;
                }
                // Stopping waits for the node's threads.
                let _ = spawn_blocking(move || drop(keep)).await;
                step
            }
            Err(why) => without_node(why, demo, &mut ports).await,
        };
        next = match step {
            Step::Home => Some(Source::Home(home.clone())),
            Step::Town => Some(Source::Town),
            Step::End => None,
        };
    }
}

/// Where to go from here.
enum Step {
    Home,
    Town,
    End,
}

fn open(source: Source) -> Result<(Handle, town::Keep), String> {
    match source {
        Source::Town => town::start(),
        Source::Home(config) => {
            let node = Node::start(config);
            let node = node.map_err(|e| e.to_string())?;
            Ok((node.handle().clone(), Box::new(node)))
        }
    }
}

/// Nothing can be done but to look elsewhere.
async fn without_node(why: String, demo: bool, ports: &mut Ports) -> Step {
    ports.outlet.begin(Model { demo, stage: Stage::Broken(why.clone()), ..Model::default() });
    loop {
        match ports.actions.recv().await {
            None => return Step::End,
            Some(Action::Home) => return Step::Home,
            Some(Action::Town) => return Step::Town,
            Some(Action::Submit { ticket, .. }) => {
                let answer = Answer { ticket, result: Err(why.clone()), qr: None };
                // The window reads its answers, or it is gone.
                let _ = ports.answers.send(answer).await;
                (ports.outlet.wake)();
            }
            Some(
                photo @ (Action::ChoosePhotos { .. } | Action::TakeIn { .. } | Action::Look(_)),
            ) => {
                if let Some(news) = photos::without(photo, &why) {
                    photos::Out::of(ports).say(news).await;
                }
            }
            Some(
                Action::Show { .. } | Action::Person(_) | Action::Page { .. } | Action::Program(_),
            ) => {}
        }
    }
}

async fn with_node(handle: &Handle, demo: bool, ports: &mut Ports) -> Step {
    let zone = Arc::new(Zone::system());
    // Subscribed before the first query runs: nothing falls in between.
    let mut changes = handle.changes();
    let mut dirty = Some(ChangeSet::everything());
    let mut focus = Focus::default();
    let mut model = Model { demo, ..Model::default() };
    let (commands, waiting) = mpsc::channel(QUEUE);
    let submitter = tokio::spawn(submit(handle.clone(), waiting, ports));
    let pages = Pages::start(handle, &zone, ports);
    let mut photos = Photos::start(handle, ports);
    let programs = Programs::start(handle, &ports.outlet, ports.child.clone());
    let mut not_before = Instant::now();
    let mut midnight = next_midnight(&zone);
    let mut look = Instant::now() + LOOK;
    let step = loop {
        tokio::select! {
            biased;
            action = ports.actions.recv() => match action {
                None => break Step::End,
                Some(Action::Home) => break Step::Home,
                Some(Action::Town) => break Step::Town,
                Some(Action::Submit { ticket, command }) => {
                    if commands.try_send((ticket, command)).is_err() {
                        let result = Err(strings::busy().into());
                        let _ = ports.answers.try_send(Answer { ticket, result, qr: None });
                        (ports.outlet.wake)();
                    }
                }
                Some(Action::Show { topic, limit }) => {
                    focus.conversation = topic.map(|topic| (topic, limit));
                    focus.moved = true;
                    dirty.get_or_insert_default();
                    not_before = Instant::now();
                }
                Some(Action::Page { page, ask }) => pages.ask(page, ask),
                Some(Action::ChoosePhotos { ticket }) => photos.choose(ticket),
                Some(Action::TakeIn { ticket, pick }) => photos.take_in(ticket, pick),
                Some(Action::Look(which)) => photos.look(which),
                Some(Action::Program(act)) => programs.act(act),
                Some(Action::Person(account)) => {
                    focus.person = account;
                    focus.moved = true;
                    dirty.get_or_insert_default();
                    not_before = Instant::now();
                }
            },
            more = changes.next() => {
                let Some(more) = more else {
                    let why = "the node has stopped".into();
                    return without_node(why, demo, ports).await;
                };
                dirty.get_or_insert_default().merge(&more);
            }
            () = sleep_until(not_before), if dirty.is_some() => {
                let touched = dirty.take().unwrap_or_default();
                let (handle, zone) = (handle.clone(), Arc::clone(&zone));
                let (was, looking) = (model.clone(), focus.clone());
                focus.moved = false;
                // Queries read the disk.
                let new = spawn_blocking(move || {
                    refresh(&handle, &was, &looking, &touched, now(), &zone)
                });
                match new.await {
                    Ok(Ok(Some(new))) => {
                        model = new;
                        ports.outlet.publish(model.clone());
                    }
                    Ok(Ok(None)) => {}
                    Ok(Err(e)) => {
                        model.stage = Stage::Broken(e);
                        ports.outlet.publish(model.clone());
                        dirty = Some(ChangeSet::everything());
                        not_before = Instant::now() + RETRY;
                        continue;
                    }
                    // A query panicked, and told so on standard error.
                    Err(_) => {
                        let why = "a query crashed".to_owned();
                        return without_node(why, demo, ports).await;
                    }
                }
                not_before = Instant::now() + PACE;
            }
            // What waits is told after a while, though nothing else changes.
            () = sleep_until(look), if waits(&model) => {
                look = Instant::now() + LOOK;
                focus.moved = true;
                dirty.get_or_insert_default();
            }
            () = sleep_until(midnight) => {
                // "Today" has become "yesterday".
                dirty = Some(ChangeSet::everything());
                midnight = next_midnight(&zone);
            }
        }
    };
    pages.end().await;
    photos.end().await;
    programs.end().await;
    drop(commands);
    let _ = timeout(LAST_COMMANDS, submitter).await;
    step
}

/// Whether something in the open chat has not arrived.
fn waits(model: &Model) -> bool {
    model.conversation.as_ref().is_some_and(|c| c.undelivered)
}

/// Hands commands to the node, each after the last one's answer: they take effect in the
/// order in which they were given, and a person gives few.
fn submit(
    handle: Handle,
    mut waiting: mpsc::Receiver<(u64, Command)>,
    ports: &Ports,
) -> impl Future<Output = ()> + Send + use<> {
    let (answers, wake) = (ports.answers.clone(), Arc::clone(&ports.outlet.wake));
    async move {
        while let Some((ticket, command)) = waiting.recv().await {
            let result = handle.submit(command).await.map_err(|e| e.to_string());
            let qr = match &result {
                Ok(
                    Reply::Card { link }
                    | Reply::Code { link }
                    | Reply::Link { link }
                    | Reply::Product { link, .. },
                ) => Qr::of_link(link).map(Arc::new),
                _ => None,
            };
            // Fails when the window is closed: then nobody wants to know.
            let _ = answers.send(Answer { ticket, result, qr }).await;
            wake();
        }
    }
}

pub(super) fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn next_midnight(zone: &Zone) -> Instant {
    Instant::now() + Duration::from_millis(zone.until_midnight(now()))
}
