//! Crashes at every operation, with every loss rule and every kind of index, and again during the
//! recovery.

use resurge_store::CommitSeq;
use resurge_testkit::{DiskLoss, IndexFate, SimIndex, SimOpKind, SimVfs};

use crate::life::{ID, Kind, Life, Step, Stop};
use crate::planted::Bug;

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
    /// Killed, and at once without power, too.
    KillThenCut(DiskLoss),
}

impl After {
    /// All of them, with `seeds` seeds each, different ones at each place.
    fn all(place: u64, seeds: u64) -> Vec<Self> {
        let seeds = place * 64..place * 64 + seeds;
        let random = seeds.flat_map(|seed| {
            [Self::Cut(DiskLoss::Subset { seed }), Self::Cut(DiskLoss::Torn { seed })]
        });
        let late = Self::KillThenCut(DiskLoss::Subset { seed: place });
        [Self::Kill, Self::Cut(DiskLoss::All), late].into_iter().chain(random).collect()
    }

    fn of(self, disk: &SimVfs) -> SimVfs {
        match self {
            Self::Kill => disk.kill(),
            Self::Cut(loss) => disk.power_cut(loss),
            Self::KillThenCut(loss) => disk.kill().power_cut(loss),
        }
    }
}

/// What the start finds of the index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// What became of the one that was there.
    Real(IndexFate),
    /// One that holds exactly the commits up to here, and what became of it.
    Made(u64, IndexFate),
}

impl Found {
    const POOL: u64 = 14;

    fn choose(life: &Life, turn: u64) -> Self {
        let (acked, ahead) = (life.model.acked, life.model.issued - life.model.acked + 1);
        let seed = turn / Self::POOL;
        let some = seed % (acked + 1);
        match turn % Self::POOL {
            0 => Self::Real(IndexFate::Intact),
            1 => Self::Real(IndexFate::Old { seed }),
            2 => Self::Made(acked, IndexFate::Intact),
            3 => Self::Made(some, IndexFate::Intact),
            4 => Self::Made(acked, IndexFate::Lossy { seed }),
            5 => Self::Made(acked, IndexFate::Wrong { seed }),
            6 => Self::Made(acked, IndexFate::Unfinished { seed }),
            7 => Self::Made(acked, IndexFate::Foreign),
            8 => Self::Made(acked, IndexFate::Ahead { by: ahead }),
            9 => Self::Made(acked, IndexFate::Gone),
            10 => Self::Made(acked, IndexFate::Unopenable),
            11 => Self::Made(acked, IndexFate::PanicsAtOpen),
            12 => Self::Made(some, IndexFate::Lossy { seed }),
            _ => Self::Made(some, IndexFate::Wrong { seed }),
        }
    }

    fn of(self, life: &Life) -> SimIndex {
        match self {
            Self::Real(fate) => life.index.crash(fate),
            Self::Made(seq, fate) => {
                let state = life.model.state(seq).map(|state| state.as_ref().clone());
                let whole = SimIndex::holding(ID, state.unwrap_or_default(), CommitSeq(seq));
                whole.crash(fate)
            }
        }
    }

    fn lies(self) -> bool {
        let (Self::Real(fate) | Self::Made(_, fate)) = self;
        !matches!(fate, IndexFate::Intact | IndexFate::Old { .. } | IndexFate::Gone)
    }

    fn fails(self) -> bool {
        let (Self::Real(fate) | Self::Made(_, fate)) = self;
        matches!(fate, IndexFate::Unopenable | IndexFate::PanicsAtOpen)
    }
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct CrashTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) steps: &'a [Step],
    pub(crate) plant: Option<Bug>,
    /// Random losses tried at each place.
    pub(crate) effort: u64,
    /// Crashes during each recovery.
    pub(crate) again: u64,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    /// I/O operations of the scenario.
    pub(crate) operations: u64,
    /// Disks a crash left behind, each recovered from and checked.
    pub(crate) states: u64,
    /// Of those, by a crash during the recovery from another one.
    pub(crate) second: u64,
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        self.operations += other.operations;
        self.states += other.states;
        self.second += other.second;
    }
}

/// One life, without any crash, up to a step that opens the store.
pub(crate) struct Checkpoint {
    /// Operations before.
    pub(crate) operations: u64,
    pub(crate) step: usize,
    pub(crate) life: Life,
}

/// The life without any crash: where it can be entered, and its operations.
pub(crate) fn rehearse(
    life: &mut Life,
    steps: &[Step],
) -> Result<(Vec<Checkpoint>, Vec<SimOpKind>), String> {
    let mut entries = Vec::new();
    life.disk.record();
    for (n, step) in steps.iter().enumerate() {
        if *step == Step::Open {
            let operations = life.disk.operations();
            entries.push(Checkpoint { operations, step: n, life: life.fork() });
        }
        life.step(*step)
            .map_err(|stop| format!("without any crash, step {n} {step:?}: {stop:?}"))?;
    }
    life.step(Step::Drop).map_err(|stop| format!("at the end: {stop:?}"))?;
    Ok((entries, life.disk.trace().iter().map(|op| op.kind).collect()))
}

/// The last place to enter before this operation.
pub(crate) fn entry(entries: &[Checkpoint], op: u64) -> &Checkpoint {
    let later = entries.partition_point(|entry| entry.operations < op);
    &entries[later.saturating_sub(1)]
}

impl CrashTest<'_> {
    /// Every crash there is; the first broken promise is the error, with the line that replays it.
    pub(crate) fn run(&self) -> Result<Counts, String> {
        let only = std::env::var(CASE).ok();
        let mut counts = Counts::default();
        let mut whole = Life::new(self.kind, self.plant);
        let (entries, trace) =
            rehearse(&mut whole, self.steps).map_err(|bug| format!("{}: {bug}", self.name))?;
        counts.operations = trace.len() as u64;
        for (op, kind) in (1..).zip(&trace) {
            // Crashing where nothing is changed finds the disk as the next change does.
            if !kind.has_effect() && op % 8 != 0 {
                continue;
            }
            let tears = matches!(kind, SimOpKind::Write | SimOpKind::Allocate);
            for within in [false, true].into_iter().filter(|within| tears || !within) {
                let place = if within { "within" } else { "at" };
                let case = format!("{} {:?} {place}={op}", self.name, self.kind);
                if only.as_ref().is_none_or(|only| only.starts_with(&case)) {
                    let entry = entry(&entries, op);
                    self.crash(&case, entry, op, within, only.as_deref(), &mut counts)?;
                }
            }
        }
        Ok(counts)
    }

    fn crash(
        &self,
        case: &str,
        entry: &Checkpoint,
        op: u64,
        within: bool,
        only: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let mut life = entry.life.fork();
        life.disk.recycle_sectors(op.is_multiple_of(2));
        if within {
            life.disk.crash_within(op);
        } else {
            life.disk.crash_at(op);
        }
        stopped(&mut life, &self.steps[entry.step..]).map_err(|bug| replay(case, &bug))?;
        for (n, after) in (0..).zip(self.afters(&life.disk, op)) {
            for turn in [0, 1].map(|pick| op * 31 + n * 5 + pick * 9) {
                let (found, next) = self.restart(&life, after, turn);
                let case = format!("{case} then={after:?} index={found:?}");
                if self.kind == Kind::Memory && turn % 2 == 1
                    || only.is_some_and(|only| !only.starts_with(&case))
                {
                    continue;
                }
                let recovery = self.survives(next.fork(), turn, counts);
                let recovery = recovery.map_err(|bug| replay(&case, &bug))?;
                self.crash_again(&case, &next, &recovery, turn, only, counts)?;
            }
        }
        Ok(())
    }

    fn afters(&self, disk: &SimVfs, place: u64) -> Vec<After> {
        // Nothing to lose: every rule leaves the same disk.
        if disk.unsynced() == 0 {
            vec![After::Kill, After::Cut(DiskLoss::All)]
        } else {
            After::all(place, self.effort)
        }
    }

    /// The machine as the next start finds it.
    fn restart(&self, life: &Life, after: After, turn: u64) -> (Found, Life) {
        let killed = matches!(after, After::Kill);
        // An index that was closed, in a machine that went on, is as it was.
        let believed = killed && life.model.closed;
        let trust = turn.is_multiple_of(3) && !(believed && life.index_lies);
        let found = if trust && believed {
            Found::Real(IndexFate::Intact)
        } else {
            Found::choose(life, turn)
        };
        let mut next = life.after(after.of(&life.disk), found.of(life));
        next.trust = trust;
        next.torn = true;
        next.index_fails = found.fails();
        next.index_lies = found.lies() || life.index_lies && matches!(found, Found::Real(_));
        if !killed {
            next.model.power_cut();
            next.boot += u8::from(self.plant != Some(Bug::BootNotNoticed));
        }
        (found, next)
    }

    /// A second crash, at some of the operations of the recovery that change something.
    fn crash_again(
        &self,
        case: &str,
        crashed: &Life,
        recovery: &[u64],
        turn: u64,
        only: Option<&str>,
        counts: &mut Counts,
    ) -> Result<(), String> {
        let len = recovery.len() as u64;
        let mut ops = (0..self.again.min(len))
            .map(|n| {
                recovery[usize::try_from((turn * 7 + n * len / self.again) % len).unwrap_or(0)]
            })
            .collect::<Vec<_>>();
        ops.dedup();
        for op in ops {
            let mut life = crashed.fork();
            life.disk.crash_at(op);
            let case = format!("{case} again={op}");
            stopped(&mut life, &[Step::Open]).map_err(|bug| replay(&case, &bug))?;
            let afters = self.afters(&life.disk, op);
            let turn = turn + op;
            let after = afters[usize::try_from(turn).unwrap_or(0) % afters.len()];
            let (found, next) = self.restart(&life, after, turn);
            let case = format!("{case} then={after:?} index={found:?}");
            if only.is_some_and(|only| only != case) {
                continue;
            }
            self.survives(next, turn, counts).map_err(|bug| replay(&case, &bug))?;
            counts.second += 1;
        }
        Ok(())
    }

    /// Opens the store and checks it; then the power goes at once, and what was served must still
    /// be there; then life goes on, to a clean end or another cut. Returns the operations of the
    /// first recovery that change something.
    fn survives(&self, mut life: Life, turn: u64, counts: &mut Counts) -> Result<Vec<u64>, String> {
        life.disk.record();
        step(&mut life, Step::Open, "recovery")?;
        counts.states += 1;
        let numbered = (1..).zip(life.disk.trace());
        let effects = numbered.filter(|(_, op)| op.kind.has_effect()).map(|(n, _)| n).collect();
        if turn.is_multiple_of(2) {
            let (_, mut at_once) = self.restart(&life.fork(), After::Cut(DiskLoss::All), turn / 2);
            step(&mut at_once, Step::Open, "the power went right after the recovery")?;
            counts.states += 1;
        }
        step(&mut life, Step::Durable(&[100, 9]), "life goes on")?;
        step(&mut life, Step::Buffered(&[700]), "life goes on")?;
        if turn.is_multiple_of(4) {
            step(&mut life, Step::Image, "life goes on")?;
        }
        if turn.is_multiple_of(2) {
            step(&mut life, Step::Close, "a clean end")?;
            step(&mut life, Step::Open, "after a clean end")?;
            step(&mut life, Step::Durable(&[3000]), "after a clean end")?;
        } else {
            let loss = After::Cut(DiskLoss::Subset { seed: turn });
            let (_, mut cut) = self.restart(&life.fork(), loss, turn / 2);
            step(&mut cut, Step::Open, "the power went in the life after")?;
            counts.states += 1;
        }
        Ok(effects)
    }
}

/// Runs into the crash.
pub(crate) fn stopped(life: &mut Life, steps: &[Step]) -> Result<(), String> {
    match life.run(steps) {
        Err(Stop::Bug(bug)) => return Err(bug),
        // Ok when everything that failed after the crash may be ignored.
        Err(Stop::Error(_)) | Ok(()) => {}
    }
    life.step(Step::Drop).map_err(|stop| format!("{stop:?}"))
}

pub(crate) fn step(life: &mut Life, step: Step, when: &str) -> Result<(), String> {
    life.step(step).map_err(|stop| match stop {
        Stop::Error(e) => format!("{when}: unusable: {e} ({e:?})"),
        Stop::Bug(bug) => format!("{when}: {bug}"),
    })
}

pub(crate) fn replay(case: &str, bug: &str) -> String {
    format!("{bug}\nreplay: {CASE}=\"{case}\" cargo test -p resurge-testkit --test store_sim")
}
