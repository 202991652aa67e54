//! Between the window and the node: actions go in and models come out, and neither side
//! ever waits for the other.

mod live;
mod pages;
mod photos;
mod programs;
mod refresh;
mod town;

use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;

use teahouse_node::NodeConfig;
use teahouse_node::core::command::{Command, Reply};
use teahouse_node::media::Which;
use teahouse_node::protocols::ids::{AccountId, TopicId};
use teahouse_node::tokio::runtime::Builder;
use teahouse_node::tokio::sync::{mpsc, watch};

use crate::pages::programs::vm::Running;
use crate::pages::{PageId, Shared};
use crate::photos::news::{News, Pick};
use crate::vm::{Model, Qr};

pub use programs::Act as ProgramAct;

/// What the window asks for.
#[derive(Debug, Clone)]
pub enum Action {
    /// Hand a command to the node; the answer comes back with the ticket.
    Submit {
        /// The window's own number for it.
        ticket: u64,
        /// The command.
        command: Command,
    },
    /// Keep this conversation in the model.
    Show {
        /// Which; `None` for none.
        topic: Option<TopicId>,
        /// Its newest messages, so many.
        limit: usize,
    },
    /// Keep this person's safety number in the model.
    Person(Option<AccountId>),
    /// Keep this in a page's model.
    Page {
        /// Which page.
        page: PageId,
        /// What it wants to see.
        ask: Shared,
    },
    /// Let a person choose pictures' files in the system's dialog.
    ChoosePhotos {
        /// The window's own number for it.
        ticket: u64,
    },
    /// Make a picture ready to be sent.
    TakeIn {
        /// The window's own number for it.
        ticket: u64,
        /// The picture.
        pick: Pick,
    },
    /// Bring this photo in full size, and no longer another one; `None` for none.
    Look(Option<Which>),
    /// Do something with a Mini Program.
    Program(ProgramAct),
    /// Leave one's own data for the town.
    Town,
    /// Leave the town for one's own data.
    Home,
}

/// The answer to a command.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The ticket.
    pub ticket: u64,
    /// What the node says; a refusal in its own words.
    pub result: Result<Reply, String>,
    /// The QR code of a card, link code, link or poster.
    pub qr: Option<Arc<Qr>>,
}

/// What the window needs of the other side.
pub trait Link {
    /// Hands an action over; `false` when too many wait already.
    fn send(&mut self, action: Action) -> bool;
    /// The newest model.
    fn model(&mut self) -> Arc<Model>;
    /// An answer that has come.
    fn answer(&mut self) -> Option<Answer>;
    /// News of photos.
    fn news(&mut self) -> Option<News> {
        None
    }
}

/// Actions and answers that wait at most.
const QUEUE: usize = 256;

/// Whose node the window shows.
#[derive(Debug, Clone)]
pub enum Source {
    /// One's own data.
    Home(NodeConfig),
    /// The town.
    Town,
}

/// The running other side: a thread with the node's runtime.
pub struct Bridge {
    /// `None` once the bridge is closed.
    actions: Option<mpsc::Sender<Action>>,
    answers: mpsc::Receiver<Answer>,
    news: mpsc::Receiver<News>,
    models: watch::Receiver<Arc<Model>>,
    thread: Option<JoinHandle<()>>,
}

/// The other side's ends of the channels.
struct Ports {
    actions: mpsc::Receiver<Action>,
    answers: mpsc::Sender<Answer>,
    news: mpsc::Sender<News>,
    outlet: Outlet,
    /// What runs Mini Programs, if not this executable.
    child: Option<PathBuf>,
}

/// Where models come out.
#[derive(Clone)]
struct Outlet {
    models: watch::Sender<Arc<Model>>,
    /// Wakes the window.
    wake: Arc<dyn Fn() + Send + Sync>,
}

impl Outlet {
    /// A model of another node than the last one's.
    fn begin(&self, model: Model) {
        self.models.send_replace(Arc::new(model));
        (self.wake)();
    }

    /// The next model; the pages' and the open program stay as they are.
    fn publish(&self, model: Model) {
        self.models.send_modify(|m| {
            let (pages, program) = (m.pages.clone(), m.program.clone());
            *m = Arc::new(Model { program, pages, ..model });
        });
        (self.wake)();
    }

    /// The Mini Program that is open.
    fn program(&self, program: Option<Arc<Running>>) {
        self.models.send_modify(|m| Arc::make_mut(m).program = program);
        (self.wake)();
    }

    /// A page's next model, or why there is none.
    fn page(&self, page: PageId, model: Result<Shared, Arc<str>>) {
        self.models.send_modify(|m| {
            Arc::make_mut(m).pages.insert(page, model);
        });
        (self.wake)();
    }
}

impl Bridge {
    /// Starts the node, which may take a moment: the model tells how far it is. `home` is
    /// where [`Action::Home`] leads. `wake` is called whenever something came for the window.
    pub fn start(
        first: Source,
        home: NodeConfig,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        Self::start_with(first, home, None, wake)
    }

    /// As [`Bridge::start`], with another executable as the Mini Programs' child process than
    /// this one: it calls [`teahouse_node::programs::as_child`] first thing.
    pub fn start_with(
        first: Source,
        home: NodeConfig,
        child: Option<PathBuf>,
        wake: impl Fn() + Send + Sync + 'static,
    ) -> std::io::Result<Self> {
        let (actions, action_port) = mpsc::channel(QUEUE);
        let (answer_port, answers) = mpsc::channel(QUEUE);
        let (news_port, news) = mpsc::channel(QUEUE);
        let (model_port, models) = watch::channel(Arc::default());
        let ports = Ports {
            actions: action_port,
            answers: answer_port,
            news: news_port,
            outlet: Outlet { models: model_port, wake: Arc::new(wake) },
            child,
        };
        let runtime = Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("teahouse-net")
            .enable_all()
            .build()?;
        let thread = std::thread::Builder::new()
            .name("teahouse-bridge".into())
            .spawn(move || runtime.block_on(live::live(first, home, ports)))?;
        Ok(Self { actions: Some(actions), answers, news, models, thread: Some(thread) })
    }
}

impl Link for Bridge {
    fn send(&mut self, action: Action) -> bool {
        self.actions.as_ref().is_some_and(|a| a.try_send(action).is_ok())
    }

    fn model(&mut self) -> Arc<Model> {
        Arc::clone(&self.models.borrow_and_update())
    }

    fn answer(&mut self) -> Option<Answer> {
        self.answers.try_recv().ok()
    }

    fn news(&mut self) -> Option<News> {
        self.news.try_recv().ok()
    }
}

impl Drop for Bridge {
    /// Lets what was handed over become durable, and stops the node. Takes a few seconds at
    /// most; the window is closed by then.
    fn drop(&mut self) {
        self.actions = None;
        self.answers.close();
        self.news.close();
        if let Some(thread) = self.thread.take() {
            // A panic there was told on standard error.
            let _ = thread.join();
        }
    }
}
