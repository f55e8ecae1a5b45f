//! The parent: starts, kills, opens, verifies, counts.

use std::path::Path;
use std::process::{Command, ExitCode};
use std::time::Duration;

use resurge_store::Store;
use resurge_testkit::Failure;
use resurge_testkit::kill::{Ended, KillLoop};

use crate::{batches, child, log, machine};

/// The longest a child lives after it opened; or, for a quarter of them, from its start.
const LIFE: Duration = Duration::from_millis(400);

/// What the command line asks for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Settings {
    pub(crate) cycles: u64,
    pub(crate) seed: u64,
    /// See [`child::Planted`].
    pub(crate) plant: String,
    /// No cycle begins after this time.
    pub(crate) within: Duration,
}

impl Settings {
    /// Reads `--cycles N --seed S --plant BUG --within SECONDS`, each optional.
    pub(crate) fn parse(args: &[&str]) -> Result<Self, Failure> {
        Self::parse_with(args, 200, |bug| child::Planted::parse(bug).is_some())
    }

    /// The same with another number of cycles when none is given, and other bugs.
    pub(crate) fn parse_with(
        mut args: &[&str],
        cycles: u64,
        is_bug: impl Fn(&str) -> bool,
    ) -> Result<Self, Failure> {
        let mut settings = Self {
            cycles,
            seed: 1,
            plant: "nothing".to_owned(),
            within: Duration::from_secs(3_600),
        };
        while let [option, rest @ ..] = args {
            let [value, rest @ ..] = rest else {
                return Err(format!("`{option}` needs a value").into());
            };
            let number = || value.parse().map_err(|_| format!("`{value}` is not a number"));
            match *option {
                "--cycles" => settings.cycles = number()?,
                "--seed" => settings.seed = number()?,
                "--within" => settings.within = Duration::from_secs(number()?),
                "--plant" if is_bug(value) => {
                    (*value).clone_into(&mut settings.plant);
                }
                _ => return Err(format!("there is no option `{option} {value}`").into()),
            }
            args = rest;
        }
        Ok(settings)
    }
}

/// What was found.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    pub(crate) cycles: u64,
    acknowledged: u64,
    lost: u64,
    unopenable: u64,
    pub(crate) half: u64,
    pub(crate) disorder: u64,
}

impl Tally {
    pub(crate) fn lost(&mut self, records: u64, what: &str) {
        eprintln!("lost: {what}");
        self.lost += records;
    }

    pub(crate) fn half(&mut self, what: &str) {
        eprintln!("half a batch: {what}");
        self.half += 1;
    }

    pub(crate) fn disorder(&mut self, what: &str) {
        eprintln!("out of order: {what}");
        self.disorder += 1;
    }

    pub(crate) fn unopenable(&mut self, what: &str) {
        eprintln!("unopenable: {what}");
        self.unopenable += 1;
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.lost + self.unopenable + self.half + self.disorder == 0
    }

    pub(crate) fn line(&self) -> String {
        let Self { cycles, acknowledged, lost, unopenable, .. } = self;
        format!("cycles={cycles} acknowledged={acknowledged} lost={lost} unopenable={unopenable}")
    }
}

/// Everything the children said.
#[derive(Debug, Default)]
pub(crate) struct Told {
    batches: batches::Told,
    log: log::Told,
    machine: machine::Told,
}

impl Told {
    pub(crate) fn hear(&mut self, line: &str, tally: &mut Tally) -> Result<(), Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        match &words[..] {
            ["open"] => return Ok(()),
            ["truncating", words @ ..] => return self.log.hear_truncating(words),
            ["batch", words @ ..] => self.batches.hear(words, tally)?,
            ["log", words @ ..] => self.log.hear(words, tally)?,
            ["event", words @ ..] => self.machine.hear(words, tally)?,
            _ => return Err(format!("the child said `{line}`").into()),
        }
        tally.acknowledged += 1;
        Ok(())
    }

    async fn verify(&mut self, store: &Store, tally: &mut Tally) -> Result<(), Failure> {
        self.batches.verify(store, tally).await?;
        self.log.verify(store, tally).await?;
        self.machine.verify(store, tally).await
    }
}

/// Runs all cycles; a success when nothing was wrong.
pub(crate) fn run(settings: &Settings) -> Result<ExitCode, Failure> {
    let program = std::env::current_exe()?;
    let mut dir = tempfile::Builder::new().prefix("resurge-crash-").tempdir()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let (mut told, mut tally) = (Told::default(), Tally::default());
    let path = dir.path().join("state");
    let looped = KillLoop::new(settings.cycles)
        .seed(settings.seed)
        .kill_within(LIFE)
        .within(settings.within)
        .run(
            |cycle| {
                let mut command = Command::new(&program);
                command.arg("child").arg(&path).arg(cycle.to_string()).arg(&settings.plant);
                command.arg(child::Ending::Kill.name());
                command
            },
            |ended| {
                runtime.block_on(check(ended, &path, &mut told, &mut tally))?;
                tally.cycles += 1;
                if tally.cycles.is_multiple_of(10) {
                    println!("{}", tally.line());
                }
                if tally.is_clean() { Ok(()) } else { Err("see above".into()) }
            },
        );
    if let Err(e) = &looped {
        dir.disable_cleanup(true);
        eprintln!("{e}; the state is in {}", path.display());
    }
    println!("half={} disorder={}", tally.half, tally.disorder);
    println!("{}", tally.line());
    let clean = looped.is_ok() && tally.is_clean();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Looks at what one child said and left.
async fn check(
    ended: &Ended,
    path: &Path,
    told: &mut Told,
    tally: &mut Tally,
) -> Result<(), Failure> {
    for line in &ended.lines {
        told.hear(line, tally)?;
    }
    if !ended.killed {
        if ended.status.code() == Some(i32::from(child::UNOPENABLE)) {
            tally.unopenable("by the child");
        }
        return Err(format!("the child ended by itself: {}", ended.status).into());
    }
    verify(path, ended.cycle, told, tally).await
}

/// Opens what is there, looks for everything that was said, and closes it.
pub(crate) async fn verify(
    path: &Path,
    cycle: u64,
    told: &mut Told,
    tally: &mut Tally,
) -> Result<(), Failure> {
    let store = match child::open(path, cycle) {
        Ok((store, _)) => store,
        Err(e) => {
            tally.unopenable(&e.to_string());
            return Ok(());
        }
    };
    let store = Store::new(store);
    told.verify(&store, tally).await?;
    Ok(store.backend().close().await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let parse = |args: &[&str]| Settings::parse(args).map_err(|e| e.to_string());
        let settings = |cycles, seed, plant: &str, within| {
            Ok(Settings {
                cycles,
                seed,
                plant: plant.to_owned(),
                within: Duration::from_secs(within),
            })
        };
        assert_eq!(parse(&[]), settings(200, 1, "nothing", 3_600));
        let given = ["--cycles", "7", "--seed", "9", "--plant", "half", "--within", "5"];
        assert_eq!(parse(&given), settings(7, 9, "half", 5));
        for bad in [&["--cycles"][..], &["--cycles", "many"], &["--wat", "1"], &["--plant", "tree"]]
        {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_last_line_is_the_one_that_is_read() {
        let tally = Tally { cycles: 200, acknowledged: 123_456, ..Tally::default() };
        assert_eq!(tally.line(), "cycles=200 acknowledged=123456 lost=0 unopenable=0");
        assert!(tally.is_clean());
        for broken in [
            Tally { lost: 1, ..Tally::default() },
            Tally { unopenable: 1, ..Tally::default() },
            Tally { half: 1, ..Tally::default() },
            Tally { disorder: 1, ..Tally::default() },
        ] {
            assert!(!broken.is_clean(), "{broken:?}");
        }
    }
}
