//! Users' values to stored bytes and back: encoded once, and sealed where the policy says so.
//!
//! A sealed value opens only where it was sealed: run, sort of value, position and name are
//! authenticated with it.

use std::borrow::Cow;

use bytes::Bytes;
use resurge_seal::{Context, Decision, SealError, Sealer, Stored};
use resurge_store::{Codec, Entropy};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::Position;
use crate::payload::Payload;
use crate::runs::InputHash;
use crate::step_error::{Class, ErrorRecord, SEALED_TEXT, StepError, StepErrorKind};

/// In clear; what sealed values begin with is another byte.
pub(crate) const PLAIN: u8 = 0;

/// What sort of value it is; a sealed one opens only as what it was sealed as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Of {
    Input,
    Output,
    Step,
    Signal,
    Context,
    Resource,
}

impl Of {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Input => "input",
            Self::Output => "output",
            Self::Step => "step",
            Self::Signal => "signal",
            Self::Context => "ctx",
            Self::Resource => "resource",
        }
    }
}

/// The place of a run's error, for what seals it.
const ERROR: &str = "error";
/// The place of what an input's hash is salted with.
const INPUT_SALT: &str = "input hash";

/// The name an input has for the policy, as an output has `output`.
pub(crate) const INPUT: &str = "input";
pub(crate) const OUTPUT: &str = "output";

#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) codec: Codec,
    pub(crate) max_bytes: usize,
    pub(crate) sealer: Sealer,
}

/// The texts of an error, as they are sealed.
#[derive(Serialize, Deserialize)]
struct Texts {
    #[serde(rename = "m")]
    message: String,
    #[serde(rename = "s")]
    causes: Vec<String>,
    #[serde(rename = "o")]
    code: Option<String>,
}

/// What is stored to recognise an input: its hash, salted with what is stored sealed when the input
/// is sensitive, so that nobody without the key can try values.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct InputMark {
    #[serde(rename = "h")]
    hash: InputHash,
    #[serde(rename = "k", default, skip_serializing_if = "Option::is_none")]
    pub(crate) salt: Option<Payload>,
}

impl Values {
    pub(crate) fn encode<T: Serialize + ?Sized>(
        &self,
        run: &str,
        of: Of,
        name: &str,
        value: &T,
    ) -> Result<Payload, StepError> {
        let stored = self.stored(&Context::new(run, of.as_str(), name), value)?;
        self.fits(run, of, name, stored.len())?;
        Ok(Payload::new(stored))
    }

    pub(crate) fn decode<T: DeserializeOwned + Serialize>(
        &self,
        run: &str,
        of: Of,
        name: &str,
        payload: &Payload,
    ) -> Result<T, StepError> {
        self.value(&Context::new(run, of.as_str(), name), payload.stored())
    }

    /// The result of a step, bound to its position.
    pub(crate) fn encode_at<T: Serialize + ?Sized>(
        &self,
        run: &str,
        position: &Position,
        value: &T,
    ) -> Result<Payload, StepError> {
        let scope = self.scope_of(position);
        let stored = self.stored(&Context::new(run, &scope, position.name()), value)?;
        self.fits(run, Of::Step, position.name(), stored.len())?;
        Ok(Payload::new(stored))
    }

    pub(crate) fn decode_at<T: DeserializeOwned + Serialize>(
        &self,
        run: &str,
        position: &Position,
        payload: &Payload,
    ) -> Result<T, StepError> {
        let scope = self.scope_of(position);
        self.value(&Context::new(run, &scope, position.name()), payload.stored())
    }

    /// `step`, and the rest of the position where there is any. Nobody looks at it without keys.
    pub(crate) fn scope_of(&self, position: &Position) -> Cow<'static, str> {
        let plain = position.scope().is_empty() && position.occurrence() == 0;
        if plain || self.sealer.ring().is_none() {
            return Cow::Borrowed(Of::Step.as_str());
        }
        let (step, scope, nth) = (Of::Step.as_str(), position.scope(), position.occurrence());
        Cow::Owned(format!("{step}/{scope}#{nth}"))
    }

    /// The bytes of a value that is not to be stored.
    pub(crate) fn unsealed<T: Serialize + ?Sized>(
        &self,
        run: &str,
        name: &str,
        value: &T,
    ) -> Result<Vec<u8>, StepError> {
        let mut bytes = Vec::new();
        self.codec.encode_into(value, &mut bytes).map_err(|_| {
            let message = format!("ctx `{name}` of run `{run}` does not encode");
            StepError::of(StepErrorKind::Codec, Class::Permanent, message)
        })?;
        self.fits(run, Of::Context, name, bytes.len())?;
        Ok(bytes)
    }

    /// What to store for a value in another place, such as a checkpoint that all runs share.
    pub(crate) fn stored<T: Serialize + ?Sized>(
        &self,
        at: &Context<'_>,
        value: &T,
    ) -> Result<Bytes, StepError> {
        self.sealer.encode(at, self.codec, value).map_err(|e| refused(at, &e))
    }

    fn value<T: DeserializeOwned + Serialize>(
        &self,
        at: &Context<'_>,
        stored: &Bytes,
    ) -> Result<T, StepError> {
        self.sealer.decode(at, self.codec, stored).map_err(|e| refused(at, &e))
    }

    /// The same value for another place.
    pub(crate) fn moved(
        &self,
        from: &Context<'_>,
        to: &Context<'_>,
        stored: &Bytes,
    ) -> Result<Bytes, StepError> {
        let malformed = |what| SealError::Malformed { at: from.place(), what };
        let moved = || match Stored::decode(stored).map_err(malformed)? {
            Stored::Plain(_) => Ok(stored.clone()),
            Stored::Sealed(envelope) => {
                let no_key = || SealError::NoKey { at: from.place(), key: None };
                let ring = self.sealer.ring().ok_or_else(no_key)?;
                let plain = ring.open(from, &envelope)?;
                self.sealer.protect(to, Decision::Seal, &plain)
            }
        };
        moved().map_err(|e| refused(from, &e))
    }

    fn fits(&self, run: &str, of: Of, name: &str, len: usize) -> Result<(), StepError> {
        if len <= self.max_bytes {
            return Ok(());
        }
        let (max, what) = (self.max_bytes, of.as_str());
        let message =
            format!("{what} `{name}` of run `{run}` takes {len} bytes; the limit is {max}");
        Err(StepError::of(StepErrorKind::TooLarge, Class::Permanent, message))
    }

    /// An error as it is journaled: its texts sealed, if the policy covers errors.
    pub(crate) fn hide(&self, run: &str, error: &ErrorRecord) -> Result<ErrorRecord, StepError> {
        let decision = self.sealer.decide_errors();
        if decision == Decision::Plain || error.sealed.is_some() {
            return Ok(error.clone());
        }
        let at = Context::new(run, ERROR, ERROR);
        let codec = |source| SealError::Codec { at: at.place(), source };
        let (message, causes) = (error.message.clone(), error.causes.clone());
        let mut texts = Texts { message, causes, code: error.code.clone() };
        let hidden = || {
            let plain = Zeroizing::new(Codec::Cbor.encode(&texts).map_err(codec)?);
            self.sealer.protect(&at, Decision::Seal, &plain)
        };
        let sealed = hidden().map_err(|e| refused(&at, &e))?;
        zeroize::Zeroize::zeroize(&mut texts.message);
        Ok(ErrorRecord {
            message: SEALED_TEXT.to_owned(),
            causes: Vec::new(),
            class: error.class,
            kind: error.kind,
            code: None,
            sealed: Some(Payload::new(sealed)),
        })
    }

    /// The error that was hidden.
    pub(crate) fn show(&self, run: &str, error: ErrorRecord) -> Result<ErrorRecord, StepError> {
        let Some(sealed) = &error.sealed else { return Ok(error) };
        let at = Context::new(run, ERROR, ERROR);
        let shown = self.sealer.reveal(&at, Decision::Plain, sealed.stored()).and_then(|plain| {
            let codec = |source| SealError::Codec { at: at.place(), source };
            Codec::Cbor.decode::<Texts>(&plain).map_err(codec)
        });
        let Texts { message, causes, code } = shown.map_err(|e| refused(&at, &e))?;
        Ok(ErrorRecord { message, causes, code, sealed: None, ..error })
    }

    /// For people: what cannot be shown stays hidden.
    pub(crate) fn shown(&self, run: &str, error: ErrorRecord) -> ErrorRecord {
        self.show(run, error.clone()).unwrap_or(error)
    }

    /// An input: what to store of it, and its hash, which is not to be stored as it is.
    pub(crate) fn input<T: Serialize + ?Sized>(
        &self,
        run: &str,
        input: &T,
    ) -> Result<(Payload, InputHash), StepError> {
        let payload = self.encode(run, Of::Input, INPUT, input)?;
        let hash = if let Some((&PLAIN, plain)) = payload.stored().split_first() {
            Sha256::digest(plain).into()
        } else {
            let at = Context::new(run, INPUT, INPUT);
            let mut plain = Zeroizing::new(Vec::new());
            let encoded = self.codec.encode_into(input, &mut plain);
            let codec = |source| SealError::Codec { at: at.place(), source };
            encoded.map_err(|e| refused(&at, &codec(e)))?;
            Sha256::digest(&plain).into()
        };
        Ok((payload, hash))
    }

    /// What to store to recognise this input.
    pub(crate) fn mark(
        &self,
        run: &str,
        payload: &Payload,
        hash: &InputHash,
        entropy: &dyn Entropy,
    ) -> Result<InputMark, StepError> {
        if payload.stored().first() == Some(&PLAIN) {
            return Ok(InputMark { hash: *hash, salt: None });
        }
        let at = Context::new(run, INPUT_SALT, INPUT);
        let mut salt = Zeroizing::new([0; 32]);
        entropy.fill(&mut *salt).map_err(|e| refused(&at, &SealError::Store(e)))?;
        let sealed = self.sealer.protect(&at, Decision::Seal, &*salt);
        let sealed = sealed.map_err(|e| refused(&at, &e))?;
        Ok(InputMark { hash: salted(&*salt, hash), salt: Some(Payload::new(sealed)) })
    }

    /// Whether the mark is of the input with this hash.
    pub(crate) fn is_input(
        &self,
        run: &str,
        mark: &InputMark,
        hash: &InputHash,
    ) -> Result<bool, StepError> {
        let Some(salt) = &mark.salt else { return Ok(mark.hash == *hash) };
        let at = Context::new(run, INPUT_SALT, INPUT);
        let salt = self.sealer.reveal(&at, Decision::Seal, salt.stored());
        let salt = salt.map_err(|e| refused(&at, &e))?;
        Ok(mark.hash == salted(&salt, hash))
    }
}

fn salted(salt: &[u8], hash: &InputHash) -> InputHash {
    let mut salted = Sha256::new();
    salted.update(salt);
    salted.update(hash);
    salted.finalize().into()
}

/// Why a value was not stored or not read. What a key helps against is transient, and stops the run;
/// see [`StepError::is_about_keys`].
pub(crate) fn refused(at: &Context<'_>, error: &SealError) -> StepError {
    match error {
        SealError::Codec { source, .. } => {
            let Context { run, scope, name } = at;
            let message = format!("{scope} `{name}` of run `{run}`: {source}");
            StepError::of(StepErrorKind::Codec, Class::Permanent, message)
        }
        SealError::Omitted { .. } => StepError::of(StepErrorKind::Sealed, Class::Permanent, error),
        // Which of them it is names the ring and the key, not the value.
        SealError::WrongKey { .. } => {
            StepError::of(StepErrorKind::Sealed, Class::Transient, format!("{at}: {error}"))
        }
        _ => StepError::of(StepErrorKind::Sealed, Class::Transient, error),
    }
}

pub(crate) mod places {
    //! Where sealed values of stored records are, for whoever seals them anew.

    use resurge_seal::Context;

    use super::{ERROR, INPUT, INPUT_SALT, OUTPUT, Of};

    pub(crate) fn output(run: &str) -> Context<'_> {
        Context::new(run, Of::Output.as_str(), OUTPUT)
    }

    pub(crate) fn error(run: &str) -> Context<'_> {
        Context::new(run, ERROR, ERROR)
    }

    pub(crate) fn input_salt(run: &str) -> Context<'_> {
        Context::new(run, INPUT_SALT, INPUT)
    }

    pub(crate) fn signal<'a>(run: &'a str, name: &'a str) -> Context<'a> {
        Context::new(run, Of::Signal.as_str(), name)
    }
}
