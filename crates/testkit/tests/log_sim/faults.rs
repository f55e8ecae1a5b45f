//! Failing operations, once and for ever: typed errors, a poisoned log or a full but usable one, and
//! after the restart everything that was acknowledged.

use resurge_commit_log::LogError;
use resurge_testkit::{DiskFault, DiskLoss, SimOpKind, SimVfs};

use crate::crash::{After, CASE, replay};
use crate::life::{Life, Plant, Step, Stop};
use crate::model::Model;

const FAULTS: [DiskFault; 4] =
    [DiskFault::Io, DiskFault::NoSpace, DiskFault::ShortWrite, DiskFault::LostSync];

#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) steps: &'a [Step],
    pub(crate) plant: Plant,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) faults: u64,
    /// Restarts after which everything was checked.
    pub(crate) restarts: u64,
    /// Appends that were refused because the disk was full, with the log still usable.
    pub(crate) full: u64,
}

/// What happens between the failure and the next open.
#[derive(Clone, Copy, Debug)]
enum Restart {
    After(After),
    /// A kill, and the cache forgets what it believes to be on disk.
    KillEvict,
    /// The process goes on and opens the log again.
    None,
}

impl FaultTest<'_> {
    /// Every fault at every operation; the first broken promise is the error, with the line that
    /// replays it.
    pub(crate) fn run(&self) -> Result<Counts, String> {
        let only = std::env::var(CASE).ok();
        let mut counts = Counts::default();
        let whole = SimVfs::new();
        whole.record();
        let mut life = Life::new(whole.clone(), Model::new(), false, self.plant);
        life.run(self.steps)
            .map_err(|stop| format!("{}: without any fault: {stop:?}", self.name))?;
        for (op, what) in (1..).zip(whole.trace()) {
            for fault in FAULTS.into_iter().filter(|fault| fault.applies_to(what.kind)) {
                for sticky in [false, true] {
                    for (turn, restart) in restarts(op, what.kind).into_iter().enumerate() {
                        let told = (op + turn as u64).is_multiple_of(2);
                        let case = format!(
                            "{} op={op} {fault:?} sticky={sticky} told={told} then={restart:?}",
                            self.name
                        );
                        if only.as_ref().is_some_and(|only| *only != case) {
                            continue;
                        }
                        let disk = SimVfs::new();
                        if sticky {
                            disk.fail_from(op, fault);
                        } else {
                            disk.fail_at(op, fault);
                        }
                        counts.faults += 1;
                        let life = Life::new(disk, Model::new(), told, self.plant);
                        self.survives(life, restart, &mut counts)
                            .map_err(|bug| replay(&case, &bug))?;
                    }
                }
            }
        }
        Ok(counts)
    }

    /// Runs all steps; whenever the log gives up, restarts without the fault and goes on.
    fn survives(
        &self,
        mut life: Life,
        restart: Restart,
        counts: &mut Counts,
    ) -> Result<(), String> {
        for (n, step) in self.steps.iter().enumerate() {
            let at = |bug: String| format!("step {n} {step:?}: {bug}");
            let mut tries = 0;
            while let Err(stop) = life.step(*step) {
                let error = match stop {
                    Stop::Bug(bug) => return Err(at(bug)),
                    Stop::Error(e) => e,
                };
                tries += 1;
                if tries > 3 {
                    return Err(at(format!("fails again and again: {error:?}")));
                }
                match (&error, step) {
                    (LogError::Io { .. } | LogError::Full { .. }, Step::Open | Step::Close) => {}
                    (LogError::Full { .. }, Step::Append(_)) => {
                        counts.full += 1;
                        usable_though_full(&mut life).map_err(at)?;
                    }
                    (LogError::Io { .. }, Step::Append(_) | Step::Sync) => {
                        poisoned(&mut life).map_err(at)?;
                    }
                    // The log stays usable; what it can do now, the next steps show.
                    (LogError::Io { .. }, Step::CutAllBut(_) | Step::Read) => break,
                    // Of an error that was met by a step before, and survived.
                    (LogError::Poisoned { .. }, _) if n > 0 => {}
                    _ => return Err(at(format!("unexpected error {error:?}"))),
                }
                if matches!(error, LogError::Full { .. }) && tries == 1 && *step != Step::Open {
                    // Try again: once was enough, or it is for ever.
                    continue;
                }
                restarted(&mut life, restart);
                if *step == Step::Close {
                    break; // the next step opens it again
                }
                reopen(&mut life).map_err(at)?;
                counts.restarts += 1;
                let mut at_once = life.after(life.disk.fork().power_cut(DiskLoss::All));
                reopen(&mut at_once)
                    .map_err(|bug| at(format!("power cut after restart: {bug}")))?;
                if *step == Step::Open {
                    break;
                }
            }
        }
        life.restart(life.disk.power_cut(DiskLoss::All));
        reopen(&mut life)?;
        counts.restarts += 1;
        Ok(())
    }
}

impl FaultTest<'_> {
    /// A fault the log lives on with, then a crash at every later operation. Returns the number
    /// of states.
    pub(crate) fn run_then_crash(&self) -> Result<u64, String> {
        let only = std::env::var(CASE).ok();
        let mut states = 0;
        let whole = SimVfs::new();
        whole.record();
        let mut life = Life::new(whole.clone(), Model::new(), false, self.plant);
        life.run(self.steps)
            .map_err(|stop| format!("{}: without any fault: {stop:?}", self.name))?;
        for (op, what) in (1..).zip(whole.trace()).filter(|(_, what)| what.kind.has_effect()) {
            for fault in [DiskFault::Io, DiskFault::NoSpace] {
                let start = || {
                    let disk = SimVfs::new();
                    disk.fail_at(op, fault);
                    (disk.clone(), Life::new(disk, Model::new(), false, self.plant))
                };
                let (disk, mut life) = start();
                disk.record();
                if !fault.applies_to(what.kind) || !self.lives_on(&mut life)? {
                    continue;
                }
                let later =
                    (1..).zip(disk.trace()).filter(|(n, op2)| *n > op && op2.kind.has_effect());
                for (crash, _) in later {
                    let (disk, mut life) = start();
                    disk.crash_at(crash);
                    self.lives_on(&mut life)?;
                    for loss in [DiskLoss::All, DiskLoss::Subset { seed: crash }] {
                        let case =
                            format!("{} op={op} {fault:?} crash={crash} then={loss:?}", self.name);
                        if disk.unsynced() == 0 && loss != DiskLoss::All
                            || only.as_ref().is_some_and(|only| *only != case)
                        {
                            continue;
                        }
                        let mut life = life.after(disk.power_cut(loss));
                        reopen(&mut life).map_err(|bug| replay(&case, &bug))?;
                        states += 1;
                    }
                }
            }
        }
        Ok(states)
    }

    /// A disk that has only so much space: refused appends leave a log that can be synced, read,
    /// and, with no space left at all, opened. Returns the number of refusals.
    pub(crate) fn run_full(&self) -> Result<u64, String> {
        let mut refusals = 0;
        for free in (0..64 << 10).step_by(512) {
            let disk = SimVfs::new();
            disk.set_free_space(Some(free));
            let mut life = Life::new(disk, Model::new(), free % 1024 == 0, self.plant);
            for step in self.steps {
                let at = |bug: String| format!("{} with {free} free, {step:?}: {bug}", self.name);
                match (life.step(*step), step) {
                    (Ok(()), _) => continue,
                    (Err(Stop::Error(LogError::Full { .. })), Step::Open) => {}
                    (Err(Stop::Error(LogError::Full { .. })), Step::Append(_)) => {
                        usable_though_full(&mut life).map_err(at)?;
                        let disk = life.disk.power_cut(DiskLoss::Subset { seed: free });
                        disk.set_free_space(Some(0));
                        life.restart(disk);
                        reopen(&mut life).map_err(at)?;
                    }
                    (Err(other), _) => return Err(at(format!("{other:?}"))),
                }
                refusals += 1;
                life.disk.set_free_space(None);
                life.step(*step).map_err(|stop| at(format!("with space again: {stop:?}")))?;
            }
        }
        Ok(refusals)
    }

    /// Runs all steps, tries again where the disk was full, passes over cuts that fail. False when
    /// the log is poisoned, cannot be opened, or the machine stops.
    fn lives_on(&self, life: &mut Life) -> Result<bool, String> {
        for (n, step) in self.steps.iter().enumerate() {
            let mut stop = life.step(*step).err();
            if let Some(Stop::Error(LogError::Full { .. })) = stop {
                stop = life.step(*step).err();
            }
            match (stop, step) {
                (None, _) | (Some(Stop::Error(LogError::Io { .. })), Step::CutAllBut(_)) => {}
                (Some(Stop::Bug(bug)), _) => return Err(format!("step {n} {step:?}: {bug}")),
                (Some(Stop::Error(_)), _) => return Ok(false),
            }
        }
        Ok(true)
    }
}

/// Three restarts at operations that may fail to reach the disk, one at those that only look.
fn restarts(op: u64, kind: SimOpKind) -> Vec<Restart> {
    let mut all = vec![
        Restart::After(After::Kill),
        Restart::After(After::Cut(DiskLoss::All)),
        Restart::None,
        Restart::After(After::Cut(DiskLoss::Subset { seed: op })),
        Restart::KillEvict,
        Restart::After(After::Cut(DiskLoss::Torn { seed: op })),
    ];
    let turn = usize::try_from(op).unwrap_or(0) % all.len();
    all.rotate_left(turn);
    all.truncate(if kind.has_effect() { 3 } else { 1 });
    all
}

fn restarted(life: &mut Life, restart: Restart) {
    let disk = match restart {
        Restart::After(after) => after.of(&life.disk),
        Restart::KillEvict => {
            let disk = life.disk.kill();
            disk.evict();
            disk
        }
        Restart::None => {
            life.disk.clear_faults();
            life.disk.clone()
        }
    };
    life.restart(disk);
}

fn reopen(life: &mut Life) -> Result<(), String> {
    life.step(Step::Open).map_err(|stop| match stop {
        Stop::Error(e) => format!("unopenable: {e} ({e:?})"),
        Stop::Bug(bug) => bug,
    })
}

fn poisoned(life: &mut Life) -> Result<(), String> {
    for step in [Step::Append(&[1]), Step::Sync] {
        match life.step(step) {
            Err(Stop::Error(LogError::Poisoned { .. })) => {}
            other => return Err(format!("{step:?} after a failed write or sync: {other:?}")),
        }
    }
    Ok(())
}

fn usable_though_full(life: &mut Life) -> Result<(), String> {
    match life.step(Step::Sync) {
        Ok(()) => {}
        // The disk fails in other ways, too, if it does so for ever.
        Err(Stop::Error(LogError::Io { .. })) => return Ok(()),
        other => return Err(format!("sync of a full log: {other:?}")),
    }
    match life.step(Step::Read) {
        Ok(()) => Ok(()),
        other => Err(format!("reading a full log: {other:?}")),
    }
}
