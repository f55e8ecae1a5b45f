//! A clock that moves only when told to.

use std::collections::BTreeMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use parking_lot::Mutex;

use super::{Clock, Monotonic, Timestamp};
use crate::BoxFuture;

/// Virtual time for tests: a 30-day sleep ends when [`advance`](Self::advance) says so.
///
/// Clones share the time.
///
/// ```
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// use std::time::Duration;
/// use resurge_store::{Clock, VirtualClock};
/// let clock = VirtualClock::new();
/// let month = Duration::from_secs(30 * 24 * 3600);
/// let sleeper = tokio::spawn(clock.sleep(month));
/// clock.advance(month);
/// sleeper.await.unwrap(); // in no time
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct VirtualClock {
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    /// Since the epoch; finer than a `Timestamp`, so that small steps add up.
    wall: Duration,
    monotonic: Monotonic,
    /// Ordered by deadline, then by arrival.
    sleepers: BTreeMap<(Monotonic, u64), Waker>,
    next_id: u64,
}

impl Default for State {
    fn default() -> Self {
        // 2020-01-01: recognisable, and far enough from zero for tests that go back.
        let wall = Duration::from_secs(1_577_836_800);
        Self { wall, monotonic: Monotonic::default(), sleepers: BTreeMap::new(), next_id: 0 }
    }
}

impl VirtualClock {
    /// A clock at 2020-01-01 00:00 UTC.
    pub fn new() -> Self {
        Self::default()
    }

    /// A clock at `wall`.
    pub fn starting_at(wall: Timestamp) -> Self {
        let clock = Self::new();
        clock.set_wall(wall);
        clock
    }

    /// Moves both times forward and wakes every sleeper that is due, earliest first.
    pub fn advance(&self, by: Duration) {
        let due = {
            let mut state = self.state.lock();
            state.wall = state.wall.saturating_add(by);
            state.monotonic = state.monotonic.saturating_add(by);
            let now = state.monotonic;
            let later = state.sleepers.split_off(&(now, u64::MAX));
            std::mem::replace(&mut state.sleepers, later)
        };
        due.into_values().for_each(Waker::wake);
    }

    /// Moves to the earliest sleeper's deadline and wakes it; `false` when nobody sleeps.
    pub fn advance_to_next(&self) -> bool {
        let by = {
            let state = self.state.lock();
            let Some(((deadline, _), _)) = state.sleepers.first_key_value() else { return false };
            deadline.saturating_since(state.monotonic)
        };
        self.advance(by);
        true
    }

    /// Sets wall time alone, as an administrator or a time server would. Monotonic time stays.
    pub fn set_wall(&self, wall: Timestamp) {
        self.state.lock().wall = Duration::from_millis(wall.as_millis());
    }

    /// How many tasks sleep on it.
    pub fn sleepers(&self) -> usize {
        self.state.lock().sleepers.len()
    }
}

impl Clock for VirtualClock {
    fn now(&self) -> Timestamp {
        let wall = self.state.lock().wall;
        Timestamp::from_millis(u64::try_from(wall.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        self.state.lock().monotonic
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        Box::pin(Sleep { clock: self.clone(), deadline, id: None })
    }
}

struct Sleep {
    clock: VirtualClock,
    deadline: Monotonic,
    id: Option<u64>,
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let shared = Arc::clone(&self.clock.state);
        let mut state = shared.lock();
        if state.monotonic >= self.deadline {
            return Poll::Ready(());
        }
        let id = self.id.unwrap_or_else(|| {
            state.next_id += 1;
            state.next_id
        });
        self.id = Some(id);
        state.sleepers.insert((self.deadline, id), cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        if let Some(id) = self.id {
            self.clock.state.lock().sleepers.remove(&(self.deadline, id));
        }
    }
}
