//! Runs that wait behind gates: who is released, when, and in which order.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::Timestamp;
use tokio::sync::Notify;

use crate::engine::Engine;
use crate::gate::Gate;
use crate::signal::RELEASED;

/// After one got through, the others follow within this time, each at a random moment.
const SPREAD: Duration = Duration::from_secs(1);

#[derive(Debug, Default)]
pub(crate) struct Parking {
    lots: Mutex<HashMap<String, Lot>>,
    changed: Notify,
}

#[derive(Debug)]
struct Lot {
    gate: Arc<dyn Gate>,
    /// In the order in which they were parked.
    waiting: BTreeMap<Turn, Arc<str>>,
    places: HashMap<Arc<str>, Place>,
    next: u64,
    attended: bool,
}

/// Since when, and who came first among several of one moment.
type Turn = (Timestamp, u64);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Waiting(Turn),
    /// Let go, and not heard of since.
    Released(Turn),
}

/// A run's place in the lot of a gate.
#[derive(Debug)]
pub(crate) struct Ticket {
    engine: Arc<Engine>,
    gate: String,
    run: Arc<str>,
}

impl Ticket {
    pub(crate) fn is_released(&self) -> bool {
        let lots = self.engine.parking.lots.lock();
        let place = lots.get(&self.gate).and_then(|lot| lot.places.get(&self.run));
        !matches!(place, Some(Place::Waiting(_)))
    }
}

impl Engine {
    /// Takes a place behind a gate. A run that was released and refused again keeps its turn.
    ///
    /// One that was parked before a crash keeps it by `since`, when it was parked first.
    pub(crate) fn park_behind(
        self: &Arc<Self>,
        gate: &Arc<dyn Gate>,
        run: &Arc<str>,
        since: Timestamp,
    ) -> Ticket {
        let name = gate.name().to_owned();
        let attend = {
            let mut lots = self.parking.lots.lock();
            let lot = lots.entry(name.clone()).or_insert_with(|| Lot::new(gate));
            lot.gate = Arc::clone(gate);
            lot.enter(run, since);
            !std::mem::replace(&mut lot.attended, true)
        };
        self.parking.changed.notify_waiters();
        if attend {
            self.runtime.spawn(attend_lot(Arc::downgrade(self), name.clone()));
        }
        Ticket { engine: Arc::clone(self), gate: name, run: Arc::clone(run) }
    }

    /// The run got through a gate, ended, or no longer waits for it.
    pub(crate) fn left_parking(&self, run: &Arc<str>) -> bool {
        self.left_gates(run, &[])
    }

    /// The run waits behind these gates only.
    pub(crate) fn left_gates(&self, run: &Arc<str>, but: &[&str]) -> bool {
        let mut changed = false;
        self.parking.lots.lock().retain(|name, lot| {
            if but.contains(&name.as_str()) {
                return true;
            }
            if let Some(Place::Waiting(at)) = lot.places.get(run) {
                lot.waiting.remove(at);
            }
            changed |= lot.places.remove(run).is_some();
            lot.attended || !lot.places.is_empty()
        });
        if changed {
            self.parking.changed.notify_waiters();
        }
        changed
    }

    /// Whether the run has a place behind some gate.
    pub(crate) fn is_parked(&self, run: &Arc<str>) -> bool {
        self.parking.lots.lock().values().any(|lot| lot.places.contains_key(run))
    }
}

impl Lot {
    fn new(gate: &Arc<dyn Gate>) -> Self {
        Self {
            gate: Arc::clone(gate),
            waiting: BTreeMap::new(),
            places: HashMap::new(),
            next: 0,
            attended: false,
        }
    }

    fn enter(&mut self, run: &Arc<str>, since: Timestamp) {
        let turn = match self.places.get(run) {
            Some(Place::Waiting(_)) => return,
            Some(Place::Released(turn)) => *turn,
            None => {
                self.next += 1;
                (since, self.next)
            }
        };
        self.waiting.insert(turn, Arc::clone(run));
        self.places.insert(Arc::clone(run), Place::Waiting(turn));
    }

    fn release_oldest(&mut self) -> Option<Arc<str>> {
        let (turn, run) = self.waiting.pop_first()?;
        self.places.insert(Arc::clone(&run), Place::Released(turn));
        Some(run)
    }
}

/// What became of the run released last.
enum Probe {
    GotThrough,
    RefusedAgain,
}

/// Lets runs go, oldest first. Ends when nobody waits behind the gate.
async fn attend_lot(engine: Weak<Engine>, name: String) {
    loop {
        let released = {
            let Some(engine) = engine.upgrade() else { return };
            let mut lots = engine.parking.lots.lock();
            let Some(lot) = lots.get_mut(&name) else { return };
            if lot.waiting.is_empty() || engine.is_closing() {
                lot.attended = false;
                if lot.places.is_empty() {
                    lots.remove(&name);
                }
                return;
            }
            lot.gate.released()
        };
        released.await;
        let Some(run) = release_one(&engine, &name) else { continue };
        let Some(Probe::GotThrough) = probe(&engine, &name, &run).await else { continue };
        // The gate is open for one at least: the others follow, spread in time.
        let Some(strong) = engine.upgrade() else { return };
        let clock = Arc::clone(strong.store.clock());
        let waiting = strong.parking.lots.lock().get(&name).map_or(0, |lot| lot.waiting.len());
        let share = SPREAD.checked_div(u32::try_from(waiting.max(1)).unwrap_or(u32::MAX));
        let pause = share.unwrap_or_default().mul_f64(strong.fraction());
        drop(strong);
        clock.sleep(pause).await;
    }
}

fn release_one(engine: &Weak<Engine>, name: &str) -> Option<Arc<str>> {
    let engine = engine.upgrade()?;
    let run = engine.parking.lots.lock().get_mut(name)?.release_oldest()?;
    engine.wake(&run, RELEASED);
    Some(run)
}

async fn probe(engine: &Weak<Engine>, name: &str, run: &Arc<str>) -> Option<Probe> {
    loop {
        let strong = engine.upgrade()?;
        let changed = strong.parking.changed.notified();
        tokio::pin!(changed);
        changed.as_mut().enable();
        let place = strong.parking.lots.lock().get(name).and_then(|l| l.places.get(run).copied());
        match place {
            None => return Some(Probe::GotThrough),
            Some(Place::Waiting(_)) => return Some(Probe::RefusedAgain),
            Some(Place::Released(_)) => {}
        }
        changed.await;
    }
}
