//! What came of a simulation.

use std::fmt;

use super::{Crash, Failure};

/// Every crash was survived.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Crashes simulated, each with its recovery checked: place, ending and what was left differ.
    pub crash_points: usize,
    /// How many of them crashed a second time, during the recovery.
    pub second_crashes: usize,
    /// Commits of the scenario when nothing crashes.
    pub commits: usize,
    /// Acknowledgements of the scenario when nothing crashes.
    pub acknowledged: usize,
    /// Acknowledgements checked, over all crashes.
    pub checked_acks: usize,
    /// Acknowledgements lost. Always 0: a loss is a [`SimFailure`].
    pub lost_acks: usize,
    /// Runs that made fewer commits than the one without a crash: the scenario is not deterministic.
    pub diverged: usize,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { crash_points, lost_acks, .. } = self;
        write!(f, "{crash_points} crash points, {lost_acks} lost acknowledgements")
    }
}

/// A crash that was not survived, or a scenario that fails without one.
pub struct SimFailure {
    crash: Option<Crash>,
    cause: Failure,
}

impl SimFailure {
    pub(super) fn at(crash: Crash, cause: Failure) -> Self {
        Self { crash: Some(crash), cause }
    }

    pub(super) fn without_crash(cause: impl Into<Failure>) -> Self {
        Self { crash: None, cause: cause.into() }
    }

    /// The crash; `None` when the scenario fails by itself.
    pub fn crash(&self) -> Option<&Crash> {
        self.crash.as_ref()
    }
}

impl fmt::Display for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.crash {
            None => write!(f, "without a crash: {}", self.cause),
            Some(crash) => {
                let cause = &self.cause;
                write!(
                    f,
                    "after a crash: {cause}\nto repeat it: Simulation::new().replay(\"{crash}\")"
                )
            }
        }
    }
}

/// As `Display`: this is what `unwrap` shows.
impl fmt::Debug for SimFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl std::error::Error for SimFailure {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&*self.cause)
    }
}
