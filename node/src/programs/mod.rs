//! Mini Programs, opened: what runs them, and what becomes of what they ask for.
//!
//! The code of a program runs in a child process (`teahouse-programs`), which is this same
//! executable, started with a hidden command ([`as_child`]). An [`Open`] program is told
//! what happens and says what it wants; every wish passes [`Powers`], behind the person's
//! word. What programs have under way with others is in `dealings`, the part that runs at their
//! developer's node in [`functions`]. Packing is in [`pack`], which the command line uses.
//!
//! The window and the command line hold an [`Open`] program each in their own way: it is
//! plain data but for [`Open::update`], which waits for the child.

mod card;
mod dealings;
pub mod functions;
mod open;
pub mod pack;
mod powers;
pub mod shown;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

pub use teahouse_programs::{Host, ProgramError, Sandbox, ui};

pub use self::card::card;
pub use self::dealings::{Dealings, bill_words};
pub use self::functions::Functions;
pub use self::open::{Happening, MAX_WAITING, Open, Opening, Wish};
pub use self::powers::{Asker, InMemory, Installed, PowerError, Powers};

use teahouse_programs::{Code, HostCommand};
use teahouse_protocols::package::VerifiedPackage;

/// The hidden command by which this executable becomes the programs' child process.
const CHILD: &str = "program-host";

/// Runs the child process if this is it: to be asked first thing in `main`, before any thread
/// is started.
pub fn as_child() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let child = args.next().is_some_and(|a| a == CHILD) && args.next().is_none();
    child.then(teahouse_programs::child::main)
}

/// A host whose child is this executable. To be called in a tokio runtime.
pub fn host() -> std::io::Result<Host> {
    Ok(host_at(std::env::current_exe()?))
}

/// A host whose child is that executable, which calls [`as_child`].
#[must_use]
pub fn host_at(program: PathBuf) -> Host {
    Host::new(HostCommand { program, args: vec![OsString::from(CHILD)] })
}

/// The code of a package: JavaScript, or a component where its page ends in `.wasm`.
pub fn code_of(package: &VerifiedPackage) -> Result<Code, ProgramError> {
    let page = package.manifest().get().pages.first();
    let none = || ProgramError::BadProgram("it has no page".to_owned());
    code_at(package, page.ok_or_else(none)?)
}

/// The code that begins in this file of a package.
fn code_at(package: &VerifiedPackage, main: &str) -> Result<Code, ProgramError> {
    let bad = |why: &str| ProgramError::BadProgram(why.to_owned());
    let (manifest, main) = (package.manifest().get(), main.to_owned());
    let kind = Path::new(&main).extension();
    if kind.is_some_and(|kind| kind.eq_ignore_ascii_case("wasm")) {
        return package.file(&main).map(Code::Component).ok_or_else(|| bad("its page is missing"));
    }
    let mut modules = std::collections::BTreeMap::new();
    for file in manifest.files.iter().filter(|f| f.path.ends_with(".js")) {
        let bytes = package.file(&file.path).ok_or_else(|| bad("a module is missing"))?;
        let text = String::from_utf8(bytes).map_err(|_| bad("a module is not UTF-8"))?;
        modules.insert(file.path.to_string(), text);
    }
    Ok(Code::JavaScript { main, modules })
}
