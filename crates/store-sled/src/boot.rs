//! Which boot of the machine this is: what was only in the page cache is gone in the next one.

/// Linux's boot id; `None` elsewhere, or when it cannot be read.
pub(crate) fn boot_id() -> Option<[u8; 16]> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok()?;
    parse(text.trim())
}

fn parse(text: &str) -> Option<[u8; 16]> {
    let digits = text.bytes().filter(|b| *b != b'-').map(|b| char::from(b).to_digit(16));
    let digits = digits.collect::<Option<Vec<_>>>()?;
    let id = digits.into_iter().fold(0_u128, |id, digit| (id << 4) | u128::from(digit));
    (text.len() == 36).then(|| id.to_be_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_read_and_nothing_else() {
        let id = parse("01020304-0506-0708-090a-0b0c0d0e0f10");
        assert_eq!(id, Some([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16]));
        assert_eq!(parse("01020304"), None);
        assert_eq!(parse("zz020304-0506-0708-090a-0b0c0d0e0f10"), None);
    }
}
