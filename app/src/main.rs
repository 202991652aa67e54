//! `teahouse-app`: the window; the `teahouse` command line, when given one of its commands;
//! and, where there is no display, the town's day in the terminal.

use std::ffi::OsString;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, bail};
use teahouse_app::bridge::{Bridge, Source};
use teahouse_app::shell::{Outcome, Shell, Tour};
use teahouse_app::theme;
use teahouse_node::{NetworkConfig, NodeConfig, config};

const HELP: &str = "\
Teahouse: talk with people, with nobody's permission.

Usage: teahouse-app [OPTIONS]      opens the window
       teahouse-app COMMAND …      does what `teahouse COMMAND …` does; see `teahouse-app help`

Options:
      --data DIR                  the data folder [default: the user's data directory]
      --demo                      look around the town: real nodes, on this machine only
      --exit-after-first-reply    in the town: say something, quit when the answer is on the screen
      --headless                  no window: play the town's day in the terminal
  -h, --help                      this
";

/// A tour that takes longer than this has failed.
const TOUR_LIMIT: Duration = Duration::from_mins(2);

/// What the options say.
#[expect(clippy::struct_excessive_bools, reason = "each is an option of its own")]
#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    data: Option<PathBuf>,
    demo: bool,
    tour: bool,
    headless: bool,
    help: bool,
}

fn main() -> ExitCode {
    // Before any thread is started: the child locks itself in.
    if let Some(code) = teahouse_node::programs::as_child() {
        return code;
    }
    let args: Vec<OsString> = std::env::args_os().collect();
    if is_command(args.get(1..).unwrap_or_default()) {
        return teahouse_node::cli::run(args);
    }
    let result = Options::parse(args.into_iter().skip(1)).and_then(|options| start(&options));
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("teahouse: {e:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether these arguments are a command line of `teahouse`: anything but our own options.
fn is_command(args: &[OsString]) -> bool {
    let mut args = args.iter().filter_map(|a| a.to_str());
    loop {
        match args.next() {
            // Both know it; what follows decides.
            Some("--data") => {
                args.next();
            }
            Some(a) if a.starts_with("--data=") => {}
            Some("--version" | "-V" | "--json") => return true,
            Some(a) => return !a.starts_with('-'),
            None => return false,
        }
    }
}

impl Options {
    fn parse(args: impl Iterator<Item = OsString>) -> anyhow::Result<Self> {
        let mut options = Self::default();
        let mut args = args;
        while let Some(arg) = args.next() {
            match arg.to_str() {
                Some("--data") => {
                    options.data = Some(args.next().context("--data needs a folder")?.into());
                }
                Some(a) if a.starts_with("--data=") => {
                    options.data = Some(a["--data=".len()..].into());
                }
                Some("--demo") => options.demo = true,
                Some("--exit-after-first-reply") => options.tour = true,
                Some("--headless") => options.headless = true,
                Some("--help" | "-h") => options.help = true,
                _ => bail!("no such option: {} (see --help)", arg.display()),
            }
        }
        if options.tour && !options.demo {
            bail!("--exit-after-first-reply goes with --demo: only the town answers");
        }
        Ok(options)
    }
}

fn start(options: &Options) -> anyhow::Result<()> {
    if options.help {
        let _ = std::io::stdout().write_all(HELP.as_bytes());
        return Ok(());
    }
    let why = if options.headless {
        Some("No window was asked for (--headless), so here is the town's day in the terminal.")
    } else if cfg!(target_os = "linux") && !has_display() {
        Some(
            "There is no display (neither DISPLAY nor WAYLAND_DISPLAY is set), so here is the \
             town's day in the terminal.",
        )
    } else {
        None
    };
    if let Some(why) = why {
        println!("{why}");
        return day();
    }
    window(options)
}

fn has_display() -> bool {
    ["DISPLAY", "WAYLAND_DISPLAY", "WAYLAND_SOCKET"]
        .iter()
        .any(|name| std::env::var_os(name).is_some_and(|v| !v.is_empty()))
}

/// The town's day.
fn day() -> anyhow::Result<()> {
    let program = std::env::current_exe().context("the path of this program")?;
    teahouse_node::town::day::play(std::io::stdout(), &program)
}

fn window(options: &Options) -> anyhow::Result<()> {
    let data = match (&options.data, std::env::var_os("TEAHOUSE_DATA")) {
        (Some(dir), _) => dir.clone(),
        (None, Some(dir)) => dir.into(),
        (None, None) => config::default_data_dir()?,
    };
    let home = NodeConfig {
        data,
        store: config::store_options(false),
        network: Some(NetworkConfig::default()),
    };
    let first = if options.demo { Source::Town } else { Source::Home(home.clone()) };
    let tour = options.tour.then(Tour::new);
    let outcome: Option<Outcome> = tour.as_ref().map(|(_, outcome)| outcome.clone());
    if tour.is_some() {
        limit_tour()?;
    }
    let native = eframe::NativeOptions {
        viewport: egui::ViewportBuilder::default()
            .with_title("Teahouse")
            .with_app_id("teahouse")
            .with_inner_size([1100.0, 720.0])
            .with_min_inner_size([640.0, 420.0]),
        ..eframe::NativeOptions::default()
    };
    eframe::run_native(
        "teahouse",
        native,
        Box::new(move |creation| {
            let ctx = &creation.egui_ctx;
            theme::install(ctx);
            let wake = ctx.clone();
            let bridge = Bridge::start(first, home, move || wake.request_repaint())?;
            let mut shell = Shell::new(Box::new(bridge));
            if let Some((tour, _)) = tour {
                shell = shell.with_tour(tour);
            }
            Ok(Box::new(App(shell)))
        }),
    )
    .map_err(|e| anyhow::anyhow!("{e}"))
    .context("the window could not be opened (try --headless, or the command line)")?;
    match outcome.map(|o| o.get().cloned()) {
        None | Some(Some(Ok(()))) => Ok(()),
        Some(Some(Err(why))) => bail!("{why}"),
        Some(None) => bail!("the window was closed before a reply was on the screen"),
    }
}

/// Ends the process when the tour takes too long: whatever hangs, the exit code tells.
fn limit_tour() -> anyhow::Result<()> {
    let watchdog = || {
        std::thread::sleep(TOUR_LIMIT);
        eprintln!("teahouse: no reply was on the screen within {} s", TOUR_LIMIT.as_secs());
        std::process::exit(1);
    };
    std::thread::Builder::new().name("tour-limit".into()).spawn(watchdog)?;
    Ok(())
}

struct App(Shell);

impl eframe::App for App {
    fn ui(&mut self, ui: &mut egui::Ui, _: &mut eframe::Frame) {
        self.0.ui(ui);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(line: &str) -> Vec<OsString> {
        line.split_whitespace().map(OsString::from).collect()
    }

    #[test]
    fn commands_and_options_are_told_apart() {
        for line in ["init --name Lin", "--data /x chats", "--data=/x read Mei", "help", "-V"] {
            assert!(is_command(&args(line)), "{line}");
        }
        for line in ["", "--demo", "--data /x", "--data /x --demo", "--headless", "--help"] {
            assert!(!is_command(&args(line)), "{line}");
        }
    }

    #[test]
    fn options_are_read_and_wrong_ones_refused() {
        let read = |line: &str| Options::parse(args(line).into_iter());
        let all = read("--data /x --demo --exit-after-first-reply").unwrap();
        assert!(all.demo && all.tour && all.data == Some("/x".into()));
        for line in ["--data", "--domo", "--exit-after-first-reply"] {
            assert!(read(line).is_err(), "{line}");
        }
    }
}
