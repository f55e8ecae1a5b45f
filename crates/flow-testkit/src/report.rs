//! What came of going through all crashes.

use std::error::Error;
use std::fmt;

use resurge_testkit::Failure;
use resurge_testkit::sim::{Crash, SimFailure};

/// Every crash was survived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CrashReport {
    /// Decides timing, randomness and the choice among what crashes take.
    pub seed: u64,
    /// Crashes simulated, each with the flows started again and driven to their end.
    pub crash_points: usize,
    /// How many of them crashed a second time, during the recovery.
    pub second_crashes: usize,
    /// Commits of the script when nothing crashes.
    pub commits: usize,
    /// Effects when nothing crashes.
    pub effects: usize,
    /// Effects checked, over all crashes.
    pub checked_effects: usize,
    /// Effects that happened once more, all of steps that were in flight or not yet durable.
    pub repeated: usize,
    /// Crashes whose script made fewer commits than without a crash: the script is not deterministic.
    pub diverged: usize,
}

impl fmt::Display for CrashReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, crash_points, second_crashes, checked_effects, repeated, .. } = self;
        write!(
            f,
            "{crash_points} crash points ({second_crashes} crashed again while recovering), seed {seed}: \
             the same result at each; {checked_effects} effects, {repeated} of them once more, all in flight or not yet durable"
        )
    }
}

/// A crash that was not survived, or a script that fails without one. Its text says how to repeat it.
pub struct CrashFailure {
    crash: Option<Crash>,
    cause: Failure,
}

impl CrashFailure {
    pub(crate) fn without_crash(cause: impl Into<Failure>) -> Self {
        Self { crash: None, cause: cause.into() }
    }

    /// The crash; `None` when the script fails by itself.
    pub fn crash(&self) -> Option<&Crash> {
        self.crash.as_ref()
    }
}

impl From<SimFailure> for CrashFailure {
    fn from(failure: SimFailure) -> Self {
        let crash = failure.crash().cloned();
        let cause = failure.source().map_or_else(|| failure.to_string(), ToString::to_string);
        Self { crash, cause: cause.into() }
    }
}

impl fmt::Display for CrashFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &self.cause;
        match &self.crash {
            None => write!(f, "without a crash: {cause}"),
            Some(crash) => write!(
                f,
                "after a crash: {cause}\nto repeat it: CrashPoints::new().replay(\"{crash}\")"
            ),
        }
    }
}

/// As `Display`: this is what `unwrap` shows.
impl fmt::Debug for CrashFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for CrashFailure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.cause)
    }
}
