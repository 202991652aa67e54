//! Programs that go beyond a bound end, in words, and nothing else does.

use std::time::{Duration, Instant};

use teahouse_programs::ProgramError::{
    BadProgram, BadView, Busy, Closed, OutOfMemory, Threw, TooMuch, TookTooLong, Trapped,
};
use teahouse_programs::ui::{Event, Outcome};
use teahouse_programs::{Code, Host, Launch, ProgramError, limits};

use crate::support::{failure, host, open, run, start, tap, texts};

/// A program with a button that does `what` when it is told `event`.
fn on(event: &str, what: &str) -> String {
    format!(
        r#"import {{ page, text, button }} from "teahouse";
           import * as t from "teahouse";
           export const update = ([event]) => {{
               if (event?.type === "{event}") {{ {what} }}
               return page("", text("fine"), button("Go", "go"));
           }};"#
    )
}

fn on_tap(what: &str) -> String {
    on("tap", what)
}

/// What a tap on it ends in.
async fn tapped(host: &Host, what: &str) -> ProgramError {
    let (mut program, view) = run(host, &on_tap(what)).await.expect("it starts");
    program.update(tap(&view, "Go")).await.expect_err(what)
}

#[tokio::test]
async fn an_endless_loop_is_stopped_and_others_go_on() {
    let host = host();
    let (mut honest, view) = run(&host, &on_tap("")).await.unwrap();
    let (mut endless, _) = run(&host, &on_tap("while (true) {}")).await.unwrap();
    let began = Instant::now();
    assert_eq!(endless.update(tap(&view, "Go")).await, Err(TookTooLong));
    // Processor time is what is bounded; this leaves a busy machine room.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    assert_eq!(endless.update(Vec::new()).await, Err(Closed));
    assert_eq!(texts(&honest.update(tap(&view, "Go")).await.unwrap()), ["fine"]);
}

#[tokio::test]
async fn loops_that_the_engine_hides_are_stopped_too() {
    let host = host();
    // Inside one call of the engine: a regular expression, a sort, a string.
    assert_eq!(tapped(&host, r#"/(a+)+$/.test("a".repeat(64) + "b")"#).await, TookTooLong);
    let sort = "for (;;) Array.from({ length: 1e5 }, (_, i) => i * 7919 % 10007).sort()";
    assert_eq!(tapped(&host, sort).await, TookTooLong);
    assert_eq!(
        tapped(&host, "try { for (;;); } catch {} finally { for (;;); }").await,
        TookTooLong
    );
}

#[tokio::test]
async fn a_memory_bomb_is_stopped_and_others_go_on() {
    let host = host();
    let (mut honest, view) = run(&host, &on_tap("")).await.unwrap();
    for bomb in [
        "const all = []; for (;;) all.push(new Uint8Array(1 << 20).fill(1));",
        "try { new Uint8Array(100 << 20); } catch {}",
        "let s = 'x'; for (;;) s += s;",
    ] {
        let (mut bomber, _) = run(&host, &on_tap(bomb)).await.unwrap();
        let error = bomber.update(tap(&view, "Go")).await.unwrap_err();
        assert!(matches!(error, OutOfMemory | TookTooLong | Threw(_)), "{bomb}: {error}");
    }
    let all = "const all = []; for (;;) all.push(new Uint8Array(1 << 20));";
    let (mut bomber, _) = run(&host, &on_tap(all)).await.unwrap();
    assert_eq!(bomber.update(tap(&view, "Go")).await, Err(OutOfMemory));
    assert_eq!(texts(&honest.update(tap(&view, "Go")).await.unwrap()), ["fine"]);
}

#[tokio::test]
async fn recursion_ends_in_an_error_of_its_own() {
    let host = host();
    let error = tapped(&host, "const f = () => f() + 1; f();").await;
    let deep = |error: &ProgramError| match error {
        Threw(why) => why.contains("stack"),
        Trapped(why) => why.contains("deeply"),
        _ => false,
    };
    assert!(deep(&error), "{error}");
    // In the engine's own recursion.
    let nested =
        tapped(&host, "let a = []; for (let i = 0; i < 1e5; i++) a = [a]; JSON.stringify(a);");
    let error = nested.await;
    assert!(matches!(error, Threw(_) | Trapped(_) | TookTooLong), "{error}");
    // Through the library, which walks the widgets.
    let cycle =
        tapped(&host, "const c = t.column(); c.children.push(c); return page('', c);").await;
    assert!(deep(&cycle), "{cycle}");
}

#[tokio::test]
async fn views_beyond_a_bound_are_refused() {
    let host = host();
    for (what, why) in [
        ("return page('', Array.from({ length: 4097 }, () => t.divider()))", "4096 nodes"),
        (
            "const s = 'x'.repeat(8000); return page('', Array.from({ length: 2000 }, () => s))",
            "taken over",
        ),
        (
            "let n = t.divider(); for (let i = 0; i < 40; i++) n = t.column(n); return page('', n)",
            "32 levels",
        ),
        ("return page('x'.repeat(65))", "title"),
        ("return page('', text('x'.repeat(9000)))", "8 KiB"),
        ("return page('', Array.from({ length: 200 }, () => 'x'.repeat(8000)))", "1 MiB"),
        ("return page('', t.row({ key: 'a' }), t.row({ key: 'a' }))", "same key"),
        ("return page('', t.row({ key: '' }))", "key is empty"),
        ("return page('', button('', 'a'))", "label is empty"),
        ("return page('', button('a', 'x'.repeat(129)))", "action"),
        ("return page('', t.image('../../etc/passwd'))", "file of the package"),
        ("return page('', t.image('/etc/passwd'))", "file of the package"),
        ("return page('', t.image('a', { width: Infinity }))", "size"),
        ("return page('', t.stepper('a', 5, 's', { max: 4 }))", "stepper"),
        ("return page('', t.canvas('c', 9, 9, [t.draw.circle(1e9, 0, 1)]))", "canvas"),
        ("return page('', t.canvas('c', 9, 9, [t.draw.rect(0, 0, -1, 1)]))", "canvas"),
        ("return page('', t.canvas('c', 9, 9, [t.draw.polygon([[0, 0]])]))", "corners"),
        (
            "const draw = Array.from({ length: 2049 }, () => t.draw.circle(0, 0, 1));
             return page('', t.canvas('a', 9, 9, draw), t.canvas('b', 9, 9, draw))",
            "4096 draw",
        ),
        ("return page('', t.payButton(new Uint8Array(20000), 'p'))", "16 KiB"),
        ("t.storage.get('')", "key of storage"),
        ("t.storage.set('k', new Uint8Array(70000))", "64 KiB"),
        ("for (let i = 0; i < 32; i++) t.shared.set('k', new Uint8Array(60000))", "1 MiB"),
        ("t.notice('x'.repeat(300))", "notice"),
        ("t.call('', '')", "function"),
    ] {
        // At the start, where the bound on time is wider: making much takes a while.
        let error = failure(&host, &on("start", what)).await;
        assert!(matches!(&error, BadView(said) if said.contains(why)), "{what}: {error}");
    }
}

#[tokio::test]
async fn what_the_library_would_never_send_is_refused() {
    let host = host();
    // Instead of the library's `run`: whatever a program hands to the engine itself.
    let returning = |view: &str| {
        format!(
            "import {{ page }} from 'teahouse';
             globalThis.bad = () => ({view});
             Array.prototype.map = function () {{ return [{{ type: 'start' }}]; }};
             export const update = () => {{ Array.prototype.splice = () => bad(); return page(''); }};"
        )
    };
    for view in [
        "Array.from({ length: 1e6 }, () => ({ id: 1, request: { tag: 'login' } }))",
        "Array.from({ length: 33 }, () => ({ id: 1, request: { tag: 'login' } }))",
        "[{ id: 1, request: { tag: 'no-such-request' } }]",
        "[{ id: 'x', request: null }]",
        "[{}]",
        "[null]",
        "5",
        "null",
        "new Proxy([], { get() { throw 1; } })",
        "[{ id: 1, request: { tag: 'notice', val: '\\ud800' } }]",
        "[{ id: 1, request: { tag: 'notice', val: Symbol() } }]",
    ] {
        let error = failure(&host, &returning(view)).await;
        let expected =
            matches!(error, BadView(_) | Trapped(_) | Threw(_) | TookTooLong | OutOfMemory);
        assert!(expected, "{view}: {error}");
    }
}

#[tokio::test]
async fn a_storm_of_events_is_not_sent() {
    let (mut program, view) = run(&host(), &on_tap("")).await.unwrap();
    let event = tap(&view, "Go").remove(0);
    let storm = vec![event; limits::EVENTS + 1];
    assert_eq!(program.update(storm).await, Err(TooMuch));
    let value = Outcome::Value(vec![0; limits::VALUE]);
    let heavy = vec![Event::Answer { id: 1, outcome: value }; 17];
    assert_eq!(program.update(heavy).await, Err(TooMuch));
    // The program has not noticed. As much as is allowed arrives.
    let value = Outcome::Value(vec![0; limits::VALUE]);
    let full = vec![Event::Answer { id: 1, outcome: value }; 16];
    assert_eq!(texts(&program.update(full).await.unwrap()), ["fine"]);
}

#[tokio::test]
async fn code_beyond_a_bound_is_not_sent() {
    let host = host();
    let huge = " ".repeat(limits::CODE_BYTES + 1);
    let error = open(&host, &huge).await.err();
    assert!(matches!(&error, Some(BadProgram(why)) if why.contains("3 MiB")), "{error:?}");
    let modules = (0..=limits::MODULES).map(|i| (format!("{i}.js"), String::new())).collect();
    let code = Code::JavaScript { main: "0.js".to_owned(), modules };
    let error = host.open(Launch { app: [0; 32], code }).await.err();
    assert!(matches!(&error, Some(BadProgram(why)) if why.contains("64 modules")), "{error:?}");
    let code = Code::JavaScript { main: "a".to_owned(), modules: [].into() };
    let error = host.open(Launch { app: [0; 32], code }).await.err();
    assert!(matches!(&error, Some(BadProgram(why)) if why.contains("missing")), "{error:?}");
    assert_eq!(host.status(), None, "none of it needs a child");
}

#[tokio::test]
async fn only_so_many_programs_are_open() {
    let host = host();
    let mut open_now = Vec::new();
    for _ in 0..limits::PROGRAMS {
        open_now.push(run(&host, &on_tap("")).await.unwrap().0);
    }
    assert_eq!(open(&host, &on_tap("")).await.err(), Some(Busy));
    // Room is made by closing one, and the others are as they were.
    open_now.pop().unwrap().close();
    let (again, _) = run(&host, &on_tap("")).await.unwrap();
    open_now.push(again);
    for program in &mut open_now {
        program.update(Vec::new()).await.unwrap();
    }
    // A program that ends by itself makes room as well.
    let mut last = open_now.pop().unwrap();
    let view = last.update(Vec::new()).await.unwrap();
    drop(last);
    let (mut endless, _) = run(&host, &on_tap("for (;;);")).await.unwrap();
    assert_eq!(endless.update(tap(&view, "Go")).await, Err(TookTooLong));
    run(&host, &on_tap("")).await.unwrap();
}

#[tokio::test]
async fn modules_are_loaded_only_while_a_program_loads() {
    let source = on_tap("import('./main.js').then(() => {}, () => {})");
    let (mut program, view) = run(&host(), &source).await.unwrap();
    // Promises are not run after `update` has returned, and nothing is loaded.
    assert_eq!(texts(&program.update(tap(&view, "Go")).await.unwrap()), ["fine"]);
    assert!(program.update(start()).await.is_ok());
}
