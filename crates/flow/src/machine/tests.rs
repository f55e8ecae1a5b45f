//! The machine alone: no driver, no store, no futures unless a test makes some.

use std::sync::Arc;
use std::task::Waker;

use bytes::Bytes;
use resurge_store::Timestamp;

use super::{Journal, Machine, Mismatch, Reveal, SlotId, cancelled_error};
use crate::payload::Payload;
use crate::record::{
    At, CancelReason, CancelRequested, Completed, Failed, Mark, Opened, Outcome, Record, Resumed,
    Set, Started, Value,
};
use crate::step_error::{Class, ErrorRecord, StepErrorKind};
use crate::{Kind, Position};

mod live;
mod model;
mod program;
mod replayed;
mod resumed;

const AT: Timestamp = Timestamp::from_millis(1_000);

fn at(name: &'static str) -> Position {
    nth(name, 0)
}

fn nth(name: &'static str, nth: u32) -> Position {
    Position::new("", name, nth)
}

fn inside(scope: &str, name: &'static str) -> Position {
    Position::new(scope, name, 0)
}

fn value(text: &str) -> Payload {
    Payload::new(Bytes::copy_from_slice(text.as_bytes()))
}

fn ok(text: &str) -> Outcome {
    Outcome::Ok(value(text))
}

fn err(text: &str) -> Outcome {
    let (class, kind) = (Class::Permanent, StepErrorKind::Failed);
    let message = text.to_owned();
    Outcome::Err(ErrorRecord { message, causes: Vec::new(), class, kind, code: None, sealed: None })
}

fn cancelled(reason: CancelReason) -> Outcome {
    Outcome::Err(cancelled_error(reason))
}

fn sets(name: &str, text: &str) -> Vec<Value> {
    vec![Value { name: name.to_owned(), value: Some(value(text)) }]
}

fn started() -> Record {
    Record::Started(Started {
        flow: "flow".to_owned(),
        input: Payload::default(),
        seed: [1, 2],
        at: AT,
        parent: None,
        deadline: None,
    })
}

fn done(position: Position, born: u64, outcome: Outcome) -> Record {
    let (kind, attempts) = (Kind::Step, 1);
    Record::Completed(Completed { position, kind, born, outcome, attempts, sets: Vec::new() })
}

fn opened(position: Position, kind: Kind, born: u64) -> Record {
    Record::Opened(Opened { position, kind, born, until: Some(AT), what: None })
}

fn failed(positions: &[Position]) -> Record {
    let Outcome::Err(error) = err("it failed") else { panic!("an error") };
    Record::Failed(Failed { at: AT, error, positions: positions.to_vec(), suspended: Vec::new() })
}

fn resume(positions: &[Position]) -> Record {
    Record::Resumed(Resumed { at: AT, positions: positions.to_vec() })
}

fn cancel() -> Record {
    Record::CancelRequested(CancelRequested { reason: CancelReason::Asked, at: AT })
}

/// The journal that holds these records after the first one.
fn journal(records: &[Record]) -> Journal {
    let Record::Started(first) = started() else { panic!("a beginning") };
    let mut journal = Journal::new(first);
    for record in records {
        journal.push(record.clone()).unwrap();
    }
    journal
}

fn replay(records: &[Record]) -> Machine {
    journal(records).into_machine()
}

/// A machine that has nothing to replay.
fn fresh() -> Machine {
    let machine = replay(&[]);
    assert!(machine.is_live(), "nothing to replay: it is live at once");
    machine
}

fn root() -> Arc<str> {
    "".into()
}

impl Machine {
    fn step(&mut self, name: &'static str) -> SlotId {
        self.of(Kind::Step, name)
    }

    fn of(&mut self, kind: Kind, name: &'static str) -> SlotId {
        self.claim(&root(), name.into(), kind, false)
    }

    fn step_in(&mut self, scope: &str, name: &'static str) -> SlotId {
        self.claim(&scope.into(), name.into(), Kind::Step, false)
    }

    fn end(&mut self, id: SlotId, outcome: Outcome) {
        self.complete(id, outcome, 1, Vec::new());
    }

    /// What its future finds.
    fn look(&mut self, id: SlotId) -> Option<Outcome> {
        self.take_revealed(id, Waker::noop())
    }

    fn may(&mut self, id: SlotId) -> bool {
        self.may_begin(id, Waker::noop())
    }

    fn reveals(&mut self) -> bool {
        match self.reveal() {
            Reveal::One(_) => true,
            Reveal::Nothing => false,
            Reveal::Mismatch(mismatch) => panic!("{mismatch:?}"),
        }
    }

    fn refuses(&mut self) -> Mismatch {
        match self.reveal() {
            Reveal::Mismatch(mismatch) => mismatch,
            other => panic!("not refused: {other:?}"),
        }
    }
}
