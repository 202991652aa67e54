//! JavaScript: one engine, compiled once, instantiated for each program.
//!
//! The engine is a component that was made beforehand (`engine/make.py`). A program's
//! source is handed to its export `init`, which asks back for imported modules; these are
//! the program's own files and the module `teahouse`, nothing else. The WASI calls that
//! are linked into it answer with constants or trap.

use std::collections::BTreeMap;

use wasmtime::component::{Component, Linker, TypedFunc};
use wasmtime::{Engine, Result, Store, StoreContextMut};

use super::bindings::{Program, ProgramPre};
use super::guest::State;

/// QuickJS-ng as a component of the world `teahouse:program`.
pub(super) const ENGINE: &[u8] = include_bytes!("../../engine/engine.wasm");
/// What programs import as `teahouse`.
const LIBRARY: &str = include_str!("../../engine/teahouse.js");
/// The engine's entry: joins the library and the program.
const ENTRY: &str = include_str!("../../engine/entry.js");
/// Where [`ENTRY`] says the program's main module.
const MAIN: &str = "program:main";
/// Modules resolved for one program, imports of one file by many others included.
const MOST_IMPORTS: usize = 1024;

/// `init(shim, script, entry path, disable gc)`.
type Init = TypedFunc<(String, String, Option<String>, bool), (Result<(), String>,)>;

/// A program's modules while it loads.
pub(super) struct Modules {
    files: BTreeMap<String, String>,
    main: String,
    imports_left: usize,
}

impl Modules {
    pub(super) fn new(files: BTreeMap<String, String>) -> Self {
        Self { files, main: String::new(), imports_left: MOST_IMPORTS }
    }

    /// Forgets the sources: no module is loaded once the program runs.
    pub(super) fn close(&mut self) {
        *self = Self { files: BTreeMap::new(), main: String::new(), imports_left: 0 };
    }

    /// The absolute path of what `referrer` imports by `specifier`.
    fn resolve(&mut self, referrer: &str, specifier: &str) -> Result<String, String> {
        let left = self.imports_left.checked_sub(1);
        self.imports_left = left.ok_or("modules are imported only while a program loads")?;
        if specifier == "teahouse" {
            return Ok("/teahouse.js".to_owned());
        }
        if specifier == MAIN && referrer == "/entry.js" {
            return Ok(format!("/program/{}", self.main));
        }
        let unknown = || format!("there is no module \"{}\"", crate::error::one_line(specifier));
        let folder = referrer.strip_prefix("/program/").ok_or_else(unknown)?;
        if !specifier.starts_with("./") && !specifier.starts_with("../") {
            return Err(unknown());
        }
        let mut path: Vec<&str> = folder.split('/').collect();
        path.pop();
        for part in specifier.split('/') {
            match part {
                "." | "" => {}
                ".." => _ = path.pop().ok_or_else(unknown)?,
                part => path.push(part),
            }
        }
        let path = path.join("/");
        if !self.files.contains_key(&path) {
            return Err(unknown());
        }
        Ok(format!("/program/{path}"))
    }

    /// The source of a resolved path. A program may ask for any path here, and gets its
    /// own files.
    fn load(&self, path: &str) -> Result<String, String> {
        if path == "/teahouse.js" {
            return Ok(LIBRARY.to_owned());
        }
        path.strip_prefix("/program/")
            .and_then(|path| self.files.get(path))
            .cloned()
            .ok_or_else(|| "there is no such module".to_owned())
    }
}

/// The engine, compiled and linked.
pub(super) struct Shared {
    pub(super) program: ProgramPre<State>,
}

impl Shared {
    pub(super) fn new(engine: &Engine) -> Result<Self> {
        let component = Component::from_binary(engine, ENGINE)?;
        let mut linker = Linker::<State>::new(engine);
        linker.allow_shadowing(true);
        linker.define_unknown_imports_as_traps(&component)?;
        constants(&mut linker)?;
        loader(&mut linker)?;
        Ok(Self { program: ProgramPre::new(linker.instantiate_pre(&component)?)? })
    }

    /// Instantiates the engine and runs the program's top level. The inner error is what
    /// that threw.
    pub(super) fn start(
        &self,
        store: &mut Store<State>,
        main: &str,
    ) -> Result<Result<Program, String>> {
        main.clone_into(&mut store.data_mut().modules.main);
        let instance = self.program.instance_pre().instantiate(&mut *store)?;
        let init: Init = instance.get_typed_func(&mut *store, "init")?;
        let entry = Some("/entry.js".to_owned());
        let arguments = (String::new(), ENTRY.to_owned(), entry, false);
        let (done,) = init.call(&mut *store, arguments)?;
        match done {
            Ok(()) => Program::new(&mut *store, &instance).map(Ok),
            Err(thrown) => Ok(Err(plain(&thrown).to_owned())),
        }
    }
}

/// What was thrown, without the engine's own words before it.
fn plain(mut thrown: &str) -> &str {
    const BEFORE: [&str; 4] = [
        "Failed to evaluate user JavaScript module: ",
        "Failed to evaluate JavaScript module: ",
        "Failed to declare JavaScript module: ",
        "Failed to finish JavaScript module evaluation: ",
    ];
    while let Some(rest) = BEFORE.iter().find_map(|before| thrown.strip_prefix(before)) {
        thrown = rest;
    }
    thrown
}

/// What the engine asks of WASI as it starts.
fn constants(linker: &mut Linker<State>) -> Result<()> {
    linker
        .instance("wasi:cli/environment@0.2.12")?
        .func_wrap("get-environment", |_: StoreContextMut<'_, State>, (): ()| {
            Ok((Vec::<(String, String)>::new(),))
        })?;
    linker
        .instance("wasi:clocks/monotonic-clock@0.2.12")?
        .func_wrap("now", |_: StoreContextMut<'_, State>, (): ()| Ok((0u64,)))?;
    linker
        .instance("wasi:clocks/wall-clock@0.2.12")?
        .func_wrap("now", |_: StoreContextMut<'_, State>, (): ()| {
            Ok((Datetime { seconds: 0, nanoseconds: 0 },))
        })?;
    linker
        .instance("wasi:random/insecure-seed@0.2.12")?
        .func_wrap("insecure-seed", |_: StoreContextMut<'_, State>, (): ()| Ok(((0u64, 0u64),)))?;
    Ok(())
}

#[derive(wasmtime::component::ComponentType, wasmtime::component::Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The two calls by which the engine finds modules.
fn loader(linker: &mut Linker<State>) -> Result<()> {
    let mut loader = linker.instance("local:init/module-loader")?;
    loader.func_wrap(
        "resolve",
        |mut store: StoreContextMut<'_, State>, (referrer, specifier): (String, String)| {
            Ok((store.data_mut().modules.resolve(&referrer, &specifier),))
        },
    )?;
    loader.func_wrap("load", |store: StoreContextMut<'_, State>, (path,): (String,)| {
        Ok((store.data().modules.load(&path),))
    })?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A changed engine must be a decision: `engine/make.py` writes both files.
    #[test]
    fn the_engine_is_the_one_that_was_made() {
        let made = include_str!("../../engine/engine.sha256").trim();
        let digest = <sha2::Sha256 as sha2::Digest>::digest(ENGINE);
        assert_eq!(data_encoding::HEXLOWER.encode(&digest), made);
    }

    #[test]
    fn only_own_modules_are_found() {
        let files = ["main.js", "a/b.js"].map(|path| (path.to_owned(), path.to_owned()));
        let mut modules = Modules::new(files.into());
        modules.main = "main.js".to_owned();
        let mut resolve = |from: &str, name: &str| modules.resolve(from, name).ok();
        assert_eq!(resolve("/entry.js", MAIN).as_deref(), Some("/program/main.js"));
        assert_eq!(resolve("/entry.js", "./main.js"), None);
        let main = "/program/main.js";
        assert_eq!(resolve(main, "teahouse").as_deref(), Some("/teahouse.js"));
        assert_eq!(resolve(main, "./a/b.js").as_deref(), Some("/program/a/b.js"));
        assert_eq!(resolve("/program/a/b.js", "../main.js").as_deref(), Some(main));
        for name in [MAIN, "main.js", "../main.js", "./a/../../main.js", "/program/main.js", ""] {
            assert_eq!(resolve(main, name), None, "{name}");
        }
        assert_eq!(modules.load("/program/a/b.js").as_deref(), Ok("a/b.js"));
        for path in ["a/b.js", "/a/b.js", "/program/../main.js", "/entry.js", "/etc/passwd"] {
            assert!(modules.load(path).is_err(), "{path}");
        }
        modules.close();
        assert!(modules.load("/program/main.js").is_err());
        assert!(modules.resolve(main, "teahouse").is_err());
    }
}
