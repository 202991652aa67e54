//! Questions that a program's doing brings up: they take no answer before they have stood for a
//! moment and no finger is down, so that a tap that was meant for what stood there before
//! answers nothing.

use egui::Ui;

/// How long a question stands before it takes an answer, in seconds of the window's own time.
pub(crate) const MOMENT: f64 = 0.6;

/// Whether a question takes an answer yet. `T` says which question it is.
#[derive(Debug)]
pub(crate) struct Armed<T> {
    about: Option<T>,
    since: f64,
    ready: bool,
}

impl<T> Default for Armed<T> {
    fn default() -> Self {
        Self { about: None, since: 0.0, ready: false }
    }
}

impl<T: PartialEq + Clone> Armed<T> {
    /// To be asked in each frame in which the question is drawn.
    pub(crate) fn takes(&mut self, ui: &Ui, about: &T) -> bool {
        let (now, down) = ui.input(|i| (i.time, i.pointer.any_down()));
        if self.about.as_ref() != Some(about) {
            *self = Self { about: Some(about.clone()), since: now, ready: false };
        }
        if self.ready {
            return true;
        }
        if down {
            self.since = now;
        }
        self.ready = !down && now - self.since >= MOMENT;
        if !self.ready {
            ui.ctx().request_repaint_after_secs(MOMENT as f32);
        }
        self.ready
    }

    /// Nothing is asked: the next question is a new one.
    pub(crate) fn rest(&mut self) {
        *self = Self::default();
    }
}
