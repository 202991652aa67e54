//! A person's hand on a Mini Program that is open: it reads the lines that the command line
//! shows, and does what a person would. The program runs in the real child process; what it may
//! do it does through the person's HTTP API.

use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result, bail, ensure};
use teahouse_core::command::{Command, Reply};
use teahouse_core::pay::tables::PayState;
use teahouse_core::programs::Command as Ask;
use teahouse_core::programs::query::{OneProgram, PackageOf};
use teahouse_protocols::package::VerifiedPackage;
use tokio::runtime::Handle;

use super::cast::Person;
use crate::client::Client;
use crate::programs::{Host, Installed, Open, Opening, shown, ui};
use crate::town::wait;

/// Somebody with a program open.
pub(super) struct Hand<'a> {
    open: Open,
    powers: Installed<&'a Client>,
}

impl<'a> Hand<'a> {
    /// Installs a program by its link, waits until it has come, and opens it.
    pub(super) fn open(person: &'a Person, host: &Host, link: &str) -> Result<Self> {
        let add = Ask::Add { link: link.to_owned() };
        let Reply::Program { app } = person.ask(Command::Programs(add))? else {
            bail!("nothing was installed")
        };
        wait("the package", || {
            let row = person.query(&OneProgram { app })?;
            Ok(row.is_some_and(|p| p.package.is_some()))
        })?;
        let package = person.query(&PackageOf { app })?.context("the package is gone")?;
        let package = VerifiedPackage::from_bytes(&package.0)?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let how = Opening { now: now.as_secs(), seed: now.subsec_nanos(), ..Opening::default() };
        let open = Handle::current().block_on(Open::open(host, package, how))?;
        let mut hand = Self { open, powers: Installed { node: person.client(), app, chat: None } };
        hand.turn()?;
        Ok(hand)
    }

    /// Lets the program take in what came. Whatever it asks to be allowed is allowed.
    pub(super) fn turn(&mut self) -> Result<()> {
        self.open.look(&self.powers);
        while self.open.is_due() {
            Handle::current().block_on(self.open.update())?;
            self.open.carry_out(&mut self.powers);
            self.allows()?;
        }
        Ok(())
    }

    fn allows(&mut self) -> Result<()> {
        while let Some(wish) = self.open.wish() {
            self.open.decide(&mut self.powers, wish.power, true)?;
        }
        Ok(())
    }

    /// Waits until it shows a text.
    pub(super) fn reads(&mut self, text: &str) -> Result<()> {
        wait(&format!("\"{text}\" on the screen"), || {
            self.turn()?;
            Ok(self.shows(text))
        })
        .with_context(|| {
            let lines: Vec<String> = self.lines().into_iter().map(|line| line.text).collect();
            format!("it shows: {}", lines.join(" / "))
        })
    }

    /// Whether it shows a text now.
    pub(super) fn shows(&self, text: &str) -> bool {
        self.lines().iter().any(|line| line.text.contains(text))
    }

    /// Uses what stands on the line that begins so: taps it, or does what `how` says.
    pub(super) fn uses(&mut self, line: &str, how: &str) -> Result<()> {
        self.turn()?;
        let lines = self.lines();
        let at = lines.iter().find(|l| l.number > 0 && l.text.starts_with(line));
        let at = at.with_context(|| format!("nothing to use begins with {line}"))?;
        let event = shown::event(self.open.nodes(), &format!("{} {how}", at.number));
        let event = event.map_err(|why| anyhow::anyhow!("{line}: {why}"))?;
        ensure!(self.open.tell(event), "the program is too busy");
        self.turn()
    }

    /// Taps the pay button, reads the host's own bill, and pays it.
    pub(super) fn pays(&mut self, amount: &str) -> Result<()> {
        let button = |n: &&ui::Node| matches!(n.kind, ui::Kind::PayButton(_));
        let key = self.open.nodes().iter().find(button).context("there is no button to pay")?;
        let key = key.key.clone();
        self.open.press(&mut self.powers, &key)?;
        self.allows()?;
        let mut bill = None;
        wait("the bill", || {
            bill = self.open.bill(&self.powers)?.filter(|b| b.amount.is_some());
            Ok(bill.is_some())
        })?;
        let bill = bill.context("there is no bill")?;
        ensure!(bill.amount.as_deref() == Some(amount), "the bill says {:?}", bill.amount);
        ensure!(
            bill.sound && bill.state.is_none_or(|s| s == PayState::Offered),
            "the bill can't be paid"
        );
        Ok(self.open.settle(&mut self.powers, true)?)
    }

    fn lines(&self) -> Vec<shown::Line> {
        shown::lines(self.open.nodes(), |_| "pay".to_owned())
    }
}
