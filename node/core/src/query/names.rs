//! What accounts are called: by this account's remark, else by themselves.

use std::collections::BTreeMap;
use std::rc::Rc;

use teahouse_protocols::account::AccountLog;
use teahouse_protocols::ids::{AccountId, TopicId};

use super::Result;
use crate::engine::accounts;
use crate::store::{Read, ReadExt};
use crate::tables::{CONTACTS, Chosen, ContactValue, NICKNAMES, pair_key};

/// Names of accounts and their logs, looked up once a query: loading a log evaluates it.
pub(crate) struct Names<'s> {
    s: &'s dyn Read,
    known: BTreeMap<AccountId, String>,
    logs: BTreeMap<AccountId, Option<Rc<AccountLog>>>,
}

impl<'s> Names<'s> {
    pub(crate) const fn new(s: &'s dyn Read) -> Self {
        Self { s, known: BTreeMap::new(), logs: BTreeMap::new() }
    }

    pub(crate) fn log(&mut self, account: AccountId) -> Result<Option<Rc<AccountLog>>> {
        if let Some(log) = self.logs.get(&account) {
            return Ok(log.clone());
        }
        let log = accounts::load(self.s, account)?.map(Rc::new);
        self.logs.insert(account, log.clone());
        Ok(log)
    }

    /// What they call themselves, else their id's beginning.
    pub(crate) fn own(&mut self, account: AccountId) -> Result<String> {
        let name = self.log(account)?.map(|l| l.state().name.to_string());
        Ok(name.filter(|n| !n.is_empty()).unwrap_or_else(|| account.to_hex()[..8].to_owned()))
    }

    /// The remark, else the name that the account gave itself, else its id's beginning.
    pub(crate) fn of(&mut self, account: AccountId) -> Result<String> {
        if let Some(name) = self.known.get(&account) {
            return Ok(name.clone());
        }
        let contact: Option<Chosen<ContactValue>> = self.s.get_typed(&CONTACTS, &account.0)?;
        let remark = contact.map(|c| c.value.remark).filter(|r| !r.is_empty());
        let name = match remark {
            Some(remark) => remark,
            None => self.own(account)?,
        };
        self.known.insert(account, name.clone());
        Ok(name)
    }

    pub(crate) fn in_topic(&mut self, topic: TopicId, account: AccountId) -> Result<String> {
        let nick: Option<Chosen<String>> =
            self.s.get_typed(&NICKNAMES, &pair_key(&topic.0, &account.0))?;
        match nick.map(|n| n.value).filter(|n| !n.is_empty()) {
            // A nickname alone could be anybody's, another member's name as well.
            Some(nick) => {
                let name = self.of(account)?;
                Ok(if nick == name { name } else { format!("{nick} ({name})") })
            }
            None => self.of(account),
        }
    }
}
