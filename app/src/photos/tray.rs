//! Pictures that go with what is being written: chosen, dropped or pasted, made ready by the
//! node meanwhile, and taken off again if somebody changes their mind.

use std::path::PathBuf;
use std::sync::Arc;

use egui::{
    Button, Event, Id, Popup, PopupCloseBehavior, RichText, Role, Sense, Ui, WidgetInfo, vec2,
};
use teahouse_node::core::photos::NewPhoto;
use teahouse_node::protocols::photo::MAX_PHOTOS;

use super::news::{News, Pick};
use super::previews::{self, Seen};
use super::{grid, words};
use crate::desk::Desk;
use crate::theme::{SMALL, space, tokens};
use crate::widgets::{self, entered, hint, primary};

/// The side of a picture in the tray.
const SIDE: f32 = 64.0;

/// The pictures.
#[derive(Debug, Default)]
pub(crate) struct Tray {
    items: Vec<Item>,
    /// The question that the system's dialog asks.
    choosing: Option<u64>,
    /// A path that is being typed.
    path: String,
}

#[derive(Debug)]
struct Item {
    ticket: u64,
    name: String,
    ready: Option<(NewPhoto, Arc<[u8]>)>,
}

impl Tray {
    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// Whether one is not ready yet.
    pub(crate) fn busy(&self) -> bool {
        self.items.iter().any(|i| i.ready.is_none())
    }

    /// Those that are ready, in their order.
    pub(crate) fn photos(&self) -> Vec<NewPhoto> {
        self.items.iter().filter_map(|i| i.ready.as_ref()).map(|(p, _)| p.clone()).collect()
    }

    /// Puts pictures back that could not be sent, in front.
    pub(crate) fn give_back(&mut self, photos: Vec<NewPhoto>) {
        let back = photos.into_iter().map(|photo| {
            let preview: Arc<[u8]> = photo.preview.0.clone().into();
            Item { ticket: 0, name: words::photo().into(), ready: Some((photo, preview)) }
        });
        self.items.splice(0..0, back);
        self.items.truncate(MAX_PHOTOS);
    }

    /// Takes what was dropped into the window, or pasted while the field has the focus.
    pub(crate) fn gather(&mut self, ui: &Ui, focused: bool, desk: &mut Desk) {
        let dropped: Vec<PathBuf> = ui.input_mut(|i| {
            let files = core::mem::take(&mut i.raw.dropped_files);
            files.iter().map(|f| f.path().to_owned()).collect()
        });
        for path in dropped {
            self.add(Pick::File(path), desk);
        }
        if !focused {
            return;
        }
        let mut pasted = Vec::new();
        ui.input_mut(|i| {
            i.events.retain(|e| match e {
                Event::PasteImage(image) => {
                    pasted.push(Arc::clone(image));
                    false
                }
                _ => true,
            });
        });
        for image in pasted {
            self.add(Pick::Pixels(image), desk);
        }
    }

    fn add(&mut self, pick: Pick, desk: &mut Desk) {
        if self.items.len() >= MAX_PHOTOS {
            return desk.toasts.bad(words::too_many());
        }
        let name = match &pick {
            Pick::File(path) => {
                path.file_name().map_or_else(String::new, |n| n.to_string_lossy().into_owned())
            }
            Pick::Pixels(_) => words::photo().into(),
        };
        let name = crate::vm::one_line(&name);
        self.items.push(Item { ticket: desk.take_in(pick), name, ready: None });
    }

    /// The button beside the field, and what opens at it.
    pub(crate) fn button(&mut self, ui: &mut Ui, field: Id, enabled: bool, desk: &mut Desk) {
        let button = ui.add_enabled(enabled, Button::new(words::add()));
        // By the field's name: the button's own changes with what stands before it.
        let popup = Popup::from_toggle_button_response(&button)
            .id(field.with("photos"))
            .close_behavior(PopupCloseBehavior::CloseOnClickOutside);
        let opened = button.clicked();
        popup.show(|ui| {
            ui.spacing_mut().item_spacing.y = space::NORMAL;
            ui.set_width(300.0);
            if self.choosing.is_some() {
                hint(ui, words::choosing());
            } else if primary(ui, true, words::choose()).clicked() {
                self.choosing = Some(desk.choose_photos());
            }
            ui.add_space(space::SMALL);
            let typed = widgets::field(ui, &mut self.path, words::path(), words::path());
            if opened {
                typed.request_focus();
            }
            let ready = !self.path.trim().is_empty();
            let add = ui.add_enabled(ready, Button::new(words::path_add())).clicked();
            if (add || entered(ui, &typed)) && ready {
                let path = core::mem::take(&mut self.path);
                self.add(Pick::File(path.trim().into()), desk);
                ui.close();
            }
            hint(ui, words::add_how());
        });
        button.on_hover_text(words::add_how());
    }

    /// Takes what the bridge said of them.
    fn hear(&mut self, desk: &mut Desk) {
        if let Some(ticket) = self.choosing
            && let Some(News::Chosen { files, .. }) = desk.heard(ticket)
        {
            self.choosing = None;
            for file in files {
                self.add(Pick::File(file), desk);
            }
        }
        self.items.retain_mut(|item| {
            if item.ready.is_some() {
                return true;
            }
            match desk.heard(item.ticket) {
                Some(News::Taken { result: Ok(photo), .. }) => {
                    let preview: Arc<[u8]> = photo.preview.0.clone().into();
                    item.ready = Some((photo, preview));
                    true
                }
                Some(News::Taken { result: Err(why), .. }) => {
                    desk.toasts.bad(format!("{}: {why}", item.name));
                    false
                }
                _ => true,
            }
        });
    }

    /// Draws the pictures in a row, if there are any.
    pub(crate) fn show(&mut self, ui: &mut Ui, enabled: bool, desk: &mut Desk) {
        self.hear(desk);
        if ui.input(|i| !i.raw.hovered_files.is_empty()) {
            hint(ui, words::drop_here());
        }
        if self.items.is_empty() {
            return;
        }
        let mut removed = None;
        ui.horizontal_wrapped(|ui| {
            ui.spacing_mut().item_spacing = vec2(space::NORMAL, space::SMALL);
            for (i, item) in self.items.iter().enumerate() {
                if one(ui, i, item, enabled, desk) {
                    removed = Some(i);
                }
            }
        });
        if let Some(i) = removed {
            self.items.remove(i);
        }
        ui.add_space(space::SMALL);
    }
}

/// One picture; `true` if it is to go.
fn one(ui: &mut Ui, i: usize, item: &Item, enabled: bool, desk: &mut Desk) -> bool {
    let (rect, response) = ui.allocate_exact_size(vec2(SIDE, SIDE), Sense::hover());
    let seen =
        item.ready.as_ref().map(|(_, jpeg)| desk.previews.of(ui.ctx(), previews::name(jpeg), jpeg));
    let state = match &seen {
        None => words::preparing(),
        Some(Seen::Broken) => words::broken(),
        Some(_) => words::photo(),
    };
    let name = format!("{state} {}", item.name);
    response.widget_info(|| WidgetInfo::labeled(Role::Image, true, &name));
    match seen {
        Some(Seen::Shown(texture)) => grid::fill(ui, rect, (texture.id(), texture.size_vec2())),
        None => grid::blank(ui, rect, words::preparing()),
        Some(_) => grid::blank(ui, rect, ""),
    }
    response.on_hover_text(&item.name);
    let t = tokens(ui);
    let corner = egui::Rect::from_min_size(rect.right_top() - vec2(20.0, 0.0), vec2(20.0, 20.0));
    let cross = RichText::new("×").size(SMALL).color(t.text);
    let button = Button::new(cross).fill(t.theirs).corner_radius(10).small();
    let builder = egui::UiBuilder::new().max_rect(corner).id_salt(("remove", i));
    let mut child = ui.new_child(builder);
    child.spacing_mut().button_padding = vec2(5.0, 1.0);
    let remove = child.add_enabled(enabled, button);
    remove.accessible_name(words::remove_one(&item.name)).clicked()
}
