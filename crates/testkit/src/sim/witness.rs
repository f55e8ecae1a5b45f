//! What a scenario and a check are given: the store, the time, and what was acknowledged.

use std::fmt::Debug;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_store::{Store, VirtualClock};

use super::{Crash, Failure};

/// A scenario's world.
#[derive(Debug)]
pub struct Sim<T> {
    pub(super) store: Store,
    pub(super) clock: VirtualClock,
    pub(super) acks: Arc<Mutex<Vec<T>>>,
}

impl<T> Clone for Sim<T> {
    fn clone(&self) -> Self {
        let (store, clock, acks) = (self.store.clone(), self.clock.clone(), Arc::clone(&self.acks));
        Self { store, clock, acks }
    }
}

impl<T> Sim<T> {
    /// A store on the simulated disk, with virtual time and seeded randomness.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The store's clock. When nothing else can run, time goes on to the next sleeper by itself.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Records what a caller was told: from here on it must survive. Record only what the code under
    /// test promised to be durable, right when it returned.
    pub fn ack(&self, what: T) {
        self.acks.lock().push(what);
    }
}

/// What a check looks at: the store as the crash left it.
#[derive(Debug)]
pub struct Recovered<T> {
    pub(super) store: Store,
    pub(super) clock: VirtualClock,
    pub(super) acks: Arc<[T]>,
    pub(super) crash: Crash,
}

impl<T> Clone for Recovered<T> {
    fn clone(&self) -> Self {
        Self {
            store: self.store.clone(),
            clock: self.clock.clone(),
            acks: Arc::clone(&self.acks),
            crash: self.crash.clone(),
        }
    }
}

impl<T> Recovered<T> {
    /// The store, opened again. Recovery may write to it.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Its clock: wall time goes on where the crash was, monotonic time starts again.
    pub fn clock(&self) -> &VirtualClock {
        &self.clock
    }

    /// Everything that was acknowledged before the crash, in order.
    pub fn acks(&self) -> &[T] {
        &self.acks
    }

    /// The crash this is about.
    pub fn crash(&self) -> &Crash {
        &self.crash
    }

    /// States whether an acknowledged thing is still there.
    ///
    /// # Errors
    /// When it is not; hand it on.
    pub fn survived(&self, ack: &T, survived: bool) -> Result<(), Failure>
    where
        T: Debug,
    {
        if survived { Ok(()) } else { Err(format!("acknowledged and lost: {ack:?}").into()) }
    }
}
