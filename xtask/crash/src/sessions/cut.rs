//! The same server on a file system that loses its power: what was acknowledged is durable.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_testkit::Failure;

use super::tally::Tally;
use super::{Around, CLIENTS};
use crate::parent::Settings;
use crate::powercut::Victim;

impl Around {
    /// With its store in `state`, and its sockets where they survive.
    pub(crate) fn to_be_cut(
        settings: &Settings,
        state: &Path,
        sockets: &Path,
    ) -> Result<Self, Failure> {
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).enable_all().build()?;
        let tally = Arc::new(Mutex::new(Tally::of(CLIENTS)));
        let around = Self::new(settings, state, sockets, runtime, tally)?;
        Ok(Self { disk_fails: true, ..around })
    }
}

impl Victim for Around {
    fn start(&mut self, cycle: u64) -> Result<Command, Failure> {
        Ok(self.begin(cycle))
    }

    fn hear(&mut self, _: &[String]) -> Result<(), Failure> {
        self.gather()
    }

    fn verify(&mut self, cycle: u64) -> Result<(), Failure> {
        self.look(cycle)
    }

    fn survived(&mut self) {
        self.pass_time();
        self.tally.lock().cycles += 1;
    }

    fn end(&mut self, cycles: u64) -> Result<(), Failure> {
        self.finish(cycles)
    }

    fn unopenable(&mut self, what: &str) {
        self.tally.lock().unopenable(what);
    }

    fn is_clean(&self) -> bool {
        self.tally.lock().is_clean()
    }

    fn more(&self) -> String {
        format!("hours={} {}", self.hour, self.tally.lock().more())
    }

    fn line(&self) -> String {
        self.tally.lock().line()
    }
}
