//! What a program draws, beyond what a frame has room for or a window shows.

use egui::Shape;
use egui_kittest::kittest::Queryable as _;
use teahouse_app::bridge::ProgramAct;
use teahouse_app::pages::programs::words;
use teahouse_node::programs::ui::{
    Align, Button, ButtonStyle, Canvas, Draw, Event, Kind, Node, Paint, Point, Role as Colour,
    Text, TextStyle,
};

use super::{Window, acts, click, field, has, node, over, run, showing};

/// A program draws as much as it likes: a frame does a bounded part of it.
#[test]
fn what_a_program_draws_costs_no_more_than_a_frame_has() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    let at = |key: String, parent, kind| Node { key, parent: Some(parent), kind };
    let page = || Node { key: "page".into(), parent: None, kind: Kind::Page("Tea".into()) };
    let text = |content: String| {
        Kind::Text(Text { content, style: TextStyle::Body, colour: Colour::Normal })
    };
    let button = |n: usize| {
        let (label, action) = (format!("b{n}"), "x".into());
        Kind::Button(Button { label, action, style: ButtonStyle::Quiet, enabled: true })
    };
    let star = |n: usize| {
        let corner = |i: usize| {
            let angle = f32::from(i as u16) * 0.0245;
            Point { x: 300.0 + 290.0 * angle.cos(), y: 300.0 + 290.0 * angle.sin() }
        };
        let paint = Paint::Rgba([n as u8, 0, 0, 9]);
        Draw::Polygon { points: (0..256).map(corner).collect(), stroke: 1.0, paint }
    };
    let label = |n: usize| Draw::Text {
        x: f32::from((n % 64) as u16) * 9.0,
        y: f32::from((n / 64) as u16) * 9.0,
        size: 40.0 + f32::from((n % 100) as u16),
        align: Align::Left,
        content: format!("{n} words"),
        paint: Paint::Role(Colour::Normal),
    };
    let canvas = |commands| {
        let (width, height, label) = (600.0, 600.0, "Field".into());
        Kind::Canvas(Canvas { width, height, label, commands, action: None })
    };
    // Thousands of texts, of buttons side by side, of corners, of labels; a deep pile of cards.
    let texts = (0..4_095).map(|n| at(format!("t{n}"), 0, text("words ".repeat(40)))).collect();
    let invisible = (0..100).map(|n| at(format!("t{n}"), 0, text("\u{200b}".repeat(2_700))));
    let mut row = vec![at("row".into(), 0, Kind::Row)];
    row.extend((0..4_000).map(|n| at(format!("b{n}"), 1, button(n))));
    let stars = vec![at("c".into(), 0, canvas((0..2_000).map(star).collect()))];
    let labels = vec![at("c".into(), 0, canvas((0..4_096).map(label).collect()))];
    let full = Draw::Rect {
        x: 0.0,
        y: 0.0,
        width: 600.0,
        height: 600.0,
        radius: 0.0,
        stroke: 0.0,
        paint: Paint::Rgba([1, 2, 3, 1]),
    };
    let covers = vec![at("c".into(), 0, canvas(vec![full; 4_096]))];
    let all: [(Vec<Node>, bool); 6] = [
        (texts, false),
        (invisible.collect(), true),
        (row, true),
        (stars, true),
        (labels, true),
        (covers, true),
    ];
    for (rev, (nodes, cut)) in all.into_iter().enumerate() {
        let mut running = showing();
        running.nodes = std::iter::once(page()).chain(nodes).collect();
        running.rev = 2 + rev as u64;
        run(&node, running);
        window.run();
        let (shapes, vertices, letters) = work(&window);
        assert!(shapes < 4_000, "picture {rev}: {shapes} shapes");
        assert!(vertices < 140_000, "picture {rev}: {vertices} vertices");
        assert!(letters < 70_000, "picture {rev}: {letters} letters");
        window.run();
        // What was left out is told, at the end.
        let told = window.query_all_by_label_contains(words::too_much()).next().is_some();
        assert!(told || !cut, "picture {rev}");
        assert!(!told || cut, "picture {rev}: it fits");
    }
}

/// Shapes, vertices of meshes, and letters of the last frame.
fn work(window: &Window) -> (usize, usize, usize) {
    fn add(shape: &Shape, sum: &mut (usize, usize, usize)) {
        sum.0 += 1;
        match shape {
            Shape::Mesh(mesh) => sum.1 += mesh.vertices.len(),
            Shape::Text(text) => sum.2 += text.galley.text().chars().count(),
            Shape::Vec(all) => all.iter().for_each(|shape| add(shape, sum)),
            _ => {}
        }
    }
    let mut sum = (0, 0, 0);
    for clipped in &window.output().shapes {
        add(&clipped.shape, &mut sum);
    }
    sum
}

/// What was scrolled away comes back, and a field that is out of sight still tells its words.
#[test]
fn a_field_out_of_sight_keeps_and_tells_its_words() {
    let node = node();
    let mut window = over(&node);
    click(&mut window, "Open: Tea");
    run(&node, showing());
    window.run();
    acts(&node);
    field(&window, "Name").focus();
    window.run();
    field(&window, "Name").type_text("Mei");
    window.step();
    let mut next = showing();
    let line = |n: u32| Node {
        key: format!("above{n}"),
        parent: Some(0),
        kind: Kind::Text(Text {
            content: format!("line {n}"),
            style: TextStyle::Title,
            colour: Colour::Normal,
        }),
    };
    let mut nodes = vec![next.nodes[0].clone()];
    nodes.extend((0..400).map(line));
    let shift = |n: &Node| {
        let parent = n.parent.map(|p| if p == 0 { 0 } else { p + 400 });
        Node { parent, ..n.clone() }
    };
    nodes.extend(next.nodes[1..].iter().map(shift));
    (next.nodes, next.rev) = (nodes.into(), 2);
    run(&node, next);
    for _ in 0..4 {
        window.step();
    }
    assert!(!has(&window, "Hello"), "it is far below");
    let last = Event::Input { key: "name".into(), action: "name".into(), text: "Mei".into() };
    assert_eq!(acts(&node), [ProgramAct::Tell(last)]);
}
