//! The life of a log, step by step, and what the model learns from each.

use std::path::Path;
use std::sync::Arc;

use resurge_commit_log::{Frame, Log, LogError, LogOptions, Preparation, Vfs};
use resurge_testkit::SimVfs;

use crate::model::{Model, check_every_byte};
use crate::planted::{self, Bug};

pub(crate) const DIR: &str = "/state/log";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Open,
    /// One frame, entries of these lengths.
    Append(&'static [usize]),
    Sync,
    /// Cuts everything but the last so many entries, as far as segments allow.
    CutAllBut(u64),
    /// Reads and verifies everything.
    Read,
    Close,
    /// Neither synced nor closed.
    Drop,
}

/// Rolls with room for 4 KiB of frames and for twice that, larger frames, cuts, orderly and
/// disorderly reopening.
pub(crate) const LIFE: &[Step] = {
    use Step::{Append, Close, CutAllBut, Drop, Open, Read, Sync};
    &[
        Open,
        Append(&[10]),
        Append(&[0, 300, 1]),
        Sync,
        Append(&[700]),
        Sync,
        Append(&[1500, 200]),
        Append(&[600]),
        // Rolls, with a frame that is not synced yet.
        Append(&[900, 400]),
        Sync,
        Append(&[3000]),
        Sync,
        Append(&[40]),
        // Larger than any segment that is prepared ahead.
        Append(&[9000]),
        Append(&[50]),
        Sync,
        CutAllBut(3),
        // Nothing to do, unless the first one failed in between.
        CutAllBut(3),
        Append(&[4000]),
        Append(&[5, 5, 5]),
        Drop,
        Open,
        Append(&[600]),
        Sync,
        CutAllBut(2),
        Append(&[1000]),
        Close,
        Open,
        Read,
        Append(&[2000, 2000]),
        Sync,
        CutAllBut(1),
        // Right after a roll, so that a segment without a frame is replaced.
        Append(&[3900]),
        Append(&[9000]),
        Sync,
        Append(&[77]),
    ]
};

/// Why a life stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The log returned an error: expected in a machine that crashes or fails.
    Error(LogError),
    /// The log broke a promise.
    Bug(String),
}

impl From<LogError> for Stop {
    fn from(e: LogError) -> Self {
        Self::Error(e)
    }
}

/// What stands between the log and the disk: nothing, or a bug.
pub(crate) type Plant = Option<Bug>;

fn between(plant: Plant, disk: &SimVfs) -> Arc<dyn Vfs> {
    match plant {
        None => Arc::new(disk.clone()),
        Some(bug) => planted::plant(bug, disk),
    }
}

/// One process at a time, writing to one disk.
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) disk: SimVfs,
    pub(crate) model: Model,
    /// Does the opener know the last acknowledged sequence?
    told: bool,
    plant: Plant,
    vfs: Arc<dyn Vfs>,
    log: Option<Log>,
}

impl Life {
    pub(crate) fn new(disk: SimVfs, model: Model, told: bool, plant: Plant) -> Self {
        let vfs = between(plant, &disk);
        Self { disk, model, told, plant, vfs, log: None }
    }

    /// Another life, that knows what this one knows, on another machine.
    pub(crate) fn after(&self, disk: SimVfs) -> Self {
        Self::new(disk, self.model.clone(), self.told, self.plant)
    }

    /// The machine starts again with what is left of its disk.
    pub(crate) fn restart(&mut self, disk: SimVfs) {
        self.log = None;
        self.vfs = between(self.plant, &disk);
        self.disk = disk;
    }

    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Stop> {
        steps.iter().try_for_each(|step| self.step(*step))
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<(), Stop> {
        match step {
            Step::Open => self.open(),
            Step::Append(lens) => self.append(lens),
            Step::Sync => self.sync(),
            Step::CutAllBut(keep) => self.cut_all_but(keep),
            Step::Read => {
                self.model.check_contents(self.log()?)?;
                check_every_byte(self.log()?)
            }
            Step::Close => match self.log.take() {
                Some(log) => {
                    let last = log.last_seq();
                    log.close()?;
                    self.model.ack(last);
                    Ok(())
                }
                None => Ok(()),
            },
            Step::Drop => {
                self.log = None;
                Ok(())
            }
        }
    }

    fn log(&self) -> Result<&Log, Stop> {
        self.log.as_ref().ok_or_else(|| Stop::Bug("the scenario uses a log it did not open".into()))
    }

    fn open(&mut self) -> Result<(), Stop> {
        // A new salt at each open, as a real caller has.
        let options = LogOptions::new(*b"log in simulator")
            .segment_sizes(8192, 12288)
            .preparation(Preparation::Inline)
            .salt(self.model.fresh(8).iter().fold(0, |salt, byte| salt << 8 | u64::from(*byte)));
        let high_water = if self.told { self.model.acked } else { 0 };
        let (log, opened) = Log::open(Arc::clone(&self.vfs), Path::new(DIR), options, high_water)?;
        self.model.check_opened(&log, &opened)?;
        self.log = Some(log);
        Ok(())
    }

    pub(crate) fn append(&mut self, lens: &[usize]) -> Result<(), Stop> {
        let entries = lens.iter().map(|len| self.model.fresh(*len)).collect::<Vec<_>>();
        let mut frame = Frame::new();
        for entry in &entries {
            frame.push(entry)?;
        }
        let Some(log) = &mut self.log else { return self.log().map(drop) };
        let before = log.last_seq();
        self.model.issue(entries);
        let appended = log.append(&mut frame);
        self.model.ack(log.durable_seq());
        match appended {
            Ok(range) if range == (before + 1..=self.model.issued) => Ok(()),
            Ok(range) => Err(Stop::Bug(format!("append returned {range:?} after {before}"))),
            Err(full @ LogError::Full { .. }) => {
                self.model.withdraw(before);
                if frame.is_empty() {
                    return Err(Stop::Bug("a refused frame was emptied".into()));
                }
                Err(full.into())
            }
            Err(e) => Err(e.into()),
        }
    }

    pub(crate) fn sync(&mut self) -> Result<(), Stop> {
        let Some(log) = &mut self.log else { return self.log().map(drop) };
        let durable = log.sync()?;
        if durable != self.model.issued {
            let issued = self.model.issued;
            return Err(Stop::Bug(format!("sync returned {durable} though {issued} was appended")));
        }
        self.model.ack(durable);
        Ok(())
    }

    fn cut_all_but(&mut self, keep: u64) -> Result<(), Stop> {
        let seq = self.log()?.last_seq().saturating_sub(keep) + 1;
        self.model.cut_asked(seq);
        let Some(log) = &mut self.log else { return self.log().map(drop) };
        log.cut_before(seq)?;
        self.model.cut_confirmed(log.first_seq());
        Ok(())
    }
}
