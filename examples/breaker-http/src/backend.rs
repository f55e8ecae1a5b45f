//! What the service depends on, made to fail and to hang at will.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use tokio::sync::Semaphore;

/// A payment gateway that counts who called it.
#[derive(Debug)]
pub struct Backend {
    calls: AtomicU64,
    down: AtomicBool,
    slow: AtomicBool,
    /// A place for each slow call that may end.
    answers: Semaphore,
}

/// The backend's only error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Down;

impl fmt::Display for Down {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the gateway is down")
    }
}

impl std::error::Error for Down {}

impl Default for Backend {
    fn default() -> Self {
        Self {
            calls: AtomicU64::new(0),
            down: AtomicBool::new(false),
            slow: AtomicBool::new(false),
            answers: Semaphore::new(0),
        }
    }
}

impl Backend {
    /// A call, as the service makes it.
    pub async fn charge(&self) -> Result<(), Down> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        if self.slow.load(Ordering::SeqCst) {
            let answer = self.answers.acquire().await;
            answer.map_err(|_| Down)?.forget();
        }
        if self.down.load(Ordering::SeqCst) { Err(Down) } else { Ok(()) }
    }

    /// How often it was called.
    pub fn calls(&self) -> u64 {
        self.calls.load(Ordering::SeqCst)
    }

    /// Whether calls fail from now on.
    pub fn set_down(&self, down: bool) {
        self.down.store(down, Ordering::SeqCst);
    }

    /// Whether calls wait for [`answer`](Self::answer) from now on.
    pub fn set_slow(&self, slow: bool) {
        self.slow.store(slow, Ordering::SeqCst);
    }

    /// Lets this many waiting calls go on.
    pub fn answer(&self, calls: usize) {
        self.answers.add_permits(calls);
    }
}
