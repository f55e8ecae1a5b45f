//! The same writers on a real file system that loses its power: `resurge-crash powercut`; or, with
//! `resurge-crash powercut sessions`, the server with sessions.
//!
//! The store lives on ext4 and on XFS, each in a file mounted through a loop device. At a random
//! moment the file system is shut down without its log being flushed, so what was not synced is gone;
//! then the child is killed, the file system is unmounted and mounted again, the store opened, and
//! everything looked for that had been acknowledged as durable.
//!
//! All of it happens in a mount and process namespace of its own, which the kernel takes apart with
//! everything in it when its first process ends, in whatever way. That one ends when its standard
//! input does, so also when the program that holds the other end is killed.

mod filesystem;
mod victim;

use std::io::Read;
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use resurge_store::{Clock, Entropy, Monotonic, SeededEntropy, SystemClock};
use resurge_testkit::Failure;
use resurge_testkit::kill::Child;

use crate::child;
use crate::parent::Settings;
use crate::sessions::{self, Around};
use filesystem::{FileSystem, Kind};
pub(crate) use victim::Victim;
use victim::Writers;

/// The longest a child lives, from its start or from its first line, in microseconds.
const LIFE_MICROS: u64 = 600_000;
/// How long a child may take to open its store.
const FIRST_LINE: Duration = Duration::from_secs(60);

/// What the command line asks for, and whether it is about sessions.
fn parse(args: &[&str]) -> Result<(Settings, bool), Failure> {
    match args {
        ["sessions", args @ ..] => Ok((sessions::settings(args)?, true)),
        args => Ok((Settings::parse(args)?, false)),
    }
}

/// Runs it all, in namespaces of its own.
pub(crate) fn main(args: &[&str]) -> Result<ExitCode, Failure> {
    parse(args)?;
    if let Some(why) = filesystem::missing() {
        println!("SKIPPED powercut: {why}");
        return Ok(ExitCode::SUCCESS);
    }
    // Removed at the end; by the process inside, when this one is killed.
    let dir = tempfile::Builder::new().prefix("resurge-powercut-").tempdir()?;
    let mut inside = Command::new("unshare");
    inside.args(filesystem::NAMESPACES).arg(std::env::current_exe()?);
    inside.arg("powercut-inside").arg(dir.path()).args(args);
    // What sled's panics look like from the inside is of no interest; they are expected.
    inside.env("RUST_BACKTRACE", "0");
    let mut inside = inside.stdin(Stdio::piped()).spawn()?;
    // Waiting would close it.
    let held = inside.stdin.take();
    let status = inside.wait()?;
    drop(held);
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What runs in there.
pub(crate) fn inside(dir: &str, args: &[&str]) -> Result<ExitCode, Failure> {
    let (settings, sessions) = parse(args)?;
    let watched = Path::new(dir).to_owned();
    std::thread::Builder::new().name("watches-parent".to_owned()).spawn(move || {
        let end = std::io::stdin().read_to_end(&mut Vec::new());
        // The parent is gone: nobody is left to clean up.
        filesystem::abandon(&watched);
        std::process::exit(if end.is_ok() { 130 } else { 1 });
    })?;
    let clock = SystemClock::new();
    let mut clean = true;
    let mut lines = Vec::new();
    for (nth, kind) in (1..).zip(Kind::ALL) {
        let until = clock.monotonic().saturating_add(settings.within / (3 - nth));
        let run = match FileSystem::create(kind, Path::new(dir)) {
            Ok(filesystem) => Run::new(&settings, sessions, filesystem, until)?,
            Err(e) => {
                println!("SKIPPED powercut fs={kind}: {e}");
                continue;
            }
        };
        let (victim, ended) = run.cycles(&clock);
        if let Err(e) = ended {
            eprintln!("powercut fs={kind}: {e}");
            clean = false;
        }
        clean &= victim.is_clean();
        println!("powercut fs={kind} {}", victim.more());
        lines.push(format!("powercut fs={kind} {}", victim.line()));
    }
    for line in lines {
        println!("{line}");
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// All cycles on one file system.
struct Run<'a> {
    settings: &'a Settings,
    filesystem: FileSystem,
    until: Monotonic,
    chance: SeededEntropy,
    victim: Box<dyn Victim>,
}

impl<'a> Run<'a> {
    fn new(
        settings: &'a Settings,
        sessions: bool,
        filesystem: FileSystem,
        until: Monotonic,
    ) -> Result<Self, Failure> {
        let state = filesystem.mounted().join("state");
        let victim: Box<dyn Victim> = if sessions {
            let sockets = filesystem.file("sockets");
            std::fs::create_dir(&sockets)?;
            Box::new(Around::to_be_cut(settings, &state, &sockets)?)
        } else {
            Box::new(Writers::new(settings, &state)?)
        };
        let chance = SeededEntropy::new(settings.seed);
        Ok(Self { settings, filesystem, until, chance, victim })
    }

    fn cycles(mut self, clock: &SystemClock) -> (Box<dyn Victim>, Result<(), Failure>) {
        for cycle in 0..self.settings.cycles {
            // The first one always runs: a count of nothing is no evidence.
            if cycle > 0 && self.until.saturating_since(clock.monotonic()).is_zero() {
                println!("powercut fs={}: out of time", self.filesystem.kind());
                break;
            }
            let survived = self.cycle(cycle, clock).and_then(|()| {
                self.victim.survived();
                if self.victim.is_clean() { Ok(()) } else { Err("see above".into()) }
            });
            if let Err(e) = survived {
                let e = format!("cycle {cycle} of seed {}: {e}", self.settings.seed);
                return (self.victim, Err(e.into()));
            }
        }
        let ended = self.victim.end(self.settings.cycles);
        (self.victim, ended)
    }

    fn cycle(&mut self, cycle: u64, clock: &SystemClock) -> Result<(), Failure> {
        let mut command = self.victim.start(cycle)?;
        // Every child complains about its disk in the end.
        let complaints = self.filesystem.file("complaints");
        command.stderr(std::fs::File::create(&complaints)?);
        let mut child = Child::spawn(&mut command)?;
        // A quarter of the cuts hit the opening, and with it the recovery from the cut before.
        if !self.chance.next_u64()?.is_multiple_of(4) {
            drop(child.next_line(FIRST_LINE));
        }
        let life = Duration::from_micros(self.chance.next_u64()? % LIFE_MICROS);
        let cut = clock.monotonic().saturating_add(life);
        let mut early = false;
        loop {
            let left = cut.saturating_since(clock.monotonic());
            if left.is_zero() {
                break;
            }
            if child.next_line(left).is_none() && !cut.saturating_since(clock.monotonic()).is_zero()
            {
                early = true;
                break;
            }
        }
        self.filesystem.cut()?;
        let ended = child.kill()?;
        self.victim.hear(&ended.lines)?;
        let complaints = std::fs::read_to_string(&complaints)?;
        // sled panics when it is closed on a broken disk; nobody but its own thread notices.
        let ours = |line: &&str| line.contains("panicked at") && !line.contains("/sled-0.34");
        if early || complaints.lines().any(|line| ours(&line)) {
            eprintln!("{complaints}");
            if ended.status.code() == Some(i32::from(child::UNOPENABLE)) {
                self.victim.unopenable("by the child");
            }
            return Err(format!("the child ended by itself or panicked: {}", ended.status).into());
        }
        self.filesystem.power_on()?;
        let last = cycle + 1 == self.settings.cycles;
        if !last && self.chance.next_u64()?.is_multiple_of(4) {
            // The next child recovers, and may be cut in the middle of it.
            return Ok(());
        }
        self.victim.verify(cycle)
    }
}
