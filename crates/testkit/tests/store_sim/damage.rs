//! Super file and images harmed in every way: the exact acknowledged state, or a typed error that names
//! the place.

use std::ops::Range;
use std::path::{Path, PathBuf};

use resurge_store::ErrorKind;
use resurge_testkit::{DiskLoss, IndexFate, SimIndex};

use crate::life::{Kind, Life, Step, Stop};
use crate::planted::Bug;

const SECTOR: usize = 512;

#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counts {
    pub(crate) truncations: u64,
    pub(crate) flips: u64,
    pub(crate) sectors: u64,
    /// Opened, with the exact state, and the report tells of the damage.
    pub(crate) reported: u64,
    /// Opened, with the exact state; what was harmed was not needed or not used.
    pub(crate) unharmed: u64,
    /// Refused, naming the place.
    pub(crate) refused: u64,
}

/// A store with two images, a log that was cut, and commits after the newer image.
#[derive(Debug)]
pub(crate) struct Subject {
    life: Life,
    /// What the super file held after each step.
    history: Vec<Vec<u8>>,
}

const SUPER: &str = "/state/super";

impl Subject {
    pub(crate) fn new(kind: Kind, plant: Option<Bug>) -> Self {
        use Step::{Buffered, Durable, Image, Open};
        let steps: &[Step] = &[
            Open,
            Durable(&[2000, 2000]),
            Durable(&[2000, 2000]),
            // Every key is small from here on, and so are the images.
            Durable(&[9; 13]),
            Image,
            Durable(&[5000]),
            Durable(&[7; 13]),
            Image,
            Durable(&[3]),
            Buffered(&[4]),
            Durable(&[2, 1]),
        ];
        let mut life = Life::new(kind, plant);
        let mut history = Vec::new();
        for step in steps {
            life.step(*step).expect("a store on a sound disk");
            history.push(life.disk.contents(Path::new(SUPER)).expect("the super file"));
        }
        let status = life.engine().map(resurge_store_sled::SledEngine::status).expect("open");
        assert!(status.log_first_seq > 1 && status.images.len() == 2, "{status:?}");
        life.step(Step::Drop).expect("dropped");
        Self { life, history }
    }

    fn images(&self) -> Vec<PathBuf> {
        let mut files = self.life.disk.files();
        files.retain(|path| path.extension().is_some_and(|e| e == "img"));
        assert_eq!(files.len(), 2);
        files
    }

    fn read(&self, path: &Path) -> Vec<u8> {
        self.life.disk.contents(path).expect("a file of the store")
    }

    /// The store with these files harmed, as the next start finds it. The index is gone with them,
    /// or whole.
    fn harmed(&self, files: &[(&Path, &[u8])], gone: bool) -> Life {
        let disk = self.life.disk.power_cut(DiskLoss::Nothing);
        for (path, content) in files {
            disk.damage(path, content).expect("a file of the store");
        }
        let index = if gone { SimIndex::new() } else { self.life.index.crash(IndexFate::Intact) };
        let mut life = self.life.after(disk, index);
        life.harmed = true;
        life
    }

    /// Opens a copy with this file harmed, and judges what came of it.
    fn judge(&self, path: &Path, content: &[u8], counts: &mut Counts) -> Result<(), String> {
        let mut life = self.harmed(&[(path, content)], true);
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match life.step(Step::Open) {
            Ok(()) => {}
            // Of two images one is left: only without any super slot it may not open.
            Err(Stop::Error(e)) if e.kind() == ErrorKind::Corrupt && path == Path::new(SUPER) => {
                if !e.to_string().contains(SUPER) {
                    return Err(format!("does not name {SUPER}: {e}"));
                }
                let valid = |at: usize| content.get(at..at + SECTOR).is_some_and(slot_is_whole);
                if valid(0) || valid(4096) {
                    return Err(format!("a slot is whole, and it says {e}"));
                }
                counts.refused += 1;
                return Ok(());
            }
            Err(Stop::Error(e)) => return Err(format!("{e:?}")),
            Err(Stop::Bug(bug)) => return Err(bug),
        }
        let told = life.report.as_ref().is_some_and(|report| {
            report.super_slot.is_some() && name == "super"
                || report.images_skipped.iter().any(|image| image.name == name)
        });
        if told {
            counts.reported += 1;
        } else {
            counts.unharmed += 1;
        }
        if !(counts.reported + counts.unharmed).is_multiple_of(8) {
            return Ok(());
        }
        // Goes on, takes a new image over the harmed one, and opens again.
        for step in
            [Step::Durable(&[100]), Step::Image, Step::Durable(&[50]), Step::Close, Step::Open]
        {
            life.step(step).map_err(|stop| format!("life goes on, {step:?}: {stop:?}"))?;
        }
        Ok(())
    }

    fn files(&self) -> Vec<PathBuf> {
        [PathBuf::from(SUPER)].into_iter().chain(self.images()).collect()
    }

    pub(crate) fn truncations(&self, counts: &mut Counts) -> Result<(), String> {
        for path in self.files() {
            let whole = self.read(&path);
            for len in 0..whole.len() {
                counts.truncations += 1;
                self.judge(&path, &whole[..len], counts)
                    .map_err(|e| format!("{} cut to {len}: {e}", path.display()))?;
            }
        }
        Ok(())
    }

    /// One bit of every byte, of what is not padding every bit; all bits with `all`.
    pub(crate) fn flips(&self, all: bool, counts: &mut Counts) -> Result<(), String> {
        for path in self.files() {
            let mut content = self.read(&path);
            for bit in 0..content.len() * 8 {
                let at = bit / 8;
                let dull = content[at] == 0 && (at % 4096) > 128;
                if !all && dull && bit % 8 != at % 8 {
                    continue;
                }
                content[at] ^= 1 << (bit % 8);
                counts.flips += 1;
                self.judge(&path, &content, counts)
                    .map_err(|e| format!("{} bit {bit} flipped: {e}", path.display()))?;
                content[at] ^= 1 << (bit % 8);
            }
        }
        Ok(())
    }

    /// Every sector zeroed, as it was before, as in the other image, and in the place of another.
    pub(crate) fn sectors(&self, counts: &mut Counts) -> Result<(), String> {
        let images = self.images().iter().map(|path| self.read(path)).collect::<Vec<_>>();
        for path in self.files() {
            let whole = self.read(&path);
            let mut others = vec![vec![0; whole.len()]];
            others.extend(if path == Path::new(SUPER) { &self.history } else { &images }.clone());
            others.extend((1..whole.len() / SECTOR).map(|n| {
                let mut turned = whole.clone();
                turned.rotate_left(n * SECTOR);
                turned
            }));
            for (n, other) in others.iter().enumerate() {
                for at in (0..whole.len()).step_by(SECTOR) {
                    let harmed: Range<usize> = at..(at + SECTOR).min(whole.len()).min(other.len());
                    let mut content = whole.clone();
                    if harmed.is_empty() || content[harmed.clone()] == other[harmed.clone()] {
                        continue;
                    }
                    content[harmed.clone()].copy_from_slice(&other[harmed]);
                    counts.sectors += 1;
                    self.judge(&path, &content, counts).map_err(|e| {
                        format!("{} sector at {at} from version {n}: {e}", path.display())
                    })?;
                }
            }
        }
        Ok(())
    }

    /// Both images harmed: with the index whole nothing is lost, without it that is said, and
    /// salvage is not needed to find out.
    pub(crate) fn both_images(&self) -> Result<u64, String> {
        let images = self.images();
        let (old, new) = (self.read(&images[0]), self.read(&images[1]));
        let mut cases = 0;
        for at in (0..old.len().min(new.len())).step_by(97) {
            let (mut old, mut new) = (old.clone(), new.clone());
            old[at] ^= 0x40;
            new.truncate(at);
            let files = [(images[0].as_path(), old.as_slice()), (images[1].as_path(), &new)];
            let mut life = self.harmed(&files, true);
            match life.step(Step::Open) {
                Err(Stop::Error(e))
                    if e.kind() == ErrorKind::Corrupt && e.to_string().contains("/state") => {}
                other => return Err(format!("both harmed at {at}: {other:?}")),
            }
            cases += 1;
            if life.kind == Kind::Indexed {
                let mut life = self.harmed(&files, false);
                life.step(Step::Open).map_err(|stop| format!("index whole, {at}: {stop:?}"))?;
                cases += 1;
            }
        }
        Ok(cases)
    }

    /// After a kill the last group was acknowledged for certain: harm is damage, never a tail.
    pub(crate) fn last_group_after_a_kill(&self) -> Result<u64, String> {
        let mut logs = self.life.disk.files();
        logs.retain(|path| path.extension().is_some_and(|e| e == "log"));
        let path = logs.last().ok_or("no log")?;
        let whole = self.read(path);
        let end = whole.iter().rposition(|byte| *byte != 0).unwrap_or(0);
        let mut cases = 0;
        for at in end - 100..=end {
            let disk = self.life.disk.kill();
            let mut content = whole.clone();
            content[at] ^= 1 << (at % 8);
            disk.damage(path, &content).map_err(|e| e.to_string())?;
            let mut life = self.life.after(disk, SimIndex::new());
            match life.step(Step::Open) {
                Err(Stop::Error(e))
                    if e.kind() == ErrorKind::Corrupt
                        && e.to_string().contains(&*path.to_string_lossy()) => {}
                Err(Stop::Bug(bug)) => return Err(format!("log harmed at {at}: {bug}")),
                other => return Err(format!("log harmed at {at}: {other:?}")),
            }
            cases += 1;
        }
        Ok(cases)
    }
}

/// Does the checksum of a super slot hold?
fn slot_is_whole(slot: &[u8]) -> bool {
    slot.split_last_chunk::<4>()
        .is_some_and(|(rest, crc)| crc32c::crc32c(rest).to_be_bytes() == *crc)
}
