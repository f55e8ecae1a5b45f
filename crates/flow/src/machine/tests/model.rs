//! Random flows, completions in random order, crashes that keep any prefix of the records, and
//! resumes, against a naive model of what a journal says.

use std::cell::RefCell;
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::task::{Context, Poll};

use proptest::collection::vec;
use proptest::prelude::*;

use super::program::{Code, Event, Flow, Issued, Open, Shared, World, code, flow};
use super::*;
use crate::machine::SlotState::{Busy, Waiting};
use crate::record::{AttemptFailed, Parked};

/// What happens to a run from outside; numbers choose among what there is.
#[derive(Clone, Copy, Debug)]
enum Act {
    Complete { at: u8, fails: bool, sets: bool },
    Retry(u8),
    Park(u8),
    Open(u8),
    Busy(u8),
    Cancel,
    Crash(u8),
}

fn act() -> impl Strategy<Value = Act> {
    let at = any::<u8>;
    let complete = (at(), prop::bool::weighted(0.2), prop::bool::weighted(0.2))
        .prop_map(|(at, fails, sets)| Act::Complete { at, fails, sets });
    prop_oneof![
        12 => complete,
        2 => at().prop_map(Act::Retry),
        1 => at().prop_map(Act::Park),
        2 => at().prop_map(Act::Open),
        2 => at().prop_map(Act::Busy),
        1 => Just(Act::Cancel),
        2 => at().prop_map(Act::Crash),
    ]
}

/// One stay in memory.
struct Life {
    world: Shared,
    flow: Option<Flow>,
    result: Option<Result<(), Vec<Position>>>,
    records: Vec<Record>,
}

impl Life {
    /// Reads the records and replays as far as they go.
    fn begin(
        code: &Code,
        records: &[Record],
        life: usize,
        issued: &Rc<RefCell<HashMap<String, Issued>>>,
    ) -> Result<Self, (Mismatch, Shared)> {
        let machine = replay(&records[1..]);
        let issued = Rc::clone(issued);
        let world = Rc::new(RefCell::new(World { machine, life, issued, ..World::default() }));
        let flow = Some(flow(Rc::clone(&world), root(), code.clone()));
        let mut life = Self { world, flow, result: None, records: records.to_vec() };
        match life.advance() {
            Ok(()) => Ok(life),
            Err(mismatch) => Err((mismatch, Rc::clone(&life.world))),
        }
    }

    fn poll(&mut self) {
        let Some(flow) = &mut self.flow else { return };
        if let Poll::Ready(result) = flow.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
            self.result = Some(result);
            self.flow = None;
        }
    }

    /// As the driver does it: poll, reveal one, poll; then go live.
    fn advance(&mut self) -> Result<(), Mismatch> {
        self.poll();
        loop {
            let revealed = self.world.borrow_mut().machine.reveal();
            match revealed {
                Reveal::One(_) => self.poll(),
                Reveal::Mismatch(mismatch) => return Err(mismatch),
                Reveal::Nothing => {
                    if !self.world.borrow_mut().machine.go_live()? {
                        break;
                    }
                    self.poll();
                }
            }
        }
        let mut world = self.world.borrow_mut();
        self.records.extend(world.machine.take_outbox());
        assert_eq!(world.machine.last(), self.records.len() as u64, "every record has its number");
        Ok(())
    }

    /// What can still complete.
    fn waiting(&self) -> Vec<Open> {
        let world = self.world.borrow();
        let machine = &world.machine;
        let state = |open: &&Open| machine.slots.get(open.id).map(|slot| &slot.state);
        world
            .open
            .iter()
            .filter(|open| matches!(state(open), Some(Waiting | Busy)))
            .cloned()
            .collect()
    }

    fn chosen(&self, at: u8, wanted: impl Fn(&Open) -> bool) -> Option<Open> {
        let found: Vec<Open> = self.waiting().into_iter().filter(wanted).collect();
        found.get(usize::from(at) % found.len().max(1)).cloned()
    }

    fn complete(&self, open: &Open, fails: bool, values: bool) {
        let mut world = self.world.borrow_mut();
        let token = format!("outcome {}", world.issued.borrow().len());
        let outcome = if fails { err(&token) } else { ok(&token) };
        let values = if values { sets("a", &token) } else { Vec::new() };
        world.machine.complete(open.id, outcome, 1, values);
        let (position, kind) = (open.position.clone(), open.kind);
        let issued = Issued { position, kind, ordinal: world.machine.last() };
        world.issued.borrow_mut().insert(token, issued);
    }

    /// What a driver and its steps would do. False when it makes no sense now.
    fn act(&self, act: Act) -> bool {
        let step = |open: &Open| open.kind == Kind::Step;
        let machine = |f: &mut dyn FnMut(&mut Machine)| f(&mut self.world.borrow_mut().machine);
        let ending = self.world.borrow().machine.cancelled().is_some();
        match act {
            Act::Complete { at, fails, sets } => {
                let Some(open) = self.chosen(at, |_| true) else { return false };
                self.complete(&open, fails, sets);
            }
            Act::Retry(at) => {
                let found = self.chosen(at, |open| step(open) && (open.shielded || !ending));
                let Some(Open { id, .. }) = found else { return false };
                let Outcome::Err(error) = err("again") else { panic!("an error") };
                machine(&mut |machine| {
                    let attempt = machine.fact(id).map_or(0, |fact| fact.attempts) + 1;
                    machine.set_busy(id, false);
                    machine.attempt_failed(id, attempt, error.clone(), AT, sets("b", "tried"));
                });
            }
            Act::Park(at) => {
                let found = self.chosen(at, |open| step(open) && (open.shielded || !ending));
                let Some(Open { id, .. }) = found else { return false };
                machine(&mut |machine| machine.park(id, "gate", None, AT));
            }
            Act::Open(at) => {
                let Some(Open { id, .. }) = self.chosen(at, |open| !step(open)) else {
                    return false;
                };
                machine(&mut |machine| {
                    if !machine.fact(id).is_some_and(|fact| fact.opened) {
                        machine.open(id, Some(AT), None);
                    }
                });
            }
            Act::Busy(at) => {
                let Some(Open { id, .. }) = self.chosen(at, step) else { return false };
                machine(&mut |machine| machine.set_busy(id, true));
            }
            Act::Cancel => machine(&mut |machine| machine.cancel(CancelReason::Asked, AT)),
            Act::Crash(_) => return false,
        }
        true
    }

    fn trace(&self) -> Vec<(u64, Event)> {
        self.world.borrow().trace.clone()
    }

    /// What the code had seen and done when the first `kept` records were all there was. `None` when
    /// its own records of that time are lost: then it may go another way.
    fn trace_of(&self, kept: usize) -> Option<Vec<(u64, Event)>> {
        let kept = kept as u64;
        let world = self.world.borrow();
        let lost = world.by_code.iter().any(|(then, ordinal)| *then <= kept && *ordinal > kept);
        let seen = |trace: Vec<(u64, Event)>| trace.into_iter().filter(|(then, _)| *then <= kept);
        (!lost).then(|| seen(world.trace.clone()).collect())
    }
}

/// What a journal says, found the slow way.
struct Naive {
    completed: Vec<(Position, Kind)>,
    /// Kind if known, and attempts.
    facts: HashMap<Position, (Option<Kind>, u32)>,
}

impl Naive {
    fn read(records: &[Record]) -> Self {
        let mut standing: Vec<(u64, &Record)> = Vec::new();
        for (ordinal, record) in (1_u64..).zip(records) {
            match record {
                Record::Resumed(resumed) => standing = void(&standing, &resumed.positions),
                Record::Started(_) | Record::Failed(_) => {}
                other => standing.push((ordinal, other)),
            }
        }
        let (mut completed, mut facts) = (Vec::new(), HashMap::<_, (Option<Kind>, u32)>::new());
        for (_, record) in standing {
            match record {
                Record::Completed(done) => {
                    facts.remove(&done.position);
                    completed.push((done.position.clone(), done.kind));
                }
                Record::Opened(open) => {
                    facts.entry(open.position.clone()).or_default().0 = Some(open.kind);
                }
                Record::Set(set) => {
                    facts.entry(set.position.clone()).or_default().0 = Some(Kind::Set);
                }
                Record::Patched(mark) => {
                    facts.entry(mark.position.clone()).or_default().0 = Some(Kind::Patch);
                }
                Record::Parked(Parked { position, .. }) => {
                    facts.entry(position.clone()).or_default();
                }
                Record::AttemptFailed(AttemptFailed { position, attempt, .. }) => {
                    facts.entry(position.clone()).or_default().1 = *attempt;
                }
                _ => {}
            }
        }
        Self { completed, facts }
    }
}

fn place(record: &Record) -> Option<(&Position, u64)> {
    Some(match record {
        Record::Completed(r) => (&r.position, r.born),
        Record::Opened(r) => (&r.position, r.born),
        Record::AttemptFailed(r) => (&r.position, r.born),
        Record::Parked(r) => (&r.position, r.born),
        Record::Set(r) => (&r.position, r.born),
        Record::Patched(r) => (&r.position, r.born),
        _ => return None,
    })
}

fn was_cancelled(record: &Record) -> bool {
    matches!(record, Record::Completed(done) if done.outcome == cancelled(CancelReason::Asked))
}

fn void<'r>(standing: &[(u64, &'r Record)], points: &[Position]) -> Vec<(u64, &'r Record)> {
    let completed = |record: &Record| matches!(record, Record::Completed(_));
    let is_point = |record: &Record| place(record).is_some_and(|(p, _)| points.contains(p));
    let own = |point: &Position| {
        let of = |record: &Record| place(record).is_some_and(|(p, _)| p == point);
        standing.iter().any(|(_, r)| of(r) && completed(r) && !was_cancelled(r))
    };
    let cancel = standing.iter().find(|(_, r)| matches!(r, Record::CancelRequested(_)));
    let undone = cancel
        .map(|(ordinal, _)| *ordinal)
        .filter(|_| points.is_empty() || !points.iter().all(own));
    let failures: Vec<u64> = standing
        .iter()
        .filter(|(ordinal, record)| {
            let failed =
                matches!(record, Record::Completed(d) if matches!(d.outcome, Outcome::Err(_)));
            let ended = undone.is_some_and(|at| at < *ordinal) && was_cancelled(record);
            (failed && is_point(record)) || ended || undone == Some(*ordinal)
        })
        .map(|(ordinal, _)| *ordinal)
        .collect();
    let stays = |(ordinal, record): &&(u64, &Record)| {
        let failed = failures.contains(ordinal);
        let spent = is_point(record) && !completed(record);
        let saw = place(record)
            .is_some_and(|(_, born)| failures.iter().any(|f| ordinal > f && born >= *f));
        let undone = undone.is_some() && matches!(record, Record::CancelRequested(_));
        !(failed || spent || saw || undone)
    };
    standing.iter().filter(stays).copied().collect()
}

/// After a replay that was not refused: what the journal holds was told to whom it belongs, and
/// nothing it knows of was passed over.
fn check_replayed(life: &Life, records: &[Record]) {
    let naive = Naive::read(records);
    let world = life.world.borrow();
    let trace = &world.trace;
    for (position, kind) in &naive.completed {
        let took = trace.iter().any(|(_, e)| matches!(e, Event::Took(p, _) if p == position));
        let early = world.open.iter().find(|open| open.position == *position);
        let early =
            early.is_some_and(|open| open.kind == *kind && !world.machine.is_waiting(open.id));
        assert!(took || early || world.dropped.contains(position), "{position:?} was not revealed");
    }
    if !world.machine.is_live() {
        return;
    }
    for (position, (kind, attempts)) in &naive.facts {
        assert!(world.claimed.contains(position), "{position:?} was not claimed");
        let Some(open) = world.open.iter().find(|open| open.position == *position) else {
            continue;
        };
        let fits = kind.map_or(open.kind == Kind::Step, |kind| kind == open.kind);
        assert!(fits, "{position:?} is another kind");
        if world.machine.is_waiting(open.id) {
            assert_eq!(world.machine.fact(open.id).map_or(0, |fact| fact.attempts), *attempts);
        }
    }
    let known: HashSet<&Position> = naive.facts.keys().collect();
    for open in life.waiting().iter().filter(|open| !known.contains(&open.position)) {
        assert!(world.machine.fact(open.id).is_none_or(|fact| fact.attempts == 0 && !fact.opened));
    }
}

/// Lives until it ends well or the acts are used up, then lets everything succeed.
fn live_through(code: &Code, acts: &[Act], resumes: bool) -> Life {
    let issued = Rc::default();
    let mut records = vec![started()];
    let mut acts = acts.iter().copied();
    let mut expected: Option<Vec<(u64, Event)>> = None;
    for number in 0.. {
        let mut life = Life::begin(code, &records, number, &issued)
            .unwrap_or_else(|(mismatch, _)| panic!("the same code was refused: {mismatch:?}"));
        check_replayed(&life, &records);
        if let Some(expected) = expected.take() {
            // A cancellation whose consequences were lost has others now, after what was kept.
            let kept = records.len() as u64;
            let seen = life.trace().into_iter().filter(|(then, _)| *then <= kept);
            assert!(seen.eq(expected), "replay saw something else than live: {:?}", life.trace());
        }
        let floor = records.len();
        let crash = loop {
            if life.result.is_some() {
                break None;
            }
            match acts.next() {
                Some(Act::Crash(at)) => {
                    break Some(floor + usize::from(at) % (life.records.len() - floor + 1));
                }
                Some(act) => drop(life.act(act)),
                None => {
                    let waiting = life.waiting();
                    let open = waiting.first().expect("the flow waits for something");
                    life.complete(open, false, false);
                }
            }
            life.advance().expect("live there is nothing to differ from");
        };
        if let Some(kept) = crash {
            expected = life.trace_of(kept);
            records = life.records[..kept].to_vec();
            continue;
        }
        match life.result.clone() {
            Some(Err(positions)) if resumes && acts.len() > 0 => {
                records = std::mem::take(&mut life.records);
                records.extend([failed(&positions), resume(&positions)]);
            }
            _ => return life,
        }
    }
    unreachable!("it ends when the acts do")
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn replay_sees_what_live_saw_whatever_crashes(code in code(), acts in vec(act(), 0..40)) {
        let life = live_through(&code, &acts, false);
        // The whole history, once more.
        let issued = Rc::clone(&life.world.borrow().issued);
        let again = Life::begin(&code, &life.records, 99, &issued);
        let Ok(again) = again else { panic!("the same code was refused") };
        prop_assert_eq!(again.trace(), life.trace());
        prop_assert_eq!(again.result.is_some(), life.result.is_some());
        prop_assert_eq!(again.records.len(), life.records.len(), "replay journals nothing");
    }

    #[test]
    fn a_resumed_run_goes_on_with_what_its_code_can_have_done(
        code in code(),
        acts in vec(act(), 0..60),
    ) {
        let life = live_through(&code, &acts, true);
        let issued = Rc::clone(&life.world.borrow().issued);
        let again = Life::begin(&code, &life.records, 99, &issued);
        let Ok(again) = again else { panic!("the same code was refused") };
        prop_assert_eq!(again.trace(), life.trace());
    }

    /// Either everything in the journal found its place, or the code is refused, and rightly.
    #[test]
    fn other_code_is_refused_or_takes_everything(
        code in code(),
        acts in vec(act(), 0..24),
        changes in vec((0..12_usize, code()), 1..3),
        stop in 0..30_usize,
    ) {
        let life = live_through(&code, &acts, false);
        let issued = Rc::clone(&life.world.borrow().issued);
        let kept = (stop + 1).min(life.records.len());
        let records = &life.records[..kept];
        let mut other = code;
        for (mut at, to) in changes {
            other.change(&mut at, &to);
        }
        match Life::begin(&other, records, 99, &issued) {
            Ok(life) => check_replayed(&life, records),
            Err((mismatch, world)) => {
                let naive = Naive::read(records);
                let world = world.borrow();
                let found = world.open.iter().find(|open| open.position == mismatch.position);
                let wanted = naive.completed.iter().find(|(p, _)| *p == mismatch.position);
                let fact = naive.facts.get(&mismatch.position).map(|(kind, _)| *kind);
                let kind = wanted.map(|(_, kind)| Some(*kind)).or(fact).expect("it is in the journal");
                let kind = kind.unwrap_or(Kind::Step);
                let fits = found.is_some_and(|open| open.kind == kind);
                prop_assert!(!fits, "{:?} was claimed as a {}", mismatch, kind);
            }
        }
    }
}
