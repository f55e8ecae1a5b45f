//! Bugs planted between the store and its disk, its index and its callers: a harness that misses one
//! proves nothing.

use std::sync::Arc;

use resurge_commit_log::Vfs;
use resurge_store_sled::IndexFactory;
use resurge_testkit::{SimIndex, SimVfs};

mod disk;
mod index;

/// What the store would have done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The log is never synced.
    LogNotSynced,
    /// Commits are acknowledged before they are synced.
    AckBeforeSync,
    /// Readers see a durable commit before it is durable.
    PublishBeforeSync,
    /// A guard does not see what is logged but not yet published.
    GuardSeesPublishedOnly,
    /// The super file is never synced.
    SuperNotSynced,
    /// The names in the store's directory are never synced.
    RootNotSynced,
    /// An image gets its name before its content is on disk.
    ImageNotSynced,
    /// The names of images are never synced.
    ImageNameNotSynced,
    /// The log is cut before the image, content and name, is on disk.
    LogCutBeforeImage,
    /// Only the newest image is kept.
    OneImageKept,
    /// An image that was not finished is taken for one.
    TmpParsed,
    /// Opening does not write again what may be only in the page cache.
    TailNotRewritten,
    /// Opening writes the tail again and does not sync it.
    TailNotSynced,
    /// A sync that failed is tried again.
    RetrySync,
    /// A write that failed is reported as done.
    WriteErrorIgnored,
    /// The store still counts as cleanly closed while it is open.
    CleanNotCleared,
    /// The high-water reaches the super file only with a sync of its own.
    HighWaterNotNoted,
    /// A power loss is not told from a restart of the process.
    BootNotNoticed,
    /// The index moves `applied_seq` and leaves out a change.
    ChangeLeftOut,
    /// The index says one commit more than it holds.
    AppliedAhead,
    /// The index is not asked for a proof.
    ProofSkipped,
    /// A rebuild that was interrupted counts as whole.
    ReadyIgnored,
    /// The index of another store is taken.
    StoreIdIgnored,
}

/// Which test finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Catcher {
    /// Crashes at every operation, with the index in memory.
    Crashes,
    /// The same with lying indexes.
    Indexes,
    /// I/O errors at every operation.
    Errors,
    /// Harmed files.
    Damage,
}

pub(crate) const ALL: &[(Bug, Catcher)] = {
    use Catcher::{Crashes, Damage, Errors, Indexes};
    &[
        (Bug::LogNotSynced, Crashes),
        (Bug::AckBeforeSync, Crashes),
        (Bug::PublishBeforeSync, Crashes),
        (Bug::GuardSeesPublishedOnly, Crashes),
        (Bug::SuperNotSynced, Crashes),
        (Bug::RootNotSynced, Crashes),
        (Bug::ImageNotSynced, Crashes),
        (Bug::ImageNameNotSynced, Crashes),
        (Bug::LogCutBeforeImage, Crashes),
        (Bug::OneImageKept, Crashes),
        (Bug::TmpParsed, Crashes),
        (Bug::TailNotRewritten, Errors),
        (Bug::TailNotSynced, Crashes),
        (Bug::RetrySync, Errors),
        (Bug::WriteErrorIgnored, Errors),
        (Bug::CleanNotCleared, Indexes),
        (Bug::HighWaterNotNoted, Damage),
        (Bug::BootNotNoticed, Indexes),
        (Bug::ChangeLeftOut, Indexes),
        (Bug::AppliedAhead, Indexes),
        (Bug::ProofSkipped, Indexes),
        (Bug::ReadyIgnored, Indexes),
        (Bug::StoreIdIgnored, Indexes),
    ]
};

/// What the store works on: disk and index, with a bug in between or not.
pub(crate) fn between(
    plant: Option<Bug>,
    disk: &SimVfs,
    index: &SimIndex,
) -> (Arc<dyn Vfs>, Arc<dyn IndexFactory>) {
    match plant {
        None => (Arc::new(disk.clone()), Arc::new(index.clone())),
        Some(bug) => (disk::plant(bug, disk), index::plant(bug, index)),
    }
}
