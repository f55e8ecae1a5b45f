//! Crashes at every operation, with every loss rule, and again during the recovery.

use std::fmt::Write;

use resurge_testkit::{DiskLoss, SimOpKind, SimVfs};

use crate::life::{Life, Plant, Step, Stop};
use crate::model::Model;

/// Set this to the text a failure printed, to run only that case.
pub(crate) const CASE: &str = "RESURGE_SIM_CASE";
/// Set this to a number, to try that many random losses at each place (3 by default).
pub(crate) const EFFORT: &str = "RESURGE_SIM_EFFORT";

pub(crate) fn effort() -> u64 {
    std::env::var(EFFORT).ok().and_then(|n| n.parse().ok()).unwrap_or(3)
}

/// What becomes of the machine after it stopped.
#[derive(Clone, Copy, Debug)]
pub(crate) enum After {
    Kill,
    Cut(DiskLoss),
}

impl After {
    /// All of them, with `seeds` seeds each, different ones at each place.
    fn all(place: u64, seeds: u64) -> Vec<Self> {
        let seeds = place * 64..place * 64 + seeds;
        let random = seeds.flat_map(|seed| {
            [Self::Cut(DiskLoss::Subset { seed }), Self::Cut(DiskLoss::Torn { seed })]
        });
        [Self::Kill, Self::Cut(DiskLoss::All)].into_iter().chain(random).collect()
    }

    pub(crate) fn of(self, disk: &SimVfs) -> SimVfs {
        match self {
            Self::Kill => disk.kill(),
            Self::Cut(loss) => disk.power_cut(loss),
        }
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) steps: &'a [Step],
    pub(crate) plant: Plant,
    /// Random losses tried at each place.
    pub(crate) effort: u64,
    /// Crash again during each recovery.
    pub(crate) again: bool,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) operations: u64,
    /// Disks a crash left behind, each recovered from and checked.
    pub(crate) states: u64,
    /// Of those, by a crash during the recovery from another one.
    pub(crate) second: u64,
}

impl CrashTest<'_> {
    /// Every crash there is; the first broken promise is the error, with the line that replays it.
    pub(crate) fn run(&self) -> Result<Counts, String> {
        let only = std::env::var(CASE).ok();
        let mut counts = Counts::default();
        for told in [false, true] {
            let whole = SimVfs::new();
            whole.record();
            let mut life = Life::new(whole.clone(), Model::new(), told, self.plant);
            match life.run(self.steps) {
                Ok(()) => {}
                Err(stop) => return Err(format!("{}: without any crash: {stop:?}", self.name)),
            }
            let trace = whole.trace();
            counts.operations = trace.len() as u64;
            for (op, what) in (1..).zip(&trace) {
                // Crashing where nothing is changed finds the disk as the next change does.
                if !what.kind.has_effect() && op % 8 != 0 {
                    continue;
                }
                let tears = matches!(what.kind, SimOpKind::Write | SimOpKind::Allocate);
                for within in [false, true].into_iter().filter(|within| tears || !within) {
                    let case = format!(
                        "{} told={told} {}={op}",
                        self.name,
                        if within { "within" } else { "at" }
                    );
                    self.crash(&case, op, within, told, only.as_deref(), &mut counts)?;
                }
            }
        }
        Ok(counts)
    }

    fn crash(
        &self,
        case: &str,
        op: u64,
        within: bool,
        told: bool,
        only: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        if only.is_some_and(|only| !only.starts_with(case)) {
            return Ok(());
        }
        let disk = SimVfs::new();
        disk.recycle_sectors(op.is_multiple_of(2));
        if within {
            disk.crash_within(op);
        } else {
            disk.crash_at(op);
        }
        let mut life = Life::new(disk.clone(), Model::new(), told, self.plant);
        match life.run(self.steps) {
            Err(Stop::Bug(bug)) => return Err(replay(case, &bug)),
            // Ok when everything that failed after the crash may be ignored.
            Err(Stop::Error(_)) | Ok(()) => {}
        }
        for (place, after) in (op * 1_000_000..).step_by(1000).zip(self.afters(&disk, op)) {
            let case = format!("{case} then={after:?}");
            if only.is_some_and(|only| !only.starts_with(&case)) {
                continue;
            }
            let survivor = after.of(&disk);
            let recovery = self
                .survives(&survivor, &life.model, told, op)
                .map_err(|bug| replay(&case, &bug))?;
            counts.states += 1;
            if !self.again {
                continue;
            }
            self.crash_again(&case, place, &survivor, &recovery, &life.model, told, only, counts)?;
        }
        Ok(())
    }

    fn afters(&self, disk: &SimVfs, place: u64) -> Vec<After> {
        // Nothing to lose: every rule leaves the same disk.
        if disk.unsynced() == 0 { vec![After::Kill] } else { After::all(place, self.effort) }
    }

    /// A second crash, at every operation of the recovery that changes something.
    #[expect(clippy::too_many_arguments, reason = "the coordinates of a case")]
    fn crash_again(
        &self,
        case: &str,
        // The same number for the same case, replayed or not.
        place: u64,
        survivor: &SimVfs,
        recovery: &[u64],
        model: &Model,
        told: bool,
        only: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        for op in recovery.iter().copied() {
            let disk = survivor.fork();
            disk.crash_at(op);
            let mut life = Life::new(disk.clone(), model.clone(), told, self.plant);
            match life.step(Step::Open) {
                Err(Stop::Bug(bug)) => return Err(replay(&format!("{case} again={op}"), &bug)),
                Err(Stop::Error(_)) | Ok(()) => {}
            }
            let place = place + op;
            let mut afters = self.afters(&disk, place);
            if self.effort < 8 {
                // Two rules at each place, all rules in turn.
                let turn = usize::try_from(place + place / 1000).unwrap_or(0) % afters.len();
                afters.rotate_left(turn);
                afters.truncate(2);
            }
            for after in afters {
                let case = format!("{case} again={op} then={after:?}");
                if only.is_some_and(|only| only != case) {
                    continue;
                }
                let second = after.of(&disk);
                self.survives(&second, &life.model, told, op).map_err(|bug| replay(&case, &bug))?;
                counts.states += 1;
                counts.second += 1;
            }
        }
        Ok(())
    }

    /// Opens the log and checks it; then the power goes at once, and what was served must still be
    /// there; then it goes again between a synced and an unsynced append. Returns the operations of
    /// the first recovery that change something.
    fn survives(
        &self,
        disk: &SimVfs,
        model: &Model,
        told: bool,
        seed: u64,
    ) -> Result<Vec<u64>, String> {
        let disk = disk.fork();
        disk.record();
        let mut life = Life::new(disk.clone(), model.clone(), told, self.plant);
        step(&mut life, Step::Open, "recovery")?;
        let numbered = (1..).zip(disk.trace());
        let effects = numbered.filter(|(_, op)| op.kind.has_effect()).map(|(n, _)| n).collect();
        let mut at_once = life.after(disk.fork().power_cut(DiskLoss::All));
        step(&mut at_once, Step::Open, "the power went right after the recovery")?;
        step(&mut life, Step::Append(&[100, 9]), "life goes on")?;
        step(&mut life, Step::Sync, "life goes on")?;
        step(&mut life, Step::Append(&[700]), "life goes on")?;
        life.restart(disk.power_cut(DiskLoss::Subset { seed }));
        step(&mut life, Step::Open, "the power went in the life after")?;
        Ok(effects)
    }
}

fn step(life: &mut Life, step: Step, when: &str) -> Result<(), String> {
    life.step(step).map_err(|stop| match stop {
        Stop::Error(e) => format!("{when}: unusable: {e} ({e:?})"),
        Stop::Bug(bug) => format!("{when}: {bug}"),
    })
}

pub(crate) fn replay(case: &str, bug: &str) -> String {
    let mut text = String::new();
    let _ = write!(
        text,
        "{bug}\nreplay: {CASE}=\"{case}\" cargo test -p resurge-testkit --test log_sim"
    );
    text
}
