//! The process that is killed: writes as fast as it can and says what was acknowledged.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use resurge_store::Store;
use resurge_store_sled::{IndexKind, OpenReport, SledOptions, SledStore};
use resurge_testkit::Failure;

use crate::unsynced::Unsynced;
use crate::{batches, log, machine};

/// The exit code of a child that could not open its store.
pub(crate) const UNOPENABLE: u8 = 3;

/// Says a line: what was acknowledged, after it was. Who cannot speak any more has lost its parent.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    // One write of a whole line: nothing of another task comes between.
    Ok(std::io::stdout().lock().write_all(format!("{line}\n").as_bytes())?)
}

/// How the store of a cycle is opened, by the child and by the parent alike: small segments and
/// frequent images, so that kills hit those too, and each index in turn.
pub(crate) fn open(dir: &Path, cycle: u64) -> resurge_store::Result<(SledStore, OpenReport)> {
    SledStore::open_blocking(dir, options(cycle))
}

/// The same on a disk that is never synced.
pub(crate) fn open_unsynced(
    dir: &Path,
    cycle: u64,
) -> resurge_store::Result<(SledStore, OpenReport)> {
    SledStore::open_blocking(dir, options(cycle).vfs(Arc::new(Unsynced)))
}

fn options(cycle: u64) -> SledOptions {
    let kind = if cycle.is_multiple_of(2) { IndexKind::Sled } else { IndexKind::Memory };
    SledOptions::new()
        .index(kind)
        .segment_sizes(256 << 10, 1 << 20)
        .image_after(2 << 20)
        .cache_bytes(16 << 20)
        .ballast(0)
}

/// A way to do it wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Planted {
    Nothing,
    /// Says that a batch is done before it is.
    EarlyBatch,
    /// The same of a record of the log.
    EarlyLog,
    /// The same of an event of the state machine.
    EarlyEvent,
    /// Commits twice what belongs together.
    Half,
    /// Syncs nothing, which only a power cut can tell.
    NoSync,
}

impl Planted {
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "nothing" => Some(Self::Nothing),
            "early-batch" => Some(Self::EarlyBatch),
            "early-log" => Some(Self::EarlyLog),
            "early-event" => Some(Self::EarlyEvent),
            "half" => Some(Self::Half),
            "no-sync" => Some(Self::NoSync),
            _ => None,
        }
    }
}

/// What ends a child, and so what it may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// Takes nothing that was committed.
    Kill,
    /// Takes what is not durable: only that is said.
    PowerCut,
}

impl Ending {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::PowerCut => "power-cut",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        [Self::Kill, Self::PowerCut].into_iter().find(|ending| ending.name() == name)
    }
}

pub(crate) fn main(dir: &str, cycle: &str, planted: &str, ending: &str) -> ExitCode {
    let (Ok(cycle), Some(planted), Some(ending)) =
        (cycle.parse(), Planted::parse(planted), Ending::parse(ending))
    else {
        return ExitCode::FAILURE;
    };
    let open = if planted == Planted::NoSync { open_unsynced } else { open };
    let store = match open(dir.as_ref(), cycle) {
        Ok((store, _)) => store,
        Err(e) => {
            eprintln!("cycle {cycle}: the child cannot open its store: {e}");
            return ExitCode::from(UNOPENABLE);
        }
    };
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let written = runtime.map_err(Failure::from).and_then(|runtime| {
        let store = Store::from_arc(Arc::new(store));
        runtime.block_on(write(store, cycle, planted, ending))
    });
    match written {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("cycle {cycle}: the child failed: {e}");
            ExitCode::FAILURE
        }
    }
}

/// Writes until killed; returns only when a writer fails.
async fn write(store: Store, cycle: u64, planted: Planted, ending: Ending) -> Result<(), Failure> {
    say("open")?;
    let mut writers = tokio::task::JoinSet::new();
    batches::start(&store, planted, ending, &mut writers);
    log::start(&store, cycle, planted, &mut writers).await?;
    machine::start(&store, planted, &mut writers).await?;
    match writers.join_next().await {
        Some(ended) => ended?,
        None => Err("there are no writers".into()),
    }
}
