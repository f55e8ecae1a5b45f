//! Random lives against a naive model: a map from key to result and end, and what is held.

use std::collections::BTreeMap;

use proptest::prelude::*;
use resurge_checkpoint::{
    Begin, CheckpointError, CheckpointKey, Checkpoints, Claim, Filter, Miss, Scope, StepPolicy,
};
use resurge_store::{Batch, Durability};

use super::support::ms;
use super::{CHARGE, memory, open, restarted};

#[derive(Clone, Debug)]
enum Act {
    /// Key, time to live, whether it fails, whether it has side effects.
    Run(usize, u64, bool, bool),
    /// Begin and keep the claim, unless somebody has it.
    Begin(usize, bool),
    /// End what is held: store, release or drop.
    End(usize, u8),
    Wait(u64),
    Forget(usize),
    Record(usize, u64),
    Purge(usize),
    Sweep,
    Restart,
}

const KEYS: usize = 4;

fn key(n: usize) -> CheckpointKey {
    let scope = if n.is_multiple_of(2) { Scope::Global } else { Scope::Workflow("w".into()) };
    CheckpointKey::builder(scope, format!("step {}", n / 2)).build().unwrap()
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let key = 0..KEYS;
    let ttl = prop_oneof![Just(0_u64), 1_u64..40];
    let act = prop_oneof![
        6 => (key.clone(), ttl.clone(), any::<bool>(), any::<bool>()).prop_map(|(k, t, f, s)| Act::Run(k, t, f, s)),
        3 => (key.clone(), any::<bool>()).prop_map(|(k, s)| Act::Begin(k, s)),
        3 => (key.clone(), 0..3_u8).prop_map(|(k, how)| Act::End(k, how)),
        2 => (1_u64..30).prop_map(Act::Wait),
        1 => key.clone().prop_map(Act::Forget),
        1 => (key.clone(), ttl).prop_map(|(k, t)| Act::Record(k, t)),
        1 => key.prop_map(Act::Purge),
        1 => Just(Act::Sweep),
        1 => Just(Act::Restart),
    ];
    proptest::collection::vec(act, 1..60)
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Cell {
    Done(u64, Option<u64>),
    /// Held by a claim with this number.
    Held(u64),
    Doubt,
}

#[derive(Default)]
struct Model {
    cells: BTreeMap<usize, Cell>,
    now: u64,
    next: u64,
}

impl Model {
    /// What counts now.
    fn cell(&self, k: usize) -> Option<Cell> {
        self.cells.get(&k).copied().filter(|cell| match cell {
            Cell::Done(_, Some(end)) => *end > self.now,
            _ => true,
        })
    }

    fn store(&mut self, k: usize, value: u64, ttl: u64) {
        self.cells.insert(k, Cell::Done(value, (ttl > 0).then(|| self.now + ttl)));
    }

    fn number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }
}

fn policy(side_effects: bool) -> StepPolicy {
    if side_effects { CHARGE } else { StepPolicy::new() }
}

fn never_again(k: usize, side_effects: bool) -> bool {
    side_effects && k.is_multiple_of(2)
}

#[expect(clippy::too_many_lines, reason = "one arm for each act")]
async fn live(acts: Vec<Act>) -> Result<(), TestCaseError> {
    let (mut store, clock) = memory();
    let mut checkpoints: Checkpoints = open(&store).await;
    let mut model = Model::default();
    let mut held: BTreeMap<usize, (u64, Claim, bool)> = BTreeMap::new();
    for act in acts {
        match act {
            Act::Run(k, ttl, fails, effects) => {
                let cell = model.cell(k);
                if matches!(cell, Some(Cell::Held(_))) {
                    continue; // It would wait for ever.
                }
                let value = model.number();
                let body = || async move {
                    if fails { Err(std::io::Error::other("no")) } else { Ok(value) }
                };
                let got = checkpoints.run_with(&key(k), ms(ttl), policy(effects), body).await;
                match cell {
                    Some(Cell::Done(stored, _)) => prop_assert_eq!(got.unwrap(), stored),
                    Some(Cell::Doubt) if never_again(k, effects) => {
                        let error = got.unwrap_err();
                        let doubt =
                            matches!(error.checkpoint(), Some(CheckpointError::InDoubt { .. }));
                        prop_assert!(doubt, "{}", error);
                    }
                    _ if fails => {
                        prop_assert!(got.unwrap_err().step_error().is_some());
                        model.cells.remove(&k);
                    }
                    _ => {
                        prop_assert_eq!(got.unwrap(), value);
                        model.store(k, value, ttl);
                    }
                }
            }
            Act::Begin(k, effects) => {
                let cell = model.cell(k);
                if matches!(cell, Some(Cell::Held(_))) || held.contains_key(&k) {
                    continue;
                }
                match (checkpoints.begin(&key(k), policy(effects)).await, cell) {
                    (Ok(Begin::Hit(_)), Some(Cell::Done(..))) => {}
                    (Ok(Begin::Claimed(claim)), None | Some(Cell::Doubt)) => {
                        prop_assert_eq!(claim.why() == Miss::InDoubt, cell == Some(Cell::Doubt));
                        prop_assert!(cell.is_none() || !never_again(k, effects));
                        let number = model.number();
                        model.cells.insert(k, Cell::Held(number));
                        held.insert(k, (number, claim, never_again(k, effects)));
                    }
                    (Err(CheckpointError::InDoubt { .. }), Some(Cell::Doubt)) => {
                        prop_assert!(never_again(k, effects));
                    }
                    (got, cell) => return Err(TestCaseError::fail(format!("{got:?}, {cell:?}"))),
                }
            }
            Act::End(k, how) => {
                let Some((number, mut claim, never_again)) = held.remove(&k) else { continue };
                let ours = model.cells.get(&k) == Some(&Cell::Held(number));
                match how {
                    0 => {
                        let mut batch = Batch::new();
                        let bytes = resurge_store::Codec::Cbor.encode(&number).unwrap();
                        claim.stage_done(&mut batch, bytes, ms(0)).unwrap();
                        let committed = store.commit(batch, Durability::Durable).await;
                        prop_assert_eq!(committed.is_ok(), ours);
                        if ours {
                            claim.settled();
                            model.store(k, number, 0);
                        }
                    }
                    1 => {
                        claim.release().await.unwrap();
                        if ours {
                            model.cells.remove(&k);
                        }
                    }
                    _ => {
                        drop(claim);
                        // What was submitted is done by now.
                        store.sync().await.unwrap();
                        if ours && never_again {
                            model.cells.insert(k, Cell::Doubt);
                        } else if ours {
                            model.cells.remove(&k);
                        }
                    }
                }
            }
            Act::Wait(n) => {
                clock.advance(ms(n));
                model.now += n;
            }
            Act::Forget(k) => {
                let there = checkpoints.forget(&key(k)).await.unwrap();
                prop_assert!(there || !model.cells.contains_key(&k));
                model.cells.remove(&k);
            }
            Act::Record(k, ttl) => {
                let value = model.number();
                let recorded = checkpoints.record(&key(k), ms(ttl), &value).await;
                let free = matches!(model.cell(k), None | Some(Cell::Doubt));
                prop_assert_eq!(recorded.is_ok(), free);
                if free {
                    model.store(k, value, ttl);
                }
            }
            Act::Purge(k) => {
                let filter = Filter::scope(key(k).scope().clone()).step(key(k).step());
                checkpoints.purge(&filter).await.unwrap();
                model.cells.remove(&k);
            }
            Act::Sweep => {
                checkpoints.sweep().await.unwrap();
                let over: Vec<_> =
                    model.cells.keys().copied().filter(|k| model.cell(*k).is_none()).collect();
                for k in over {
                    model.cells.remove(&k);
                }
            }
            Act::Restart => {
                // The dead run no destructors.
                for (_, claim, _) in held.into_values() {
                    std::mem::forget(claim);
                }
                held = BTreeMap::new();
                store = restarted(&store, &clock);
                checkpoints = open(&store).await;
                for cell in model.cells.values_mut() {
                    if matches!(cell, Cell::Held(_)) {
                        *cell = Cell::Doubt;
                    }
                }
            }
        }
        for k in 0..KEYS {
            let expected = match model.cell(k) {
                Some(Cell::Done(value, _)) => Some(value),
                _ => None,
            };
            prop_assert_eq!(checkpoints.get::<u64>(&key(k)).await.unwrap(), expected, "key {}", k);
            let there = checkpoints.inspect(&key(k)).await.unwrap().is_some();
            prop_assert_eq!(there, model.cells.contains_key(&k), "key {}", k);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_life_is_that_of_the_model(acts in acts()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(live(acts))?;
    }
}
