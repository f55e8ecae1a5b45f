//! The real clock.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use super::{Clock, Monotonic, Timestamp};
use crate::BoxFuture;

/// The system's wall and monotonic time. Sleeping needs a tokio runtime with its timer enabled.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    origin: Instant,
}

impl SystemClock {
    /// A clock whose monotonic time starts at zero now.
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    pub fn new() -> Self {
        Self { origin: Instant::now() }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the system")]
    fn now(&self) -> Timestamp {
        // A clock set before 1970 reads as the epoch.
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Timestamp::from_millis(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
    }

    fn monotonic(&self) -> Monotonic {
        Monotonic::from_origin(self.origin.elapsed())
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        match self.origin.checked_add(deadline.since_origin()) {
            Some(at) => Box::pin(tokio::time::sleep_until(at.into())),
            // Beyond what an `Instant` can say: never.
            None => Box::pin(std::future::pending()),
        }
    }
}
