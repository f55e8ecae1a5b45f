//! What a result is stored under: scope, step, version of the step, hash of its input.

use std::fmt;
use std::sync::Arc;

use resurge_store::{Codec, Key};
use serde::Serialize;
use sha2::{Digest, Sha256};

use crate::layout;
use crate::{CheckpointError, Result};

/// The longest step name, in bytes.
pub const MAX_STEP_LEN: usize = 255;
/// The longest workflow id, in bytes.
pub const MAX_WORKFLOW_LEN: usize = 512;

const INPUT_DOMAIN: &[u8] = b"resurge checkpoint input v1";
const IDEMPOTENCY_DOMAIN: &[u8] = b"resurge checkpoint idempotency v1";
const TYPED: u8 = 0;
const RAW: u8 = 1;

/// Who shares a result.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// Everybody on this store: one execution for one input, whoever asks.
    Global,
    /// One workflow (one run, one order, one request) and its restarts.
    Workflow(Arc<str>),
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Global => f.write_str("global"),
            Self::Workflow(id) => write!(f, "workflow `{id}`"),
        }
    }
}

/// Names a step in errors and listings.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StepId {
    /// Who shares its result.
    pub scope: Scope,
    /// Its name.
    pub step: Arc<str>,
    /// Its version.
    pub version: u32,
}

impl fmt::Display for StepId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step `{}`", self.step)?;
        if self.version != 1 {
            write!(f, " version {}", self.version)?;
        }
        match &self.scope {
            Scope::Global => Ok(()),
            Scope::Workflow(id) => write!(f, " of workflow `{id}`"),
        }
    }
}

/// What a result is stored under. Cheap to clone.
///
/// Two keys are equal when scope, step name, step version and input hash are. Raise the version when
/// the step's code changes what it returns: results of the old one are then not found any more.
///
/// ```
/// use resurge_checkpoint::CheckpointKey;
/// let order = ("order-42", 3_u32);
/// let key = CheckpointKey::global("charge").version(2).input(&order).build()?;
/// let same = CheckpointKey::global("charge").version(2).input(&order).build()?;
/// let run = CheckpointKey::workflow("run-7", "charge").version(2).input(&order).build()?;
/// assert!(key == same && key != run);
/// assert_eq!(key.idempotency_key(), same.idempotency_key());
/// # Ok::<(), resurge_checkpoint::CheckpointError>(())
/// ```
#[derive(Clone)]
pub struct CheckpointKey {
    inner: Arc<Inner>,
}

struct Inner {
    id: StepId,
    input_hash: [u8; 32],
    stored: Key,
}

impl CheckpointKey {
    /// A key of [`Scope::Global`]; version 1, no input, until told otherwise.
    pub fn global(step: impl Into<Arc<str>>) -> KeyBuilder {
        Self::builder(Scope::Global, step)
    }

    /// A key of [`Scope::Workflow`].
    pub fn workflow(id: impl Into<Arc<str>>, step: impl Into<Arc<str>>) -> KeyBuilder {
        Self::builder(Scope::Workflow(id.into()), step)
    }

    /// A key of any scope.
    pub fn builder(scope: Scope, step: impl Into<Arc<str>>) -> KeyBuilder {
        let mut hash = Sha256::new();
        hash.update(INPUT_DOMAIN);
        KeyBuilder { id: StepId { scope, step: step.into(), version: 1 }, hash, failed: None }
    }

    /// Scope, name and version together, as errors show them.
    pub fn id(&self) -> &StepId {
        &self.inner.id
    }

    /// Who shares the result.
    pub fn scope(&self) -> &Scope {
        &self.inner.id.scope
    }

    /// The step's name.
    pub fn step(&self) -> &str {
        &self.inner.id.step
    }

    /// The step's version.
    pub fn version(&self) -> u32 {
        self.inner.id.version
    }

    /// SHA-256 of the input.
    pub fn input_hash(&self) -> &[u8; 32] {
        &self.inner.input_hash
    }

    /// The key in the store.
    pub fn stored(&self) -> &Key {
        &self.inner.stored
    }

    /// 64 hex digits that are the same for every attempt at this step with this input, also after
    /// crashes: hand them to what you call, so that it can recognise a repetition.
    pub fn idempotency_key(&self) -> String {
        let mut hash = Sha256::new();
        hash.update(IDEMPOTENCY_DOMAIN);
        hash.update(self.inner.stored.bytes());
        hex(&hash.finalize())
    }

    pub(crate) fn from_parts(id: StepId, input_hash: [u8; 32], stored: Key) -> Self {
        Self { inner: Arc::new(Inner { id, input_hash, stored }) }
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    let digit = |n: u8| char::from_digit(u32::from(n), 16).unwrap_or('0');
    bytes.iter().flat_map(|b| [digit(b >> 4), digit(b & 15)]).collect()
}

impl PartialEq for CheckpointKey {
    fn eq(&self, other: &Self) -> bool {
        // The stored key holds every part.
        self.inner.stored == other.inner.stored
    }
}

impl Eq for CheckpointKey {}

impl std::hash::Hash for CheckpointKey {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.inner.stored.hash(state);
    }
}

impl fmt::Display for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let short = self.inner.input_hash.get(..4).unwrap_or_default();
        write!(f, "{} input {}", self.inner.id, hex(short))
    }
}

impl fmt::Debug for CheckpointKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CheckpointKey({self})")
    }
}

/// Makes a [`CheckpointKey`].
///
/// Inputs are hashed by SHA-256 in the order given, each with its length in front, so that no two lists
/// of inputs run into each other. A typed input is hashed as its CBOR, which is the same for equal
/// values only if the value serialises in one order: use `BTreeMap` and `BTreeSet` inside inputs, not
/// `HashMap` and `HashSet`. A field that is renamed, added or reordered gives another hash.
#[derive(Clone, Debug)]
#[must_use = "a builder is no key until it is built"]
pub struct KeyBuilder {
    id: StepId,
    hash: Sha256,
    failed: Option<String>,
}

impl KeyBuilder {
    /// The version of the step's code; 1 unless said.
    pub fn version(mut self, version: u32) -> Self {
        self.id.version = version;
        self
    }

    /// One more input, hashed as its CBOR. That it refuses to be serialised is reported by
    /// [`build`](Self::build).
    pub fn input<T: Serialize + ?Sized>(mut self, input: &T) -> Self {
        let mut bytes = Vec::new();
        match Codec::Cbor.write_to(input, &mut bytes) {
            Ok(()) => self.add(TYPED, &bytes),
            Err(error) => {
                self.failed.get_or_insert_with(|| format!("an input of {}: {error}", self.id));
            }
        }
        self
    }

    /// One more input, hashed as these bytes: for canonical bytes of your own.
    pub fn input_bytes(mut self, input: impl AsRef<[u8]>) -> Self {
        self.add(RAW, input.as_ref());
        self
    }

    fn add(&mut self, kind: u8, bytes: &[u8]) {
        self.hash.update([kind]);
        self.hash.update((bytes.len() as u64).to_be_bytes());
        self.hash.update(bytes);
    }

    /// The key.
    ///
    /// # Errors
    /// `Invalid` for an empty or too long name or id ([`MAX_STEP_LEN`], [`MAX_WORKFLOW_LEN`]), or for an
    /// input that refused to be serialised.
    pub fn build(self) -> Result<CheckpointKey> {
        if let Some(what) = self.failed {
            return Err(CheckpointError::Invalid(what));
        }
        let input_hash = self.hash.finalize().into();
        let stored = layout::key(&self.id, &input_hash)?;
        Ok(CheckpointKey::from_parts(self.id, input_hash, stored))
    }
}
