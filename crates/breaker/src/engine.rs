//! The hot path: one word decides whether a call passes, and lock-free counts whether the circuit opens.
//!
//! The machine is behind a lock that only transitions, probes and commands take. It is always
//! changed first; then the windows are emptied if a new period begins, and last the word is stored.

use std::sync::{Arc, OnceLock};

use crate::machine::{Admission, Machine, Refusal};
use crate::state::{Mode, State};
use crate::sync::{AtomicU32, AtomicU64, Mutex, Ordering};
use crate::transition::At;
use crate::window::{Counts, WindowSet};
use crate::word::{MAX_SETS, Word};

mod change;
mod ends;
mod ticket;
mod view;

pub(crate) use ends::{Ended, Plainly};
pub(crate) use ticket::Ticket;

use ticket::NOT_TIMED;

/// What the engine asks of whoever owns it.
pub(crate) trait Host {
    /// Monotonic time, in nanoseconds.
    fn ns(&self) -> u64;
    /// Both clocks.
    fn at(&self) -> At;
    /// The outbox may hold something. Called without the lock.
    fn changed(&self);
    /// A probe's place may be free. Called without the lock.
    fn released(&self);
}

const NEVER: u64 = u64::MAX;

/// Calls need the time at their start.
const TIME_START: u32 = 1;
/// Calls need the time at their end.
const TIME_END: u32 = 2;

/// Lifetime counts.
#[derive(Debug)]
pub(crate) struct Tallies {
    /// Calls that ended and are not in the current period's count.
    pub(crate) requests_before: AtomicU64,
    pub(crate) failures: AtomicU64,
    pub(crate) slow: AtomicU64,
    pub(crate) ignored: AtomicU64,
    pub(crate) cancelled: AtomicU64,
    pub(crate) panicked: AtomicU64,
    pub(crate) rejected: AtomicU64,
    /// Monotonic, plus 1; 0 for never.
    pub(crate) last_success_ns: AtomicU64,
    /// Wall milliseconds, plus 1; 0 for never.
    pub(crate) last_failure_ms: AtomicU64,
    /// How it failed, as its kind's number plus 1.
    last_kind: AtomicU32,
}

#[derive(Debug)]
struct Inner {
    machine: Machine,
    set: usize,
    /// The cycle the windows are in.
    cycle: u16,
    /// What the windows held when the circuit left the closed state last.
    frozen: (Counts, u64),
}

#[derive(Debug)]
pub(crate) struct Engine {
    word: AtomicU64,
    until_ns: AtomicU64,
    slow_after_ns: AtomicU64,
    drop_after_ns: AtomicU64,
    call_timeout_ns: AtomicU64,
    timed: AtomicU32,
    /// 1 when callers wait instead of being rejected.
    waits: AtomicU32,
    sets: [OnceLock<Box<WindowSet>>; MAX_SETS],
    pub(crate) tallies: Tallies,
    inner: Mutex<Inner>,
}

impl Engine {
    pub(crate) fn new(machine: Machine, now_ns: u64) -> Self {
        let config = Arc::clone(&machine.config);
        let cycle = machine.cycle();
        let engine = Self {
            word: AtomicU64::new(0),
            until_ns: AtomicU64::new(NEVER),
            slow_after_ns: AtomicU64::new(NEVER),
            drop_after_ns: AtomicU64::new(NEVER),
            call_timeout_ns: AtomicU64::new(NEVER),
            timed: AtomicU32::new(0),
            waits: AtomicU32::new(0),
            sets: [const { OnceLock::new() }; MAX_SETS],
            tallies: Tallies {
                requests_before: AtomicU64::new(0),
                failures: AtomicU64::new(0),
                slow: AtomicU64::new(0),
                ignored: AtomicU64::new(0),
                cancelled: AtomicU64::new(0),
                panicked: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                last_success_ns: AtomicU64::new(0),
                last_failure_ms: AtomicU64::new(0),
                last_kind: AtomicU32::new(0),
            },
            inner: Mutex::new(Inner { machine, set: 0, cycle, frozen: (Counts::default(), 0) }),
        };
        if let Some(slot) = engine.sets.first() {
            slot.get_or_init(|| Box::new(WindowSet::new(&config, cycle, now_ns)));
        }
        let mut inner = engine.inner.lock();
        engine.take_over(&config, &inner);
        engine.publish(&mut inner, now_ns);
        drop(inner);
        engine
    }

    #[inline]
    fn word(&self) -> Word {
        // ORDER: acquire; who sees a word sees the windows that were emptied before it was stored.
        Word(self.word.load(Ordering::Acquire))
    }

    #[inline]
    fn set(&self, place: usize) -> Option<&WindowSet> {
        self.sets.get(place).and_then(OnceLock::get).map(|set| &**set)
    }

    #[inline]
    fn start_ns(&self, host: &impl Host) -> u64 {
        let timed = self.timed.load(Ordering::Relaxed);
        if timed & TIME_START == 0 { NOT_TIMED } else { host.ns() }
    }

    /// Admits a call: one load when the circuit is closed and nothing is timed.
    #[inline]
    pub(crate) fn admit(&self, host: &impl Host) -> Result<Ticket, Refusal> {
        self.admit_plain(host).map_or_else(|| self.admit_otherwise(host), Ok)
    }

    /// Admits a call if the circuit is closed and active.
    #[inline]
    pub(crate) fn admit_plain(&self, host: &impl Host) -> Option<Ticket> {
        let word = self.word();
        let ticket = || Ticket::new(word.generation(), Admission::Counted, self.start_ns(host));
        word.is_plain().then(ticket)
    }

    #[cold]
    pub(crate) fn admit_otherwise(&self, host: &impl Host) -> Result<Ticket, Refusal> {
        let word = self.word();
        let generation = word.generation();
        match word.mode() {
            Mode::Disabled => {
                return Ok(Ticket::new(generation, Admission::Uncounted, NOT_TIMED));
            }
            Mode::Shadow if word.state() == State::Closed => {
                return Ok(Ticket::new(generation, Admission::Counted, self.start_ns(host)));
            }
            _ => {}
        }
        self.look_at(word, host)?;
        let mut inner = self.inner.lock();
        let now = host.at();
        let admitted = inner.machine.admit(now);
        let generation = inner.machine.generation();
        let told = self.publish(&mut inner, now.ns);
        drop(inner);
        if told {
            host.changed();
        }
        let admission = admitted?;
        Ok(Ticket::new(generation, admission, self.start_ns(host)))
    }

    /// Whether a call would be admitted now. Changes nothing.
    #[inline]
    pub(crate) fn peek(&self, host: &impl Host) -> Result<(), Refusal> {
        let word = self.word();
        if word.is_plain() { Ok(()) } else { self.look_at(word, host) }
    }

    fn look_at(&self, word: Word, host: &impl Host) -> Result<(), Refusal> {
        let (state, mode) = (word.state(), word.mode());
        match mode {
            Mode::ForcedOpen => {
                return Err(Refusal { state: State::Open, mode, until_ns: None });
            }
            Mode::Disabled => return Ok(()),
            Mode::Active | Mode::Shadow => {}
        }
        let waits = match state {
            State::Closed => return Ok(()),
            State::HalfOpen => word.is_full(),
            State::Open | State::Repairing => true,
        };
        let until_ns = self.until_ns.load(Ordering::Acquire);
        if !waits || host.ns() >= until_ns {
            return Ok(());
        }
        let until_ns = (state != State::HalfOpen).then_some(until_ns);
        Err(Refusal { state, mode, until_ns })
    }
}
