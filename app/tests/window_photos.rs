//! Photos in the window: over a made-up node what is asked for and shown, and over real ones
//! what reaches the other side.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use common::made_up::{MEI, MadeUp, NOW, WITH_MEI, chat, conversation, full, message};
use common::people::{Person, Street};
use common::{Window, click, field, has, until, window, write};
use egui::{Color32, ColorImage, Event, Key};
use egui_kittest::kittest::Queryable as _;
use teahouse_app::bridge::Action;
use teahouse_app::pages::moments::words as moments;
use teahouse_app::photos::news::{Look, News, Pick};
use teahouse_app::photos::words;
use teahouse_app::strings;
use teahouse_node::blobs::image;
use teahouse_node::core::command::{Chat, Command};
use teahouse_node::core::photos::NewPhoto;
use teahouse_node::core::view;
use teahouse_node::media::Which;
use teahouse_node::protocols::photo::Photo;

/// A picture's file: hills under a sky.
fn picture() -> Vec<u8> {
    let hills = ::image::RgbImage::from_fn(1200, 800, |x, y| {
        let hill =
            420.0 + 130.0 * (f64::from(x) / 190.0).sin() + 40.0 * (f64::from(x) / 41.0).cos();
        if f64::from(y) > hill {
            ::image::Rgb([60 + (y / 12) as u8, 130, 80])
        } else {
            ::image::Rgb([120 + (y / 8) as u8, 190, 235])
        }
    });
    let mut jpeg = std::io::Cursor::new(Vec::new());
    ::image::DynamicImage::from(hills)
        .write_to(&mut jpeg, ::image::ImageFormat::Jpeg)
        .expect("room");
    jpeg.into_inner()
}

fn new_photo() -> NewPhoto {
    let preview = image::prepare(&picture()).expect("a picture").preview;
    let (width, height) = (preview.width as u16, preview.height as u16);
    let photo = Photo { hash: [7; 32], key: [8; 32], size: 312_400, width, height };
    NewPhoto { photo, preview: view::Blob(preview.jpeg) }
}

fn actions(node: &MadeUp) -> Vec<Action> {
    core::mem::take(&mut node.0.borrow_mut().actions)
}

fn tell(node: &MadeUp, window: &mut Window, news: News) {
    node.0.borrow_mut().news.push_back(news);
    window.run();
}

/// Pictures that were asked to be made ready, with their tickets.
fn taken(node: &MadeUp) -> Vec<(u64, PathBuf)> {
    let of = |a| match a {
        Action::TakeIn { ticket, pick: Pick::File(path) } => Some((ticket, path)),
        _ => None,
    };
    actions(node).into_iter().filter_map(of).collect()
}

#[test]
fn a_photo_is_added_made_ready_and_sent_and_comes_back_if_it_is_refused() {
    let node = MadeUp::new(full(WITH_MEI));
    let mut window = window(&node, [1000.0, 720.0]);
    click_chat(&mut window, "Mei");
    click(&mut window, words::add());
    click(&mut window, words::choose());
    let asked = actions(&node);
    let ticket = asked.iter().find_map(|a| match a {
        Action::ChoosePhotos { ticket } => Some(*ticket),
        _ => None,
    });
    assert!(has(&window, words::choosing()));
    let files = vec![PathBuf::from("/pictures/garden.jpg")];
    tell(&node, &mut window, News::Chosen { ticket: ticket.unwrap(), files });
    write(&mut window, words::path(), "/pictures/notes.txt");
    click(&mut window, words::path_add());
    let asked = taken(&node);
    let [(first, garden), (second, _)] = asked.as_slice() else { panic!("{asked:?}") };
    assert_eq!(garden, Path::new("/pictures/garden.jpg"));
    assert!(has(&window, &format!("{} garden.jpg", words::preparing())));

    // Not before all are ready.
    click(&mut window, strings::compose_send());
    assert!(node.commands().is_empty());
    let why = Err("this is no picture".to_owned());
    tell(&node, &mut window, News::Taken { ticket: *second, result: why });
    assert!(has(&window, "notes.txt: this is no picture"), "told, and taken off");
    let photo = new_photo();
    tell(&node, &mut window, News::Taken { ticket: *first, result: Ok(photo.clone()) });
    assert!(has(&window, &format!("{} garden.jpg", words::photo())));
    click(&mut window, strings::compose_send());
    let sent = |node: &MadeUp| -> Vec<(u64, Vec<NewPhoto>)> {
        let only = |(ticket, command)| match command {
            Command::Chat(Chat::SendPhotos { photos, .. }) => Some((ticket, photos)),
            _ => None,
        };
        node.commands().into_iter().filter_map(only).collect()
    };
    let commands = sent(&node);
    let [(ticket, photos)] = commands.as_slice() else { panic!("{commands:?}") };
    assert_eq!(photos, std::slice::from_ref(&photo));
    assert!(!has(&window, &words::remove_one("garden.jpg")), "on its way");
    node.answer(*ticket, Err("no"));
    window.run();
    click(&mut window, strings::compose_send());
    assert_eq!(sent(&node).len(), 1, "it came back");
    node.answer(*ticket + 1, Err("no"));

    // A pasted one; and one that is taken off again.
    field(&window, strings::compose_hint()).focus();
    window.run();
    let pixels = Arc::new(ColorImage::filled([8, 8], Color32::RED));
    window.event(Event::PasteImage(pixels));
    window.run();
    let pasted = actions(&node).into_iter().find_map(|a| match a {
        Action::TakeIn { ticket, pick: Pick::Pixels(_) } => Some(ticket),
        _ => None,
    });
    tell(&node, &mut window, News::Taken { ticket: pasted.unwrap(), result: Ok(photo) });
    let remove = words::remove_one(words::photo());
    until(&mut window, "nothing left", |w| {
        let button = w.query_all_by_label(&remove).next();
        button.map(|b| b.click()).is_none()
    });
    click(&mut window, strings::compose_send());
    assert!(sent(&node).is_empty());
}

fn click_chat(window: &mut Window, title: &str) {
    window.run();
    window.get_all_by_label_contains(title).next().expect("a chat").click();
    window.run();
}

#[test]
fn a_photo_opens_in_full_size_and_what_is_known_of_it_is_told() {
    let photo = new_photo();
    let mut said = message(1, MEI, NOW, "");
    let shown = view::Photo { photo: photo.photo.clone(), preview: Some(photo.preview.clone()) };
    said.photos = vec![shown.clone(), view::Photo { preview: None, ..shown }];
    let node = MadeUp::new(full(WITH_MEI));
    let of = chat(WITH_MEI, "Mei 梅", Some(MEI));
    let id = said.id;
    node.change(|m| m.conversation = Some(conversation(&of, &[said])));
    let mut window = window(&node, [1000.0, 720.0]);
    click_chat(&mut window, "Mei");
    let shape = (photo.photo.width, photo.photo.height);
    let name = |n| words::described(n, 2, shape, 312_400);
    assert!(has(&window, &name(2)));
    actions(&node);
    click(&mut window, &name(1));
    let which = Which { topic: WITH_MEI, message: id, index: 0 };
    let looks = |node: &MadeUp| -> Vec<Option<Which>> {
        let look = |a| if let Action::Look(which) = a { Some(which) } else { None };
        actions(node).into_iter().filter_map(look).collect()
    };
    assert_eq!(looks(&node), [Some(which)]);
    assert!(has(&window, words::asking()));
    let state = Look::Coming { have: 100_000, size: 312_500 };
    tell(&node, &mut window, News::Look { which, state });
    assert!(has(&window, &words::coming(100_000, 312_500)));
    // News of another photo are not taken for this one's.
    let other = Which { index: 1, ..which };
    tell(&node, &mut window, News::Look { which: other, state: Look::Failed("torn".into()) });
    assert!(!has(&window, "torn"));
    tell(&node, &mut window, News::Look { which, state: Look::Away });
    assert!(has(&window, words::away()) && !has(&window, words::full()));
    click(&mut window, words::retry());
    assert_eq!(looks(&node), [Some(which)]);
    let image = Arc::new(ColorImage::filled([1200, 800], Color32::GREEN));
    tell(&node, &mut window, News::Look { which, state: Look::Here(image) });
    assert!(has(&window, words::full()) && !has(&window, words::asking()));
    window.key_press(Key::ArrowRight);
    window.run();
    assert_eq!(looks(&node), [Some(other)]);
    assert!(!has(&window, words::full()) && has(&window, words::waiting()));
    window.key_press(Key::Escape);
    window.run();
    assert_eq!(looks(&node), [None]);
    assert!(!has(&window, words::close()), "closed");
}

#[test]
fn a_photo_goes_from_one_real_window_to_another() {
    let street = Street::new();
    let (mut mei, mut lin) = (Person::new(&street, "Mei"), Person::new(&street, "Lin"));
    mei.befriend(&mut lin);
    let (mut here, mut there) = (mei.window(), lin.window());
    let file = street.path().join("garden.jpg");
    std::fs::write(&file, picture()).unwrap();
    until(&mut here, "Lin's chat", |w| has(w, "Lin"));
    click_chat(&mut here, "Lin");
    until(&mut here, "the composer", |w| has(w, words::add()));
    click(&mut here, words::add());
    write(&mut here, words::path(), file.to_str().unwrap());
    click(&mut here, words::path_add());
    until(&mut here, "a picture that is ready", |w| {
        has(w, &format!("{} garden.jpg", words::photo()))
    });
    click(&mut here, strings::compose_send());
    until(&mut there, "Mei's chat", |w| has(w, "Mei"));
    click_chat(&mut there, "Mei");
    let name = format!("{}, 1200×800", words::photo());
    until(&mut there, "the photo", |w| has(w, &name));
    there.get_by_label_contains(&name).click();
    there.run();
    // Mei's window lives: her device may just not have told yet how it is reached.
    until(&mut there, "the photo in full size", |w| {
        if let Some(again) = w.query_by_label(words::retry()) {
            again.click();
        }
        here.run();
        has(w, words::full())
    });
    there.key_press(Key::Escape);
    there.run();

    // And in a Moment.
    here.input_mut().focused = true;
    here.get_all_by_label_contains(moments::title()).next().expect("on the rail").click();
    here.run();
    click(&mut here, moments::write());
    click(&mut here, words::add());
    write(&mut here, words::path(), file.to_str().unwrap());
    click(&mut here, words::path_add());
    until(&mut here, "a picture that is ready", |w| {
        has(w, &format!("{} garden.jpg", words::photo()))
    });
    click(&mut here, moments::post());
    there.get_all_by_label_contains(moments::title()).next().expect("on the rail").click();
    there.run();
    until(&mut there, "the post", |w| w.query_by_label(moments::photo()).is_some());
    click(&mut there, moments::photo());
    until(&mut there, "the photo in full size", |w| {
        if let Some(again) = w.query_by_label(words::retry()) {
            again.click();
        }
        here.run();
        has(w, words::full())
    });
}
