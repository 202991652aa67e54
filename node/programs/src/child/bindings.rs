//! What wasmtime makes of `program.wit`.
#![allow(missing_docs, unreachable_pub, clippy::pedantic)]

wasmtime::component::bindgen!({
    path: "../../protocols/wit",
    world: "program",
});
