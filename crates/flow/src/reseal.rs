//! Where sealed values of flows are, for the job that seals them anew and counts them.

use bytes::Bytes;
use resurge_checkpoint::stored;
use resurge_seal::{Reencrypt, Resealable, Unread, Visitor};
use resurge_store::{Codec, Key, KeyRange, Record as Envelope};
use resurge_wal::inspect;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::child::child_id;
use crate::inbox::Message;
use crate::keys::Keys;
use crate::memo;
use crate::payload::Payload;
use crate::record::{Outcome, Record, Value};
use crate::runs::{self, Done, End, Live};
use crate::values::places;
use crate::{ErrorRecord, FlowError, Flows, Result};

/// A part of the store where flows keep sealed values: a place for [`Reencrypt::over`].
#[derive(Clone, Debug)]
pub struct SealedRuns {
    part: Part,
    range: KeyRange,
}

#[derive(Clone, Copy, Debug)]
enum Part {
    Live,
    Done,
    Inbox,
    Checkpoints,
    Journals,
}

impl Flows {
    /// Every part of the store where flows keep sealed values. Runs' journals are among them: what is
    /// sealed there is counted, cannot be sealed anew, and goes with the journal when its run is swept.
    ///
    /// # Errors
    /// None that can happen.
    pub fn sealed_runs(&self) -> Result<Vec<SealedRuns>> {
        let keys = &self.engine().keys;
        let part = |part, range| SealedRuns { part, range };
        let checkpoints = stored::all().map_err(|e| FlowError::Invalid(e.to_string()))?;
        let journals = inspect::keys_of("flow/").map_err(FlowError::journal(""))?;
        Ok(vec![
            part(Part::Live, keys.live.all()),
            part(Part::Done, keys.done.all()),
            part(Part::Inbox, keys.inbox.all()),
            part(Part::Checkpoints, checkpoints),
            part(Part::Journals, journals),
        ])
    }

    /// A job that seals everything of the flows with the ring's active key, and counts what is sealed
    /// with which. Add what you seal yourself with [`over`](Reencrypt::over).
    ///
    /// # Errors
    /// [`Invalid`](FlowError::Invalid) when the flows were opened without a ring.
    pub fn reencrypt(&self) -> Result<Reencrypt> {
        let ring = self.engine().values.sealer.ring();
        let ring = ring.ok_or_else(|| FlowError::Invalid("there is no ring of keys".to_owned()))?;
        let job = Reencrypt::new(self.store(), ring);
        Ok(self.sealed_runs()?.into_iter().fold(job, Reencrypt::over))
    }
}

impl Resealable for SealedRuns {
    fn name(&self) -> &str {
        match self.part {
            Part::Live => "flow/live",
            Part::Done => "flow/done",
            Part::Inbox => "flow/inbox",
            Part::Checkpoints => "flow/checkpoints",
            Part::Journals => "flow/journals",
        }
    }

    fn range(&self) -> KeyRange {
        self.range.clone()
    }

    fn is_fixed(&self) -> bool {
        matches!(self.part, Part::Journals)
    }

    fn rewrite(
        &self,
        key: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread> {
        let mut visit = Visit { visitor, changed: false };
        match self.part {
            Part::Live => in_record(key, value, visit, |live: &mut Live, visit| {
                visit.salt(run_of(key)?, &mut live.input.salt)
            }),
            Part::Done => in_record(key, value, visit, |done: &mut Done, visit| {
                let run = run_of(key)?;
                visit.salt(run, &mut done.input.salt)?;
                match &mut done.end {
                    End::Succeeded(output) => visit.payload(&places::output(run), output),
                    End::Failed { error, .. } | End::Cancelled(error) => visit.error(run, error),
                    End::Swept => Ok(()),
                }
            }),
            Part::Inbox => in_record(key, value, visit, |message: &mut Message, visit| {
                let run = Keys::message_of(key).ok_or(Unread::NotOurs)?;
                match message {
                    Message::Signal { name, value } => {
                        visit.payload(&places::signal(run, name), value)
                    }
                    Message::Child { position, outcome } => {
                        let child = child_id(run, &position.to_string());
                        match outcome {
                            Outcome::Ok(output) => visit.payload(&places::output(&child), output),
                            Outcome::Err(error) => visit.error(&child, error),
                        }
                    }
                    Message::Cancel(_) | Message::Pause | Message::Unpause => Ok(()),
                }
            }),
            Part::Checkpoints => {
                let mut failed = None;
                let new = stored::replace(key, value, |of, bytes| {
                    let place = memo::Place::of(of);
                    match visit.visitor.stored(&place.context(), bytes) {
                        Ok(new) => new,
                        Err(unread) => {
                            failed = Some(unread);
                            None
                        }
                    }
                });
                match (failed, new) {
                    // Staged by somebody else, in a form of their own.
                    (Some(_), _) => Err(Unread::NotOurs),
                    (None, new) => new.map_err(|e| Unread::Corrupt(e.to_string())),
                }
            }
            Part::Journals => {
                let payloads = inspect::payloads(key, value);
                for payload in payloads.map_err(|e| Unread::Corrupt(e.to_string()))? {
                    let record = Codec::Cbor.decode::<Record>(&payload);
                    let mut record = record.map_err(|e| Unread::Corrupt(e.to_string()))?;
                    visit.record(&mut record)?;
                }
                Ok(None)
            }
        }
    }
}

/// Lets `change` look into a stored record, and encodes it again when it changed.
fn in_record<T: Serialize + DeserializeOwned>(
    key: &Key,
    value: &Bytes,
    mut visit: Visit<'_, '_>,
    change: impl FnOnce(&mut T, &mut Visit<'_, '_>) -> Result<(), Unread>,
) -> Result<Option<Bytes>, Unread> {
    let corrupt = |e: resurge_store::StoreError| Unread::Corrupt(e.to_string());
    let expiry = Envelope::decode(key, value).map_err(corrupt)?.expiry();
    let mut record: T = runs::load(key, value).map_err(corrupt)?;
    change(&mut record, &mut visit)?;
    if !visit.changed || expiry.is_some() {
        return Ok(None);
    }
    runs::store(key, &record).map(Some).map_err(corrupt)
}

fn run_of(key: &Key) -> Result<&str, Unread> {
    std::str::from_utf8(key.bytes()).map_err(|_| Unread::NotOurs)
}

struct Visit<'a, 'v> {
    visitor: &'a mut Visitor<'v>,
    changed: bool,
}

impl Visit<'_, '_> {
    fn payload(
        &mut self,
        at: &resurge_seal::Context<'_>,
        payload: &mut Payload,
    ) -> Result<(), Unread> {
        // Some outcomes carry nothing.
        if payload.is_empty() {
            return Ok(());
        }
        if let Some(new) = self.visitor.stored(at, payload.stored())? {
            *payload = Payload::new(new);
            self.changed = true;
        }
        Ok(())
    }

    fn salt(&mut self, run: &str, salt: &mut Option<Payload>) -> Result<(), Unread> {
        match salt {
            Some(salt) => self.payload(&places::input_salt(run), salt),
            None => Ok(()),
        }
    }

    fn error(&mut self, run: &str, error: &mut ErrorRecord) -> Result<(), Unread> {
        match &mut error.sealed {
            Some(sealed) => self.payload(&places::error(run), sealed),
            None => Ok(()),
        }
    }

    /// Counts what is sealed in a journal. It is never sealed anew, so where exactly it is does not
    /// matter.
    fn record(&mut self, record: &mut Record) -> Result<(), Unread> {
        let at = &places::output("");
        let mut values: Vec<&mut Payload> = Vec::new();
        let of = |sets: &[Value]| -> Vec<Payload> {
            sets.iter().filter_map(|set| set.value.clone()).collect()
        };
        let (mut copies, mut error) = (Vec::new(), None);
        match record {
            Record::Started(started) => values.push(&mut started.input),
            Record::Completed(done) => {
                copies = of(&done.sets);
                match &mut done.outcome {
                    Outcome::Ok(payload) => values.push(payload),
                    Outcome::Err(failed) => error = Some(failed),
                }
            }
            Record::AttemptFailed(failed) => {
                copies = of(&failed.sets);
                error = Some(&mut failed.error);
            }
            Record::Set(set) => values.extend(set.value.value.as_mut()),
            Record::Succeeded(done) => values.push(&mut done.output),
            Record::Failed(failed) | Record::Cancelled(failed) => {
                copies = of(&failed.suspended);
                error = Some(&mut failed.error);
            }
            Record::Opened(_)
            | Record::Parked(_)
            | Record::Patched(_)
            | Record::CancelRequested(_)
            | Record::Paused(_)
            | Record::Unpaused(_)
            | Record::Resumed(_) => {}
        }
        for payload in values.into_iter().chain(&mut copies) {
            self.payload(at, payload)?;
        }
        match error {
            Some(error) => self.error("", error),
            None => Ok(()),
        }
    }
}
