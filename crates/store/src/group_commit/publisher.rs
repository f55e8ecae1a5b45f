//! Publishing and acknowledging, beside the committer where that overlaps with its next sync.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, JoinHandle};

use super::completion::{Delivery, Outcome};
use super::pending::Forgotten;
use super::shared::{PoisonOnPanic, Shared};
use crate::{Engine, ErrorKind, Group, StoreError};

/// So many groups may wait for the publisher before the committer does.
const BEHIND: usize = 4;

/// A logged (and, if durable, synced) group with what its callers are to be told.
#[derive(Debug)]
pub(super) struct Publication {
    pub(super) group: Option<Arc<Group>>,
    pub(super) outcomes: Vec<Outcome>,
    pub(super) delivery: Delivery,
    pub(super) bytes: usize,
    /// Dropped when everybody is told: freeing a group's memory delays nobody then.
    pub(super) forgotten: Forgotten,
}

impl Publication {
    fn publish<E: Engine>(self, shared: &Shared<E>) {
        let Self { group, outcomes, delivery, bytes, forgotten } = self;
        let done = match &group {
            // INVARIANT: published in log order without a gap; the engine may rely on it.
            _ if shared.publish_failed() => {
                Err(StoreError::closed("an earlier commit could not be published"))
            }
            None => Ok(()),
            Some(group) => shared.engine.publish(group).map(|()| {
                shared.set_published(group.last());
                shared.watches.published(&group.batches);
            }),
        };
        shared.resolved(bytes);
        match done {
            // ORDER: published before acknowledged; who was told can read it.
            Ok(()) => delivery.outcomes(outcomes),
            Err(cause) => {
                let error = StoreError::with_source(
                    ErrorKind::Indeterminate,
                    format!("logged, but could not be published: {cause}"),
                    cause,
                );
                shared.set_publish_failed();
                // ORDER: refuse first, so that whoever is told cannot commit on top.
                shared.poison(&error);
                delivery.fail(&error);
            }
        }
        drop(forgotten);
    }
}

/// Publishes in the order given, in place while nothing else waits and on its own thread otherwise.
#[derive(Debug)]
pub(super) struct Publisher<E: Engine> {
    shared: Arc<Shared<E>>,
    outstanding: Arc<AtomicUsize>,
    thread: Option<(SyncSender<Publication>, JoinHandle<()>)>,
}

impl<E: Engine> Publisher<E> {
    pub(super) fn new(shared: Arc<Shared<E>>) -> Self {
        Self { shared, outstanding: Arc::new(AtomicUsize::new(0)), thread: None }
    }

    /// Publishes in place, or behind what is still being published, or where `hand_over`, elsewhere.
    pub(super) fn publish(&mut self, publication: Publication, hand_over: bool) {
        let first = self.outstanding.load(Ordering::Acquire) == 0;
        if first && (!hand_over || !self.start()) {
            publication.publish(&self.shared);
            return;
        }
        self.outstanding.fetch_add(1, Ordering::AcqRel);
        if let Some((queue, _)) = &self.thread {
            // A send fails only after the thread panicked: the store is poisoned and the dropped
            // delivery tells its callers.
            drop(queue.send(publication));
        }
    }

    fn start(&mut self) -> bool {
        if self.thread.is_some() {
            return true;
        }
        let (sender, queue) = sync_channel(BEHIND);
        let shared = Arc::clone(&self.shared);
        let outstanding = Arc::clone(&self.outstanding);
        let spawned = thread::Builder::new()
            .name("resurge-publish".to_owned())
            .spawn(move || run(&shared, &queue, &outstanding));
        match spawned {
            Ok(handle) => {
                self.thread = Some((sender, handle));
                true
            }
            Err(e) => {
                tracing::warn!(error = %e, "no thread to publish on; publishing in place");
                false
            }
        }
    }

    /// Waits until everything handed over is published.
    pub(super) fn finish(self) {
        if let Some((queue, handle)) = self.thread {
            drop(queue);
            if handle.join().is_err() {
                tracing::error!("the publisher thread panicked");
            }
        }
    }
}

fn run<E: Engine>(
    shared: &Arc<Shared<E>>,
    queue: &Receiver<Publication>,
    outstanding: &AtomicUsize,
) {
    let _guard = PoisonOnPanic(Arc::clone(shared));
    shared.register_own_thread();
    while let Ok(publication) = queue.recv() {
        publication.publish(shared);
        outstanding.fetch_sub(1, Ordering::AcqRel);
    }
}
