//! The tour: says something to the first townsperson, and ends once the reply has been on
//! the screen. It proves that the whole window works, from the composer to the pixels.

use std::sync::{Arc, OnceLock};

use egui::{Ui, ViewportCommand};
use teahouse_node::core::view::{ChatKind, ChatState};

use super::Shell;
use crate::desk::Go;
use crate::vm::{Body, Stage};

/// How the tour ended; empty while it runs.
pub type Outcome = Arc<OnceLock<Result<(), String>>>;

const HELLO: &str = "Good morning! 早上好";

/// A tour under way.
#[derive(Debug)]
pub struct Tour {
    step: Step,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    Arrive,
    Greet,
    Listen,
    /// The reply was drawn; the frame that shows it may not be on the screen yet.
    Drawn,
    Leave,
}

impl Tour {
    /// A tour, and where its outcome will be.
    pub fn new() -> (Self, Outcome) {
        let outcome = Outcome::default();
        (Self { step: Step::Arrive, outcome: Arc::clone(&outcome) }, outcome)
    }
}

impl Shell {
    /// Takes the tour's next step; `false` once it has ended.
    pub(super) fn guide(&mut self, ui: &Ui, tour: &mut Tour) -> bool {
        if let Stage::Broken(why) = &self.model.stage {
            let _ = tour.outcome.set(Err(why.clone()));
            ui.ctx().send_viewport_cmd(ViewportCommand::Close);
            return false;
        }
        let before = tour.step;
        match tour.step {
            Step::Arrive => {
                let open = self
                    .model
                    .chats
                    .iter()
                    .find(|c| c.kind == ChatKind::Direct && c.state == ChatState::Active);
                if let Some(chat) = open.filter(|_| self.model.demo) {
                    self.desk.go(Go::Chat(chat.topic));
                    tour.step = Step::Greet;
                }
            }
            Step::Greet => {
                if let Some(topic) = self.open
                    && self.model.conversation.as_ref().is_some_and(|c| c.topic == topic)
                    && let Some(talk) = self.talks.get_mut(&topic)
                {
                    talk.composer.say(HELLO, topic, &mut self.desk);
                    tour.step = Step::Listen;
                }
            }
            Step::Listen if self.reply_is_drawn() => tour.step = Step::Drawn,
            Step::Listen => {}
            Step::Drawn => tour.step = Step::Leave,
            Step::Leave => {
                let _ = tour.outcome.set(Ok(()));
                ui.ctx().send_viewport_cmd(ViewportCommand::Close);
                return false;
            }
        }
        if tour.step != before {
            ui.ctx().request_repaint();
        }
        true
    }

    /// Whether a message that came after ours was drawn in this frame.
    fn reply_is_drawn(&self) -> bool {
        let (Some(conversation), Some(visible)) =
            (&self.model.conversation, self.visible_messages())
        else {
            return false;
        };
        let said = conversation
            .messages
            .iter()
            .rposition(|m| m.mine && m.body == Body::Text(HELLO.into()));
        let Some(said) = said else { return false };
        conversation
            .messages
            .iter()
            .enumerate()
            .skip(said)
            .any(|(i, m)| !m.mine && matches!(m.body, Body::Text(_)) && visible.contains(&i))
    }
}
