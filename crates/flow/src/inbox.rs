//! Messages to a run from outside: each under a key of its own, until the run's owner takes it.

use std::collections::BTreeSet;

use resurge_store::{Batch, Guard, Key};
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::keys::Keys;
use crate::payload::Payload;
use crate::record::{CancelReason, Outcome};
use crate::runs::{self, Live};
use crate::{FlowError, Position, Result};

/// Messages read at once.
const PAGE: usize = 64;

/// A message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) enum Message {
    #[serde(rename = "s")]
    Signal {
        #[serde(rename = "n")]
        name: String,
        #[serde(rename = "v")]
        value: Payload,
    },
    #[serde(rename = "c")]
    Cancel(CancelReason),
    #[serde(rename = "p")]
    Pause,
    #[serde(rename = "u")]
    Unpause,
    /// A child run ended.
    #[serde(rename = "r")]
    Child {
        #[serde(rename = "p")]
        position: Position,
        #[serde(rename = "o")]
        outcome: Outcome,
    },
}

/// A signal with an id was sent. Kept as long as the run's journal is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Sent {
    #[serde(rename = "n")]
    pub(crate) name: String,
}

/// A message that lies in the inbox.
#[derive(Clone, Debug)]
pub(crate) struct Mail {
    pub(crate) key: Key,
    pub(crate) message: Message,
}

/// A message that waits in memory for somebody to ask for it.
#[derive(Clone, Debug)]
pub(crate) struct Pending {
    /// Where it lies; `None` for one that was taken before, and given back by a resume.
    pub(crate) key: Option<Key>,
    pub(crate) message: Message,
}

impl Engine {
    /// Sends `message` to an unfinished run. Durable when this returns; the run is woken.
    pub(crate) async fn send(
        self: &std::sync::Arc<Self>,
        run: &str,
        message: &Message,
    ) -> Result<()> {
        let live_key = self.keys.live(run)?;
        self.know_messages().await?;
        loop {
            let Some(stored) = self.store.get(&live_key).await.map_err(FlowError::store(run))?
            else {
                return Err(self.not_live(run).await?);
            };
            let mut batch = Batch::new();
            // A run that ended takes nothing: either the message is before its end, or refused.
            batch.guard(live_key.clone(), Guard::Exact(stored));
            self.put_message(&mut batch, run, message)?;
            match self.commit(batch).await {
                Ok(()) => break,
                Err(e) if e.key() == Some(&live_key) => {}
                Err(e) => return Err(FlowError::store(run)(e)),
            }
        }
        self.wake(run, crate::signal::MAIL);
        Ok(())
    }

    /// Sends a signal unless one of this id was sent to the run before; its name is returned then.
    /// Durable when this returns, as the former one is then; the run is woken.
    pub(crate) async fn send_once(
        self: &std::sync::Arc<Self>,
        run: &str,
        id: &str,
        signal: &Message,
    ) -> Result<Option<String>> {
        let Message::Signal { name, .. } = signal else { return Ok(None) };
        let (live_key, sent_key) = (self.keys.live(run)?, self.keys.sent(run, id)?);
        self.know_messages().await?;
        let sent = Sent { name: name.clone() };
        let sent = runs::store(&sent_key, &sent).map_err(FlowError::store(run))?;
        loop {
            let read = async |key| self.store.get(key).await.map_err(FlowError::store(run));
            // A run that has ended since keeps the ids.
            if let Some(known) = read(&sent_key).await? {
                let known: Sent = runs::load(&sent_key, &known).map_err(FlowError::store(run))?;
                // Whoever sent it may have died before the run was told.
                self.wake(run, crate::signal::MAIL);
                return Ok(Some(known.name));
            }
            let Some(live) = read(&live_key).await? else {
                return Err(self.not_live(run).await?);
            };
            let mut batch = Batch::new();
            batch.guard(live_key.clone(), Guard::Exact(live));
            // INVARIANT: id and message are there together or not at all.
            batch.guard(sent_key.clone(), Guard::Absent).put(sent_key.clone(), sent.clone());
            self.put_message(&mut batch, run, signal)?;
            match self.commit(batch).await {
                Ok(()) => break,
                Err(e) if e.key() == Some(&live_key) || e.key() == Some(&sent_key) => {}
                Err(e) => return Err(FlowError::store(run)(e)),
            }
        }
        self.wake(run, crate::signal::MAIL);
        Ok(None)
    }

    /// Adds a message for `run` to a batch.
    pub(crate) fn put_message(
        &self,
        batch: &mut Batch,
        run: &str,
        message: &Message,
    ) -> Result<()> {
        let random = self.store.entropy().next_u64().map_err(FlowError::store(run))?;
        let key = self.keys.message(run, self.message_time(), random)?;
        let value = runs::store(&key, message).map_err(FlowError::store(run))?;
        batch.put(key, value);
        Ok(())
    }

    /// Adds the result of a child to its parent's inbox, if the parent still waits for anything.
    pub(crate) async fn tell_parent(
        &self,
        batch: &mut Batch,
        parent: &crate::record::Parent,
        outcome: Outcome,
    ) -> Result<bool> {
        let key = self.keys.live(&parent.run)?;
        let stored = self.store.get(&key).await.map_err(FlowError::store(&parent.run))?;
        let Some(stored) = stored else {
            // If it is resumed meanwhile, it will wait for this.
            batch.guard(key, Guard::Absent);
            return Ok(false);
        };
        runs::load::<Live>(&key, &stored).map_err(FlowError::store(&parent.run))?;
        batch.guard(key, Guard::Exact(stored));
        let position = parent.position.clone();
        self.put_message(batch, &parent.run, &Message::Child { position, outcome })?;
        Ok(true)
    }

    /// Before the first message is sent: what lies in the inboxes was sent before it, whatever the
    /// clock says.
    async fn know_messages(&self) -> Result<()> {
        self.messages_known.get_or_try_init(async || self.addressees().await.map(drop)).await?;
        Ok(())
    }

    /// The runs that have messages.
    pub(crate) async fn addressees(&self) -> Result<BTreeSet<String>> {
        let mut runs = BTreeSet::new();
        let mut range = Some(self.keys.inbox.all());
        while let Some(next) = range {
            let page = self.store.scan(next, resurge_store::ScanOptions::new().keys_only()).await;
            let page = page.map_err(FlowError::store(""))?;
            for entry in &page.entries {
                self.sent_before(Keys::sent_at(&entry.key));
                let run = entry.key.bytes().split(|byte| *byte == 0).next().unwrap_or_default();
                if let Ok(run) = std::str::from_utf8(run)
                    && !runs.contains(run)
                {
                    runs.insert(run.to_owned());
                }
            }
            range = page.next;
        }
        // Refused while the first message waits for just that.
        let _ = self.messages_known.set(());
        Ok(runs)
    }

    /// Everything in a run's inbox, oldest first.
    pub(crate) async fn mail(&self, run: &str) -> Result<Vec<Mail>> {
        let mut mail = Vec::new();
        let mut range = Some(self.keys.messages(run));
        while let Some(next) = range {
            // Few enough to be read in place.
            let options = resurge_store::ScanOptions::new().max_entries(PAGE);
            let page = self.store.scan(next, options).await;
            let page = page.map_err(FlowError::store(run))?;
            for entry in page.entries {
                let message =
                    runs::load(&entry.key, &entry.value).map_err(FlowError::store(run))?;
                mail.push(Mail { key: entry.key, message });
            }
            range = page.next;
        }
        Ok(mail)
    }
}
