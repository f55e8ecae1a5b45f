//! What a token is worth, given what is stored: pure, with the time as an argument.

use std::time::Duration;

use crate::error::{Result, SessionError};
use crate::indexed::Loaded;
use crate::policy::ReusePolicy;

/// An authentic token, beside the session it names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It is the newest.
    Current,
    /// The one before the newest, within its grace time.
    Grace,
    /// Older than that.
    Old,
}

/// What the token of this generation is worth. Errors come in this order: revoked, expired, unknown.
pub(crate) fn standing(
    loaded: &Loaded,
    purpose: [u8; 8],
    generation: u32,
    now: u64,
    reuse: ReusePolicy,
) -> Result<Standing> {
    let session = &loaded.session;
    if session.purpose != purpose {
        return Err(SessionError::NotFound);
    }
    if session.revoked || session.created < loaded.cutoff {
        return Err(SessionError::Revoked);
    }
    if let Some(since) = now.checked_sub(session.deadline) {
        return Err(SessionError::Expired { since: Duration::from_millis(since) });
    }
    if generation > session.generation {
        // The store is older than the token: a backup, or a write that was lost.
        return Err(SessionError::NotFound);
    }
    if generation == session.generation {
        return Ok(Standing::Current);
    }
    let rotates = matches!(reuse, ReusePolicy::RotateOnRecover { .. });
    let previous = generation.checked_add(1) == Some(session.generation);
    Ok(if rotates && previous && now < session.grace_until {
        Standing::Grace
    } else {
        Standing::Old
    })
}
