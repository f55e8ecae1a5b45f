//! What the callers do: seeded, with keys and values that make confusion visible.

use bytes::Bytes;
use resurge_store::{
    Batch, Durability, Entropy, ErrorKind, Guard, Key, KeyRange, Namespace, Result, ScanOptions,
    SeededEntropy, StateStore,
};

use super::history::{Answer, Call, Expect, KEYS, Recorder, State};

/// How a client calls.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Habits {
    pub(crate) calls: usize,
    /// Some of its commits are Buffered: only where no crash may take those.
    pub(crate) buffered: bool,
}

pub(crate) fn key(n: usize) -> Key {
    let name = if n < KEYS / 2 { "left" } else { "right" };
    Namespace::new(name).unwrap().key([u8::try_from(n).unwrap()]).unwrap()
}

/// Values of the last key are long enough to be stored in pieces.
fn encode(key: usize, value: u32) -> Bytes {
    let copies = if key == KEYS - 1 { 2_500 } else { 1 };
    value.to_be_bytes().repeat(copies).into()
}

fn decode(key: usize, stored: &Bytes) -> u32 {
    let value = u32::from_be_bytes(stored[..4].try_into().unwrap());
    assert_eq!(*stored, encode(key, value), "a value nobody wrote");
    value
}

fn guard(key: usize, expect: Expect) -> Guard {
    match expect {
        Expect::Absent => Guard::Absent,
        Expect::Present => Guard::Present,
        Expect::Exact(value) => Guard::Exact(encode(key, value)),
    }
}

async fn perform(store: &dyn StateStore, call: &Call, durability: Durability) -> Result<Answer> {
    match call {
        Call::Get(n) => {
            let stored = store.get(&key(*n)).await?;
            Ok(Answer::Value(stored.map_or(0, |stored| decode(*n, &stored))))
        }
        Call::Scan => {
            let page = store.scan(KeyRange::everything(), ScanOptions::new()).await?;
            let mut state = State::default();
            for entry in page.entries {
                let n = usize::from(entry.key.bytes()[0]);
                assert_eq!(entry.key, key(n), "a key nobody wrote");
                state[n] = decode(n, &entry.value);
            }
            Ok(Answer::All(state))
        }
        Call::Commit { guards, writes } => {
            let mut batch = Batch::new();
            for (n, expect) in guards {
                batch.guard(key(*n), guard(*n, *expect));
            }
            for (n, value) in writes {
                match value {
                    0 => batch.delete(key(*n)),
                    value => batch.put(key(*n), encode(*n, *value)),
                };
            }
            match store.commit(batch, durability).await {
                Ok(_) => Ok(Answer::Done),
                Err(e) if e.kind() == ErrorKind::Conflict => Ok(Answer::Conflict),
                Err(e) => Err(e),
            }
        }
    }
}

/// What it does next, from what it saw last.
fn choose(chance: &SeededEntropy, known: &State, value: u32) -> Call {
    let below = |n: usize| usize::try_from(chance.next_u64().unwrap() % n as u64).unwrap();
    let (one, other) = (below(KEYS), below(KEYS));
    let written = if below(5) == 0 { 0 } else { value };
    match below(10) {
        0..=1 => Call::Get(one),
        2..=3 => Call::Scan,
        // Compare and swap on one key, often writing a second one along.
        4..=7 => {
            let expect = match known[one] {
                _ if below(8) == 0 => Expect::Present,
                0 => Expect::Absent,
                last => Expect::Exact(last),
            };
            let mut writes = vec![(one, written)];
            if other != one && below(2) == 0 {
                writes.push((other, value));
            }
            Call::Commit { guards: vec![(one, expect)], writes }
        }
        8 => Call::Commit { guards: vec![], writes: vec![(one, value), (KEYS - 1 - one, value)] },
        // Guards one key, writes another.
        _ => {
            let expect = if known[one] == 0 { Expect::Absent } else { Expect::Exact(known[one]) };
            Call::Commit { guards: vec![(one, expect)], writes: vec![(other, written)] }
        }
    }
}

/// One client, until it has called often enough or the store is gone.
pub(crate) async fn run(
    store: &dyn StateStore,
    recorder: &Recorder,
    client: u32,
    seed: u64,
    habits: Habits,
) {
    let chance = SeededEntropy::new(seed);
    let mut known = State::default();
    for _ in 0..habits.calls {
        let buffered = habits.buffered && chance.next_u64().unwrap().is_multiple_of(3);
        let durability = if buffered { Durability::Buffered } else { Durability::Durable };
        let (begin, call) = recorder.begin(client, |n| choose(&chance, &known, n));
        match perform(store, &call, durability).await {
            Ok(answer) => {
                recorder.end(begin, answer);
                match (call, answer) {
                    (Call::Get(key), Answer::Value(value)) => known[key] = value,
                    (_, Answer::All(state)) => known = state,
                    (Call::Commit { writes, .. }, Answer::Done) => {
                        for (key, value) in writes {
                            known[key] = value;
                        }
                    }
                    _ => {}
                }
            }
            // Stays open: it may have happened.
            Err(e) if e.kind() == ErrorKind::Indeterminate => {}
            Err(e) => {
                assert!(e.kind().nothing_written(), "{e}");
                recorder.forget(begin);
                return;
            }
        }
    }
}
