//! Native components: WebAssembly written by hand, honest and otherwise.

use teahouse_programs::ProgramError::{
    self, BadProgram, BadView, OutOfMemory, Threw, TookTooLong, Trapped,
};
use teahouse_programs::ui::{Kind, Request, View};
use teahouse_programs::{Code, Host, Launch};
use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

use crate::support::{host, start};

const WIT: &str = include_str!("../../../../protocols/wit/program.wit");

/// A component of a core module: of our world, or of another that `imports` more.
fn component(wat: &str, imports: &str) -> Vec<u8> {
    let mut module = wat::parse_str(wat).expect("the module is WAT");
    let mut resolve = Resolve::default();
    let mut package = resolve.push_str("program.wit", WIT).expect("our WIT parses");
    if !imports.is_empty() {
        let world = format!(
            "package evil:other; world program {{ {imports} export teahouse:program/ui@1.0.0; }}"
        );
        package = resolve.push_str("evil.wit", &world).expect("the other world parses");
    }
    let world = resolve.select_world(&[package], Some("program")).expect("there is the world");
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8)
        .expect("the world fits a module");
    let encoder = ComponentEncoder::default().module(&module).expect("the module fits the world");
    encoder.validate(true).encode().expect("a component")
}

/// Little-endian words as WAT's string.
fn words(words: &[u32]) -> String {
    let bytes = words.iter().flat_map(|word| word.to_le_bytes());
    bytes.flat_map(|byte| format!("\\{byte:02x}").into_bytes()).map(char::from).collect()
}

/// A page of one node: its key and title are "p", at 16.
const PAGE: [u32; 14] = [16, 1, 0, 0, 0, 16, 1, 0, 0, 0, 0, 0, 0, 0];
/// `ok(view { rev: 1, … })` with the page at 2048 and no effects.
const VIEW: [u32; 8] = [0, 0, 1, 0, 2048, 1, 0, 0];

/// A module whose `update` runs `body` and returns what lies at 1024, which is `view`.
fn module(body: &str, view: &[u32], nodes: &[u32], pages: u32, more: &str) -> String {
    format!(
        r#"(module
            {more}
            (memory (export "memory") {pages})
            (data (i32.const 12) "\ff\00\00\00p")
            (data (i32.const 1024) "{}")
            (data (i32.const 2048) "{}")
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32) (i32.const 32768))
            (func (export "teahouse:program/ui@1.0.0#update") (param i32 i32) (result i32)
                {body}
                (i32.const 1024)))"#,
        words(view),
        words(nodes)
    )
}

async fn run(bytes: Vec<u8>) -> Result<View, ProgramError> {
    run_in(&host(), bytes).await
}

async fn run_in(host: &Host, bytes: Vec<u8>) -> Result<View, ProgramError> {
    let launch = Launch { app: [1; 32], code: Code::Component(bytes) };
    host.open(launch).await?.update(start()).await
}

async fn body(body: &str) -> Result<View, ProgramError> {
    run(component(&module(body, &VIEW, &PAGE, 1, ""), "")).await
}

#[tokio::test]
async fn a_native_program_shows_a_page() {
    // Counts its views.
    let count = "(i64.store (i32.const 1032) (i64.add (i64.load (i32.const 1032)) (i64.const 1)))";
    let bytes = component(&module(count, &VIEW, &PAGE, 1, ""), "");
    let host = host();
    for _ in 0..2 {
        // The second time it is found compiled, and starts afresh all the same.
        let code = Code::Component(bytes.clone());
        let mut program = host.open(Launch { app: [1; 32], code }).await.unwrap();
        let view = program.update(start()).await.unwrap();
        assert_eq!((view.rev, view.nodes.len()), (2, 1));
        assert_eq!(view.nodes[0].kind, Kind::Page("p".to_owned()));
        assert_eq!(program.update(Vec::new()).await.unwrap().rev, 3);
    }
}

#[tokio::test]
async fn views_must_follow_each_other() {
    let same = component(&module("", &VIEW, &PAGE, 1, ""), "");
    let code = Code::Component(same);
    let mut program = host().open(Launch { app: [1; 32], code }).await.unwrap();
    program.update(start()).await.unwrap();
    let error = program.update(Vec::new()).await.unwrap_err();
    assert!(matches!(&error, BadView(why) if why.contains("number of the last")), "{error}");
    let empty = run(component(&module("", &[0, 0, 1, 0, 0, 0, 0, 0], &[], 1, ""), "")).await;
    assert_eq!(empty, Err(BadView("the first view is empty".to_owned())));
}

#[tokio::test]
async fn breakdowns_and_excesses_end_the_program() {
    assert_eq!(body("(loop (br 0))").await, Err(TookTooLong));
    assert!(matches!(body("unreachable").await, Err(Trapped(_))));
    assert!(matches!(
        body("(drop (i32.div_s (i32.const 1) (i32.const 0)))").await,
        Err(Trapped(_))
    ));
    assert!(matches!(body("(drop (i32.load (i32.const -4)))").await, Err(Trapped(_))));
    let grow = "(loop (drop (memory.grow (i32.const 16))) (br 0))";
    assert_eq!(body(grow).await, Err(OutOfMemory));
    assert_eq!(body("(drop (memory.grow (i32.const 65000)))").await, Err(OutOfMemory));
    // As much as is allowed works.
    assert!(body("(drop (memory.grow (i32.const 1000)))").await.is_ok());
    let recursion = "(func $f (result i64) (i64.add (call $f) (i64.const 1)))";
    let deep = component(&module("(drop (call $f))", &VIEW, &PAGE, 1, recursion), "");
    assert_eq!(run(deep).await, Err(Trapped("it called itself too deeply".to_owned())));
    let table = "(table $t 1 funcref)";
    let grow = "(drop (table.grow $t (ref.null func) (i32.const 1000000)))";
    assert_eq!(run(component(&module(grow, &VIEW, &PAGE, 1, table), "")).await, Err(OutOfMemory));
}

#[tokio::test]
async fn what_happens_while_loading_is_bounded_too() {
    let start = "(func $s (loop (br 0))) (start $s)";
    let endless = run(component(&module("", &VIEW, &PAGE, 1, start), "")).await;
    assert_eq!(endless, Err(TookTooLong));
    let huge = run(component(&module("", &VIEW, &PAGE, 32768, ""), "")).await;
    assert_eq!(huge, Err(OutOfMemory));
    let table = run(component(&module("", &VIEW, &PAGE, 1, "(table 10000000 funcref)"), "")).await;
    assert_eq!(table, Err(OutOfMemory));
}

#[tokio::test]
async fn lists_and_strings_that_lie_are_refused() {
    // An error of the program's own, in words, and one that is no text.
    let threw = run(component(&module("", &[1, 0, 16, 1, 0, 0, 0, 0], &[], 1, ""), "")).await;
    assert_eq!(threw, Err(Threw("p".to_owned())));
    for (view, nodes) in [
        // Beyond memory, and beyond all bounds.
        ([0, 0, 1, 0, 65_000, 100, 0, 0], PAGE),
        ([0, 0, 1, 0, 2048, u32::MAX, 0, 0], PAGE),
        ([0, 0, 1, 0, u32::MAX, u32::MAX, 0, 0], PAGE),
        // Not aligned; no such case.
        ([0, 0, 1, 0, 2049, 1, 0, 0], PAGE),
        ([7, 0, 1, 0, 2048, 1, 0, 0], PAGE),
        // A key beyond memory; a kind that there isn't; a title that is not UTF-8.
        (VIEW, [16, u32::MAX, 0, 0, 0, 16, 1, 0, 0, 0, 0, 0, 0, 0]),
        (VIEW, [16, 1, 0, 0, 99, 16, 1, 0, 0, 0, 0, 0, 0, 0]),
        (VIEW, [16, 1, 0, 0, 0, 12, 1, 0, 0, 0, 0, 0, 0, 0]),
        // The page has a parent, itself.
        (VIEW, [16, 1, 1, 0, 0, 16, 1, 0, 0, 0, 0, 0, 0, 0]),
        // The first node is a column.
        (VIEW, [16, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
    ] {
        let bytes = component(&module("", &view, &nodes, 1, ""), "");
        let result = run(bytes).await;
        let refused = matches!(result, Err(BadView(_) | Trapped(_)));
        assert!(refused, "{view:?} {nodes:?}: {result:?}");
    }
}

#[tokio::test]
async fn a_million_effects_are_not_taken_over() {
    // 24 MB of zeros are a million logins.
    let effects =
        run(component(&module("", &[0, 0, 1, 0, 2048, 1, 65_536, 1_000_000], &PAGE, 400, ""), ""));
    assert_eq!(effects.await, Err(BadView("more than can be taken over".to_owned())));
    let effects = run(component(&module("", &[0, 0, 1, 0, 2048, 1, 65_536, 33], &PAGE, 2, ""), ""));
    assert_eq!(effects.await, Err(BadView("more than 32 effects".to_owned())));
    let effects = run(component(&module("", &[0, 0, 1, 0, 2048, 1, 65_536, 32], &PAGE, 2, ""), ""));
    let view = effects.await.unwrap();
    assert!(view.effects.iter().all(|effect| effect.request == Request::Login));
}

#[tokio::test]
async fn one_string_a_thousand_times_is_not_taken_over() {
    // Every node's title is the same 1 MB of memory.
    let mut nodes = PAGE;
    (nodes[5], nodes[6]) = (65_536, 1_000_000);
    let many: Vec<u32> = std::iter::repeat_n(nodes, 1000).flatten().collect();
    let view = [0, 0, 1, 0, 2048, 1000, 0, 0];
    let result = run(component(&module("", &view, &many, 32, ""), "")).await;
    assert_eq!(result, Err(BadView("more than can be taken over".to_owned())));
}

#[tokio::test]
async fn a_component_that_imports_anything_is_refused() {
    let core = module("", &VIEW, &PAGE, 1, r#"(import "$root" "read" (func (param i32)))"#);
    let error = run(component(&core, "import read: func() -> string;")).await.unwrap_err();
    assert!(matches!(&error, BadProgram(why) if why.contains("read")), "{error}");
    // The JavaScript engine is a component of our world, which needs more than it grants.
    let engine = include_bytes!("../../engine/engine.wasm").to_vec();
    let error = run(engine).await.unwrap_err();
    assert!(matches!(&error, BadProgram(why) if why.contains("wasi:")), "{error}");
}

#[tokio::test]
async fn what_is_no_component_is_refused() {
    let good = component(&module("", &VIEW, &PAGE, 1, ""), "");
    let mut broken = vec![
        Vec::new(),
        b"\0asm".to_vec(),
        b"#!/bin/sh\n".to_vec(),
        vec![0xff; 100_000],
        // A module; a component of nothing.
        wat::parse_str(module("", &VIEW, &PAGE, 1, "")).unwrap(),
        b"\0asm\x0d\0\x01\0".to_vec(),
        // Code that was compiled elsewhere is never loaded: this begins as such a file does.
        b"\x7fELF\x02\x01\x01".to_vec(),
    ];
    broken.extend((1..8).map(|eighth| good[..good.len() * eighth / 8].to_vec()));
    let host = host();
    for bytes in broken {
        let len = bytes.len();
        let error = run_in(&host, bytes).await.unwrap_err();
        assert!(matches!(error, BadProgram(_)), "{len}: {error}");
        assert!(error.to_string().len() < 400);
    }
}

#[tokio::test]
async fn flipped_bits_are_refused_or_run_within_bounds() {
    let good = component(&module("", &VIEW, &PAGE, 1, ""), "");
    let host = host();
    let mut opened = 0;
    for at in (0..good.len()).step_by(7) {
        let mut bytes = good.clone();
        bytes[at] ^= 1 << (at % 8);
        let launch = Launch { app: [1; 32], code: Code::Component(bytes) };
        match host.open(launch).await {
            Ok(mut program) => {
                opened += 1;
                _ = program.update(start()).await;
            }
            Err(error) => assert!(
                matches!(error, BadProgram(_) | Trapped(_) | OutOfMemory | TookTooLong),
                "{at}: {error}"
            ),
        }
    }
    // Some bits mean nothing, and the child has lived through all of them.
    assert!(opened > 0);
    let code = Code::Component(good);
    let mut program = host.open(Launch { app: [1; 32], code }).await.unwrap();
    assert!(program.update(start()).await.is_ok());
}
