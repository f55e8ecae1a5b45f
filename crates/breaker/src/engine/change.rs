//! Changing the machine, and making the change visible: the windows first, the word last.

use std::sync::Arc;

use super::{Engine, Host, Inner, NEVER, TIME_END, TIME_START};
use crate::config::BreakerConfig;
use crate::error::ConfigError;
use crate::machine::{Machine, nanos};
use crate::state::{Mode, State};
use crate::sync::Ordering;
use crate::transition::{At, Change};
use crate::window::{Shape, WindowSet};
use crate::word::{MAX_SETS, Word};

impl Engine {
    /// Changes the machine and makes the change visible.
    pub(crate) fn command<R>(
        &self,
        now: At,
        host: &impl Host,
        change: impl FnOnce(&mut Machine) -> R,
    ) -> R {
        let mut inner = self.inner.lock();
        inner.machine.last_failure = self.tallies.last_kind();
        let result = change(&mut inner.machine);
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        result
    }

    /// Looks at the machine.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&Machine) -> R) -> R {
        look(&self.inner.lock().machine)
    }

    /// Takes the next thing to tell, in order.
    pub(crate) fn next_change(&self) -> Option<Change> {
        self.inner.lock().machine.outbox.pop_front()
    }

    /// Stores the word; whether there is something to tell.
    pub(super) fn publish(&self, inner: &mut Inner, now_ns: u64) -> bool {
        let Inner { machine, set, cycle, frozen } = inner;
        let was = self.word();
        if was.state() == State::HalfOpen && machine.state() == State::Open {
            *frozen = (machine.facts().probes.counts(), 0);
        }
        if let Some(windows) = self.set(*set) {
            if was.state() == State::Closed && machine.state() != State::Closed {
                *frozen = windows.view(*cycle, now_ns);
            }
            if machine.cycle() != *cycle {
                let counted = windows.reset(machine.cycle(), now_ns);
                self.tallies.requests_before.fetch_add(counted, Ordering::Relaxed);
                *cycle = machine.cycle();
            }
        }
        self.until_ns.store(machine.until_ns(), Ordering::Release);
        let word = Word::new(
            machine.state(),
            machine.mode(),
            machine.is_full(),
            *set,
            *cycle,
            machine.generation(),
        );
        // ORDER: release, and last: the windows and the time belong to this word.
        self.word.store(word.0, Ordering::Release);
        !machine.outbox.is_empty()
    }

    /// Knobs the hot path reads.
    pub(super) fn take_over(&self, config: &BreakerConfig, inner: &Inner) {
        let slow = config.slow_after.map_or(NEVER, nanos);
        let drop_after = config.drop_after().map_or(NEVER, nanos);
        self.slow_after_ns.store(slow, Ordering::Relaxed);
        self.drop_after_ns.store(drop_after, Ordering::Relaxed);
        let call_timeout = config.call_timeout.map_or(NEVER, nanos);
        self.call_timeout_ns.store(call_timeout, Ordering::Relaxed);
        self.waits.store(u32::from(!config.fast_fail), Ordering::Relaxed);
        let slices = self.set(inner.set).is_some_and(WindowSet::is_timed);
        let start = slow != NEVER || drop_after != NEVER || config.timing;
        let end = slow != NEVER || config.timing || slices;
        let timed = if start { TIME_START } else { 0 } | if end { TIME_END } else { 0 };
        self.timed.store(timed, Ordering::Relaxed);
    }

    /// Takes a checked configuration over. Everything stays, but the counts when windows changed.
    pub(crate) fn reconfigure(
        &self,
        config: Arc<BreakerConfig>,
        host: &impl Host,
    ) -> Result<(), ConfigError> {
        let now = host.at();
        let mut inner = self.inner.lock();
        let shape = Shape::of(&config);
        let same = |set: &WindowSet| *set.shape() == shape;
        if self.set(inner.set).is_some_and(same) {
            if let Some(set) = self.set(inner.set) {
                set.set_thresholds(&config);
            }
        } else {
            let place = (0..MAX_SETS).find(|place| self.set(*place).is_none_or(same));
            let Some((place, slot)) = place.and_then(|at| Some((at, self.sets.get(at)?))) else {
                let text = format!("windows were changed {MAX_SETS} times; build a new breaker");
                return Err(ConfigError::new("trip", text));
            };
            inner.machine.begin_cycle();
            let cycle = inner.machine.cycle();
            // Who still records into the old windows finds their cycle over.
            let counted = self.set(inner.set).map_or(0, |old| old.reset(cycle, now.ns));
            self.tallies.requests_before.fetch_add(counted, Ordering::Relaxed);
            let set = slot.get_or_init(|| Box::new(WindowSet::new(&config, cycle, now.ns)));
            set.renew(cycle);
            set.reset(cycle, now.ns);
            set.set_thresholds(&config);
            inner.set = place;
            inner.cycle = cycle;
        }
        self.take_over(&config, &inner);
        inner.machine.config = config;
        inner.machine.act_on_probes(now);
        self.look_again(&mut inner, now);
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        host.released();
        Ok(())
    }

    /// Changes the mode. Who comes back to active with a rule that holds opens.
    pub(crate) fn set_mode(&self, mode: Mode, now: At, host: &impl Host) {
        let mut inner = self.inner.lock();
        inner.machine.tick(now);
        inner.machine.set_mode(mode, now);
        if mode == Mode::Active {
            self.look_again(&mut inner, now);
        }
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
    }

    /// Looks at the rules without a call: they, or what they may do, have changed.
    fn look_again(&self, inner: &mut Inner, now: At) {
        let generation = inner.machine.generation();
        let reason = self.set(inner.set).and_then(|set| set.verdict(inner.cycle, now.ns));
        if let Some(reason) = reason {
            inner.machine.last_failure = self.tallies.last_kind();
            inner.machine.trip_by(generation, reason, None, now);
        }
    }
}
