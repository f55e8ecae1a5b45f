//! Sealed sessions, as a rotation of keys finds them.

use bytes::Bytes;
use resurge_seal::{Context, Resealable, Unread, Visitor};
use resurge_store::{Key, KeyRange, Record};

use crate::layout::{Layout, id_of};
use crate::stored::StoredSession;

/// The sealed subjects and states of a manager's sessions, for [`Reencrypt`](resurge_seal::Reencrypt): to move them to the
/// active key, or to know whether an old one is still needed. From
/// [`SessionManager::sealed_sessions`](crate::SessionManager::sealed_sessions).
///
/// What clients hold is not in it: a key may still be needed for their tokens.
#[derive(Clone, Debug)]
pub struct SealedSessions {
    pub(crate) name: String,
    pub(crate) layout: Layout,
    pub(crate) purpose: String,
}

pub(crate) const SUBJECT: &str = "subject";

/// The scope sealed values of a purpose have.
pub(crate) fn scope(purpose: &str) -> String {
    format!("session/{purpose}")
}

/// The name a sealed state has: it does not open as one of another schema or format.
pub(crate) fn state_name(schema: u32, codec: u8) -> String {
    format!("state/{schema}/{codec}")
}

impl Resealable for SealedSessions {
    fn name(&self) -> &str {
        &self.name
    }

    fn range(&self) -> KeyRange {
        self.layout.records()
    }

    fn rewrite(
        &self,
        key: &Key,
        value: &Bytes,
        visitor: &mut Visitor<'_>,
    ) -> Result<Option<Bytes>, Unread> {
        let record = Record::decode(key, value).map_err(|e| Unread::Corrupt(e.to_string()))?;
        let session = StoredSession::decode(record.into_payload());
        let mut session = session.map_err(|e| Unread::Corrupt(e.to_string()))?;
        let id = id_of(key).ok_or(Unread::NotOurs)?;
        if !session.sealed {
            return Ok(None);
        }
        let (run, scope) = (id.to_string(), scope(&self.purpose));
        let subject = visitor.envelope(&Context::new(&run, &scope, SUBJECT), &session.subject);
        let name = state_name(session.schema, session.codec);
        let state = if session.state.is_empty() {
            None
        } else {
            visitor.envelope(&Context::new(&run, &scope, &name), &session.state)
        };
        if subject.is_none() && state.is_none() {
            return Ok(None);
        }
        session.subject = subject.map_or(session.subject, Bytes::from);
        session.state = state.map_or(session.state, Bytes::from);
        Ok(Some(Record::new(session.encode()).encode(key)))
    }
}
