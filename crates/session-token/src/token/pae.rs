//! PASETO's pre-authentication encoding: no two lists of parts encode alike.

pub(crate) fn pae(parts: &[&[u8]]) -> Vec<u8> {
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
