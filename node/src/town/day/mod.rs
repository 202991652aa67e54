//! The town's day, in the terminal: friends' Moments, breakfast, its photo, the newspaper, the
//! weekend's plan, two seats at the cinema, on real nodes and with a relay that is killed in the
//! middle. Each step is checked through *another* node's HTTP API; any failure ends the day with
//! a non-zero exit code.
//!
//! One module a part of the day; who takes part is in `cast`.

mod breakfast;
mod cast;
mod hand;
mod morning;
mod paper;
mod programs;
mod weekend;

use std::io::Write;
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result};
use teahouse_protocols::ids::TopicId;

use cast::{NodeProcess, Person};

/// Plays the day. `program` answers to `teahouse` commands: the relay, the shop and the
/// newspaper are started with it.
///
/// # Errors
/// The first step that failed, and how.
pub fn play(mut out: impl Write, program: &Path) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("the async runtime")?;
    let _entered = runtime.enter();
    let dir = tempfile::tempdir().context("a folder for the town")?;
    let started = Instant::now();
    let stage = Stage { dir: dir.path(), program };
    let mut day = Day { out: &mut out, step: Instant::now(), steps: 0 };
    let result = day.live(&stage);
    match &result {
        Ok(nodes) => {
            let (n, s) = (day.steps, started.elapsed().as_secs_f64());
            writeln!(
                out,
                "\nThe day is over: {n} steps in {s:.1} s on {nodes} nodes and a relay, each \
                 checked at another node."
            )?;
            writeln!(out, "{}", closing(program))?;
        }
        Err(e) => writeln!(out, "FAILED  {e:#}")?,
    }
    result.map(|_| ())
}

fn closing(program: &Path) -> String {
    let p = program.display();
    format!(
        "\nYour own node:\n  {p} init --name YOU\n  {p} run\n  {p} card --qr          show it to a friend\n\
         \nYour own shop:\n  {p} run --role merchant\n  {p} merchant open --currency EUR --name YOURS\n\
         \nYour community's relay, on a machine that others can reach:\n  {p} run --role relay --name OURS --public-addr HOST\n  {p} relay invite"
    )
}

/// Where the day is played.
struct Stage<'a> {
    /// A folder for everybody's folders.
    dir: &'a Path,
    /// What answers to `teahouse` commands.
    program: &'a Path,
}

/// Everybody who is there all day.
struct Cast {
    relay: NodeProcess,
    /// The relay's invite.
    invite: String,
    mei: Person,
    bob: Person,
    lin: Person,
    /// The chat of Bob and Mei.
    chat: TopicId,
}

/// The day as it goes.
struct Day<'o, W: Write> {
    out: &'o mut W,
    step: Instant,
    steps: u32,
}

impl<W: Write> Day<'_, W> {
    /// A step is done: tells what happened, and how long it took.
    fn done(&mut self, what: &str) -> Result<()> {
        self.steps += 1;
        let ms = self.step.elapsed().as_millis();
        writeln!(self.out, "{ms:>7} ms  {what}")?;
        self.out.flush()?;
        self.step = Instant::now();
        Ok(())
    }

    fn part(&mut self, name: &str) -> Result<()> {
        writeln!(self.out, "\n{name}")?;
        self.step = Instant::now();
        Ok(())
    }

    /// All parts; returns how many nodes took part.
    fn live(&mut self, stage: &Stage<'_>) -> Result<usize> {
        self.part("Morning")?;
        let cast = self.morning(stage)?;
        self.part("Breakfast")?;
        let shop = self.breakfast(stage, &cast)?;
        self.part("The newspaper")?;
        let (cast, paper) = self.paper(stage, cast)?;
        self.part("The weekend's plan")?;
        let (cast, tablet) = self.weekend(stage, cast)?;
        self.part("The cinema")?;
        let cinema = self.cinema(stage, &cast)?;
        self.part("Good night")?;
        self.night(&cast, &shop)?;
        let everybody = [cast.mei, cast.bob, cast.lin, shop.keeper, cinema, paper, tablet];
        let nodes = everybody.len();
        for person in everybody {
            person.stop()?;
        }
        drop(cast.relay);
        Ok(nodes)
    }
}
