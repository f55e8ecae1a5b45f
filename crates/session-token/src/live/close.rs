//! Why a connection is closed, as the codes of a WebSocket.
//!
//! The client comes back after every code but [`NORMAL`] and those of [`FINAL`]; an application may use others of these, say 4401
//! for who must log in first.

use std::ops::RangeInclusive;

use crate::error::{PublicError, SessionError};

/// It is over; nobody comes back.
pub const NORMAL: u16 = 1000;
/// What was asked failed here; the client comes back to what was saved last.
pub const FAILED: u16 = 1011;
/// The server ends, or the session did: come back, and be told how it stands.
pub const RESTART: u16 = 1012;
/// Not now. The token stays good.
pub const TRY_AGAIN: u16 = 1013;
/// The client heard nothing for too long. Only clients send it.
pub const TIMEOUT: u16 = 4008;
/// What came is not of this protocol. Coming back would not help.
pub const PROTOCOL: u16 = 4400;
/// The session was taken over somewhere else. Who would come back would fight for it.
pub const SUPERSEDED: u16 = 4409;
/// After these no client comes back by itself.
pub const FINAL: RangeInclusive<u16> = 4400..=4499;

/// The code to close with when a call for a session failed that a client had joined, or was about to.
///
/// ```
/// use resurge_session_token::{SessionError, live};
/// let superseded = SessionError::Conflict { current: 7 };
/// assert_eq!(live::close_code(&superseded), live::close::SUPERSEDED);
/// assert_eq!(live::close_code(&SessionError::Revoked), live::close::RESTART);
/// assert_eq!(live::close_code(&SessionError::Closed), live::close::TRY_AGAIN);
/// ```
pub fn close_code(error: &SessionError) -> u16 {
    match error {
        SessionError::Conflict { .. } => SUPERSEDED,
        SessionError::Capacity { .. }
        | SessionError::Closed
        | SessionError::Store(_)
        | SessionError::NotYetValid => TRY_AGAIN,
        error if error.public() == PublicError::RecoveryUnavailable => RESTART,
        _ => FAILED,
    }
}
