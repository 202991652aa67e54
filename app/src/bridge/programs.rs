//! Runs the Mini Program that is open in the window: one at a time, on a task of its own.
//!
//! The child process is this same executable; the window sees plain values ([`Running`]) and
//! says what the person does ([`Act`]).

use std::collections::{BTreeMap, BTreeSet};
use std::future::ready;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use teahouse_node::Handle;
use teahouse_node::core::pay::programs::BillView;
use teahouse_node::core::pay::tables::Number;
use teahouse_node::core::programs::query::PackageOf;
use teahouse_node::core::programs::tables::PROGRAM_STATE;
use teahouse_node::core::query::Query;
use teahouse_node::core::view::Blob;
use teahouse_node::programs::ui::{Event, Kind};
use teahouse_node::programs::{self, Happening, Host, Installed, Open, Opening, PowerError};
use teahouse_node::protocols::ids::{AppId, TopicId};
use teahouse_node::protocols::package::{Power, VerifiedPackage};
use teahouse_node::tokio;
use teahouse_node::tokio::sync::mpsc;
use teahouse_node::tokio::task::{JoinHandle, spawn_blocking};
use teahouse_node::tokio::time::{Instant, sleep_until};

use super::Outlet;
use super::live::now;
use crate::pages::programs::pictures;
use crate::pages::programs::vm::Running;

/// What the person does that wait for the program at most.
const QUEUE: usize = 64;
/// Pictures of one program that are decoded at most.
const MOST_PICTURES: usize = 64;
/// Bytes of them at most: each becomes a texture.
const MOST_PIXELS: usize = 32 << 20;
/// How often at most a program is told of what others changed.
const PACE: Duration = Duration::from_millis(200);

/// Buttons to pay of one picture that say something at most.
const MOST_BILLS: usize = 16;
/// How often it is looked whether others answered what a program asked.
const LOOK: Duration = Duration::from_millis(250);

/// What the person does with a program.
#[derive(Debug, Clone, PartialEq)]
pub enum Act {
    /// Opens it, from the start.
    Open {
        /// Which.
        app: AppId,
        /// What it is told as if a link had opened it.
        launch: String,
        /// The chat whose members it may share state with.
        chat: Option<TopicId>,
        /// Whether the theme is dark.
        dark_mode: bool,
    },
    /// Whether it is on the screen: what nobody looks at does not run.
    Show(bool),
    /// Taps, writes.
    Tell(Event),
    /// Says whether it may have a power.
    Decide {
        /// Which program they were asked for: a word for one is none for another.
        app: AppId,
        /// The power.
        power: Power,
        /// Yes or no.
        allowed: bool,
    },
    /// Says whether to pay what the window asks.
    Settle {
        /// For which program they were asked.
        app: AppId,
        /// For which payment.
        payment: Number,
        /// Yes or no.
        pay: bool,
    },
    /// Closes it.
    Close,
}

/// The task.
pub(super) struct Programs {
    acts: mpsc::Sender<Act>,
    task: JoinHandle<()>,
}

impl Programs {
    pub(super) fn start(handle: &Handle, out: &Outlet, child: Option<PathBuf>) -> Self {
        let (acts, waiting) = mpsc::channel(QUEUE);
        let task = tokio::spawn(run(handle.clone(), out.clone(), child, waiting));
        Self { acts, task }
    }

    /// Hands over what the person does. What a program has no time for is dropped.
    pub(super) fn act(&self, act: Act) {
        let _ = self.acts.try_send(act);
    }

    /// Ends it: nothing more is published after this.
    pub(super) async fn end(self) {
        self.task.abort();
        let _ = self.task.await;
    }
}

async fn run(handle: Handle, out: Outlet, child: Option<PathBuf>, mut acts: mpsc::Receiver<Act>) {
    // It starts no process before a program is opened.
    let mut host: Option<Host> = child.map(programs::host_at);
    let mut now: Option<Showing> = None;
    let mut told: Option<Running> = None;
    let mut looked_at = true;
    // Subscribed before a program first reads what is shared: nothing falls in between.
    let mut changes = handle.changes();
    let (mut look, mut not_before) = (false, Instant::now());
    let mut look_at = Instant::now();
    loop {
        let due = looked_at && now.as_ref().is_some_and(Showing::is_due);
        let waits = looked_at && now.as_ref().is_some_and(Showing::is_waiting);
        let act = tokio::select! {
            biased;
            act = acts.recv() => match act {
                Some(act) => Some(act),
                None => return,
            },
            more = changes.next() => {
                let Some(more) = more else { return };
                look |= more.touches(&PROGRAM_STATE);
                continue;
            }
            () = sleep_until(not_before), if look && looked_at && now.is_some() => {
                (look, not_before) = (false, Instant::now() + PACE);
                now = match now.take() {
                    Some(showing) => showing.look(&handle).await,
                    None => None,
                };
                None
            }
            () = ready(()), if due => None,
            // It is looked whether something came that others were asked for.
            () = sleep_until(look_at), if waits => None,
        };
        match act {
            None => {}
            Some(Act::Open { app, launch, chat, dark_mode }) => {
                // The old one is closed before the new one opens.
                drop(now.take());
                looked_at = true;
                let shown = Running { chat, ..Running::new(app, launch) };
                now = Some(Showing::open(&handle, &mut host, shown, dark_mode).await);
            }
            Some(Act::Show(on)) => looked_at = on,
            Some(Act::Close) => now = None,
            Some(Act::Tell(event)) => {
                now = match now.take() {
                    Some(showing) => showing.told(&handle, event).await,
                    None => None,
                };
            }
            Some(Act::Settle { app, payment, pay }) => {
                now = match now.take() {
                    Some(showing) => showing.settle(&handle, app, payment, pay).await,
                    None => None,
                };
            }
            Some(Act::Decide { app, power, allowed }) => {
                now = match now.take() {
                    Some(showing) => showing.decide(&handle, app, power, allowed).await,
                    None => None,
                };
            }
        }
        now = match now.take() {
            Some(showing) if looked_at => showing.step(&handle).await,
            other => other,
        };
        look_at = Instant::now() + LOOK;
        let shown = now.as_ref().map(|s| s.shown.clone());
        if shown != told {
            told.clone_from(&shown);
            out.program(shown.map(Arc::new));
        }
    }
}

/// A program, and what of it is on the screen.
struct Showing {
    open: Option<Open>,
    shown: Running,
}

impl Showing {
    async fn open(
        handle: &Handle,
        host: &mut Option<Host>,
        mut shown: Running,
        dark_mode: bool,
    ) -> Self {
        let launch = shown.launch.clone();
        match Self::load(handle, host, shown.app, launch, dark_mode).await {
            Ok(open) => {
                shown.name = open.name();
                Self { open: Some(open), shown }
            }
            Err(why) => {
                shown.trouble = Some(why);
                shown.ended = true;
                Self { open: None, shown }
            }
        }
    }

    /// Tells the program what others changed of what its chat shares.
    async fn look(mut self, handle: &Handle) -> Option<Self> {
        let Some(mut open) = self.open.take() else { return Some(self) };
        let powers = self.powers(handle);
        let looked = spawn_blocking(move || {
            open.look(&powers);
            open
        });
        self.open = Some(looked.await.ok()?);
        Some(self)
    }

    fn powers(&self, handle: &Handle) -> Installed<Handle> {
        Installed { node: handle.clone(), app: self.shown.app, chat: self.shown.chat }
    }

    async fn load(
        handle: &Handle,
        host: &mut Option<Host>,
        app: AppId,
        launch: String,
        dark_mode: bool,
    ) -> Result<Open, String> {
        let host = match host {
            Some(host) => &*host,
            None => host.insert(programs::host().map_err(|e| e.to_string())?),
        };
        let reader = handle.clone();
        let read = spawn_blocking(move || {
            let bytes = reader.query(|s| PackageOf { app }.run(s)).map_err(|e| e.to_string())?;
            let Some(Blob(bytes)) = bytes else { return Err("the program is not here".to_owned()) };
            VerifiedPackage::from_bytes(&bytes).map_err(|e| e.to_string())
        });
        let package = read.await.map_err(|_| "the package can't be read".to_owned())??;
        let millis = now();
        let how = Opening {
            locale: "en".to_owned(),
            dark_mode,
            launch,
            now: millis / 1000,
            seed: (millis % (1 << 32)) as u32,
        };
        Open::open(host, package, how).await.map_err(|e| e.to_string())
    }

    fn is_due(&self) -> bool {
        self.open.as_ref().is_some_and(Open::is_due)
    }

    /// Whether answers of others, or the words on its buttons, may come.
    fn is_waiting(&self) -> bool {
        let unknown = self.shown.bill.as_ref().is_some_and(|b| b.amount.is_none());
        unknown || self.open.as_ref().is_some_and(Open::is_waiting)
    }

    /// The person did something. A button to pay is the window's: of that the program hears
    /// nothing yet.
    async fn told(mut self, handle: &Handle, event: Event) -> Option<Self> {
        let Some(open) = &mut self.open else { return Some(self) };
        match event {
            Event::Tap { key, .. } if open.is_pay_button(&key) => {
                self.with(handle, move |open, powers| open.press(powers, &key)).await
            }
            event => {
                self.shown.busy = !open.tell(event);
                Some(self)
            }
        }
    }

    async fn settle(self, handle: &Handle, app: AppId, payment: Number, pay: bool) -> Option<Self> {
        let asked = self.shown.bill.as_ref().is_some_and(|b| b.payment == payment);
        if self.shown.app != app || !asked {
            return Some(self);
        }
        self.with(handle, move |open, powers| open.settle(powers, pay)).await
    }

    /// Does something that may wait for the disk; `None` where it panicked.
    async fn with(
        self,
        handle: &Handle,
        act: impl FnOnce(&mut Open, &mut Installed<Handle>) -> Result<(), PowerError> + Send + 'static,
    ) -> Option<Self> {
        let Self { open: Some(mut open), mut shown } = self else { return Some(self) };
        let mut powers = Installed { node: handle.clone(), app: shown.app, chat: shown.chat };
        let acted = spawn_blocking(move || {
            let done = act(&mut open, &mut powers);
            let bills = bills(&open, &powers);
            (open, done, bills)
        });
        let (open, done, bills) = acted.await.ok()?;
        shown.trouble = done.err().map(|e| e.to_string());
        (shown.bills, shown.bill) = bills;
        shown.wish = open.wish();
        Some(Self { open: Some(open), shown })
    }

    async fn decide(
        self,
        handle: &Handle,
        app: AppId,
        power: Power,
        allowed: bool,
    ) -> Option<Self> {
        let mut powers = self.powers(handle);
        let Self { open: Some(mut open), mut shown } = self else { return Some(self) };
        if shown.app != app {
            return Some(Self { open: Some(open), shown });
        }
        let decided = spawn_blocking(move || {
            let happened = open.decide(&mut powers, power, allowed);
            let bills = bills(&open, &powers);
            (open, happened, bills)
        });
        // It panicked, and told so on standard error: the program is closed.
        let (open, happened, bills) = decided.await.ok()?;
        (shown.bills, shown.bill) = bills;
        match happened {
            Ok(happened) => happen(&mut shown, happened),
            Err(e) => shown.trouble = Some(e.to_string()),
        }
        shown.wish = open.wish();
        Some(Self { open: Some(open), shown })
    }

    /// Tells the program what waits, and carries out what it wishes; `None` once it is done.
    async fn step(mut self, handle: &Handle) -> Option<Self> {
        if self.is_waiting() {
            self = self
                .with(handle, |open, powers| {
                    open.look(powers);
                    Ok(())
                })
                .await?;
        }
        let Some(mut open) = self.open.take() else { return Some(self) };
        if !open.is_due() {
            self.open = Some(open);
            return Some(self);
        }
        match open.update().await {
            Ok(false) => {}
            Ok(true) => {
                self.shown.nodes = open.nodes().into();
                self.shown.rev = open.rev();
                self.shown.trouble = None;
            }
            Err(e) => {
                self.shown.trouble = Some(e.to_string());
                if e.is_final() {
                    self.shown.ended = true;
                    self.shown.wish = None;
                    self.shown.bill = None;
                    self.shown.bills = Arc::default();
                    self.shown.offer = None;
                    return Some(self);
                }
            }
        }
        self.shown.busy = false;
        let mut powers = self.powers(handle);
        let had = Arc::clone(&self.shown.pictures);
        let carried = spawn_blocking(move || {
            let happened = open.carry_out(&mut powers);
            let pictures = decoded(&open, had);
            let bills = bills(&open, &powers);
            (open, happened, pictures, bills)
        });
        let (open, happened, pictures, bills) = carried.await.ok()?;
        self.shown.pictures = pictures;
        (self.shown.bills, self.shown.bill) = bills;
        self.shown.wish = open.wish();
        let done = happened.contains(&Happening::Close);
        happen(&mut self.shown, happened);
        self.open = Some(open);
        (!done).then_some(self)
    }
}

fn happen(shown: &mut Running, happened: Vec<Happening>) {
    for one in happened {
        match one {
            Happening::Notice(text) => {
                shown.notices += 1;
                shown.notice = text;
            }
            Happening::Share { title, launch } => {
                shown.offers += 1;
                shown.offer = Some((title, launch));
            }
            Happening::Close => {}
        }
    }
}

/// Words for the buttons to pay, by their keys, and the bill that the person is asked about.
type Bills = (Arc<BTreeMap<String, String>>, Option<BillView>);

fn bills(open: &Open, powers: &Installed<Handle>) -> Bills {
    let developer = open.manifest().cloud.as_ref().map(|c| c.device);
    let buttons = open.nodes().iter().filter(|n| matches!(n.kind, Kind::PayButton(_)));
    let words = buttons.take(MOST_BILLS).map(|node| {
        let bill = open.bill_of(powers, &node.key).ok().flatten();
        (node.key.clone(), programs::bill_words(bill.as_ref(), developer))
    });
    (Arc::new(words.collect()), open.bill(powers).ok().flatten())
}

/// The pictures that the program shows, decoded: each once, within a number and a size of them
/// all. What it shows no longer is let go.
fn decoded(
    open: &Open,
    had: Arc<BTreeMap<String, pictures::Picture>>,
) -> Arc<BTreeMap<String, pictures::Picture>> {
    let named = open.nodes().iter().filter_map(|node| match &node.kind {
        Kind::Image(image) => Some(image.source.as_str()),
        _ => None,
    });
    let named: BTreeSet<&str> = named.take(MOST_PICTURES).collect();
    if named.len() == had.len() && named.iter().all(|source| had.contains_key(*source)) {
        return had;
    }
    let mut all = BTreeMap::new();
    let mut room = MOST_PIXELS;
    for source in named {
        let picture = had.get(source).cloned().unwrap_or_else(|| {
            let bytes = open.file(source).unwrap_or_default();
            pictures::decode(&bytes)
        });
        let picture = match room.checked_sub(picture.bytes()) {
            Some(left) => {
                room = left;
                picture
            }
            None => pictures::Picture(None),
        };
        all.insert(source.to_owned(), picture);
    }
    Arc::new(all)
}
