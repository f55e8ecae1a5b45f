//! What is running when the power goes.

use std::path::{Path, PathBuf};
use std::process::Command;

use resurge_testkit::Failure;
use tokio::runtime::Runtime;

use crate::child::Ending;
use crate::parent::{self, Settings, Tally, Told};

/// A program whose power is cut, and what is known of it.
pub(crate) trait Victim {
    /// The program, for one more life.
    fn start(&mut self, cycle: u64) -> Result<Command, Failure>;

    /// Takes in what it said; it is gone.
    fn hear(&mut self, lines: &[String]) -> Result<(), Failure>;

    /// Looks for all of it. Not after every life.
    fn verify(&mut self, cycle: u64) -> Result<(), Failure>;

    /// One life more was survived.
    fn survived(&mut self);

    /// There are no more lives.
    fn end(&mut self, cycles: u64) -> Result<(), Failure>;

    fn unopenable(&mut self, what: &str);

    fn is_clean(&self) -> bool;

    /// Counts, and the last line.
    fn more(&self) -> String;
    fn line(&self) -> String;
}

/// The writers of `child`.
pub(super) struct Writers {
    state: PathBuf,
    plant: String,
    runtime: Runtime,
    told: Told,
    tally: Tally,
}

impl Writers {
    pub(super) fn new(settings: &Settings, state: &Path) -> Result<Self, Failure> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        Ok(Self {
            state: state.to_owned(),
            plant: settings.plant.clone(),
            runtime: runtime.worker_threads(2).enable_all().build()?,
            told: Told::default(),
            tally: Tally::default(),
        })
    }
}

impl Victim for Writers {
    fn start(&mut self, cycle: u64) -> Result<Command, Failure> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("child").arg(&self.state).arg(cycle.to_string()).arg(&self.plant);
        command.arg(Ending::PowerCut.name());
        Ok(command)
    }

    fn hear(&mut self, lines: &[String]) -> Result<(), Failure> {
        lines.iter().try_for_each(|line| self.told.hear(line, &mut self.tally))
    }

    fn verify(&mut self, cycle: u64) -> Result<(), Failure> {
        let verified = parent::verify(&self.state, cycle, &mut self.told, &mut self.tally);
        self.runtime.block_on(verified)
    }

    fn survived(&mut self) {
        self.tally.cycles += 1;
    }

    fn end(&mut self, _: u64) -> Result<(), Failure> {
        Ok(())
    }

    fn unopenable(&mut self, what: &str) {
        self.tally.unopenable(what);
    }

    fn is_clean(&self) -> bool {
        self.tally.is_clean()
    }

    fn more(&self) -> String {
        format!("half={} disorder={}", self.tally.half, self.tally.disorder)
    }

    fn line(&self) -> String {
        self.tally.line()
    }
}
