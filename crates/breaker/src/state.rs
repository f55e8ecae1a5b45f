//! The two things a circuit is in: a state, which it changes by itself, and a mode, which people set.

use std::fmt;

use serde::{Deserialize, Serialize};

/// What a circuit does with calls. It moves by itself, by what it sees.
///
/// Serialised as `closed`, `open`, `half_open`, `repairing`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum State {
    /// Calls pass and are counted.
    #[default]
    Closed,
    /// Calls are rejected until the open time is over.
    Open,
    /// A few calls pass, as probes; their results decide.
    HalfOpen,
    /// Calls are rejected while somebody repairs what is behind the breaker.
    Repairing,
}

impl State {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Closed, Self::Open, Self::HalfOpen, Self::Repairing];

    /// As it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::Repairing => "repairing",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What people decided about a circuit. It stays until they decide otherwise, across restarts too.
///
/// Serialised as `active`, `shadow`, `forced_open`, `disabled`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Mode {
    /// It trips and recovers as configured.
    #[default]
    Active,
    /// It admits everything and counts, but never trips; it says once when it would have.
    Shadow,
    /// It rejects everything, without end.
    ForcedOpen,
    /// It admits everything and counts nothing.
    Disabled,
}

impl Mode {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Active, Self::Shadow, Self::ForcedOpen, Self::Disabled];

    /// As it is serialised.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Shadow => "shadow",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
        }
    }
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
