//! Storage that costs as little as storage can: nothing at all, or a map behind a lock.

use std::collections::HashMap;
use std::pin::pin;
use std::sync::{Mutex, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use bytes::Bytes;
use resurge_session_token::{StoredState, TokenStore};
use resurge_store::{BoxFuture, ErrorKind, StoreError};

/// Polls until it is done: nothing here waits for anything.
pub fn drive<F: Future>(future: F) -> F::Output {
    let mut future = pin!(future);
    let mut cx = Context::from_waker(Waker::noop());
    loop {
        match future.as_mut().poll(&mut cx) {
            Poll::Ready(output) => return output,
            Poll::Pending => std::hint::spin_loop(),
        }
    }
}

/// Keeps nothing.
#[derive(Debug)]
pub struct Nothing;

impl TokenStore for Nothing {
    fn compares_and_swaps(&self) -> bool {
        true
    }

    fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<StoredState>, StoreError>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    fn save<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Option<u64>,
        _: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn delete<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A map behind a lock, as tower-sessions' `MemoryStore`; gone with the process.
#[derive(Debug, Default)]
pub struct Shelf(Mutex<HashMap<String, StoredState>>);

impl TokenStore for Shelf {
    fn compares_and_swaps(&self) -> bool {
        true
    }

    fn load<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<Option<StoredState>, StoreError>> {
        let found = self.0.lock().unwrap_or_else(PoisonError::into_inner).get(id).cloned();
        Box::pin(std::future::ready(Ok(found)))
    }

    fn save<'a>(
        &'a self,
        id: &'a str,
        state: Bytes,
        expected: Option<u64>,
        _: Duration,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let mut shelf = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = shelf.get(id).map(|stored| stored.version);
        let result = if found == expected {
            let version = found.map_or(0, |version| version + 1);
            shelf.insert(id.to_owned(), StoredState { state, version });
            Ok(())
        } else {
            Err(StoreError::new(ErrorKind::Conflict, "changed"))
        };
        Box::pin(std::future::ready(result))
    }

    fn delete<'a>(&'a self, id: &'a str) -> BoxFuture<'a, Result<(), StoreError>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        Box::pin(std::future::ready(Ok(())))
    }
}
