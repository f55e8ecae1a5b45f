//! Lives nobody thought of: random steps, a crash at a random operation, and on from there.

use resurge_testkit::{DiskLoss, SimVfs};

use crate::crash::{CASE, replay};
use crate::life::{Life, Step, Stop};
use crate::model::Model;

const LENS: &[&[usize]] = &[
    &[0],
    &[1],
    &[100, 100],
    &[500],
    &[460, 8, 8],
    &[1100],
    &[2000, 3],
    &[4040],
    &[4044],
    &[4048],
    &[5000],
    &[9000],
];

/// As many lives as asked for, each with four crashes. Returns the number of crashes.
pub(crate) fn run(lives: u64) -> Result<u64, String> {
    let only = std::env::var(CASE).ok();
    let mut crashes = 0;
    for seed in 0..lives {
        let case = format!("random seed={seed}");
        if only.as_ref().is_some_and(|only| *only != case) {
            continue;
        }
        crashes += live(seed).map_err(|bug| replay(&case, &bug))?;
    }
    Ok(crashes)
}

fn live(seed: u64) -> Result<u64, String> {
    let mut random = Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let disk = SimVfs::new();
    disk.recycle_sectors(random.below(2) == 0);
    let mut life = Life::new(disk, Model::new(), random.below(2) == 0, None);
    let mut crashes = 0;
    for generation in 0..4 {
        let at = 1 + random.below(120);
        if random.below(4) == 0 {
            life.disk.crash_within(at);
        } else {
            life.disk.crash_at(at);
        }
        match work(&mut life, &mut random) {
            Stop::Bug(bug) => return Err(format!("generation {generation}: {bug}")),
            Stop::Error(e) if !life.disk.crashed() => {
                return Err(format!("generation {generation}: unusable: {e} ({e:?})"));
            }
            Stop::Error(_) => {}
        }
        crashes += 1;
        let seed = random.next();
        let disk = match random.below(5) {
            0 => life.disk.kill(),
            1 => life.disk.power_cut(DiskLoss::All),
            2 => life.disk.power_cut(DiskLoss::Torn { seed }),
            _ => life.disk.power_cut(DiskLoss::Subset { seed }),
        };
        life.restart(disk);
    }
    match life.step(Step::Open).and_then(|()| life.step(Step::Read)) {
        Ok(()) => Ok(crashes),
        Err(Stop::Bug(bug)) => Err(format!("at the end: {bug}")),
        Err(Stop::Error(e)) => Err(format!("at the end: unusable: {e} ({e:?})")),
    }
}

/// Works until something stops it: the crash comes after 120 operations at most.
fn work(life: &mut Life, random: &mut Random) -> Stop {
    let mut open = false;
    loop {
        let step = match random.below(20) {
            _ if !open => Step::Open,
            0 => Step::Close,
            1 => Step::Drop,
            2 => Step::CutAllBut(random.below(8)),
            3 => Step::Read,
            4..10 => Step::Sync,
            n => {
                let pick = usize::try_from(random.below(LENS.len() as u64)).unwrap_or(0);
                Step::Append(LENS[if n < 14 { pick % 5 } else { pick }])
            }
        };
        open = !matches!(step, Step::Close | Step::Drop);
        if let Err(stop) = life.step(step) {
            return stop;
        }
    }
}

/// Xorshift: reproducible, good enough to be different.
#[derive(Debug)]
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: u64) -> u64 {
        (self.next() >> 11) % n
    }
}
