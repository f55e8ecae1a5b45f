//! Calls, what they may answer, and the notes that are taken of them.

use std::collections::BTreeMap;
use std::fmt;

use parking_lot::Mutex;
use tokio::sync::Notify;

/// Keys that all clients fight for: the first half in one namespace, the others in another.
pub(crate) const KEYS: usize = 4;

/// What the store holds under each key; 0: nothing.
pub(crate) type State = [u32; KEYS];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Expect {
    Absent,
    Present,
    Exact(u32),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Get(usize),
    Scan,
    Commit {
        guards: Vec<(usize, Expect)>,
        /// 0 deletes.
        writes: Vec<(usize, u32)>,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Value(u32),
    All(State),
    Done,
    Conflict,
    /// Of a commit: nobody was told.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Operation {
    pub(crate) client: u32,
    pub(crate) begin: u64,
    pub(crate) end: u64,
    pub(crate) call: Call,
    pub(crate) answer: Answer,
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { client, begin, end, call, answer } = self;
        write!(f, "{begin:>5}-{end:<5} client {client}: {call:?} -> {answer:?}")
    }
}

impl Operation {
    /// The states it may leave behind when it happens in `state`: none when it cannot have given its
    /// answer there, two when nobody knows whether it happened.
    pub(crate) fn outcomes(&self, state: &State) -> impl Iterator<Item = State> + use<> {
        let stay = |holds: bool| [holds.then_some(*state), None];
        let outcomes = match (&self.call, self.answer) {
            (Call::Get(key), Answer::Value(value)) => stay(state[*key] == value),
            (Call::Scan, Answer::All(found)) => stay(*state == found),
            (Call::Commit { guards, writes }, answer) => {
                let holds = guards.iter().all(|(key, expect)| match expect {
                    Expect::Absent => state[*key] == 0,
                    Expect::Present => state[*key] != 0,
                    Expect::Exact(value) => state[*key] == *value,
                });
                let mut after = *state;
                for (key, value) in writes {
                    after[*key] = *value;
                }
                match answer {
                    Answer::Done => [holds.then_some(after), None],
                    Answer::Conflict => stay(!holds),
                    Answer::Unknown => [Some(*state), holds.then_some(after)],
                    Answer::Value(_) | Answer::All(_) => [None, None],
                }
            }
            (Call::Get(_) | Call::Scan, _) => [None, None],
        };
        outcomes.into_iter().flatten()
    }
}

/// Takes the notes. Its lock is the one clock of all clients.
#[derive(Debug, Default)]
pub(crate) struct Recorder {
    notes: Mutex<Notes>,
    enough: Notify,
}

#[derive(Debug, Default)]
struct Notes {
    now: u64,
    returned: Vec<Operation>,
    open: BTreeMap<u64, (u32, Call)>,
    wanted: Option<usize>,
}

impl Notes {
    fn tick(&mut self) -> u64 {
        self.now += 1;
        self.now
    }
}

impl Recorder {
    /// Right before the call; the number names it, and no other.
    pub(crate) fn begin(&self, client: u32, call: impl FnOnce(u32) -> Call) -> (u64, Call) {
        let mut notes = self.notes.lock();
        let begin = notes.tick();
        let call = call(u32::try_from(begin).unwrap());
        notes.open.insert(begin, (client, call.clone()));
        (begin, call)
    }

    /// Right after it returned.
    pub(crate) fn end(&self, begin: u64, answer: Answer) {
        let mut notes = self.notes.lock();
        let end = notes.tick();
        let (client, call) = notes.open.remove(&begin).unwrap();
        notes.returned.push(Operation { client, begin, end, call, answer });
        if notes.wanted == Some(notes.returned.len()) {
            self.enough.notify_one();
        }
    }

    /// It returned an error that promises that nothing happened.
    pub(crate) fn forget(&self, begin: u64) {
        self.notes.lock().open.remove(&begin);
    }

    /// Resolves when so many more calls returned.
    pub(crate) async fn returned(&self, more: usize) {
        {
            let mut notes = self.notes.lock();
            notes.wanted = Some(notes.returned.len() + more.max(1));
        }
        self.enough.notified().await;
    }

    /// The store is down: what has not returned never will, and happened by now or not at all.
    pub(crate) fn crashed(&self) {
        let mut notes = self.notes.lock();
        let end = notes.tick();
        for (begin, (client, call)) in std::mem::take(&mut notes.open) {
            if matches!(call, Call::Commit { .. }) {
                let answer = Answer::Unknown;
                notes.returned.push(Operation { client, begin, end, call, answer });
            }
        }
    }

    /// All of it, in the order of the calls.
    pub(crate) fn history(&self) -> Vec<Operation> {
        let mut history = self.notes.lock().returned.clone();
        history.sort_by_key(|op| op.begin);
        history
    }
}
