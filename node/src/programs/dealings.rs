//! What a program has under way with others: calls of its functions, and bills.
//!
//! Both outlive the update in which they begin. Whoever shows a program lets it
//! [look](super::Open::look) now and then, and what came becomes an event.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use teahouse_core::command::{Command, Reply};
use teahouse_core::functions;
use teahouse_core::functions::query::{AnswerOf, CallState};
use teahouse_core::pay;
use teahouse_core::pay::programs::{Bill, BillView};
use teahouse_core::pay::query::OnePayment;
use teahouse_core::pay::tables::{Number, PayState};
use teahouse_core::view::Blob;
use teahouse_programs::ui::{Event, Outcome, Payment, Reason};
use teahouse_protocols::ids::DeviceId;

use super::powers::{Asker, InMemory, Installed, PowerError};

/// Calls of one program that wait at most.
const MAX_CALLS: usize = 32;
/// Payments of one program that are watched at most.
const MAX_PAYING: usize = 16;
/// How long a payment may take before the program hears that it isn't known yet.
const PATIENCE: Duration = Duration::from_secs(5);

/// The way to others; unless it is said otherwise there is none. Every call may wait for the disk.
pub trait Dealings {
    /// Calls a function at the developer's node; `None` where there is none.
    fn call(&mut self, _function: String, _payload: Vec<u8>) -> Result<Option<Number>, PowerError> {
        Ok(None)
    }
    /// What became of a call.
    fn answer(&self, _call: Number) -> Result<Option<CallState>, PowerError> {
        Ok(None)
    }
    /// What an offer says.
    fn bill(&self, _offer: &[u8]) -> Result<Option<BillView>, PowerError> {
        Ok(None)
    }
    /// Takes an offer, to ask the person.
    fn take(&mut self, _offer: &[u8]) -> Result<Number, PowerError> {
        Err(PowerError::Failed("a program that is tried out pays nobody".into()))
    }
    /// Pays it: the person said so.
    fn pay(&mut self, _payment: Number) -> Result<(), PowerError> {
        Err(PowerError::Failed("a program that is tried out pays nobody".into()))
    }
    /// Does not pay it: where the person had agreed and it waits, that is taken back.
    fn decline(&mut self, _payment: Number) -> Result<(), PowerError> {
        Ok(())
    }
    /// Where a payment stands.
    fn state(&self, _payment: Number) -> Result<Option<PayState>, PowerError> {
        Ok(None)
    }
}

impl<A: Asker> Dealings for Installed<A> {
    fn call(&mut self, function: String, payload: Vec<u8>) -> Result<Option<Number>, PowerError> {
        let payload = Blob(payload);
        let call = functions::Command::Call { app: self.app, function, payload };
        match self.node.submit(Command::Functions(call))? {
            Reply::Call { call } => Ok(Some(call)),
            _ => Err(PowerError::Failed("unexpected reply".into())),
        }
    }

    fn answer(&self, call: Number) -> Result<Option<CallState>, PowerError> {
        self.node.ask(&AnswerOf { call })
    }

    fn bill(&self, offer: &[u8]) -> Result<Option<BillView>, PowerError> {
        self.node.ask(&Bill { offer: Blob(offer.to_vec()) })
    }

    fn take(&mut self, offer: &[u8]) -> Result<Number, PowerError> {
        let bill = functions::Command::Bill { app: self.app, offer: Blob(offer.to_vec()) };
        match self.node.submit(Command::Functions(bill))? {
            Reply::Payment { payment } => Ok(payment),
            _ => Err(PowerError::Failed("unexpected reply".into())),
        }
    }

    fn pay(&mut self, payment: Number) -> Result<(), PowerError> {
        self.node.submit(Command::Pay(pay::Command::Pay { payment })).map(|_| ())
    }

    fn decline(&mut self, payment: Number) -> Result<(), PowerError> {
        if !self.node.ask(&OnePayment { payment })?.is_some_and(|p| p.agreed) {
            return Ok(());
        }
        self.node.submit(Command::Pay(pay::Command::Cancel { payment })).map(|_| ())
    }

    fn state(&self, payment: Number) -> Result<Option<PayState>, PowerError> {
        Ok(self.node.ask(&OnePayment { payment })?.map(|p| p.state))
    }
}

/// A program that is tried out deals with nobody.
impl Dealings for InMemory {}

/// What stands on a button to pay: what the host knows of the offer, never what the program says.
#[must_use]
pub fn bill_words(bill: Option<&BillView>, developer: Option<DeviceId>) -> String {
    match bill {
        Some(bill) if !bill.sound || developer != Some(bill.by) => {
            "an offer that is not for you, or not of this program's developer".to_owned()
        }
        Some(BillView { state: Some(PayState::Paid), title, .. }) => format!("paid: {title}"),
        Some(BillView { state: Some(PayState::Sent), title, .. }) => {
            format!("{title}: not known yet whether it is paid")
        }
        Some(BillView { agreed: true, title, .. }) => {
            format!("{title}: agreed; it waits until what is set aside has come back")
        }
        Some(BillView {
            state: Some(PayState::Refused { .. } | PayState::Returned),
            title,
            ..
        }) => {
            format!("{title}: not paid; a new offer is needed")
        }
        Some(BillView { amount: Some(amount), to_name: Some(to), title, .. }) => {
            format!("Pay {amount} to {to}: {title}")
        }
        Some(bill) => format!("Pay for {}: tap, and the shop is asked in which money", bill.title),
        None => "an offer that does not hold".to_owned(),
    }
}

/// A tap on a button to pay.
#[derive(Debug, Clone)]
struct Pressed {
    key: String,
    action: String,
    offer: Vec<u8>,
    /// Once the offer is taken: the person is asked whether to pay.
    payment: Option<Number>,
}

/// A payment that the person agreed to.
#[derive(Debug)]
struct Paying {
    key: String,
    action: String,
    payment: Number,
    since: Instant,
    /// The program heard that it isn't known yet.
    told: bool,
}

/// What is under way.
#[derive(Debug, Default)]
pub(super) struct UnderWay {
    calls: Vec<(u32, Number)>,
    pressed: Option<Pressed>,
    paying: Vec<Paying>,
}

impl UnderWay {
    /// Begins a call; an outcome where it came to its end already.
    pub(super) fn call(
        &mut self,
        powers: &mut impl Dealings,
        id: u32,
        function: String,
        payload: Vec<u8>,
    ) -> Option<Outcome> {
        if self.calls.len() >= MAX_CALLS {
            return Some(Outcome::Refused(Reason::TooLarge));
        }
        match powers.call(function, payload) {
            Ok(Some(call)) => {
                self.calls.push((id, call));
                None
            }
            Ok(None) | Err(PowerError::NotHere) => Some(Outcome::Refused(Reason::NotHere)),
            Err(PowerError::TooLarge(_)) => Some(Outcome::Refused(Reason::TooLarge)),
            Err(PowerError::Failed(_)) => Some(Outcome::Refused(Reason::Failed)),
        }
    }

    /// Whether something may come.
    pub(super) fn waits(&self) -> bool {
        !self.calls.is_empty() || !self.paying.is_empty()
    }

    /// What came since the last look, as far as there is room for it.
    pub(super) fn look(&mut self, powers: &impl Dealings, events: &mut VecDeque<Event>) {
        self.calls.retain(|(id, call)| {
            let outcome = match powers.answer(*call) {
                // Read again next time.
                Ok(Some(CallState::Waits)) | Err(_) => return true,
                Ok(Some(CallState::Value { value, offer })) => {
                    Outcome::Value(halves(&value.0, &offer.map(|o| o.0).unwrap_or_default()))
                }
                Ok(Some(CallState::Refused { not_here: true, .. })) => {
                    Outcome::Refused(Reason::NotHere)
                }
                Ok(Some(CallState::Refused { .. })) => Outcome::Refused(Reason::Failed),
                Ok(Some(CallState::NoAnswer) | None) => Outcome::Refused(Reason::Offline),
            };
            events.push_back(Event::Answer { id: *id, outcome });
            false
        });
        self.paying.retain_mut(|paying| {
            let paid = |outcome| {
                let (key, action) = (paying.key.clone(), paying.action.clone());
                Event::Paid { key, action, outcome }
            };
            match powers.state(paying.payment) {
                Ok(Some(PayState::Paid)) => events.push_back(paid(Payment::Paid)),
                Ok(Some(PayState::Refused { .. } | PayState::Returned) | None) => {
                    events.push_back(paid(Payment::Refused));
                }
                Ok(Some(_)) | Err(_) => {
                    if !paying.told && paying.since.elapsed() >= PATIENCE {
                        events.push_back(paid(Payment::Unknown));
                        paying.told = true;
                    }
                    return true;
                }
            }
            false
        });
    }

    /// The person tapped a button to pay; false while another bill is before them.
    pub(super) fn press(&mut self, key: String, action: String, offer: Vec<u8>) -> bool {
        if self.pressed.is_some() || self.paying.len() >= MAX_PAYING {
            return false;
        }
        self.pressed = Some(Pressed { key, action, offer, payment: None });
        true
    }

    /// Whether a tap waits for the power to show a bill.
    pub(super) fn wants(&self) -> bool {
        self.pressed.as_ref().is_some_and(|p| p.payment.is_none())
    }

    /// The offer that the person is asked about.
    pub(super) fn bill(&self) -> Option<&[u8]> {
        let pressed = self.pressed.as_ref().filter(|p| p.payment.is_some())?;
        Some(&pressed.offer)
    }

    /// The program may show its bill: the offer is taken, and the person can be asked.
    pub(super) fn take(&mut self, powers: &mut impl Dealings) -> Result<(), PowerError> {
        let Some(pressed) = &mut self.pressed else { return Ok(()) };
        match powers.take(&pressed.offer) {
            Ok(payment) => {
                pressed.payment = Some(payment);
                Ok(())
            }
            Err(e) => {
                self.pressed = None;
                Err(e)
            }
        }
    }

    /// It may not: the program hears that nothing was paid.
    pub(super) fn refuse(&mut self) -> Option<Event> {
        let Pressed { key, action, .. } = self.pressed.take()?;
        Some(Event::Paid { key, action, outcome: Payment::Cancelled })
    }

    /// The person's word on a bill, with what the program hears of it where it ends here.
    /// Giving up leaves the offer as it is: it can be paid until it expires.
    pub(super) fn settle(
        &mut self,
        powers: &mut impl Dealings,
        pay: bool,
    ) -> (Option<Event>, Result<(), PowerError>) {
        let Some(Pressed { key, action, payment: Some(payment), .. }) = self.pressed.take() else {
            return (None, Ok(()));
        };
        if !pay {
            let done = powers.decline(payment);
            return (Some(Event::Paid { key, action, outcome: Payment::Cancelled }), done);
        }
        match powers.pay(payment) {
            Ok(()) => {
                let since = Instant::now();
                self.paying.push(Paying { key, action, payment, since, told: false });
                (None, Ok(()))
            }
            Err(why) => (Some(Event::Paid { key, action, outcome: Payment::Refused }), Err(why)),
        }
    }
}

/// Two pieces in one: the length of the first (4 bytes, little endian), then both.
pub(super) fn halves(first: &[u8], second: &[u8]) -> Vec<u8> {
    let length = u32::try_from(first.len()).unwrap_or(u32::MAX);
    [&length.to_le_bytes()[..], first, second].concat()
}
