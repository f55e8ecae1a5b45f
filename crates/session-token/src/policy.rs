//! What a manager allows: reuse, duplicates, eviction, kinds of tokens.

use std::time::Duration;

/// What happens to a token that recovered a session.
///
/// `docs/guide/choosing-a-reuse-policy.md` compares them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ReusePolicy {
    /// It recovers again and again until its time is over. A stolen token is not noticed.
    UntilExpiry,
    /// Each recovery returns a successor. For `grace` the old token still gives that same successor, for an
    /// answer that was lost or a second tab; afterwards it is a replay, and the whole family is revoked.
    RotateOnRecover {
        /// How long the token before the current one is taken.
        grace: Duration,
    },
    /// Each recovery returns a successor, and the old token is worth nothing from then on. A client whose
    /// answer is lost loses its session.
    SingleUse,
}

impl ReusePolicy {
    /// Thirty seconds.
    pub const DEFAULT_GRACE: Duration = Duration::from_secs(30);
}

impl Default for ReusePolicy {
    /// Rotation with [`DEFAULT_GRACE`](Self::DEFAULT_GRACE).
    fn default() -> Self {
        Self::RotateOnRecover { grace: Self::DEFAULT_GRACE }
    }
}

/// What a second recovery with the same token gets within the grace time: a lost answer that is asked for again,
/// or a tab that was duplicated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum OnDuplicate {
    /// The same session and the same successor. Both may save; who saves over what they did not read is told
    /// only by [`save_if`](crate::SessionManager::save_if).
    #[default]
    Share,
    /// A session of its own, with a copy of the state. It is as old as the first one: it ends no later, and what revokes
    /// by age or subject revokes both.
    Fork,
    /// `Replayed`; nothing is revoked.
    Reject,
}

/// Who goes when a limit is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Eviction {
    /// The session that would expire first.
    #[default]
    SoonestExpiry,
    /// The session that was created first.
    Oldest,
    /// Nobody: the new session is refused with `Capacity`.
    Reject,
}

impl Eviction {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::SoonestExpiry => "soonest_expiry",
            Self::Oldest => "oldest",
            Self::Reject => "reject",
        }
    }
}

/// What a token is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TokenKind {
    /// `st1`, 114 or 135 characters: names the session; the state is in the store. A save leaves it as it is, so an
    /// answer to a save may be lost: what live connections want.
    #[default]
    Reference,
    /// `st1` with the state in it, sealed. Every save gives a new token; the store keeps only what tells whether
    /// it is the newest. Another purpose or binding shows as `InvalidSignature`: the seal does not open. Asked for again
    /// within the grace time, a successor is sealed again: another text, of the same generation, with the same state.
    ///
    /// A save gives no grace: if its token does not arrive, because the process was killed or the connection broke,
    /// the one before it is `Replayed`, and the client begins afresh. For requests with an answer, or for states that
    /// may be lost; not for live connections.
    SealedState,
    /// 64 characters. No key id (all keys are tried), no purpose of its own, a 64-bit hash of the subject that can
    /// be guessed, no generation: only for [`ReusePolicy::UntilExpiry`], without binding.
    Compact48,
}
