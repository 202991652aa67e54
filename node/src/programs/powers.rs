//! What a program's wishes mean: its storage, who the person is to it, what it was allowed.
//!
//! A program that is installed has them at its node ([`Installed`]); one that its developer
//! tries out has them in memory ([`InMemory`]).

use std::collections::BTreeMap;

use teahouse_core::command::{Command, Refusal, Reply};
use teahouse_core::programs::query::{
    LoginKey, OneProgram, Shared, SharedKeys, Stored, StoredKeys,
};
use teahouse_core::programs::state::Stamp;
use teahouse_core::programs::{self, MAX_KEYS, MAX_ROOM};
use teahouse_core::query::Query;
use teahouse_core::view::Blob;
use teahouse_protocols::ids::{AppId, TopicId};
use teahouse_protocols::package::Power;

use super::dealings::Dealings;
use crate::api::Problem;
use crate::client::{Client, ClientError};
use crate::handle::{Handle, NodeError};

/// Why a wish was not carried out.
#[derive(Debug, thiserror::Error)]
pub enum PowerError {
    /// Beyond a bound.
    #[error("{0}")]
    TooLarge(String),
    /// Something else, in words.
    #[error("{0}")]
    Failed(String),
    /// There is no such thing where the program runs.
    #[error("there is no such thing where the program runs")]
    NotHere,
}

/// The powers of one program. Every call may wait for the disk.
pub trait Powers: Dealings {
    /// What the person said; `None` while they were not asked.
    fn granted(&self, power: Power) -> Result<Option<bool>, PowerError>;
    /// Keeps what the person says.
    fn grant(&mut self, power: Power, allowed: bool) -> Result<(), PowerError>;
    /// The key by which the program knows the person, 32 bytes.
    fn login(&self) -> Result<Option<Vec<u8>>, PowerError>;
    /// What is kept under a key.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError>;
    /// Keeps a value, durably, or drops it.
    fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), PowerError>;
    /// The keys that begin so, in order.
    fn keys(&self, prefix: &str) -> Result<Vec<String>, PowerError>;
    /// Whether the program was opened in a chat; what follows is [`PowerError::NotHere`]
    /// otherwise.
    fn in_chat(&self) -> bool {
        false
    }
    /// What the chat's members share under a key.
    fn shared(&self, _key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Err(PowerError::NotHere)
    }
    /// Shares a value. Says by what the key is known to be written by this device, unless the
    /// same stood there.
    fn put_shared(&mut self, _key: &str, _value: Vec<u8>) -> Result<Option<Stamp>, PowerError> {
        Err(PowerError::NotHere)
    }
    /// The keys that begin so, in order, with who wrote each last.
    fn shared_keys(&self, _prefix: &str) -> Result<Vec<Stamp>, PowerError> {
        Err(PowerError::NotHere)
    }
}

/// Whoever can ask a node: its handle, or a command line that is attached to it.
pub trait Asker {
    /// Submits a command and waits for it to be durable.
    fn submit(&self, command: Command) -> Result<Reply, PowerError>;
    /// Asks a query.
    fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out, PowerError>;
}

impl PowerError {
    /// What a node's refusal means here.
    #[must_use]
    pub fn refused(refusal: &Refusal) -> Self {
        match refusal {
            Refusal::Limit { .. } | Refusal::Invalid { .. } => Self::TooLarge(refusal.to_string()),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// Waits for the disk: not to be called on a task of an async runtime.
impl Asker for Handle {
    fn submit(&self, command: Command) -> Result<Reply, PowerError> {
        self.submit_blocking(command).map_err(|e| match e {
            NodeError::Refused(refusal) => PowerError::refused(&refusal),
            other => PowerError::Failed(other.to_string()),
        })
    }

    fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out, PowerError> {
        self.query(|s| query.run(s)).map_err(|e| PowerError::Failed(e.to_string()))
    }
}

impl Asker for &Client {
    fn submit(&self, command: Command) -> Result<Reply, PowerError> {
        Ok(self.command(&command)?)
    }

    fn ask<Q: Query>(&self, query: &Q) -> Result<Q::Out, PowerError> {
        Ok(Client::ask(self, query)?)
    }
}

impl From<ClientError> for PowerError {
    fn from(error: ClientError) -> Self {
        match error {
            ClientError::Problem(Problem { refusal: Some(refusal), .. }) => Self::refused(&refusal),
            other => Self::Failed(other.to_string()),
        }
    }
}

/// The powers of a program that is installed.
#[derive(Debug, Clone)]
pub struct Installed<A> {
    /// The way to the node.
    pub node: A,
    /// The program.
    pub app: AppId,
    /// The chat in which it was opened.
    pub chat: Option<TopicId>,
}

impl<A: Asker> Powers for Installed<A> {
    fn granted(&self, power: Power) -> Result<Option<bool>, PowerError> {
        let Some(program) = self.node.ask(&OneProgram { app: self.app })? else {
            return Ok(Some(false));
        };
        Ok(program.powers.into_iter().find(|p| p.power == power).and_then(|p| p.allowed))
    }

    fn grant(&mut self, power: Power, allowed: bool) -> Result<(), PowerError> {
        let allowed = Some(allowed);
        let grant = programs::Command::Grant { app: self.app, power, allowed };
        self.node.submit(Command::Programs(grant)).map(|_| ())
    }

    fn login(&self) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.node.ask(&LoginKey { app: self.app })?.map(|b| b.0))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.node.ask(&Stored { app: self.app, key: key.to_owned() })?.map(|b| b.0))
    }

    fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), PowerError> {
        let put =
            programs::Command::Put { app: self.app, key: key.to_owned(), value: value.map(Blob) };
        self.node.submit(Command::Programs(put)).map(|_| ())
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>, PowerError> {
        self.node.ask(&StoredKeys { app: self.app, prefix: prefix.to_owned() })
    }

    fn in_chat(&self) -> bool {
        self.chat.is_some()
    }

    fn shared(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        let topic = self.chat.ok_or(PowerError::NotHere)?;
        let (app, key) = (self.app, key.to_owned());
        Ok(self.node.ask(&Shared { app, topic, key })?.map(|b| b.0))
    }

    fn put_shared(&mut self, key: &str, value: Vec<u8>) -> Result<Option<Stamp>, PowerError> {
        let topic = self.chat.ok_or(PowerError::NotHere)?;
        let (app, key) = (self.app, key.to_owned());
        let put = programs::Command::PutShared { app, topic, key: key.clone(), value: Blob(value) };
        Ok(match self.node.submit(Command::Programs(put))? {
            Reply::Message { message, .. } => {
                Some(Stamp { key, device: message.device, seq: message.seq })
            }
            _ => None,
        })
    }

    fn shared_keys(&self, prefix: &str) -> Result<Vec<Stamp>, PowerError> {
        let topic = self.chat.ok_or(PowerError::NotHere)?;
        self.node.ask(&SharedKeys { app: self.app, topic, prefix: prefix.to_owned() })
    }
}

/// The powers of a program that is tried out: gone when it is closed. The bounds are those of
/// the real ones.
#[derive(Debug, Default)]
pub struct InMemory {
    grants: BTreeMap<Power, bool>,
    kept: BTreeMap<String, Vec<u8>>,
}

impl Powers for InMemory {
    fn granted(&self, power: Power) -> Result<Option<bool>, PowerError> {
        Ok(self.grants.get(&power).copied())
    }

    fn grant(&mut self, power: Power, allowed: bool) -> Result<(), PowerError> {
        self.grants.insert(power, allowed);
        Ok(())
    }

    fn login(&self) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(Some(vec![0; 32]))
    }

    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, PowerError> {
        Ok(self.kept.get(key).cloned())
    }

    fn put(&mut self, key: &str, value: Option<Vec<u8>>) -> Result<(), PowerError> {
        let Some(value) = value else {
            self.kept.remove(key);
            return Ok(());
        };
        let others = self.kept.iter().filter(|(k, _)| *k != key);
        let (keys, bytes) = others.fold((1, key.len() + value.len()), |(n, bytes), (k, v)| {
            (n + 1, bytes + k.len() + v.len())
        });
        if keys > MAX_KEYS || bytes as u64 > MAX_ROOM {
            return Err(PowerError::TooLarge("the program's room is full".into()));
        }
        self.kept.insert(key.to_owned(), value);
        Ok(())
    }

    fn keys(&self, prefix: &str) -> Result<Vec<String>, PowerError> {
        Ok(self.kept.keys().filter(|k| k.starts_with(prefix)).cloned().collect())
    }
}
