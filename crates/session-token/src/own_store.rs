//! Storage of your own, in place of a `Store`.

use std::fmt::Debug;
use std::time::Duration;

use bytes::Bytes;
use resurge_store::{BoxFuture, StoreError};

/// Three methods, for those who keep sessions elsewhere. Names are record ids, 32 characters, and nobody gets
/// in with them. Implement `resurge_store::StateStore` instead to have limits, listing, revocation of
/// subjects and cleanup as well: none of them is there with this trait.
///
/// A failure must be told as what it is: "not found" is `Ok(None)`, everything else an error.
pub trait TokenStore: Debug + Send + Sync + 'static {
    /// Whether [`save`](Self::save) compares with `expected` and writes in one step. Without that, only
    /// [`ReusePolicy::UntilExpiry`](crate::ReusePolicy::UntilExpiry) is allowed: two writers at once lose one of
    /// their changes, and nobody notices.
    fn compares_and_swaps(&self) -> bool;

    /// What was saved last.
    ///
    /// # Errors
    /// The storage's failure.
    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredState>, StoreError>>;

    /// Writes `state` durably, if what is stored still has version `expected`; `None`: if nothing is stored. It may
    /// be forgotten after `ttl`. The new version must differ from every earlier one of this name.
    ///
    /// # Errors
    /// `Conflict` if something else is stored; the storage's failure.
    fn save<'a>(
        &'a self,
        id: &'a str,
        state: Bytes,
        expected: Option<u64>,
        ttl: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Removes it; nothing there is fine.
    ///
    /// # Errors
    /// The storage's failure.
    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>>;
}

/// What a [`TokenStore`] holds under one name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredState {
    /// As it was saved.
    pub state: Bytes,
    /// Which save that was, in the storage's own counting.
    pub version: u64,
}
