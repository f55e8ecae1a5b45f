//! Whether a call may pass when the circuit is not simply closed.

use super::Machine;
use crate::state::{Mode, State};
use crate::transition::At;

/// How a call was admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Admission {
    /// Counted in the windows.
    Counted,
    /// Its result helps to decide.
    Probe,
    /// Its result means nothing.
    Uncounted,
}

/// Why a call was not admitted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) state: State,
    pub(crate) mode: Mode,
    /// When it is worth trying again; none when nobody knows.
    pub(crate) until_ns: Option<u64>,
}

impl Machine {
    /// Admits a call, moving on what time has ended.
    pub(crate) fn admit(&mut self, now: At) -> Result<Admission, Refusal> {
        let refuse = |state, until_ns| Err(Refusal { state, mode: self.mode, until_ns });
        match self.mode {
            Mode::ForcedOpen => return refuse(State::Open, None),
            Mode::Disabled => return Ok(Admission::Uncounted),
            Mode::Active | Mode::Shadow => {}
        }
        self.elapse(now);
        // A wait for probes that ended by opening may have ended long ago, but the open time is new.
        let refuse = |state, until_ns| Err(Refusal { state, mode: self.mode, until_ns });
        match self.state {
            State::Closed => Ok(Admission::Counted),
            State::HalfOpen if !self.is_full() => {
                self.probes.admit(now);
                Ok(Admission::Probe)
            }
            State::HalfOpen => refuse(State::HalfOpen, None),
            state @ (State::Open | State::Repairing) => refuse(state, Some(self.until_ns())),
        }
    }
}
