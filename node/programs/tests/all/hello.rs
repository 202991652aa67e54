//! What an honest JavaScript program sees, shows and asks for.

use std::collections::BTreeMap;

use teahouse_programs::ui::{
    Align, ButtonStyle, Draw, Effect, Entry, Event, Kind, Outcome, Paint, Payment, Point, Reason,
    Request, Role, TextStyle,
};
use teahouse_programs::{Code, Launch, ProgramError};

use crate::support::{host, open, run, start, tap, texts};

const COUNTER: &str = r#"
    import { page, text, button } from "teahouse";
    let count = 0;
    export function update(events) {
        for (const event of events) {
            if (event.type === "tap" && event.action === "add") count += 1;
        }
        return page("Counter", text(`${count} taps`), button("Add", "add"));
    }
"#;

#[tokio::test]
async fn a_tap_changes_the_view() {
    let (mut program, first) = run(&host(), COUNTER).await.unwrap();
    assert_eq!(texts(&first), ["0 taps"]);
    let second = program.update(tap(&first, "Add")).await.unwrap();
    assert_eq!(texts(&second), ["1 taps"]);
    assert!(second.rev > first.rev);
    // The same widgets, by their keys.
    let keys = |view: &teahouse_programs::ui::View| {
        view.nodes.iter().map(|node| node.key.clone()).collect::<Vec<_>>()
    };
    assert_eq!(keys(&first), keys(&second));
}

#[tokio::test]
async fn two_programs_share_nothing() {
    let host = host();
    let source = r#"
        import { page, text, button } from "teahouse";
        globalThis.seen ??= 0;
        Object.prototype.leak ??= 0;
        export const update = () => {
            globalThis.seen += 1;
            Object.prototype.leak += 1;
            return page("", text(`${globalThis.seen} ${({}).leak}`), button("Add", "add"));
        };
    "#;
    let (mut one, view) = run(&host, source).await.unwrap();
    for _ in 0..3 {
        one.update(tap(&view, "Add")).await.unwrap();
    }
    let (_two, other) = run(&host, source).await.unwrap();
    assert_eq!(texts(&other), ["1 1"]);
    let again = one.update(tap(&view, "Add")).await.unwrap();
    assert_eq!(texts(&again), ["5 5"]);
}

#[tokio::test]
async fn a_program_learns_how_it_was_opened() {
    let source = r#"
        import { page, text } from "teahouse";
        export const update = ([start]) => {
            const { type, locale, darkMode, launch, now, seed } = start;
            return page("", text(JSON.stringify([type, locale, darkMode, launch, now, seed])),
                text(Math.random()), text(Math.random()), text(Date.now()));
        };
    "#;
    let host = host();
    let (_one, view) = run(&host, source).await.unwrap();
    let texts = texts(&view);
    assert_eq!(texts[0], r#"["start","en",false,"hello",1800000000,4000000000]"#);
    // The host's seed is all the randomness there is, and there is no clock.
    assert_ne!(texts[1], texts[2]);
    assert_eq!(texts[3], "0");
    let (_two, same) = run(&host, source).await.unwrap();
    assert_eq!(crate::support::texts(&same), texts);
}

#[tokio::test]
async fn functions_stand_as_actions() {
    let source = r#"
        import { page, text, button, row, stepper, textField } from "teahouse";
        let items = ["a", "b", "c"], seats = 2, name = "";
        export const update = () => page("List",
            items.map((item) => row({ key: item }, text(item),
                button(`Remove ${item}`, () => items = items.filter((other) => other !== item)))),
            stepper("Seats", seats, ({ value }) => seats = value, { max: 8 }),
            textField("Name", name, (event) => name = event.text),
            text(`${seats} for ${name}`),
        );
    "#;
    let (mut program, view) = run(&host(), source).await.unwrap();
    let view = program.update(tap(&view, "Remove b")).await.unwrap();
    assert_eq!(texts(&view), ["a", "c", "2 for "]);
    let find = |wanted: fn(&Kind) -> bool| {
        let node = view.nodes.iter().find(|node| wanted(&node.kind)).unwrap();
        node.key.clone()
    };
    let key = find(|kind| matches!(kind, Kind::Stepper(_)));
    let step = Event::Step { key, action: "()".to_owned(), value: 5 };
    let key = find(|kind| matches!(kind, Kind::TextField(_)));
    let input = Event::Input { key, action: "()".to_owned(), text: "茶 🍵".to_owned() };
    let view = program.update(vec![step, input]).await.unwrap();
    assert_eq!(texts(&view), ["a", "c", "5 for 茶 🍵"]);
}

#[tokio::test]
async fn every_kind_of_node_arrives_as_it_was_made() {
    let source = r#"
        import * as t from "teahouse";
        export const update = () => t.page("All",
            t.column(t.text("b", { style: "caption", colour: "danger" }), t.title("t")),
            t.row(t.image("img/a.png", { width: 10, height: 20, label: "tea" })),
            t.card({ key: "c" }, t.button("go", "g", { style: "primary", enabled: false })),
            t.list(t.divider()),
            t.textField("Note", "v", "n", { multiline: true, maxLength: 9 }),
            t.stepper("Cups", 3, "s", { min: 1, max: 4 }),
            t.canvas("chart", 100, 50, [
                t.draw.rect(1, 2, 3, 4, { colour: 0xff000180, radius: 1 }),
                t.draw.circle(5, 6, 7, { stroke: 2, colour: "accent" }),
                t.draw.line(0, 0, 9, 9, { width: 3 }),
                t.draw.polygon([[0, 0], [1, 0], [0, 1]]),
                t.draw.text(1, 1, "x", { align: "centre", size: 12 }),
            ], { action: "at" }),
            t.payButton(new Uint8Array([1, 2, 255]), "paid"),
        );
    "#;
    let (_program, view) = run(&host(), source).await.unwrap();
    let kinds: Vec<_> = view.nodes.iter().map(|node| &node.kind).collect();
    assert_eq!(kinds.len(), 14);
    assert_eq!(*kinds[0], Kind::Page("All".to_owned()));
    assert_eq!(view.nodes[2].parent, Some(1));
    assert!(matches!(kinds[2], Kind::Text(t)
        if t.style == TextStyle::Caption && t.colour == Role::Danger && t.content == "b"));
    assert!(matches!(kinds[3], Kind::Text(t) if t.style == TextStyle::Title));
    assert!(matches!(kinds[5], Kind::Image(i)
        if i.source == "img/a.png" && (i.width, i.height) == (10.0, 20.0) && i.label == "tea"));
    assert_eq!(view.nodes[6].key, "c");
    assert!(matches!(kinds[7], Kind::Button(b)
        if b.style == ButtonStyle::Primary && !b.enabled && b.action == "g"));
    assert_eq!((kinds[8], kinds[9]), (&Kind::VirtualList, &Kind::Divider));
    assert!(matches!(kinds[10], Kind::TextField(f) if f.multiline && f.max_length == 9));
    assert!(matches!(kinds[11], Kind::Stepper(s) if (s.value, s.min, s.max) == (3, 1, 4)));
    let Kind::Canvas(canvas) = kinds[12] else { panic!("{:?}", kinds[12]) };
    assert_eq!(canvas.action.as_deref(), Some("at"));
    let normal = Paint::Role(Role::Normal);
    let point = |x, y| Point { x, y };
    let rect = Draw::Rect {
        x: 1.0,
        y: 2.0,
        width: 3.0,
        height: 4.0,
        radius: 1.0,
        stroke: 0.0,
        paint: Paint::Rgba([0xff, 0, 1, 0x80]),
    };
    let paint = Paint::Role(Role::Accent);
    let circle = Draw::Circle { x: 5.0, y: 6.0, radius: 7.0, stroke: 2.0, paint };
    let (start, end) = (point(0.0, 0.0), point(9.0, 9.0));
    let line = Draw::Line { start, end, width: 3.0, paint: normal };
    let points = vec![point(0.0, 0.0), point(1.0, 0.0), point(0.0, 1.0)];
    let polygon = Draw::Polygon { points, stroke: 0.0, paint: normal };
    let (align, content) = (Align::Centre, "x".to_owned());
    let text = Draw::Text { x: 1.0, y: 1.0, size: 12.0, align, content, paint: normal };
    assert_eq!(canvas.commands, [rect, circle, line, polygon, text]);
    assert!(matches!(kinds[13], Kind::PayButton(p) if p.order == [1, 2, 255]));
}

#[tokio::test]
async fn effects_are_asked_for_and_answered() {
    let source = r#"
        import { page, text, button, login, storage, shared, call, share, notice, close }
            from "teahouse";
        let said = [];
        const note = (name) => (a) => said.push([name, a.ok, a.text ?? a.keys ?? a.reason ?? ""]);
        export const update = (events) => {
            if (events[0].type === "start") {
                login(note("login"));
                storage.get("k", note("get"));
                storage.set("k", { a: "é" }, note("set"));
                storage.remove("k");
                storage.list("", note("list"));
                shared.get("s", (a) => said.push(["shared", a.missing]));
                shared.set("s", "v");
                shared.list("p");
                call("book", "seat 5", note("call"));
                share("Join", "x=1");
                notice("hi");
                close();
            }
            for (const event of events) {
                if (event.type === "paid") said.push([event.action, event.outcome]);
                if (event.type === "state-changed") said.push(["changed", event.key]);
            }
            return page("", text(JSON.stringify(said)));
        };
    "#;
    let (mut program, view) = run(&host(), source).await.unwrap();
    let entry = |key: &str, value: &str| Entry { key: key.into(), value: value.into() };
    let asked = [
        Request::Login,
        Request::StorageGet("k".into()),
        Request::StorageSet(entry("k", r#"{"a":"é"}"#)),
        Request::StorageRemove("k".into()),
        Request::StorageList(String::new()),
        Request::StateGet("s".into()),
        Request::StateSet(entry("s", "v")),
        Request::StateList("p".into()),
        Request::Call { function: "book".into(), payload: b"seat 5".to_vec() },
        Request::Share { title: "Join".into(), launch: "x=1".into() },
        Request::Notice("hi".into()),
        Request::Close,
    ];
    let numbered = asked.into_iter().zip(1..).map(|(request, id)| Effect { id, request });
    assert_eq!(view.effects, numbered.collect::<Vec<_>>());

    let answers = [
        (1, Outcome::Value(vec![b'x'; 3])),
        (2, Outcome::Value("茶".as_bytes().to_vec())),
        (3, Outcome::Done),
        (5, Outcome::Keys(vec!["k".into(), "l".into()])),
        (6, Outcome::Missing),
        (9, Outcome::Refused(Reason::NoGrant)),
        // Unknown, and answered twice: nothing happens.
        (99, Outcome::Done),
        (1, Outcome::Done),
    ];
    let mut events: Vec<Event> =
        answers.into_iter().map(|(id, outcome)| Event::Answer { id, outcome }).collect();
    events.push(Event::Paid { key: "p".into(), action: "pay".into(), outcome: Payment::Cancelled });
    events.push(Event::StateChanged("votes".into()));
    let view = program.update(events).await.unwrap();
    assert_eq!(
        texts(&view),
        [concat!(
            r#"[["login",true,"xxx"],["get",true,"茶"],["set",true,""],["list",true,["k","l"]],"#,
            r#"["shared",true],["call",false,"no-grant"],["pay","cancelled"],["changed","votes"]]"#
        )]
    );
    assert!(view.effects.is_empty());
}

#[tokio::test]
async fn many_effects_come_over_several_views() {
    let source = r#"
        import { page, notice } from "teahouse";
        export const update = ([event]) => {
            if (event?.type === "start") for (let i = 0; i < 40; i++) notice(`${i}`);
            return page("");
        };
    "#;
    let (mut program, first) = run(&host(), source).await.unwrap();
    let second = program.update(Vec::new()).await.unwrap();
    assert_eq!((first.effects.len(), second.effects.len()), (32, 8));
    assert_eq!(second.effects[7].request, Request::Notice("39".to_owned()));
}

#[tokio::test]
async fn a_view_may_stay() {
    let source = r#"
        import { page, notice } from "teahouse";
        export const update = ([event]) => {
            if (event?.type === "start") return page("once");
            notice("nothing new");
        };
    "#;
    let (mut program, first) = run(&host(), source).await.unwrap();
    let second = program.update(Vec::new()).await.unwrap();
    assert_eq!((second.rev, second.nodes.len(), second.effects.len()), (first.rev, 0, 1));
}

#[tokio::test]
async fn modules_import_each_other() {
    let module = |path: &str, source: &str| (path.to_owned(), source.to_owned());
    let modules = BTreeMap::from([
        module(
            "src/main.js",
            r#"import { page, text } from "teahouse";
               import { name } from "./parts/name.js";
               export const update = () => page("", text(name()));"#,
        ),
        module(
            "src/parts/name.js",
            r#"import tea from "../../tea.js"; export const name = () => tea;"#,
        ),
        module("tea.js", "export default 'oolong';"),
    ]);
    let code = Code::JavaScript { main: "src/main.js".to_owned(), modules };
    let mut program = host().open(Launch { app: [0; 32], code }).await.unwrap();
    let view = program.update(start()).await.unwrap();
    assert_eq!(texts(&view), ["oolong"]);
}

#[tokio::test]
async fn an_error_is_told_and_the_program_goes_on() {
    let source = r#"
        import { page, text, button } from "teahouse";
        let taps = 0;
        export const update = (events) => {
            for (const { type } of events) if (type === "tap") taps += 1;
            if (taps === 1) throw new Error("no tea\n\u0007left");
            return page("", text(taps), button("Add", "add"));
        };
    "#;
    let (mut program, view) = run(&host(), source).await.unwrap();
    let error = program.update(tap(&view, "Add")).await.unwrap_err();
    assert_eq!(error, ProgramError::Threw("Error: no tea  left".to_owned()));
    assert!(!error.is_final());
    let view = program.update(tap(&view, "Add")).await.unwrap();
    assert_eq!(texts(&view), ["2"]);
}

#[tokio::test]
async fn programs_that_do_not_load_say_why() {
    let host = host();
    for (source, why) in [
        ("export function update( {", "here: Error: invalid property name"),
        ("throw new Error('at the start')", "at the start"),
        ("export const other = 1;", "exports no function named update"),
        ("import x from './missing.js'; export const update = () => x;", "no module"),
        ("export const update = 5", "exports no function named update"),
        ("while (true) {}", "took too long"),
    ] {
        let error = open(&host, source).await.err().unwrap_or_else(|| panic!("{source} loads"));
        assert!(error.to_string().contains(why), "{source}: {error}");
        assert!(error.is_final());
    }
}
