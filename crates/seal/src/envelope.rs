//! The envelope `fe1`: one sealed value with everything needed to open it but the key and its place.
//!
//! `version 01 || suite || key id u32 || salt 24 || commitment 32 || ciphertext || tag 16`. The first six
//! bytes and the place are authenticated. Suite 1 seals the value as it is; suite 2 pads it first.

use zeroize::Zeroizing;

use crate::cipher::{self, COMMITMENT_LEN, Refused, SALT_LEN, TAG_LEN};
use crate::material::KEY_LEN;
use crate::pae::pae;
use crate::{Context, KeyId};

const VERSION: u8 = 1;
const SUITE_EXACT: u8 = 1;
const SUITE_PADDED: u8 = 2;
const HEADER_LEN: usize = 6;
const INFO: &[u8] = b"fe1/msg";
/// The first byte of padding; zeros follow.
const PAD: u8 = 0x80;

/// How much longer an envelope is than the value in it, without padding, in bytes.
pub const OVERHEAD: usize = HEADER_LEN + SALT_LEN + COMMITMENT_LEN + TAG_LEN;

/// A sealed value, checked for its shape only.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Envelope<'a> {
    bytes: &'a [u8],
    header: [u8; HEADER_LEN],
}

impl<'a> Envelope<'a> {
    /// Looks at bytes that should be an envelope.
    ///
    /// # Errors
    /// What is wrong with them.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, &'static str> {
        if bytes.len() < OVERHEAD {
            return Err("an envelope that is cut short");
        }
        let header = bytes.first_chunk::<HEADER_LEN>().ok_or("an envelope that is cut short")?;
        match header {
            [VERSION, SUITE_EXACT | SUITE_PADDED, ..] => Ok(Self { bytes, header: *header }),
            [VERSION, ..] => Err("an envelope of a suite that this build does not know"),
            _ => Err("not an envelope, or one of a newer version"),
        }
    }

    /// The key it is sealed with.
    pub fn key(&self) -> KeyId {
        let [_, _, a, b, c, d] = self.header;
        KeyId(u32::from_be_bytes([a, b, c, d]))
    }

    /// All of it.
    pub fn bytes(&self) -> &'a [u8] {
        self.bytes
    }

    pub(crate) fn is_padded(&self) -> bool {
        self.header[1] == SUITE_PADDED
    }

    pub(crate) fn open(
        &self,
        field: &[u8; KEY_LEN],
        context: &Context<'_>,
    ) -> Result<Zeroizing<Vec<u8>>, Refused> {
        let aad = aad(self.header, context);
        let body = self.bytes.get(HEADER_LEN..).ok_or(Refused)?;
        let mut plain = cipher::open(field, INFO, &aad, body)?;
        let [_, suite, ..] = self.header;
        if suite == SUITE_PADDED {
            let end = plain.iter().rposition(|b| *b != 0).ok_or(Refused)?;
            if plain.get(end) != Some(&PAD) {
                return Err(Refused);
            }
            plain.truncate(end);
        }
        Ok(plain)
    }
}

/// Appends an envelope to `out`.
pub(crate) fn seal(
    key: KeyId,
    field: &[u8; KEY_LEN],
    context: &Context<'_>,
    salt: &[u8; SALT_LEN],
    pad_to: usize,
    plain: &[u8],
    out: &mut Vec<u8>,
) -> Result<(), Refused> {
    let suite = if pad_to == 0 { SUITE_EXACT } else { SUITE_PADDED };
    let len = padded_len(plain.len(), pad_to).ok_or(Refused)?;
    let [a, b, c, d] = key.0.to_be_bytes();
    let header = [VERSION, suite, a, b, c, d];
    let start = out.len();
    out.reserve(OVERHEAD + len);
    out.extend_from_slice(&header);
    let sealed = cipher::seal(field, INFO, &aad(header, context), salt, len, out, |out| {
        out.extend_from_slice(plain);
        if suite == SUITE_PADDED {
            out.push(PAD);
            out.resize(out.len() + len - plain.len() - 1, 0);
        }
    });
    if sealed.is_err() {
        out.truncate(start);
    }
    sealed
}

/// The next multiple of `pad_to` with room for the value and one byte more.
fn padded_len(len: usize, pad_to: usize) -> Option<usize> {
    if pad_to == 0 { Some(len) } else { len.checked_add(1)?.checked_next_multiple_of(pad_to) }
}

fn aad(header: [u8; HEADER_LEN], context: &Context<'_>) -> Vec<u8> {
    let Context { run, scope, name } = context;
    pae(&[b"fe1", &header, run.as_bytes(), scope.as_bytes(), name.as_bytes()])
}

#[cfg(test)]
mod tests;
