//! Mini Programs: from opening one that is installed to its first view, with the node's store,
//! the package's checks, the child process, the pipe and both checks of the view.
//!
//! The floor is the same program on the same engine in bare wasmtime.

#![allow(clippy::cast_precision_loss, reason = "figures for people")]

mod common;
#[path = "floors/program.rs"]
mod floor;

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Context, Result, anyhow, bail, ensure};
use common::{Reach, Report, Samples, count, folder, note};
use teahouse_core::command::{Command, Devices, Reply};
use teahouse_core::programs::Command as Ask;
use teahouse_core::programs::query::PackageOf;
use teahouse_core::query::Query;
use teahouse_core::view::Blob;
use teahouse_node::config::store_options;
use teahouse_node::programs::{self, Host, Open, Opening};
use teahouse_node::{Node, NodeConfig};
use teahouse_protocols::codec::{List, Text};
use teahouse_protocols::package::{self, Manifest, Release, VerifiedPackage};
use teahouse_protocols::sign::SigningKey;

const PROGRAM: &str = r#"
import { page, text, button } from "teahouse";
let taps = 0;
export const update = () => page("Hello", text(`${taps++} taps`), button("Add", "add"));
"#;

fn main() -> ExitCode {
    // The bench is its own child process.
    if let Some(code) = programs::as_child() {
        return code;
    }
    match measure() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("{e:#}");
            ExitCode::FAILURE
        }
    }
}

fn measure() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(run())
}

fn hello() -> Result<VerifiedPackage> {
    let manifest = Manifest {
        form: package::VERSION,
        developer: [0; 32],
        name: Text::try_from("Hello")?,
        version: Release { code: 1, name: Text::default() },
        description: Text::default(),
        lang: Text::default(),
        pages: List::try_from(vec![Text::try_from("main.js")?])?,
        icons: List::default(),
        req_permissions: List::default(),
        cloud: None,
        files: List::default(),
    };
    let files = BTreeMap::from([("main.js".to_owned(), PROGRAM.as_bytes().to_vec())]);
    Ok(VerifiedPackage::new(manifest, &files, &SigningKey::from_bytes(&[3; 32]))?)
}

async fn first_view(host: &Host, package: VerifiedPackage) -> Result<usize> {
    let mut open = Open::open(host, package, Opening::default()).await?;
    open.update().await?;
    Ok(open.nodes().len())
}

async fn run() -> Result<()> {
    let mut report = Report::new("programs");
    let dir = folder()?;
    let data = dir.path().join("node");
    let node = Node::start(NodeConfig { data, store: store_options(false), network: None })?;
    let handle = node.handle().clone();
    let create = Devices::Create { name: "Lin".into(), device_name: "bench".into() };
    handle.submit(Command::Devices(create)).await?;
    let install = Ask::Install { package: Blob(hello()?.to_bytes()?) };
    let Reply::Program { app } = handle.submit(Command::Programs(install)).await? else {
        bail!("not installed")
    };

    note("compiling the engine, here and in the child");
    let began = Instant::now();
    let bare = floor::Bare::new().map_err(|e| anyhow!("{e:#}"))?;
    report.figure("floor_engine_compiled_ms", began.elapsed().as_secs_f64() * 1e3);
    let host = programs::host()?;
    let began = Instant::now();
    first_view(&host, hello()?).await?;
    report.figure("child_started_to_first_view_ms", began.elapsed().as_secs_f64() * 1e3);

    note("opening, and the floor, in turn");
    let (mut floor, mut ours) = (Samples::default(), Samples::default());
    for _ in 0..count(500, 20) {
        let began = Instant::now();
        let widgets = bare.first_view(PROGRAM).map_err(|e| anyhow!("{e:#}"))?;
        floor.push(began.elapsed());
        let began = Instant::now();
        let bytes = handle.query(|s| PackageOf { app }.run(s))?.context("installed")?.0;
        let shown = first_view(&host, VerifiedPackage::from_bytes(&bytes)?).await?;
        ours.push(began.elapsed());
        ensure!(widgets == 3 && shown == 3, "both draw the same");
    }
    report.figure("opened", ours.len() as f64);
    report.figure("floor_p50_ms", floor.p50_ms());
    report.figure("floor_p99_ms", floor.p99_ms());
    report.reach("open_to_first_view_p50_ms", ours.p50_ms(), Reach::AtMost(5.0));
    report.figure("open_to_first_view_p99_ms", ours.p99_ms());
    report.figure("ratio_p50", ours.p50_ms() / floor.p50_ms());
    report.print();
    Ok(())
}
