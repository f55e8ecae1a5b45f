//! What people and supervisors do to a circuit.

use std::time::Duration;

use resurge_store::Timestamp;

use crate::breaker::Breaker;
use crate::engine::Host;
use crate::error::IllegalTransition;
use crate::machine::Machine;
use crate::repair::Repair;
use crate::state::Mode;
use crate::transition::At;

impl Breaker {
    /// Opens the circuit as if a rule had held: in shadow mode it only says that it would have. An open
    /// circuit stays as it is.
    pub fn trip(&self, why: &str) {
        self.command(|machine, now| machine.trip(why, None, now));
    }

    /// Opens the circuit for this long, whatever the configuration says; an open one stays open for
    /// this long from now on.
    pub fn trip_for(&self, why: &str, open_for: Duration) {
        self.command(|machine, now| machine.trip(why, Some(open_for), now));
        self.root.shared.start_timer();
    }

    /// Opens the circuit until this moment.
    pub fn trip_until(&self, why: &str, until: Timestamp) {
        let open_for = until.saturating_since(self.root.shared.clock.now());
        self.trip_for(why, open_for);
    }

    /// Closes the circuit and forgets what was counted: windows, streak, attempts. Totals stay, and so
    /// does the mode.
    pub fn reset(&self, why: &str) {
        self.command(|machine, now| machine.reset(why, now));
    }

    /// Lets probes through now: what was repaired otherwise may close by their results. A half-open
    /// circuit stays as it is.
    ///
    /// # Errors
    /// A closed circuit has nothing to probe.
    pub fn half_open(&self, why: &str) -> Result<(), IllegalTransition> {
        self.command(|machine, now| machine.half_open(why, now))
    }

    /// Changes the mode. It is kept across restarts and changed by nobody else.
    ///
    /// Results of calls that began under another mode count in the totals only. Shadow closes the
    /// circuit; from the others it comes back as it was. Back to active, the rules are looked at right
    /// away.
    pub fn set_mode(&self, mode: Mode) {
        let shared = &*self.root.shared;
        shared.engine.set_mode(mode, shared.at(), shared);
    }

    /// Begins a repair: calls are rejected as [`State::Repairing`](crate::State::Repairing) until it
    /// ends, at most for `repair_at_most`. None while another one runs, and in shadow mode, which admits
    /// everything.
    pub fn begin_repair(&self) -> Option<Repair> {
        let generation = self.command(Machine::begin_repair)?;
        Some(Repair::new(self.clone(), generation))
    }

    pub(crate) fn command<R>(&self, change: impl FnOnce(&mut Machine, At) -> R) -> R {
        let now = self.root.shared.at();
        let shared = &*self.root.shared;
        shared.engine.command(now, shared, |machine| {
            machine.tick(now);
            change(machine, now)
        })
    }
}
