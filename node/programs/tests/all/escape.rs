//! What is there for a program that looks for a way out: nothing. Then the same for native
//! code in the child, as if the engine had a hole.

use teahouse_programs::ProgramError;
use teahouse_programs::ui::{Event, Start};

use crate::support::{CHILD, host, open, run, texts};

/// A program that shows the value of an expression, or what it throws.
fn showing(expression: &str) -> String {
    format!(
        r#"import {{ page, text }} from "teahouse";
           const show = () => {{
               try {{ return String({expression}); }} catch (error) {{ return `threw ${{error.name}}`; }}
           }};
           export const update = () => page("", text(show()));"#
    )
}

#[tokio::test]
async fn nothing_of_a_machine_is_in_reach() {
    let host = host();
    for name in [
        "std",
        "os",
        "bjson",
        "scriptArgs",
        "fetch",
        "require",
        "process",
        "Deno",
        "Bun",
        "XMLHttpRequest",
        "WebSocket",
        "Worker",
        "WebAssembly",
        "setTimeout",
        "setInterval",
        "print",
        "load",
        "loadScript",
        "read",
        "readFile",
        "window",
        "document",
        "navigator",
        "localStorage",
        "indexedDB",
        "SharedArrayBuffer?.agent",
        "module",
        "exports",
        "__dirname",
        "importScripts",
    ] {
        let (_program, view) = run(&host, &showing(&format!("typeof {name}"))).await.unwrap();
        assert_eq!(texts(&view), ["undefined"], "{name}");
    }
}

/// All that is global, so that a new engine with more of it is noticed.
#[tokio::test]
async fn the_globals_are_those_of_the_language() {
    let expression = "Object.getOwnPropertyNames(globalThis).filter(\
        (name) => !/^([A-Z]|eval$|is|parse|decode|encode|escape$|unescape$|undefined$|globalThis$|\
        atob$|btoa$|queueMicrotask$|performance$|__cqjs$)/.test(name)).sort()";
    let (_program, view) = run(&host(), &showing(expression)).await.unwrap();
    assert_eq!(texts(&view), [""]);
    let (_program, view) = run(&host(), &showing("Object.keys(__cqjs).sort()")).await.unwrap();
    assert_eq!(texts(&view), ["asyncExports,getMemoryUsage,makeFuture,makeStream,runGc"]);
}

#[tokio::test]
async fn no_module_but_its_own_can_be_imported() {
    let host = host();
    for module in [
        "fs",
        "node:fs",
        "std",
        "os",
        "qjs:std",
        "qjs:os",
        "child_process",
        "/etc/passwd",
        "file:///etc/passwd",
        "../../../../etc/passwd",
        "./../../etc/passwd",
        "/program/other.js",
        "data:text/javascript,export default 1",
        "wasi:filesystem/preopens@0.2.12",
        "wasi:filesystem/types",
        "wasi:cli/environment@0.2.12",
        "wasi:sockets/tcp",
        "local:init/module-loader",
        "program:main",
        "/entry.js",
        "teahouse/../entry.js",
    ] {
        let source = format!("import * as it from {module:?}; export const update = () => it;");
        let error = open(&host, &source).await.err();
        assert!(matches!(error, Some(ProgramError::BadProgram(_))), "{module}: {error:?}");
        // In a running program.
        let source = format!(
            r#"import {{ page, text }} from "teahouse";
               let got = "nothing";
               export const update = () => {{
                   import({module:?}).then(() => got = "a module", () => {{}});
                   return page("", text(got));
               }};"#
        );
        let (mut program, _) = run(&host, &source).await.unwrap();
        for _ in 0..2 {
            let view = program.update(Vec::new()).await.unwrap();
            assert_eq!(texts(&view), ["nothing"], "{module}");
        }
    }
}

#[tokio::test]
async fn environment_time_and_randomness_are_constant() {
    let host = host();
    for (expression, shown) in [
        ("Date.now()", "0"),
        ("new Date().getTimezoneOffset()", "0"),
        ("new Date().getFullYear()", "1970"),
        ("typeof performance === 'undefined' ? 0 : performance.now() - performance.now()", "0"),
    ] {
        let (_program, view) = run(&host, &showing(expression)).await.unwrap();
        assert_eq!(texts(&view), [shown], "{expression}");
    }
    // Before the host's seed: the same in every program.
    let source = r#"import { page, text } from "teahouse";
        const first = Math.random();
        export const update = () => page("", text(first));"#;
    let (_one, one) = run(&host, source).await.unwrap();
    let (_two, two) = run(&host, source).await.unwrap();
    assert_eq!(texts(&one), texts(&two));
}

#[tokio::test]
async fn the_host_draws_what_a_program_can_only_name() {
    // A program's text stays text: nothing in it is interpreted on the way.
    let text = "<script>\u{202e}&amp;{{x}}%s\\0</script>";
    let source = format!(
        "import {{ page, text }} from 'teahouse';
         export const update = () => page('', text({text:?}.replace('', '')));"
    )
    .replace("\\u{202e}", "\\u202e");
    let (_program, view) = run(&host(), &source).await.unwrap();
    assert_eq!(texts(&view), [text]);
}

#[tokio::test]
async fn events_do_not_become_code() {
    let launch = "\"); throw 1; (\"".to_owned();
    let source = r#"import { page, text } from "teahouse";
        export const update = ([start]) => page("", text(start.launch));"#;
    let mut program = open(&host(), source).await.unwrap();
    let start = Event::Start(Start { launch: launch.clone(), ..Start::default() });
    assert_eq!(texts(&program.update(vec![start]).await.unwrap()), [launch.as_str()]);
}

/// What native code in the child can do, were it to get out of its engine. Runs the child's
/// own lockdown, then tries.
#[test]
fn native_code_is_refused_by_the_kernel() {
    let output = std::process::Command::new(CHILD).arg("probe").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}\n{}", String::from_utf8_lossy(&output.stderr));
    let holds = |what: &str| said.lines().any(|line| line == format!("{what} true"));
    // That this test reads it is a result too.
    assert!(said.contains("write standard output: worked"), "{said}");
    if !holds("seccomp") {
        eprintln!("this kernel has no seccomp: not all of the lockdown can be tested\n{said}");
    }
    if !holds("landlock") {
        eprintln!("this kernel has no Landlock: not all of the lockdown can be tested\n{said}");
    }
    let with_either = ["read a file", "make a file", "list a folder", "read /proc"];
    let with_seccomp = [
        "read an open file",
        "tcp socket",
        "tcp listener",
        "udp socket",
        "unix socket",
        "signal another process",
        "start a process",
        "start a thread",
        "a pipe",
    ];
    let tried = |what: &str| said.contains(&format!("{what}: "));
    let refused = |what: &str| said.lines().any(|line| line == format!("{what}: refused"));
    for what in with_either {
        assert!(tried(what), "{what}: {said}");
        if holds("seccomp") || holds("landlock") {
            assert!(refused(what), "{what}: {said}");
        }
    }
    for what in with_seccomp {
        assert!(tried(what), "{what}: {said}");
        if holds("seccomp") {
            assert!(refused(what), "{what}: {said}");
        }
    }
}

#[tokio::test]
async fn the_host_knows_what_holds() {
    let host = host();
    let sandbox = host.start().await.unwrap();
    let status = host.status().unwrap();
    assert_eq!(status.sandbox, sandbox);
    let output = std::process::Command::new(CHILD).arg("probe").output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(said.contains(&format!("landlock {}", sandbox.landlock)), "{said}");
    assert!(said.contains(&format!("seccomp {}", sandbox.seccomp)), "{said}");
    assert!(sandbox.limits || cfg!(not(unix)));
}

/// The running child, seen from outside.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_child_has_nothing_to_take() {
    let host = host();
    let (_program, _view) = run(&host, &showing("1")).await.unwrap();
    let proc = format!("/proc/{}", host.status().unwrap().process);
    assert_eq!(std::fs::read(format!("{proc}/environ")).unwrap(), b"");
    assert_eq!(std::fs::read_link(format!("{proc}/cwd")).unwrap().to_str(), Some("/"));
    let status = std::fs::read_to_string(format!("{proc}/status")).unwrap();
    let field = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(field("NoNewPrivs:"), "1");
    assert_eq!(field("Seccomp:"), "2", "a filter is on");
    let limits = std::fs::read_to_string(format!("{proc}/limits")).unwrap();
    for name in ["Max open files", "Max file size", "Max core file size", "Max processes"] {
        let line = limits.lines().find(|line| line.starts_with(name)).unwrap();
        let numbers: Vec<_> = line[name.len()..].split_whitespace().take(2).collect();
        assert_eq!(numbers, ["0", "0"], "{line}");
    }
}
