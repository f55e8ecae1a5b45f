//! Which key holds what. `docs/format.md` describes the same for readers of the disk.

use resurge_store::{Key, KeyRange, Namespace};

use crate::key::{MAX_STEP_LEN, MAX_WORKFLOW_LEN};
use crate::{CheckpointError, CheckpointKey, Result, Scope, StepId};

const NAMESPACE: &str = "resurge/checkpoint";

/// The newest owner's number.
const OWNERS: u8 = 0;
const GLOBAL: u8 = 1;
const WORKFLOW: u8 = 2;

pub(crate) fn namespace() -> Result<Namespace> {
    Ok(Namespace::new(NAMESPACE)?)
}

pub(crate) fn owners() -> Result<Key> {
    Ok(namespace()?.key([OWNERS])?)
}

/// Every checkpoint, or those of one scope.
pub(crate) fn range(scope: Option<&Scope>, step: Option<&str>) -> Result<KeyRange> {
    let namespace = namespace()?;
    let Some(scope) = scope else {
        return Ok(namespace.range([GLOBAL].as_slice()..[WORKFLOW + 1].as_slice()));
    };
    let mut prefix = scope_bytes(scope)?;
    if let Some(step) = step {
        prefix.extend(step_bytes(step)?);
    }
    Ok(namespace.prefix(prefix))
}

/// `[scope tag u8]`, for a workflow `[id length u16][id]`, then `[name length u16][name][version u32]
/// [SHA-256 of the input]`.
pub(crate) fn key(id: &StepId, input_hash: &[u8; 32]) -> Result<Key> {
    let mut bytes = scope_bytes(&id.scope)?;
    bytes.extend(step_bytes(&id.step)?);
    bytes.extend(id.version.to_be_bytes());
    bytes.extend(input_hash);
    Ok(namespace()?.key(bytes)?)
}

fn scope_bytes(scope: &Scope) -> Result<Vec<u8>> {
    match scope {
        Scope::Global => Ok(vec![GLOBAL]),
        Scope::Workflow(id) => {
            let mut bytes = vec![WORKFLOW];
            bytes.extend(prefixed("workflow id", id, MAX_WORKFLOW_LEN)?);
            Ok(bytes)
        }
    }
}

fn step_bytes(step: &str) -> Result<Vec<u8>> {
    prefixed("step name", step, MAX_STEP_LEN)
}

fn prefixed(what: &str, text: &str, limit: usize) -> Result<Vec<u8>> {
    let fits = u16::try_from(text.len()).ok().filter(|n| usize::from(*n) <= limit);
    let Some(len) = fits.filter(|n| *n > 0) else {
        let len = text.len();
        let what = format!("the {what} `{text}` has {len} bytes; 1 to {limit} are allowed");
        return Err(CheckpointError::Invalid(what));
    };
    let mut bytes = len.to_be_bytes().to_vec();
    bytes.extend_from_slice(text.as_bytes());
    Ok(bytes)
}

/// Takes a key apart. `None` for one nobody here writes.
pub(crate) fn parse(key: &Key) -> Option<CheckpointKey> {
    let (tag, rest) = key.bytes().split_first()?;
    let (scope, rest) = match *tag {
        GLOBAL => (Scope::Global, rest),
        WORKFLOW => {
            let (id, rest) = split_text(rest)?;
            (Scope::Workflow(id.into()), rest)
        }
        _ => return None,
    };
    let (step, rest) = split_text(rest)?;
    let (version, hash) = rest.split_first_chunk()?;
    let id = StepId { scope, step: step.into(), version: u32::from_be_bytes(*version) };
    Some(CheckpointKey::from_parts(id, hash.try_into().ok()?, key.clone()))
}

fn split_text(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let (len, rest) = bytes.split_first_chunk()?;
    let (text, rest) = rest.split_at_checked(usize::from(u16::from_be_bytes(*len)))?;
    Some((std::str::from_utf8(text).ok()?, rest))
}
