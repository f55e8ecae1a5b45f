//! The life of a store, step by step, and what the model learns from each.

use std::sync::Arc;
use std::time::Duration;

use resurge_commit_log::Vfs;
use resurge_store::{
    Batch, CommitSeq, Engine, Entropy, ErrorKind, Group, Guard, Result as StoreResult, StoreError,
    VirtualClock,
};
use resurge_store_sled::{
    How, IndexFactory, IndexKind, Maintenance, OpenReport, SledEngine, SledOptions, Verify,
};
use resurge_testkit::{SimIndex, SimVfs};

use crate::model::{Expected, Model};
use crate::planted::{self, Bug};

pub(crate) const DIR: &str = "/state";
pub(crate) const ID: [u8; 16] = *b"simulated store!";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Memory,
    Indexed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    Open,
    /// One group of batches with values of these lengths, synced before it is published.
    Durable(&'static [usize]),
    /// The same without a sync.
    Buffered(&'static [usize]),
    /// Two groups on the way at once, the second one guarded by what the first one does.
    Guarded,
    Sync,
    Image,
    /// Reads everything.
    Read,
    Close,
    /// Neither synced nor closed.
    Drop,
}

/// Segments roll every few groups, images are taken by themselves and on demand, the log is cut, and
/// the store is closed and left in disorder.
pub(crate) const LIFE: &[Step] = {
    use Step::{Buffered, Close, Drop, Durable, Guarded, Image, Open, Read, Sync};
    &[
        Open,
        Durable(&[10]),
        Buffered(&[300]),
        Durable(&[700, 20]),
        Drop,
        Open,
        Guarded,
        Durable(&[1500]),
        Buffered(&[900, 1]),
        Buffered(&[1200]),
        Sync,
        Durable(&[2000]),
        Drop,
        Open,
        Image,
        Durable(&[1800]),
        Buffered(&[60]),
        Image,
        Durable(&[700]),
        Close,
        Open,
        Durable(&[2500, 100]),
        Buffered(&[800]),
        Durable(&[2500]),
        Read,
        Guarded,
        Durable(&[3000]),
        Drop,
        Open,
        Buffered(&[5]),
        Image,
        Durable(&[9000]),
        Buffered(&[77]),
        Close,
        Open,
        Durable(&[40]),
    ]
};

/// Why a life stopped.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The store returned an error: expected in a machine that crashes or fails.
    Error(StoreError),
    /// The store broke a promise.
    Bug(String),
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Memory, Self::Indexed];
}

impl From<StoreError> for Stop {
    fn from(e: StoreError) -> Self {
        Self::Error(e)
    }
}

/// The same store at every creation, another salt at every open.
#[derive(Debug)]
struct Chance(u64);

impl Entropy for Chance {
    fn fill(&self, out: &mut [u8]) -> StoreResult<()> {
        let bytes =
            if out.len() == ID.len() { ID } else { (u128::from(self.0) << 64).to_be_bytes() };
        for (to, from) in out.iter_mut().zip(bytes) {
            *to = from;
        }
        Ok(())
    }
}

/// One process at a time, on one disk, with one index.
#[expect(clippy::struct_excessive_bools, reason = "independent facts, any set of them at once")]
#[derive(Debug)]
pub(crate) struct Life {
    pub(crate) disk: SimVfs,
    pub(crate) index: SimIndex,
    pub(crate) model: Model,
    pub(crate) kind: Kind,
    pub(crate) plant: Option<Bug>,
    /// Believe an index after a clean close.
    pub(crate) trust: bool,
    /// Which boot of the machine it is.
    pub(crate) boot: u8,
    /// A crash may have torn the super file.
    pub(crate) torn: bool,
    /// The index does not do what it is asked for.
    pub(crate) index_fails: bool,
    /// The last commit was refused: nothing was written.
    pub(crate) refused: bool,
    /// Somebody harmed the files.
    pub(crate) harmed: bool,
    /// What the last open reported.
    pub(crate) report: Option<OpenReport>,
    /// I/O fails now and then, reading included.
    pub(crate) faulty: bool,
    /// The index lies, and no open has found out yet.
    pub(crate) index_lies: bool,
    vfs: Arc<dyn Vfs>,
    factory: Arc<dyn IndexFactory>,
    engine: Option<SledEngine>,
}

impl Life {
    pub(crate) fn new(kind: Kind, plant: Option<Bug>) -> Self {
        Self::on(SimVfs::new(), SimIndex::new(), Model::new(), kind, plant)
    }

    pub(crate) fn on(
        disk: SimVfs,
        index: SimIndex,
        model: Model,
        kind: Kind,
        plant: Option<Bug>,
    ) -> Self {
        let (vfs, factory) = planted::between(plant, &disk, &index);
        Self {
            disk,
            index,
            model,
            kind,
            plant,
            trust: false,
            boot: 1,
            torn: false,
            index_fails: false,
            index_lies: false,
            faulty: false,
            harmed: false,
            report: None,
            refused: false,
            vfs,
            factory,
            engine: None,
        }
    }

    /// An independent copy of machine and knowledge, in which the store is not open.
    pub(crate) fn fork(&self) -> Self {
        let mut life = self.after(self.disk.fork(), self.index.fork());
        (life.index_fails, life.index_lies) = (self.index_fails, self.index_lies);
        life
    }

    /// Another life, that knows what this one knows, on another machine.
    pub(crate) fn after(&self, disk: SimVfs, index: SimIndex) -> Self {
        let mut life = Self::on(disk, index, self.model.clone(), self.kind, self.plant);
        (life.trust, life.boot, life.torn) = (self.trust, self.boot, self.torn);
        life
    }

    pub(crate) fn run(&mut self, steps: &[Step]) -> Result<(), Stop> {
        steps.iter().try_for_each(|step| self.step(*step))
    }

    pub(crate) fn step(&mut self, step: Step) -> Result<(), Stop> {
        self.refused = false;
        match step {
            Step::Open => self.open(),
            Step::Durable(lens) => self.commit(lens, true),
            Step::Buffered(lens) => self.commit(lens, false),
            Step::Guarded => self.guarded(),
            Step::Sync => self.sync(),
            Step::Image => {
                self.model.may_image();
                let before = self.model.visible;
                let image = self.engine()?.image_now()?;
                // It had to be made durable first.
                self.model.synced(before);
                if (image.begin, image.end) != (before, before) {
                    return Err(Stop::Bug(format!("{image:?} taken at {before}")));
                }
                if self.faulty {
                    return Ok(());
                }
                self.model.check_status(self.engine()?)
            }
            Step::Read => self.model.check_contents(self.engine()?),
            Step::Close => {
                let Some(engine) = self.engine.take() else { return Ok(()) };
                self.model.closed = true;
                engine.close()?;
                self.model.synced(self.model.issued);
                Ok(())
            }
            Step::Drop => {
                self.engine = None;
                Ok(())
            }
        }
    }

    pub(crate) fn engine(&self) -> Result<&SledEngine, Stop> {
        let missing = || Stop::Bug("the scenario uses a store it did not open".to_owned());
        self.engine.as_ref().ok_or_else(missing)
    }

    pub(crate) fn options(&mut self) -> SledOptions {
        let options = SledOptions::new()
            .vfs(Arc::clone(&self.vfs))
            .maintenance(Maintenance::Inline)
            .segment_sizes(8192, 8192)
            .image_after(6000)
            .free_space_reserve(4096)
            .ballast(4096)
            .quarantine_cap(64 << 10)
            .clock(Arc::new(VirtualClock::new()))
            .entropy(Arc::new(Chance(self.model.fresh())))
            .boot_id(Some([self.boot; 16]))
            .close_within(Duration::from_secs(30))
            .verify(if self.trust { Verify::Trust } else { Verify::Full });
        match self.kind {
            Kind::Memory => options.index(IndexKind::Memory),
            Kind::Indexed => options.index_factory(Arc::clone(&self.factory)),
        }
    }

    fn open(&mut self) -> Result<(), Stop> {
        let options = self.options();
        let clean = self.model.closed;
        let indexed = (self.index.meta(), self.index.proof());
        let (engine, report) = SledEngine::open(DIR, options)?;
        let first = engine.status().log_first_seq;
        let sound = indexed.0.is_some_and(|meta| {
            let range = first.saturating_sub(1)..=report.last_seq.0;
            meta.ready && meta.store_id == ID && range.contains(&meta.applied_seq.0)
        });
        let proved = sound && indexed.0.is_some_and(|meta| meta.digest == indexed.1);
        if report.how == How::Trusted && !(self.trust && clean) {
            return Err(Stop::Bug(format!("trusted without a reason: {report}")));
        }
        let sound = (!self.index_fails).then_some(proved);
        let (undamaged, readable) = (!self.torn && !self.faulty, !self.faulty);
        let expected =
            Expected { kind: self.kind, sound, undamaged, readable, harmed: self.harmed };
        self.model.check_opened(&engine, &report, expected)?;
        (self.torn, self.index_fails, self.index_lies) = (false, false, false);
        self.report = Some(report);
        self.engine = Some(engine);
        Ok(())
    }

    fn commit(&mut self, lens: &[usize], durable: bool) -> Result<(), Stop> {
        let batches = lens.iter().map(|len| self.model.batch(*len)).collect();
        let group = self.log(batches)?;
        if durable {
            self.sync_group(&group)?;
        }
        self.publish(&group)
    }

    /// Two batches that want the same key absent: the second one sees the first, though it is not
    /// published yet.
    fn guarded(&mut self) -> Result<(), Stop> {
        let key = Model::key(200 + self.model.fresh());
        let mut pending: Option<Arc<Group>> = None;
        let mut won = 0;
        for _ in 0..2 {
            let seen = match &pending {
                Some(group) if self.plant != Some(Bug::GuardSeesPublishedOnly) => {
                    let ops = group.batches.iter().flat_map(Batch::ops);
                    ops.filter(|op| *op.key() == key).last().and_then(|op| op.value().cloned())
                }
                _ => self.engine()?.get(&key)?,
            };
            if Guard::Absent.holds(seen.as_ref()) {
                won += 1;
                let mut batch = self.model.batch(30);
                batch.put(key.clone(), self.model.fresh().to_be_bytes().to_vec());
                pending = Some(self.log(vec![batch])?);
            }
        }
        if won != 1 {
            return Err(Stop::Bug(format!("{won} batches found the same key absent")));
        }
        let Some(group) = pending else { return Ok(()) };
        self.sync_group(&group)?;
        self.publish(&group)?;
        // Removed again, so that the state stays small.
        let mut batch = Batch::new();
        batch.delete(key);
        let group = self.log(vec![batch])?;
        self.publish(&group)
    }

    fn log(&mut self, batches: Vec<Batch>) -> Result<Arc<Group>, Stop> {
        let before = self.model.issued;
        self.model.issue(&batches);
        let group = Arc::new(Group { first: CommitSeq(before + 1), batches });
        match self.engine()?.log(&group) {
            Ok(()) => Ok(group),
            Err(e) => {
                if matches!(e.kind(), ErrorKind::Full | ErrorKind::Unavailable | ErrorKind::Invalid)
                {
                    self.model.withdraw(before);
                    self.refused = true;
                }
                Err(e.into())
            }
        }
    }

    fn sync_group(&mut self, group: &Group) -> Result<(), Stop> {
        if self.plant == Some(Bug::AckBeforeSync) {
            self.model.synced(group.last().0);
            return Ok(());
        }
        if self.plant == Some(Bug::PublishBeforeSync) {
            self.engine()?.publish(&Arc::new(group.clone()))?;
        }
        // Nobody reads it before it is durable.
        let before = self.engine()?.last_seq();
        if before >= group.last() {
            return Err(Stop::Bug(format!("{before} is visible before it is durable")));
        }
        self.engine()?.sync()?;
        self.model.synced(group.last().0);
        Ok(())
    }

    fn publish(&mut self, group: &Arc<Group>) -> Result<(), Stop> {
        self.model.published(group.last().0);
        self.model.may_image();
        self.engine()?.publish(group)?;
        Ok(())
    }

    fn sync(&mut self) -> Result<(), Stop> {
        self.engine()?.sync()?;
        self.model.synced(self.model.issued);
        Ok(())
    }
}
