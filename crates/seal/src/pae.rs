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
    let number = |out: &mut Vec<u8>, n: usize| {
        #[expect(clippy::little_endian_bytes, reason = "PAE is defined so; never stored")]
        out.extend_from_slice(&(n as u64).to_le_bytes());
    };
    number(&mut out, parts.len());
    for part in parts {
        number(&mut out, part.len());
        out.extend_from_slice(part);
    }
    out
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
