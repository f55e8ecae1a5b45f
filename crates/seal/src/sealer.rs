//! Ring and policy together: what the rest of the framework calls on the way to the store and back.

use std::fmt;
use std::io::{self, Write};
use std::sync::Arc;

use bytes::Bytes;
use resurge_store::{Clock, Codec, StoreError, SystemClock};
use serde::Serialize;
use serde::de::DeserializeOwned;
use zeroize::{Zeroize, Zeroizing};

use crate::metrics::Metrics;
use crate::policy::watch;
use crate::stored::{PLAIN, SEALED};
use crate::{Context, Decision, KeyRing, Result, SealError, SensitivePolicy, Stored};

/// Turns values into what may be stored, and back: sealed when the policy says so, otherwise in clear
/// behind one byte. Cheap to clone.
///
/// ```
/// # fn main() -> Result<(), resurge_seal::SealError> {
/// use resurge_seal::{Context, KeyRing, Sealer, SensitivePolicy};
/// use resurge_store::Codec;
/// let ring = KeyRing::from_bytes(1, &[7, 1, 8, 2].repeat(8))?;
/// let sealer = Sealer::new(ring, SensitivePolicy::new().name("password")?);
///
/// let context = Context::new("order-42", "ctx", "password");
/// let stored = sealer.encode(&context, Codec::Cbor, "hunter2")?;
/// assert!(!stored.windows(7).any(|w| w == b"hunter2"));
/// assert_eq!(sealer.decode::<String>(&context, Codec::Cbor, &stored)?, "hunter2");
/// # Ok(()) }
/// ```
#[derive(Clone, Default)]
pub struct Sealer {
    /// `None` when there is neither ring nor policy.
    inner: Option<Arc<Inner>>,
}

struct Inner {
    ring: Option<KeyRing>,
    policy: SensitivePolicy,
    clock: Arc<dyn Clock>,
    metrics: Metrics,
}

impl fmt::Debug for Sealer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = self.inner.as_ref();
        f.debug_struct("Sealer")
            .field("ring", &inner.and_then(|inner| inner.ring.as_ref()))
            .field("policy", &inner.map(|inner| &inner.policy))
            .finish()
    }
}

impl Sealer {
    /// No keys, no policy: everything in clear, at the cost of one byte. What is sealed, or marked
    /// [`Sensitive`](crate::Sensitive), is still `NoKey`.
    pub fn plain() -> Self {
        Self::default()
    }

    /// With a ring and a policy.
    pub fn new(ring: KeyRing, policy: SensitivePolicy) -> Self {
        Self::make(Some(ring), policy, Arc::new(SystemClock::new()))
    }

    /// With a policy and no keys: what is sensitive can be neither stored nor read.
    pub fn without_ring(policy: SensitivePolicy) -> Self {
        Self::make(None, policy, Arc::new(SystemClock::new()))
    }

    /// By this clock the time of [`accept_plaintext`](SensitivePolicy::accept_plaintext) ends.
    #[must_use]
    pub fn with_clock(self, clock: Arc<dyn Clock>) -> Self {
        match self.inner {
            Some(inner) => Self::make(inner.ring.clone(), inner.policy.clone(), clock),
            None => self,
        }
    }

    fn make(ring: Option<KeyRing>, policy: SensitivePolicy, clock: Arc<dyn Clock>) -> Self {
        let metrics = Metrics::new();
        Self { inner: Some(Arc::new(Inner { ring, policy, clock, metrics })) }
    }

    /// The ring.
    pub fn ring(&self) -> Option<&KeyRing> {
        self.inner.as_ref()?.ring.as_ref()
    }

    /// The policy.
    pub fn policy(&self) -> Option<&SensitivePolicy> {
        self.inner.as_ref().map(|inner| &inner.policy)
    }

    /// Resolves when values can be sealed; see [`KeyRing::ready`].
    ///
    /// # Errors
    /// `KeyUnavailable`: retry later.
    pub async fn ready(&self) -> Result<()> {
        match self.ring() {
            Some(ring) => ring.ready().await,
            None => Ok(()),
        }
    }

    /// See [`SensitivePolicy::decide_name`].
    pub fn decide_name(&self, name: &str) -> Decision {
        self.policy().map_or(Decision::Plain, |policy| policy.decide_name(name))
    }

    /// See [`SensitivePolicy::decide`].
    pub fn decide<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Decision {
        match self.policy() {
            Some(policy) => policy.decide(name, value),
            None => SensitivePolicy::new().decide(name, value),
        }
    }

    /// See [`SensitivePolicy::decide_errors`].
    pub fn decide_errors(&self) -> Decision {
        self.policy().map_or(Decision::Plain, SensitivePolicy::decide_errors)
    }

    /// What to store for bytes that are encoded already.
    ///
    /// # Errors
    /// As [`protect_into`](Self::protect_into).
    pub fn protect(
        &self,
        context: &Context<'_>,
        decision: Decision,
        plain: &[u8],
    ) -> Result<Bytes> {
        let mut out = Vec::new();
        self.protect_into(context, decision, plain, &mut out)?;
        Ok(out.into())
    }

    /// Appends what to store for bytes that are encoded already; on error `out` stays as it was.
    ///
    /// # Errors
    /// `NoKey` to seal without a ring or an active key; `Omitted` for what must not be stored;
    /// `KeyUnavailable`; no randomness. Nothing is ever stored in clear instead.
    pub fn protect_into(
        &self,
        context: &Context<'_>,
        decision: Decision,
        plain: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<()> {
        match decision {
            Decision::Plain => {
                out.reserve(1 + plain.len());
                out.push(PLAIN);
                out.extend_from_slice(plain);
                Ok(())
            }
            Decision::Seal => counted(self.seal(context, plain, out)),
            Decision::Omit => counted(Err(SealError::Omitted { at: context.place() })),
        }
    }

    /// What to store for a value: decides, encodes, protects.
    ///
    /// # Errors
    /// As [`protect_into`](Self::protect_into); `Codec` when it does not encode.
    pub fn encode<T: Serialize + ?Sized>(
        &self,
        context: &Context<'_>,
        codec: Codec,
        value: &T,
    ) -> Result<Bytes> {
        let mut out = Vec::new();
        self.encode_into(context, codec, value, &mut out)?;
        Ok(out.into())
    }

    /// Appends what to store for a value; on error `out` stays as it was.
    ///
    /// # Errors
    /// As [`encode`](Self::encode).
    pub fn encode_into<T: Serialize + ?Sized>(
        &self,
        context: &Context<'_>,
        codec: Codec,
        value: &T,
        out: &mut Vec<u8>,
    ) -> Result<()> {
        let names = self.policy().filter(|policy| !policy.is_empty());
        let decision = match names {
            Some(policy) => policy.decide(context.name, value),
            // Only a `Sensitive` matters, and encoding it tells.
            None if encode_plain(context, codec, value, out)? => return Ok(()),
            None => Decision::Seal,
        };
        match decision {
            Decision::Plain => {
                encode_plain(context, codec, value, out)?;
                Ok(())
            }
            Decision::Seal => {
                // Not the codec's own words: they may quote the value.
                let refused = |e: StoreError| {
                    let source = StoreError::new(e.kind(), "the value does not encode");
                    SealError::Codec { at: context.place(), source }
                };
                let mut count = Count(0);
                codec.write_to(value, &mut count).map_err(refused)?;
                // All at once: a vector that grows leaves copies behind.
                let mut plain = Zeroizing::new(Vec::with_capacity(count.0));
                codec.encode_into(value, &mut plain).map_err(refused)?;
                self.protect_into(context, Decision::Seal, &plain, out)
            }
            Decision::Omit => self.protect_into(context, Decision::Omit, &[], out),
        }
    }

    /// The encoded bytes of what was stored. What was in clear shares `stored`. Who knows that a value is
    /// sensitive for another reason than its name passes `Decision::Seal` as `expected`.
    ///
    /// # Errors
    /// `ExpectedSealed` when it is sensitive and in clear; `NoKey` when it is sealed and there is no ring,
    /// whatever the policy says; `Malformed`; those of [`KeyRing::open`].
    pub fn reveal(
        &self,
        context: &Context<'_>,
        expected: Decision,
        stored: &Bytes,
    ) -> Result<Bytes> {
        counted(match self.read(context, stored) {
            Ok(Revealed::Plain(plain)) => {
                let expected = expected.max(self.decide_name(context.name));
                self.allow_plain(context, expected).map(|()| plain)
            }
            // From here on the bytes belong to the caller, and are not wiped.
            Ok(Revealed::Opened(mut plain)) => Ok(std::mem::take(&mut *plain).into()),
            Err(e) => Err(e),
        })
    }

    /// The value that was stored. Applies the whole policy, also to the names in it.
    ///
    /// # Errors
    /// As [`reveal`](Self::reveal); `Codec` when it does not decode.
    pub fn decode<T: DeserializeOwned + Serialize>(
        &self,
        context: &Context<'_>,
        codec: Codec,
        stored: &Bytes,
    ) -> Result<T> {
        counted(self.try_decode(context, codec, stored))
    }

    fn try_decode<T: DeserializeOwned + Serialize>(
        &self,
        context: &Context<'_>,
        codec: Codec,
        stored: &Bytes,
    ) -> Result<T> {
        // A codec may quote what it could not read.
        let refused = |quote: bool, e: StoreError| {
            let hidden = || StoreError::new(e.kind(), "the value does not decode");
            let source = if quote { e.clone() } else { hidden() };
            SealError::Codec { at: context.place(), source }
        };
        match self.read(context, stored)? {
            Revealed::Opened(plain) => codec.decode(&plain).map_err(|e| refused(false, e)),
            Revealed::Plain(plain) => {
                let by_name = self.decide_name(context.name);
                self.allow_plain(context, by_name)?;
                let names = self.policy().filter(|policy| !policy.is_empty());
                let (decoded, marked) = watch(|| codec.decode::<T>(&plain));
                let quote = names.is_none() && !marked;
                let value = decoded.map_err(|e| refused(quote, e))?;
                // A mark may be of a part that was tried and given up: the value itself tells.
                if by_name == Decision::Plain && (marked || names.is_some()) {
                    self.allow_plain(context, self.decide(context.name, &value))?;
                }
                Ok(value)
            }
        }
    }

    fn read(&self, context: &Context<'_>, stored: &Bytes) -> Result<Revealed> {
        let malformed = |what| SealError::Malformed { at: context.place(), what };
        match Stored::decode(stored).map_err(malformed)? {
            Stored::Plain(plain) => Ok(Revealed::Plain(plain)),
            Stored::Sealed(envelope) => {
                if let Some(ring) = self.ring() {
                    return ring.open(context, &envelope).map(Revealed::Opened);
                }
                let key = crate::Envelope::parse(&envelope).map_err(malformed)?.key();
                Err(SealError::NoKey { at: context.place(), key: Some(key) })
            }
        }
    }

    /// Whether a value that was found in clear may be read.
    fn allow_plain(&self, context: &Context<'_>, decision: Decision) -> Result<()> {
        if decision == Decision::Plain {
            return Ok(());
        }
        if let Some(inner) = &self.inner {
            let until = inner.policy.accepts_plaintext();
            if until.is_some_and(|until| inner.clock.now() < until) {
                inner.metrics.accepted.increment(1);
                return Ok(());
            }
        }
        Err(SealError::ExpectedSealed { at: context.place() })
    }

    fn seal(&self, context: &Context<'_>, plain: &[u8], out: &mut Vec<u8>) -> Result<()> {
        let no_key = || SealError::NoKey { at: context.place(), key: None };
        let ring = self.ring().ok_or_else(no_key)?;
        let pad_to = self.policy().map_or(0, SensitivePolicy::padding);
        let start = out.len();
        out.push(SEALED);
        let sealed = ring.seal_into(context, plain, pad_to, out);
        if sealed.is_err() {
            out.truncate(start);
        }
        sealed
    }
}

/// Encodes straight behind the tag; false, and `out` as it was, when a `Sensitive` is in the value and
/// no policy has said so before.
fn encode_plain<T: Serialize + ?Sized>(
    context: &Context<'_>,
    codec: Codec,
    value: &T,
    out: &mut Vec<u8>,
) -> Result<bool> {
    let start = out.len();
    out.push(PLAIN);
    let (encoded, marked) = watch(|| codec.encode_into(value, out));
    if encoded.is_ok() && !marked {
        return Ok(true);
    }
    if let Some(written) = out.get_mut(start..) {
        written.zeroize();
    }
    out.truncate(start);
    encoded.map_err(|e| {
        let hidden = || StoreError::new(e.kind(), "the value does not encode");
        let source = if marked { hidden() } else { e.clone() };
        SealError::Codec { at: context.place(), source }
    })?;
    Ok(false)
}

/// Counts what was refused.
fn counted<T>(result: Result<T>) -> Result<T> {
    if let Err(e) = &result {
        crate::metrics::refused(e);
    }
    result
}

enum Revealed {
    Plain(Bytes),
    Opened(Zeroizing<Vec<u8>>),
}

/// Counts what is written.
struct Count(usize);

impl Write for Count {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0 = self.0.saturating_add(bytes.len());
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
