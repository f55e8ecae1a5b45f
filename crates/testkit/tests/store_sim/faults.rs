//! Failing operations, once and for ever: typed errors, nothing acknowledged that is not durable, and
//! after the restart everything that was.

use resurge_store::ErrorKind;
use resurge_testkit::{DiskFault, DiskLoss, SimOpKind, SimVfs};

use crate::crash::{CASE, entry, rehearse, replay, step};
use crate::life::{Kind, Life, Step, Stop};
use crate::planted::Bug;

const FAULTS: [DiskFault; 4] =
    [DiskFault::Io, DiskFault::NoSpace, DiskFault::ShortWrite, DiskFault::LostSync];

#[derive(Clone, Copy, Debug)]
pub(crate) struct FaultTest<'a> {
    pub(crate) name: &'a str,
    pub(crate) kind: Kind,
    pub(crate) steps: &'a [Step],
    pub(crate) plant: Option<Bug>,
}

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) faults: u64,
    /// Stores that had to be reopened, and were.
    pub(crate) restarts: u64,
    /// Refused commits after which the store went on.
    pub(crate) refused: u64,
    /// Faults that nobody noticed, because nothing depended on the operation.
    pub(crate) unnoticed: u64,
}

/// What happens between the failure and the next open.
#[derive(Clone, Copy, Debug)]
enum Restart {
    /// The process goes on and opens the store again.
    None,
    Kill,
    /// A kill, and the cache forgets what it believes to be on disk.
    KillEvict,
    Cut(DiskLoss),
}

impl FaultTest<'_> {
    /// Every fault at every operation; the first broken promise is the error, with the line that
    /// replays it.
    pub(crate) fn run(&self) -> Result<Counts, String> {
        let only = std::env::var(CASE).ok();
        let mut counts = Counts::default();
        let mut whole = Life::new(self.kind, self.plant);
        let (entries, trace) =
            rehearse(&mut whole, self.steps).map_err(|bug| format!("{}: {bug}", self.name))?;
        for (op, kind) in (1..).zip(&trace) {
            for (n, fault) in (0..).zip(FAULTS).filter(|(_, fault)| fault.applies_to(*kind)) {
                for sticky in [false, true] {
                    for restart in restarts(op + n + u64::from(sticky), *kind) {
                        let case = format!(
                            "{} {:?} op={op} {fault:?} sticky={sticky} then={restart:?}",
                            self.name, self.kind
                        );
                        if only.as_ref().is_some_and(|only| *only != case) {
                            continue;
                        }
                        let entry = entry(&entries, op);
                        let mut life = entry.life.fork();
                        life.faulty = true;
                        if sticky {
                            life.disk.fail_from(op, fault);
                        } else {
                            life.disk.fail_at(op, fault);
                        }
                        counts.faults += 1;
                        survives(life, &self.steps[entry.step..], restart, &mut counts)
                            .map_err(|bug| replay(&case, &bug))?;
                    }
                }
            }
        }
        Ok(counts)
    }
}

/// Runs on until the store gives up, then restarts without the fault.
fn survives(
    mut life: Life,
    steps: &[Step],
    restart: Restart,
    counts: &mut Counts,
) -> Result<(), String> {
    let mut stopped = false;
    for (n, now) in steps.iter().enumerate() {
        let at = |bug: String| format!("step {n} {now:?}: {bug}");
        let error = match life.step(*now) {
            Ok(()) => continue,
            Err(Stop::Bug(bug)) => return Err(at(bug)),
            Err(Stop::Error(e)) => e,
        };
        stopped = true;
        let kind = error.kind();
        if matches!(kind, ErrorKind::Corrupt | ErrorKind::Conflict | ErrorKind::Invalid) {
            return Err(at(format!("I/O failed, and it says {error:?}")));
        }
        if life.refused || kind == ErrorKind::Full && *now == Step::Image {
            // Nothing was written, and it goes on.
            counts.refused += 1;
            life.step(Step::Read).map_err(|stop| at(format!("reads go on: {stop:?}")))?;
            continue;
        }
        if !matches!(now, Step::Open | Step::Close)
            && !matches!(life.step(Step::Durable(&[1])), Err(Stop::Error(_)))
        {
            return Err(at(format!("went on after {error:?}")));
        }
        break;
    }
    if !stopped {
        counts.unnoticed += 1;
    }
    life.step(Step::Drop).map_err(|stop| format!("{stop:?}"))?;
    life.disk.clear_faults();
    let mut next = match restart {
        Restart::None => life,
        Restart::Kill => life.after(life.disk.kill(), life.index.fork()),
        Restart::KillEvict => {
            let disk: SimVfs = life.disk.kill();
            disk.evict();
            life.after(disk, life.index.fork())
        }
        Restart::Cut(loss) => life.after(life.disk.power_cut(loss), life.index.fork()),
    };
    if matches!(restart, Restart::KillEvict | Restart::Cut(_)) {
        next.model.power_cut();
    }
    (next.torn, next.faulty) = (true, false);
    step(&mut next, Step::Open, "after the restart")?;
    counts.restarts += 1;
    let mut cut = next.after(next.disk.fork().power_cut(DiskLoss::All), next.index.fork());
    cut.torn = true;
    step(&mut cut, Step::Open, "the power went right after the restart")?;
    step(&mut next, Step::Durable(&[100, 9]), "life goes on")?;
    step(&mut next, Step::Image, "life goes on")?;
    step(&mut next, Step::Close, "a clean end")?;
    step(&mut next, Step::Open, "after a clean end")
}

/// For each operation some, in turn; for syncs, where it matters most, all.
fn restarts(turn: u64, kind: SimOpKind) -> Vec<Restart> {
    let mut all = vec![
        Restart::None,
        Restart::Kill,
        Restart::KillEvict,
        Restart::Cut(DiskLoss::All),
        Restart::Cut(DiskLoss::Subset { seed: turn }),
    ];
    if kind != SimOpKind::SyncData {
        let first = usize::try_from(turn).unwrap_or(0) % all.len();
        all.rotate_left(first);
        all.truncate(if kind.has_effect() { 2 } else { 1 });
    }
    all
}
