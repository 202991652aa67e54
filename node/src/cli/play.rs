//! Mini Programs in the terminal: their picture in lines, what a person does as lines.

use std::collections::BTreeMap;
use std::io::BufRead as _;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail};
use teahouse_protocols::package::{Power, VerifiedPackage};
use teahouse_protocols::sign::SigningKey;
use tokio::runtime::Runtime;

use super::session::runtime;
use super::show::{block, line, tidy};
use crate::programs::{
    self, Happening, Host, InMemory, Open, Opening, Powers, bill_words, pack, shown,
};

/// How often a folder that is tried out is looked at.
const LOOK: Duration = Duration::from_millis(300);
/// Files of it that are looked at.
const MAX_WATCHED: usize = 4_096;

/// What a power is, to the person who is asked for it.
pub(super) const fn power_words(power: Power) -> &'static str {
    match power {
        Power::Login => "know you again, by a key for it alone",
        Power::Storage => "keep things on this device",
        Power::State => "share things with the members of a chat",
        Power::Call => "ask its developer's node",
        Power::Pay => "show a button to pay",
        Power::Share => "offer cards for you to send",
    }
}

/// Sends a card into a chat: its name, the card's title, and what the program is told by it.
pub(super) type SendCard<'a> = &'a mut dyn FnMut(&str, String, String) -> Result<String>;

/// Opens an installed program.
pub(super) fn open(
    package: VerifiedPackage,
    launch: String,
    powers: &mut impl Powers,
    send: SendCard<'_>,
) -> Result<()> {
    let mut terminal = Terminal::new(Some(send))?;
    let mut open = terminal.start(package, &launch)?;
    loop {
        terminal.turn(&mut open, powers)?;
        match terminal.hear(&mut open, powers)? {
            Heard::Nothing => {}
            Heard::End => return Ok(()),
        }
    }
}

/// Tries a folder out, and starts it anew when a file changes.
pub(super) fn dev(dir: &Path, launch: String) -> Result<()> {
    // Nothing of it is installed: whose signature it is doesn't matter.
    let key = SigningKey::from_bytes(&[1; 32]);
    let mut powers = InMemory::default();
    let mut terminal = Terminal::new(None)?;
    let mut seen = stamps(dir)?;
    loop {
        let mut running = match pack::folder(dir, &key) {
            Ok(package) => terminal.start(package, &launch).map(Some),
            Err(e) => Err(e.into()),
        }
        .unwrap_or_else(|e| {
            eprintln!("{e:#}");
            None
        });
        loop {
            let ended = match &mut running {
                Some(open) => {
                    let turned = terminal.turn(open, &mut powers);
                    if let Err(e) = &turned {
                        eprintln!("{e:#} (it starts anew when a file changes)");
                    }
                    turned.is_err()
                }
                None => false,
            };
            if ended {
                running = None;
            }
            let heard = match &mut running {
                Some(open) => terminal.hear(open, &mut powers)?,
                None => terminal.wait(),
            };
            if matches!(heard, Heard::End) {
                return Ok(());
            }
            let now = stamps(dir)?;
            if now != seen {
                seen = now;
                line("-- changed: from the start --")?;
                break;
            }
        }
    }
}

/// When each file was changed, and how long it is.
fn stamps(dir: &Path) -> Result<BTreeMap<PathBuf, (Option<SystemTime>, u64)>> {
    let mut all = BTreeMap::new();
    let mut folders = vec![dir.to_owned()];
    while let Some(folder) = folders.pop() {
        let entries = std::fs::read_dir(&folder).with_context(|| folder.display().to_string())?;
        for entry in entries.flatten() {
            // A file that goes meanwhile is a change that shows next time.
            let Ok(meta) = entry.metadata() else { continue };
            if all.len() >= MAX_WATCHED {
                return Ok(all);
            }
            if meta.is_dir() {
                folders.push(entry.path());
            }
            all.insert(entry.path(), (meta.modified().ok(), meta.len()));
        }
    }
    Ok(all)
}

enum Heard {
    Nothing,
    End,
}

struct Terminal<'a> {
    // Dropped first: its tasks run on the runtime.
    host: Host,
    runtime: Runtime,
    lines: Receiver<String>,
    draw: bool,
    /// The person is being asked for this.
    asked: Option<Power>,
    /// The card that the program offers: its title, and what the program is told by it.
    offer: Option<(String, String)>,
    /// None while a program is tried out.
    send: Option<SendCard<'a>>,
    /// The person is being asked to pay.
    billed: bool,
}

impl<'a> Terminal<'a> {
    fn new(send: Option<SendCard<'a>>) -> Result<Self> {
        let runtime = runtime()?;
        let host = {
            let _entered = runtime.enter();
            programs::host()?
        };
        let (sender, lines) = sync_channel(16);
        std::thread::spawn(move || {
            for text in std::io::stdin().lock().lines() {
                let Ok(text) = text else { return };
                if sender.send(text).is_err() {
                    return;
                }
            }
        });
        Ok(Self {
            host,
            runtime,
            lines,
            draw: false,
            asked: None,
            billed: false,
            offer: None,
            send,
        })
    }

    fn start(&mut self, package: VerifiedPackage, launch: &str) -> Result<Open> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let how = Opening {
            locale: locale(),
            dark_mode: false,
            launch: launch.to_owned(),
            now: now.as_secs(),
            seed: now.subsec_nanos(),
        };
        (self.draw, self.asked, self.billed, self.offer) = (false, None, false, None);
        Ok(self.runtime.block_on(Open::open(&self.host, package, how))?)
    }

    /// Tells the program what waits, and shows what comes of it.
    fn turn(&mut self, open: &mut Open, powers: &mut impl Powers) -> Result<()> {
        open.look(powers);
        if open.is_due() {
            match self.runtime.block_on(open.update()) {
                Ok(new) => self.draw |= new,
                Err(e) if e.is_final() => bail!("{e}"),
                Err(e) => line(tidy(&e.to_string()))?,
            }
            let happened = open.carry_out(powers);
            self.happen(happened)?;
        }
        if self.draw && !open.is_due() {
            self.draw = false;
            draw(open, powers)?;
        }
        self.bill(open, powers)?;
        if self.asked.is_none()
            && let Some(wish) = open.wish()
        {
            let name = tidy(&open.manifest().name);
            line(format!("?? {name} asks to {}.", power_words(wish.power)))?;
            if !wish.reason.is_empty() {
                line(format!("   Its developer says: {}", tidy(&wish.reason)))?;
            }
            line("   Allow it? y or n")?;
            self.asked = Some(wish.power);
        }
        Ok(())
    }

    /// Shows the bill that the person was not asked about yet: the host's own lines.
    fn bill(&mut self, open: &Open, powers: &impl Powers) -> Result<()> {
        if !open.has_bill() {
            self.billed = false;
            return Ok(());
        }
        // In which money, its shop may have to be asked first.
        let Some(bill) = open.bill(powers)?.filter(|b| b.amount.is_some()) else { return Ok(()) };
        if self.billed || self.asked.is_some() {
            return Ok(());
        }
        line(format!("$$ {}", tidy(&bill_words(Some(&bill), Some(bill.by)))))?;
        for (title, count, unit) in &bill.lines {
            line(format!("   {count} x {}, {unit} each", tidy(title)))?;
        }
        if let Some(balance) = &bill.balance {
            line(format!("   Your balance there is {balance}."))?;
        }
        line("   Pay it? y or n")?;
        self.billed = true;
        Ok(())
    }

    fn happen(&mut self, happened: Vec<Happening>) -> Result<()> {
        for one in happened {
            match one {
                Happening::Notice(text) => line(format!("** {}", tidy(&text)))?,
                Happening::Share { title, launch } => {
                    line(format!("** offers a card: {}", tidy(&title)))?;
                    match self.send {
                        Some(_) => line("   Send it: to CHAT")?,
                        None => line(format!("   It would say: {}", tidy(&launch)))?,
                    }
                    self.offer = Some((title, launch));
                }
                Happening::Close => line("** the program is done (q to leave)")?,
            }
        }
        Ok(())
    }

    /// What the person does next, if they do it soon.
    fn hear(&mut self, open: &mut Open, powers: &mut impl Powers) -> Result<Heard> {
        let within = if open.is_due() { Duration::ZERO } else { LOOK };
        let text = match self.lines.recv_timeout(within) {
            Ok(text) => text,
            Err(RecvTimeoutError::Timeout) => return Ok(Heard::Nothing),
            // Nobody is there any more: what is under way is finished first.
            Err(RecvTimeoutError::Disconnected) if open.is_due() => return Ok(Heard::Nothing),
            Err(RecvTimeoutError::Disconnected) => return Ok(Heard::End),
        };
        let text = text.trim();
        if let Some(power) = self.asked {
            match text {
                "y" | "yes" => self.decide(open, powers, power, true)?,
                "n" | "no" => self.decide(open, powers, power, false)?,
                "q" => return Ok(Heard::End),
                _ => line("   y or n")?,
            }
            return Ok(Heard::Nothing);
        }
        if self.billed {
            match text {
                "y" | "yes" => self.settle(open, powers, true)?,
                "n" | "no" => self.settle(open, powers, false)?,
                "q" => return Ok(Heard::End),
                _ => line("   y or n")?,
            }
            return Ok(Heard::Nothing);
        }
        if let Some(key) = shown::pay_button(open.nodes(), text).map(str::to_owned) {
            if let Err(why) = open.press(powers, &key) {
                line(tidy(&why.to_string()))?;
            }
            return Ok(Heard::Nothing);
        }
        match text {
            "" => draw(open, powers)?,
            "q" => return Ok(Heard::End),
            _ if text.starts_with("to ") && self.offer.is_some() => self.send(&text[3..])?,
            _ => match shown::event(open.nodes(), text) {
                Ok(event) => {
                    if !open.tell(event) {
                        line("The program has too much to do just now.")?;
                    }
                }
                Err(why) => line(format!("{why} (q leaves)"))?,
            },
        }
        Ok(Heard::Nothing)
    }

    /// Sends the card that is offered.
    fn send(&mut self, to: &str) -> Result<()> {
        let (Some(send), Some((title, launch))) = (&mut self.send, self.offer.clone()) else {
            return line("A program that is tried out sends nothing.");
        };
        match send(to.trim(), title, launch) {
            Ok(sent) => {
                self.offer = None;
                line(sent)
            }
            Err(e) => line(format!("{e:#}")),
        }
    }

    fn decide(
        &mut self,
        open: &mut Open,
        powers: &mut impl Powers,
        power: Power,
        allowed: bool,
    ) -> Result<()> {
        self.asked = None;
        let happened = open.decide(powers, power, allowed)?;
        self.happen(happened)
    }

    fn settle(&mut self, open: &mut Open, powers: &mut impl Powers, pay: bool) -> Result<()> {
        self.billed = false;
        match open.settle(powers, pay) {
            Ok(()) if pay => line("   Sent. It is not paid before the shop says so."),
            Ok(()) => Ok(()),
            Err(why) => line(format!("   Not paid: {}", tidy(&why.to_string()))),
        }
    }

    /// While nothing runs.
    fn wait(&mut self) -> Heard {
        match self.lines.recv_timeout(LOOK) {
            Ok(text) if text.trim() == "q" => Heard::End,
            Ok(_) | Err(RecvTimeoutError::Timeout) => Heard::Nothing,
            Err(RecvTimeoutError::Disconnected) => Heard::End,
        }
    }
}

fn draw(open: &Open, powers: &impl Powers) -> Result<()> {
    let developer = open.manifest().cloud.as_ref().map(|c| c.device);
    let bill = |key: &str| {
        let bill = open.bill_of(powers, key).ok().flatten();
        bill_words(bill.as_ref(), developer)
    };
    line("")?;
    for shown in shown::lines(open.nodes(), bill) {
        let mark = match shown.number {
            0 => "    ".to_owned(),
            n => format!("{n:>3} "),
        };
        let indent = mark.len() + 2 * shown.depth.min(16);
        line(format!(
            "{mark}{:width$}{}",
            "",
            block(&shown.text, indent),
            width = 2 * shown.depth.min(16)
        ))?;
    }
    Ok(())
}

/// The language of the environment, as BCP 47.
fn locale() -> String {
    let set = |name| std::env::var(name).ok().filter(|v| !v.is_empty());
    let name = set("LC_ALL").or_else(|| set("LC_MESSAGES")).or_else(|| set("LANG"));
    let name = name.unwrap_or_default();
    let name = name.split(['.', '@']).next().unwrap_or_default();
    match name {
        "" | "C" | "POSIX" => "en".to_owned(),
        name => name.replace('_', "-"),
    }
}
