//! What the steps do, and how the second one goes wrong.

use std::future::pending;
use std::io;

use resurge_example_driver::Effects;

use crate::Enriched;

/// What becomes of `ProcessData`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// It fails with an error.
    Fail,
    /// It never comes back: the process is killed in it.
    Hang,
    /// It succeeds.
    Succeed,
}

/// Why `ProcessData` fails.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("simulated crash during processing")]
pub struct SimulatedCrash;

/// The bodies of the steps.
#[derive(Clone, Debug)]
pub struct Work {
    effects: Effects,
    mode: Mode,
}

impl Work {
    /// Bodies that leave a trace each time they run.
    pub fn new(effects: Effects, mode: Mode) -> Self {
        Self { effects, mode }
    }

    pub(crate) fn ingest(&self, source: &str) -> io::Result<Vec<String>> {
        self.executing(1, "IngestData")?;
        Ok(source.split_whitespace().map(str::to_owned).collect())
    }

    pub(crate) async fn process(&self, words: &[String]) -> io::Result<Vec<String>> {
        self.executing(2, "ProcessData")?;
        if self.mode != Mode::Succeed {
            say("    \u{26a0}\u{fe0f}  CRASH: Simulated failure in ProcessData");
        }
        match self.mode {
            Mode::Fail => Err(io::Error::other(SimulatedCrash)),
            Mode::Hang => pending().await,
            Mode::Succeed => Ok(words.iter().map(|word| word.to_uppercase()).collect()),
        }
    }

    pub(crate) fn enrich(&self, words: &[String]) -> io::Result<Vec<Enriched>> {
        self.executing(3, "EnrichData")?;
        let enrich = |word: &String| Enriched { word: word.clone(), letters: word.len() };
        Ok(words.iter().map(enrich).collect())
    }

    fn executing(&self, number: u32, name: &str) -> io::Result<()> {
        let run = self.effects.leave(name)?;
        say(&format!("  [STEP {number}] {name} executing (run #{run})"));
        Ok(())
    }
}

#[expect(clippy::print_stdout, reason = "the demo shows what runs")]
fn say(line: &str) {
    println!("{line}");
}
