//! Users' values to stored bytes and back.

use bytes::Bytes;
use resurge_store::Codec;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::payload::Payload;
use crate::step_error::{Class, StepError, StepErrorKind};

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

#[derive(Clone, Debug)]
pub(crate) struct Values {
    pub(crate) codec: Codec,
    pub(crate) max_bytes: usize,
}

impl Values {
    pub(crate) fn encode<T: Serialize + ?Sized>(
        &self,
        run: &str,
        of: Of,
        name: &str,
        value: &T,
    ) -> Result<Payload, StepError> {
        let mut bytes = vec![PLAIN];
        let codec = |e: resurge_store::StoreError| {
            let message = format!("{} `{name}` of run `{run}`: {e}", of.as_str());
            StepError::of(StepErrorKind::Codec, Class::Permanent, message)
        };
        self.codec.encode_into(value, &mut bytes).map_err(codec)?;
        if bytes.len() > self.max_bytes {
            let (len, max) = (bytes.len(), self.max_bytes);
            let what = of.as_str();
            let message =
                format!("{what} `{name}` of run `{run}` takes {len} bytes; the limit is {max}");
            return Err(StepError::of(StepErrorKind::TooLarge, Class::Permanent, message));
        }
        Ok(Payload::new(Bytes::from(bytes)))
    }

    pub(crate) fn decode<T: DeserializeOwned>(
        &self,
        run: &str,
        of: Of,
        name: &str,
        payload: &Payload,
    ) -> Result<T, StepError> {
        let bad = |e: String| {
            let message = format!("{} `{name}` of run `{run}`: {e}", of.as_str());
            StepError::of(StepErrorKind::Codec, Class::Permanent, message)
        };
        match payload.stored().split_first() {
            Some((&PLAIN, bytes)) => self.codec.decode(bytes).map_err(|e| bad(e.to_string())),
            Some((other, _)) => {
                Err(bad(format!("stored as {other}, which this build does not read")))
            }
            None => Err(bad("nothing is stored".to_owned())),
        }
    }
}
