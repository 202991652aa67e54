//! One photo in full size, over everything else. Until it is here, its preview is shown, and
//! what is known of how far it is.

use egui::{
    Context, Frame, Id, Key, Label, Modal, Rect, RichText, Role, Sense, TextureHandle,
    TextureOptions, Ui, WidgetInfo, pos2, vec2,
};
use teahouse_node::media::Which;

use super::news::Look;
use super::previews::{Previews, Seen};
use super::words;
use crate::theme::{SMALL, space, tokens};
use crate::vm::PhotoRow;
use crate::widgets::{from_right, primary};

/// Photos of a message or post that somebody looks at.
#[derive(Clone)]
pub(crate) struct Album {
    /// Whose, in words.
    pub(crate) of: String,
    pub(crate) photos: Vec<Shot>,
    /// Which of them first.
    pub(crate) at: usize,
}

/// One of them.
#[derive(Clone)]
pub(crate) struct Shot {
    pub(crate) which: Which,
    pub(crate) shape: (u16, u16),
    pub(crate) bytes: u64,
    /// The preview, if it is drawn already.
    pub(crate) preview: Option<TextureHandle>,
}

impl Shot {
    /// A photo whose preview is drawn on a screen.
    pub(crate) fn of(ctx: &Context, which: Which, row: &PhotoRow, previews: &mut Previews) -> Self {
        let seen = row.preview.as_ref().map(|jpeg| previews.of(ctx, row.hash, jpeg));
        let preview = match seen {
            Some(Seen::Shown(texture)) => Some(texture),
            Some(Seen::Waiting | Seen::Broken) | None => None,
        };
        Self { which, shape: row.shape, bytes: row.bytes, preview }
    }
}

impl core::fmt::Debug for Album {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "Album({} of {})", self.at, self.photos.len())
    }
}

/// The viewer.
pub(crate) struct Viewer {
    album: Album,
    state: Look,
    full: Option<TextureHandle>,
}

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wish {
    /// Nothing.
    Stay,
    /// Bring this one, anew if it was tried before.
    Bring(Which),
    /// No more.
    Close,
}

impl Viewer {
    /// Opens it; `None` where there is no such photo.
    pub(crate) fn open(mut album: Album) -> Option<Self> {
        album.at = album.at.min(album.photos.len().checked_sub(1)?);
        Some(Self { album, state: Look::Asking, full: None })
    }

    fn shot(&self) -> &Shot {
        // `at` is within: see `open` and `turn`.
        &self.album.photos[self.album.at]
    }

    /// What is to be brought.
    pub(crate) fn which(&self) -> Which {
        self.shot().which
    }

    /// Takes news of a photo.
    pub(crate) fn hear(&mut self, which: Which, state: Look) {
        if which == self.which() {
            self.state = state;
        }
    }

    fn turn(&mut self, to: usize) -> Wish {
        self.album.at = to;
        self.again()
    }

    fn again(&mut self) -> Wish {
        (self.state, self.full) = (Look::Asking, None);
        Wish::Bring(self.which())
    }

    /// Draws it.
    pub(crate) fn show(&mut self, ui: &Ui) -> Wish {
        let t = tokens(ui);
        let room = ui.ctx().content_rect().size() - vec2(48.0, 48.0);
        let frame = Frame::new().fill(t.page).corner_radius(12).inner_margin(16);
        let mut wish = Wish::Stay;
        let shown = Modal::new(Id::unique("photo viewer")).frame(frame).show(ui.ctx(), |ui| {
            ui.set_width((room.x - 32.0).max(200.0));
            let high = (room.y - 32.0).max(160.0);
            let top = ui.cursor().top();
            self.head(ui, &mut wish);
            let used = ui.cursor().top() - top;
            self.picture(ui, (high - used - 64.0).max(80.0));
            ui.add_space(space::NORMAL);
            self.state(ui, &mut wish);
        });
        let (count, at) = (self.album.photos.len(), self.album.at);
        let pressed = |key: Key| ui.input(|i| i.key_pressed(key));
        if pressed(Key::ArrowRight) && at + 1 < count {
            wish = self.turn(at + 1);
        } else if pressed(Key::ArrowLeft) && at > 0 {
            wish = self.turn(at - 1);
        }
        if shown.should_close() { Wish::Close } else { wish }
    }

    fn head(&mut self, ui: &mut Ui, wish: &mut Wish) {
        let t = tokens(ui);
        let (count, at) = (self.album.photos.len(), self.album.at);
        from_right(ui, |ui| {
            if ui.button(words::close()).clicked() {
                *wish = Wish::Close;
            }
            if count > 1 {
                let next = ui.add_enabled(at + 1 < count, egui::Button::new(words::next()));
                if next.clicked() {
                    *wish = self.turn(at + 1);
                }
                let previous = ui.add_enabled(at > 0, egui::Button::new(words::previous()));
                if previous.clicked() {
                    *wish = self.turn(at - 1);
                }
            }
            ui.with_layout(egui::Layout::left_to_right(egui::Align::Center), |ui| {
                let shot = self.shot();
                let said = words::described(self.album.at + 1, count, shot.shape, shot.bytes);
                ui.add(Label::new(RichText::new(&self.album.of).size(17.0)).truncate());
                ui.add(Label::new(RichText::new(said).size(SMALL).color(t.weak)).truncate());
            });
        });
        ui.add_space(space::NORMAL);
    }

    fn picture(&mut self, ui: &mut Ui, high: f32) {
        let size = vec2(ui.available_width(), high);
        let (rect, response) = ui.allocate_exact_size(size, Sense::hover());
        if let (Look::Here(image), None) = (&self.state, &self.full) {
            let loaded = ui.ctx().load_texture(
                "photo",
                std::sync::Arc::clone(image),
                TextureOptions::LINEAR,
            );
            self.full = Some(loaded);
        }
        let (texture, name) = match (&self.full, &self.shot().preview) {
            (Some(full), _) => (Some(full), words::full()),
            (None, Some(preview)) => (Some(preview), words::preview()),
            (None, None) => (None, words::waiting()),
        };
        response.widget_info(|| WidgetInfo::labeled(Role::Image, true, name));
        let (w, h) = self.shot().shape;
        let shape = texture.map_or(vec2(f32::from(w), f32::from(h)), TextureHandle::size_vec2);
        // Never larger than it is, but for a preview, which stands for what is larger.
        let mut scale = (rect.width() / shape.x).min(rect.height() / shape.y);
        if self.full.is_some() {
            scale = scale.min(1.0);
        }
        let place = Rect::from_center_size(rect.center(), shape * scale);
        match texture {
            Some(texture) => {
                let uv = Rect::from_min_max(pos2(0.0, 0.0), pos2(1.0, 1.0));
                ui.painter().image(texture.id(), place, uv, egui::Color32::WHITE);
            }
            None => super::grid::blank(ui, place, ""),
        }
    }

    fn state(&mut self, ui: &mut Ui, wish: &mut Wish) {
        let t = tokens(ui);
        // As high whether there is something to say or not: the picture stays where it is.
        let line = ui.spacing().interact_size.y;
        let said = match &self.state {
            Look::Asking => words::asking().to_owned(),
            Look::Coming { have, size } => words::coming(*have, *size),
            Look::Here(_) => String::new(),
            Look::Away => words::away().to_owned(),
            Look::Failed(why) => why.clone(),
        };
        let over = matches!(self.state, Look::Away | Look::Failed(_));
        ui.horizontal_wrapped(|ui| {
            ui.set_min_height(line);
            if over && primary(ui, true, words::retry()).clicked() {
                *wish = self.again();
            }
            ui.add(Label::new(RichText::new(said).color(t.weak)).wrap());
        });
    }
}
