//! The floor of Mini Programs: the same JavaScript on the same engine in bare wasmtime, in
//! this process, without pipe, limits or checks.

use wasmtime::component::{Component, ComponentType, Linker, Lower, TypedFunc};
use wasmtime::{Engine, Error, Result, Store, StoreContextMut};

#[allow(missing_docs, unreachable_pub, clippy::pedantic)]
mod bindings {
    wasmtime::component::bindgen!({
        path: "../protocols/wit",
        world: "program",
    });
}

use bindings::exports::teahouse::program::ui::{Event, Start};
use bindings::{Program, ProgramPre};

const ENGINE: &[u8] = include_bytes!("../../../node/programs/engine/engine.wasm");
const LIBRARY: &str = include_str!("../../../node/programs/engine/teahouse.js");
const ENTRY: &str = include_str!("../../../node/programs/engine/entry.js");

type Init = TypedFunc<(String, String, Option<String>, bool), (std::result::Result<(), String>,)>;

#[derive(ComponentType, Lower)]
#[component(record)]
struct Datetime {
    seconds: u64,
    nanoseconds: u32,
}

/// The engine, compiled and linked; the store's data is a program's one module.
pub(crate) struct Bare {
    engine: Engine,
    program: ProgramPre<String>,
}

impl Bare {
    /// Compiles the engine.
    pub(crate) fn new() -> Result<Self> {
        let engine = Engine::default();
        let component = Component::from_binary(&engine, ENGINE)?;
        let mut linker = Linker::<String>::new(&engine);
        linker.allow_shadowing(true);
        linker.define_unknown_imports_as_traps(&component)?;
        linker
            .instance("wasi:cli/environment@0.2.12")?
            .func_wrap("get-environment", |_: StoreContextMut<'_, String>, (): ()| {
                Ok((Vec::<(String, String)>::new(),))
            })?;
        linker
            .instance("wasi:clocks/monotonic-clock@0.2.12")?
            .func_wrap("now", |_: StoreContextMut<'_, String>, (): ()| Ok((0u64,)))?;
        linker
            .instance("wasi:clocks/wall-clock@0.2.12")?
            .func_wrap("now", |_: StoreContextMut<'_, String>, (): ()| {
                Ok((Datetime { seconds: 0, nanoseconds: 0 },))
            })?;
        linker
            .instance("wasi:random/insecure-seed@0.2.12")?
            .func_wrap("insecure-seed", |_: StoreContextMut<'_, String>, (): ()| {
                Ok(((0u64, 0u64),))
            })?;
        let mut loader = linker.instance("local:init/module-loader")?;
        loader.func_wrap(
            "resolve",
            |_: StoreContextMut<'_, String>, (_, specifier): (String, String)| {
                Ok((Ok::<String, String>(specifier),))
            },
        )?;
        loader.func_wrap("load", |store: StoreContextMut<'_, String>, (path,): (String,)| {
            let source = if path == "teahouse" { LIBRARY.to_owned() } else { store.data().clone() };
            Ok((Ok::<String, String>(source),))
        })?;
        let program = ProgramPre::new(linker.instantiate_pre(&component)?)?;
        Ok(Self { engine, program })
    }

    /// From nothing but the compiled engine to the first view; how many widgets it has.
    pub(crate) fn first_view(&self, source: &str) -> Result<usize> {
        let mut store = Store::new(&self.engine, source.to_owned());
        let instance = self.program.instance_pre().instantiate(&mut store)?;
        let init: Init = instance.get_typed_func(&mut store, "init")?;
        let arguments = (String::new(), ENTRY.to_owned(), Some("/entry.js".to_owned()), false);
        let (done,) = init.call(&mut store, arguments)?;
        done.map_err(Error::msg)?;
        let program = Program::new(&mut store, &instance)?;
        let start = Event::Start(Start {
            locale: "en".to_owned(),
            dark_mode: false,
            launch: String::new(),
            now: 0,
            seed: 0,
        });
        let view = program.teahouse_program_ui().call_update(&mut store, &[start])?;
        Ok(view.map_err(Error::msg)?.nodes.len())
    }
}
