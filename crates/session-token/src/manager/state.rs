//! Subjects and states on their way into the store and back: format, seal, schema.

use bytes::Bytes;
use hmac::Mac;
use resurge_seal::Context;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use super::Core;
use crate::error::{Result, SessionError};
use crate::keys::{HASH, KeyedMac};
use crate::record_id::RecordId;
use crate::reseal::{self, SUBJECT, state_name};
use crate::serializer::{Format, StateValue};
use crate::stored::{HASH_LEN, StoredSession};

/// A state, encoded.
pub(super) struct Encoded {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) hash: [u8; HASH_LEN],
}

impl Core {
    pub(super) fn encode<T: Serialize + ?Sized>(&self, id: RecordId, state: &T) -> Result<Encoded> {
        let bytes = self.encode_bytes(state)?;
        let hash = self.rehash(id, &bytes)?;
        Ok(Encoded { bytes, hash })
    }

    /// A state that is not too large.
    pub(super) fn encode_bytes<T: Serialize + ?Sized>(
        &self,
        state: &T,
    ) -> Result<Zeroizing<Vec<u8>>> {
        let bytes = self.options.format.encode(state)?;
        let (len, limit) = (bytes.len(), self.options.max_state);
        if len > limit { Err(SessionError::TooLarge { len, limit }) } else { Ok(bytes) }
    }

    /// Tells whether two states of one session are the same; keyed, so that it says nothing about one, and of each session its
    /// own, so that nobody who reads the store finds who has the same state as they.
    pub(super) fn rehash(&self, id: RecordId, bytes: &[u8]) -> Result<[u8; HASH_LEN]> {
        let mut mac = KeyedMac::clone(&*self.keys.mac(self.keys.active()?, HASH)?);
        mac.update(&id.0);
        mac.update(bytes);
        let tag: [u8; 32] = mac.finalize().into_bytes().into();
        Ok(*tag.first_chunk().unwrap_or(&[0; HASH_LEN]))
    }

    /// What to store of a state with this schema and codec.
    pub(super) fn protect_state(
        &self,
        id: RecordId,
        schema: u32,
        codec: u8,
        plain: &[u8],
    ) -> Result<Bytes> {
        self.protect(id, &state_name(schema, codec), plain)
    }

    pub(super) fn protect_subject(&self, id: RecordId, subject: &str) -> Result<Bytes> {
        self.protect(id, SUBJECT, subject.as_bytes())
    }

    fn protect(&self, id: RecordId, name: &str, plain: &[u8]) -> Result<Bytes> {
        if !self.options.seal {
            return Ok(Bytes::copy_from_slice(plain));
        }
        let (run, scope) = (id.to_string(), self.scope());
        Ok(self.keys.seal(&Context::new(&run, &scope, name), plain)?.into())
    }

    fn reveal(
        &self,
        id: RecordId,
        name: &str,
        session: &StoredSession,
        stored: &Bytes,
    ) -> Result<Zeroizing<Vec<u8>>> {
        match (self.options.seal, session.sealed) {
            // Somebody replaced it, or it was written before sealing was switched on.
            (true, false) => Err(SessionError::Corrupt("its state is stored in clear")),
            (_, true) => {
                let (run, scope) = (id.to_string(), self.scope());
                self.keys.open(&Context::new(&run, &scope, name), stored)
            }
            (false, false) => Ok(Zeroizing::new(stored.to_vec())),
        }
    }

    fn scope(&self) -> String {
        reseal::scope(&self.options.purpose)
    }

    pub(super) fn subject(&self, id: RecordId, session: &StoredSession) -> Result<String> {
        let plain = self.reveal(id, SUBJECT, session, &session.subject)?;
        String::from_utf8(plain.to_vec())
            .map_err(|_| SessionError::Corrupt("its subject is no text"))
    }

    /// The state of a session in the store, still encoded.
    pub(super) fn stored_state(
        &self,
        id: RecordId,
        session: &StoredSession,
    ) -> Result<Zeroizing<Vec<u8>>> {
        self.reveal(id, &state_name(session.schema, session.codec), session, &session.state)
    }

    /// A state of any schema that leads to ours.
    pub(super) fn decode<T: DeserializeOwned>(
        &self,
        schema: u32,
        codec: u8,
        bytes: &[u8],
    ) -> Result<T> {
        let format = self.format_of(codec)?;
        if schema == self.options.schema {
            return format.decode(bytes);
        }
        self.migrated(schema, format.decode(bytes)?)?
            .deserialized()
            .map_err(|_| SessionError::Corrupt("its state is no such value"))
    }

    /// The same without a type.
    pub(super) fn decode_value(&self, schema: u32, codec: u8, bytes: &[u8]) -> Result<StateValue> {
        self.migrated(schema, self.format_of(codec)?.decode(bytes)?)
    }

    fn format_of(&self, codec: u8) -> Result<Format> {
        if self.options.format.id() == codec {
            return Ok(self.options.format.clone());
        }
        Format::of(codec, &self.options.known)
            .ok_or(SessionError::Corrupt("its format is not known here"))
    }

    /// Step by step; a newer schema, or a step that is missing or fails, leads nowhere.
    fn migrated(&self, found: u32, mut value: StateValue) -> Result<StateValue> {
        let want = self.options.schema;
        let mismatch = SessionError::SchemaMismatch { found, want };
        if found > want {
            return Err(mismatch);
        }
        for from in found..want {
            let step = self.options.migrations.get(&from);
            value = match step.and_then(|step| step.run(value)) {
                Some(value) => value,
                None => return Err(mismatch),
            };
        }
        Ok(value)
    }
}
