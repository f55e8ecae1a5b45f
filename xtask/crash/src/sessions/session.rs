//! What a client knows of its session.

/// A session that was acknowledged.
#[derive(Clone, Debug)]
pub(super) struct Session {
    /// The newest token the client has.
    pub(super) token: String,
    /// The one before.
    pub(super) previous: Option<String>,
    /// The hour in which the one took the place of the other.
    pub(super) rotated_in: Option<u64>,
    /// The newest counter that was said to be saved, and the newest that was asked for.
    pub(super) acknowledged: u64,
    pub(super) attempted: u64,
    /// Of the state, as it was said last.
    pub(super) version: u64,
    /// It was recovered with this token, and perhaps nothing was answered.
    pub(super) asked: bool,
    /// The successor that was answered, where the client behaves as if nothing had been.
    pub(super) witness: Option<String>,
}

impl Session {
    pub(super) fn new(token: String) -> Self {
        Self {
            token,
            previous: None,
            rotated_in: None,
            acknowledged: 0,
            attempted: 0,
            version: 0,
            asked: false,
            witness: None,
        }
    }
}
