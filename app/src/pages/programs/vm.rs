//! Programs as the page shows them, as plain values.

use std::collections::BTreeMap;
use std::sync::Arc;

use teahouse_node::core::pay::programs::BillView;
use teahouse_node::core::programs::query::{Program, Programs};
use teahouse_node::core::query::Query;
use teahouse_node::core::store::StorageError;
use teahouse_node::programs::Wish;
use teahouse_node::programs::ui::Node;
use teahouse_node::protocols::ids::{AppId, TopicId};

use super::pictures::Picture;
use crate::pages::Around;

/// The programs that are installed.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Shelf {
    /// By name.
    pub programs: Vec<Program>,
}

pub(super) fn load(around: &Around<'_, Shelf>) -> Result<Shelf, StorageError> {
    if let Some(was) = around.was
        && !around.fresh
    {
        return Ok(was.clone());
    }
    Ok(Shelf { programs: Programs {}.run(around.snapshot)? })
}

/// The program that is open.
#[derive(Debug, Clone, PartialEq)]
pub struct Running {
    /// Which.
    pub app: AppId,
    /// What it is called.
    pub name: String,
    /// What it was told as if a link had opened it.
    pub launch: String,
    /// The chat in which it was opened.
    pub chat: Option<TopicId>,
    /// Its picture.
    pub nodes: Arc<[Node]>,
    /// Counts its pictures.
    pub rev: u64,
    /// Its pictures' pictures, by their place in the package.
    pub pictures: Arc<BTreeMap<String, Picture>>,
    /// What stands on its buttons to pay, by their keys: what the node knows of the offers.
    pub bills: Arc<BTreeMap<String, String>>,
    /// What the person is asked to pay.
    pub bill: Option<BillView>,
    /// What the person is to be asked.
    pub wish: Option<Wish>,
    /// What went wrong, in words.
    pub trouble: Option<String>,
    /// Whether it has ended: it can only be started again.
    pub ended: bool,
    /// Whether it has more to do than it can.
    pub busy: bool,
    /// How many lines it showed in passing, and the last one.
    pub notices: u64,
    /// The last one.
    pub notice: String,
    /// How many cards it offered.
    pub offers: u64,
    /// The last one: its title, and what the program is told by it.
    pub offer: Option<(String, String)>,
}

impl Running {
    /// One that has not shown anything.
    #[must_use]
    pub fn new(app: AppId, launch: String) -> Self {
        Self {
            app,
            name: String::new(),
            launch,
            chat: None,
            nodes: Arc::default(),
            rev: 0,
            pictures: Arc::default(),
            bills: Arc::default(),
            bill: None,
            wish: None,
            trouble: None,
            ended: false,
            busy: false,
            notices: 0,
            notice: String::new(),
            offers: 0,
            offer: None,
        }
    }
}
