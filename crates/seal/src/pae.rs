//! PASETO's pre-authentication encoding: many parts in one message that is authenticated.

/// The parts in one, such that no two lists of parts encode alike: their number, then each with its length before
/// it, as u64 in little-endian. For the `aad` of [`seal_body`](crate::KeyRing::seal_body), and for MACs.
///
/// ```
/// use resurge_seal::pae;
/// assert_ne!(pae(&[b"a:b", b"c"]), pae(&[b"a", b"b:c"]));
/// assert_eq!(pae(&[b"ab"]), [1, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, b'a', b'b']);
/// ```
pub fn pae(parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + parts.iter().map(|part| 8 + part.len()).sum::<usize>());
    pae_each(parts, |bytes| out.extend_from_slice(bytes));
    out
}

/// The same, handed out piece by piece: for a MAC that needs no copy of it.
///
/// ```
/// use resurge_seal::{pae, pae_each};
/// let (parts, mut pieces) = ([&b"st1."[..], b"header"], Vec::new());
/// pae_each(&parts, |piece| pieces.extend_from_slice(piece));
/// assert_eq!(pieces, pae(&parts));
/// ```
pub fn pae_each(parts: &[&[u8]], mut take: impl FnMut(&[u8])) {
    take(&number(parts.len()));
    for part in parts {
        take(&number(part.len()));
        take(part);
    }
}

fn number(n: usize) -> [u8; 8] {
    #[expect(clippy::little_endian_bytes, reason = "PAE is defined so; never stored")]
    (n as u64).to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::pae;

    #[test]
    fn a_part_that_moves_over_a_boundary_encodes_differently() {
        assert_ne!(pae(&[b"a:b", b"c"]), pae(&[b"a", b"b:c"]));
        assert_ne!(pae(&[b"ab", b""]), pae(&[b"ab"]));
        assert_eq!(pae(&[]), [0; 8]);
    }
}
