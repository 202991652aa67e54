//! What is, compared with what should be: one look over all relays, and how requests leave.

use teahouse_protocols::account::RelayAddr;
use teahouse_protocols::codec;
use teahouse_protocols::ids::{Millis, RelayId};
use teahouse_protocols::mailbox::Request;

use super::session::{Pending, REFILL, Session};
use super::tokens::token_of;
use crate::engine::accounts;
use crate::store::{KeyRange, ReadExt};
use crate::tables::{RELAYS, RelayRow, TOKENS};
use crate::tx::{Fail, Tx};

/// Requests under way at one relay.
pub(super) const MAX_INFLIGHT: usize = 16;
/// Tokens below which more are fetched.
const FEW_TOKENS: usize = 16;
/// How long a connected recipient may take before a relay gets the message.
pub(super) const LIVE_PATIENCE: Millis = 1_500;

/// A request to leave.
#[derive(Debug, Clone)]
pub struct MailOut {
    /// Number by which the reply is known.
    pub id: u64,
    /// The relay.
    pub relay: RelayId,
    /// Its addresses.
    pub addrs: Vec<String>,
    /// The encoded request.
    pub request: Vec<u8>,
}

/// Compares what is with what should be, and asks relays for the difference. Returns when to
/// look again.
pub(crate) fn pump(tx: &mut Tx<'_>, out: &mut Vec<MailOut>) -> Result<Option<Millis>, Fail> {
    let Some(account) = tx.me()?.account else { return Ok(None) };
    let own: Vec<RelayAddr> = accounts::relays_of(tx, account)?;
    let mut pump = Pump { tx, out, wake: None };
    let me = pump.tx.me()?.device;
    let active = accounts::is_active(pump.tx, me)?;
    if pump.tx.mem.mail_due {
        for relay in &own {
            pump.session(relay.id).tags_checked = 0;
        }
    }
    for relay in &own {
        if active {
            pump.tend_own(relay)?;
        }
    }
    if active {
        pump.topics()?;
    }
    pump.outbox()?;
    let wake = pump.wake;
    tx.mem.mail_due = false;
    tx.mem.mail_all = false;
    Ok(wake)
}

pub(super) struct Pump<'p, 'a> {
    pub(super) tx: &'p mut Tx<'a>,
    out: &'p mut Vec<MailOut>,
    wake: Option<Millis>,
}

impl Pump<'_, '_> {
    pub(super) fn wake_at(&mut self, at: Millis) {
        self.wake = Some(self.wake.map_or(at, |w| w.min(at)));
    }

    pub(super) fn session(&mut self, relay: RelayId) -> &mut Session {
        self.tx.mem.mail.entry(relay).or_default()
    }

    /// Whether a request may be sent; says hello first where needed.
    pub(super) fn ready(&mut self, relay: &RelayAddr) -> bool {
        let now = self.tx.now;
        let session = self.session(relay.id);
        if session.retry_at > now {
            let at = session.retry_at;
            self.wake_at(at);
            return false;
        }
        if session.challenge.is_none() {
            if !session.inflight.values().any(|p| *p == Pending::Hello) {
                self.send(relay, &Request::Hello, Pending::Hello);
            }
            return false;
        }
        session.inflight.len() < MAX_INFLIGHT
    }

    pub(super) fn send(&mut self, relay: &RelayAddr, request: &Request, pending: Pending) {
        self.tx.mem.next_request += 1;
        let id = self.tx.mem.next_request;
        self.session(relay.id).inflight.insert(id, pending);
        self.out.push(MailOut {
            id,
            relay: relay.id,
            addrs: relay.addrs.iter().map(|a| a.to_string()).collect(),
            request: codec::encode(request),
        });
    }

    pub(super) fn inflight(&mut self, relay: RelayId, f: impl Fn(&Pending) -> bool) -> bool {
        self.session(relay).inflight.values().any(f)
    }

    /// At an own relay: admission, tokens, tags, fetching.
    fn tend_own(&mut self, relay: &RelayAddr) -> Result<(), Fail> {
        if !self.ready(relay) {
            return Ok(());
        }
        let row: RelayRow = self.tx.typed(&RELAYS, &relay.id.0)?.unwrap_or_default();
        let tokens =
            self.tx.scan(&TOKENS, &KeyRange::prefix(&relay.id.0), false, FEW_TOKENS + 1)?;
        let getting = self.inflight(relay.id, |p| matches!(p, Pending::Admit | Pending::Refill(_)));
        let now = self.tx.now;
        let hushed = self.session(relay.id).quiet(&REFILL, now);
        if tokens.is_empty() {
            if let Some(code) = row.code
                && !getting
            {
                self.send(relay, &Request::Admit { code }, Pending::Admit);
            }
        } else if tokens.len() < FEW_TOKENS && !getting {
            if let Some(until) = hushed {
                self.wake_at(until);
                return self.own_mail(relay, &row);
            }
            let token = token_of(&tokens[0].0);
            self.send(relay, &Request::Refill { token }, Pending::Refill(token));
        }
        self.own_mail(relay, &row)
    }

    fn own_mail(&mut self, relay: &RelayAddr, row: &RelayRow) -> Result<(), Fail> {
        self.tags(relay, row)?;
        self.fetch(relay)
    }
}
