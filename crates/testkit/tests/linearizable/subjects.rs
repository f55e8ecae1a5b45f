//! The stores, and how each of them goes down and comes back.

use std::path::Path;
use std::sync::Arc;

use resurge_store::{Entropy, MemoryStore, SeededEntropy, StateStore};
use resurge_store_sled::{IndexKind, SledIndexFactory, SledIndexOptions, SledOptions, SledStore};
use resurge_testkit::sim::Ending;
use resurge_testkit::{DiskLoss, SimStore, SimVfs};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::clients::{self, Habits};
use super::history::{Operation, Recorder};
use super::planted::{Bug, Planted};

const CLIENTS: u32 = 4;
/// How often a store goes down within one history, if it can.
const CRASHES: usize = 3;
/// Calls of a client between two crashes, and in a history without one.
const CALLS: usize = 8;
const CALLS_IN_PEACE: usize = 24;

/// What a history is made on.
#[derive(Clone, Debug)]
pub(crate) enum Subject {
    Memory,
    /// `SimStore`: killed, or poisoned by its disk; then any state the crash may leave.
    Simulated,
    /// A real directory: closed under its callers, or dropped with calls in flight.
    Directory(IndexKind),
    /// The simulated disk: stops at some operation, then the kill or the power cut.
    Disk(IndexKind),
    Planted(Bug),
}

/// What outlives a crash.
enum Machine {
    Memory(Option<Bug>),
    Simulated { store: SimStore, lossy: bool },
    Directory { dir: TempDir, kind: IndexKind },
    Disk { disk: SimVfs, index: TempDir, kind: IndexKind },
}

/// What a crash takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fall {
    /// Not what was visible.
    Process,
    /// All but what is durable.
    Power,
}

fn below(chance: &SeededEntropy, n: u64) -> u64 {
    chance.next_u64().unwrap() % n
}

fn cramped(kind: IndexKind) -> SledOptions {
    SledOptions::new()
        .index(kind)
        .segment_sizes(16 << 10, 64 << 10)
        .image_after(48 << 10)
        .cache_bytes(1 << 20)
        .ballast(0)
}

impl Machine {
    fn new(subject: &Subject, seed: u64) -> Self {
        match subject {
            Subject::Memory => Self::Memory(None),
            Subject::Planted(Bug::LostAcknowledgement) => {
                Self::Simulated { store: SimStore::new(seed), lossy: true }
            }
            Subject::Planted(bug) => Self::Memory(Some(*bug)),
            Subject::Simulated => Self::Simulated { store: SimStore::new(seed), lossy: false },
            Subject::Directory(kind) => {
                Self::Directory { dir: tempfile::tempdir().unwrap(), kind: *kind }
            }
            Subject::Disk(kind) => {
                let (disk, index) = (SimVfs::new(), tempfile::tempdir().unwrap());
                Self::Disk { disk, index, kind: *kind }
            }
        }
    }

    fn crashes(&self) -> usize {
        if matches!(self, Self::Memory(_)) { 0 } else { CRASHES }
    }

    async fn open(&self) -> Arc<dyn StateStore> {
        match self {
            Self::Memory(None) => Arc::new(MemoryStore::in_memory()),
            Self::Memory(Some(bug)) => Arc::new(Planted::new(MemoryStore::in_memory(), *bug)),
            Self::Simulated { store, .. } => Arc::new(store.clone()),
            Self::Directory { dir, kind } => {
                Arc::new(SledStore::open(dir.path(), cramped(*kind)).await.unwrap().0)
            }
            Self::Disk { disk, index, kind } => {
                let mut options = cramped(*kind).vfs(Arc::new(disk.clone()));
                if *kind == IndexKind::Sled {
                    let sled = SledIndexOptions { cache_bytes: 1 << 20 };
                    let factory = SledIndexFactory::new(index.path().join("index"), sled);
                    options = options.index_factory(Arc::new(factory));
                }
                Arc::new(SledStore::open(Path::new("/state"), options).await.unwrap().0)
            }
        }
    }

    /// Decides where the disk will stop, if it is one that can.
    fn plan(&self, chance: &SeededEntropy) {
        if let Self::Disk { disk, .. } = self {
            disk.crash_at(disk.operations() + 1 + below(chance, 60));
        }
    }

    /// Goes down while its callers call.
    async fn crash(&self, store: &dyn StateStore, fall: Fall, chance: &SeededEntropy) {
        match self {
            Self::Memory(_) => {}
            Self::Simulated { store, .. } => store.crash(match fall {
                Fall::Process => Ending::Kill,
                Fall::Power => Ending::Poison,
            }),
            Self::Directory { .. } => {
                if below(chance, 2) == 0 {
                    store.close().await.unwrap();
                }
            }
            Self::Disk { disk, .. } => disk.crash_at(0),
        }
    }

    /// What the next start finds, once everybody has let go of the store.
    fn restart(self, fall: Fall, chance: &SeededEntropy) -> Self {
        match self {
            Self::Memory(_) | Self::Directory { .. } => self,
            Self::Simulated { store, lossy } => {
                let cuts = store.cuts();
                let kept = if fall == Fall::Process { store.visible() } else { *cuts.start() };
                let kept = kept.max(*cuts.start());
                let keep =
                    kept + usize::try_from(below(chance, (cuts.end() - kept + 1) as u64)).unwrap();
                let keep = if lossy { kept.saturating_sub(1) } else { keep };
                Self::Simulated { store: store.reopen_with(keep), lossy }
            }
            Self::Disk { disk, index, kind } => {
                let seed = chance.next_u64().unwrap();
                let disk = match (fall, seed % 4) {
                    (Fall::Process, _) => disk.kill(),
                    (Fall::Power, 0) => disk.power_cut(DiskLoss::All),
                    (Fall::Power, 1) => disk.power_cut(DiskLoss::Nothing),
                    (Fall::Power, 2) => disk.power_cut(DiskLoss::Torn { seed }),
                    (Fall::Power, _) => disk.power_cut(DiskLoss::Subset { seed }),
                };
                Self::Disk { disk, index, kind }
            }
        }
    }
}

/// Makes one history; how often the store went down in it.
pub(crate) fn run(subject: &Subject, seed: u64) -> (Vec<Operation>, usize) {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(4).enable_all().build().unwrap();
    runtime.block_on(history(subject, seed))
}

async fn history(subject: &Subject, seed: u64) -> (Vec<Operation>, usize) {
    let chance = SeededEntropy::new(seed);
    let recorder = Arc::new(Recorder::default());
    let mut machine = Machine::new(subject, seed);
    let crashes = machine.crashes();
    for _ in 0..crashes {
        let real = matches!(machine, Machine::Directory { .. });
        let fall = if real || below(&chance, 2) == 0 { Fall::Process } else { Fall::Power };
        let store = machine.open().await;
        machine.plan(&chance);
        let habits = Habits { calls: CALLS, buffered: fall == Fall::Process };
        let mut clients = start(&store, &recorder, &chance, habits, CLIENTS);
        let calls = usize::try_from(below(&chance, u64::from(CLIENTS) * CALLS as u64)).unwrap();
        let enough = async {
            if matches!(machine, Machine::Disk { .. }) {
                // Stops by itself.
                std::future::pending::<()>().await;
            }
            recorder.returned(calls).await;
        };
        tokio::select! {
            () = enough => {}
            () = finished(&mut clients) => {}
        }
        machine.crash(&*store, fall, &chance).await;
        clients.abort_all();
        finished(&mut clients).await;
        // ORDER: the last handle; what it still does in its last moments is before the crash.
        drop(store);
        machine = machine.restart(fall, &chance);
        recorder.crashed();
    }
    let store = machine.open().await;
    if crashes == 0 {
        let habits = Habits { calls: CALLS_IN_PEACE, buffered: true };
        finished(&mut start(&store, &recorder, &chance, habits, CLIENTS)).await;
    }
    // Somebody looks at what is left.
    let habits = Habits { calls: CALLS, buffered: false };
    finished(&mut start(&store, &recorder, &chance, habits, 1)).await;
    store.close().await.unwrap();
    (recorder.history(), crashes)
}

fn start(
    store: &Arc<dyn StateStore>,
    recorder: &Arc<Recorder>,
    chance: &SeededEntropy,
    habits: Habits,
    clients: u32,
) -> JoinSet<()> {
    let mut tasks = JoinSet::new();
    for client in 0..clients {
        let (store, recorder) = (Arc::clone(store), Arc::clone(recorder));
        let seed = chance.next_u64().unwrap();
        tasks.spawn(async move { clients::run(&*store, &recorder, client, seed, habits).await });
    }
    tasks
}

/// Waits for all of them; a panic of one is ours.
async fn finished(clients: &mut JoinSet<()>) {
    while let Some(ended) = clients.join_next().await {
        if let Err(e) = ended
            && e.is_panic()
        {
            std::panic::resume_unwind(e.into_panic());
        }
    }
}
