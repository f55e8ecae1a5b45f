//! What can be wrong with a frame. No text holds a part of it.

/// Why a frame is not taken, or not made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// Longer than the limit; it was not looked at.
    #[error("a frame of {len} bytes; the limit is {limit}")]
    TooLarge {
        /// Its length, in bytes.
        len: usize,
        /// The limit given.
        limit: usize,
    },
    /// No JSON object with the name of an event, once.
    #[error("not a frame")]
    Malformed,
    /// A join of another version of the protocol.
    #[error("version {found} of the protocol is not spoken here")]
    Version {
        /// The one the client speaks.
        found: u32,
    },
    /// The first frame is no join, or a later one is.
    #[error("a join is the first frame, and only the first")]
    OutOfTurn,
    /// What came with the event is not what was expected.
    #[error("the payload is not what the event comes with")]
    Payload,
    /// A name that events of an application cannot have.
    #[error("the name of the event is reserved")]
    Reserved,
    /// What is to be sent refused to be serialised.
    #[error("the payload does not serialise")]
    Encode,
}

impl FrameError {
    /// The code to close the connection with.
    pub fn close_code(&self) -> u16 {
        match self {
            Self::Reserved | Self::Encode => super::close::FAILED,
            _ => super::close::PROTOCOL,
        }
    }
}
