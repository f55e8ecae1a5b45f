//! States to bytes and back. The format is recorded with each session, so another one may be chosen later.

use std::fmt::Debug;
use std::sync::Arc;

use resurge_store::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::Zeroizing;

use crate::error::{Result, SessionError};
use crate::hooks::quietly;

/// A state without its type: what migrations and serializers of your own work on. Maps keep their keys, and
/// integers, floats, text and bytes are told apart.
pub type StateValue = ciborium::Value;

/// A format of your own.
///
/// ```
/// use resurge_session_token::{Serializer, StateValue};
/// #[derive(Debug)]
/// struct Words;
/// impl Serializer for Words {
///     fn id(&self) -> u8 { 200 }
///     fn encode(&self, value: &StateValue) -> Result<Vec<u8>, String> {
///         Ok(value.as_text().ok_or("only text")?.as_bytes().to_vec())
///     }
///     fn decode(&self, bytes: &[u8]) -> Result<StateValue, String> {
///         Ok(String::from_utf8(bytes.to_vec()).map_err(|e| e.to_string())?.into())
///     }
/// }
/// ```
pub trait Serializer: Debug + Send + Sync + 'static {
    /// A number for this format, stored with each session: 128 to 255, for ever the same.
    fn id(&self) -> u8;

    /// Writes a state.
    ///
    /// # Errors
    /// Why it cannot; the text goes nowhere.
    fn encode(&self, value: &StateValue) -> Result<Vec<u8>, String>;

    /// Reads what [`encode`](Self::encode) wrote, all of it.
    ///
    /// # Errors
    /// Why it cannot; the text goes nowhere.
    fn decode(&self, bytes: &[u8]) -> Result<StateValue, String>;
}

/// How states are written.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub enum Format {
    /// CBOR: compact; keeps integers, bytes and floats apart.
    #[default]
    Cbor,
    /// JSON: readable.
    Json,
    /// `MessagePack`, with the names of fields.
    #[cfg(feature = "messagepack")]
    #[cfg_attr(docsrs, doc(cfg(feature = "messagepack")))]
    MessagePack,
    /// One of your own.
    Custom(Arc<dyn Serializer>),
}

const CBOR: u8 = 1;
const JSON: u8 = 2;
#[cfg(feature = "messagepack")]
const MESSAGE_PACK: u8 = 3;
pub(crate) const FIRST_CUSTOM: u8 = 128;
const OWN: &str = "a serializer of sessions";

impl Format {
    pub(crate) fn id(&self) -> u8 {
        match self {
            Self::Cbor => CBOR,
            Self::Json => JSON,
            #[cfg(feature = "messagepack")]
            Self::MessagePack => MESSAGE_PACK,
            Self::Custom(own) => own.id(),
        }
    }

    /// The format of this id: a built-in one, or one of `known`.
    pub(crate) fn of(id: u8, known: &[Self]) -> Option<Self> {
        match id {
            CBOR => Some(Self::Cbor),
            JSON => Some(Self::Json),
            #[cfg(feature = "messagepack")]
            MESSAGE_PACK => Some(Self::MessagePack),
            _ => known.iter().find(|format| format.id() == id).cloned(),
        }
    }

    pub(crate) fn encode<T: Serialize + ?Sized>(&self, value: &T) -> Result<Zeroizing<Vec<u8>>> {
        // The codecs' own words may quote the value.
        let bytes = match self {
            Self::Cbor => Codec::Cbor.encode(value).ok(),
            Self::Json => Codec::Json.encode(value).ok(),
            #[cfg(feature = "messagepack")]
            Self::MessagePack => rmp_serde::to_vec_named(value).ok(),
            Self::Custom(own) => {
                let value = StateValue::serialized(&value).ok();
                value.and_then(|value| quietly(OWN, || own.encode(&value).ok()))
            }
        };
        bytes.map(Zeroizing::new).ok_or(SessionError::Encode)
    }

    pub(crate) fn decode<T: DeserializeOwned>(&self, bytes: &[u8]) -> Result<T> {
        let decoded = match self {
            Self::Cbor => Codec::Cbor.decode(bytes).ok(),
            Self::Json => Codec::Json.decode(bytes).ok(),
            #[cfg(feature = "messagepack")]
            Self::MessagePack => message_pack(bytes),
            Self::Custom(own) => {
                let value = quietly(OWN, || own.decode(bytes).ok());
                value.and_then(|value| value.deserialized().ok())
            }
        };
        decoded.ok_or(SessionError::Corrupt("its state is no such value"))
    }
}

#[cfg(feature = "messagepack")]
fn message_pack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    const MAX_DEPTH: usize = 128;
    let mut from = rmp_serde::Deserializer::new(std::io::Cursor::new(bytes));
    from.set_max_depth(MAX_DEPTH);
    let value = T::deserialize(&mut from).ok()?;
    let read = usize::try_from(from.position()).ok()?;
    (read == bytes.len()).then_some(value)
}
