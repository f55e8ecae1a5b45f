//! A search of the store's files for what must not be in them.

use std::collections::HashSet;
use std::path::Path;

use resurge_testkit::Failure;

use super::kinds::{HIDDEN, SHOWN};

/// What every token begins with, and how much of a token after it makes it one.
const PREFIX: &[u8] = b"st1.";
const SURE: usize = 12;
/// How much of the end of a token is looked for, without its beginning.
pub(super) const TAIL: usize = 16;

/// What the files of a directory hold.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) bytes: usize,
    /// Tokens, or the ends of some.
    pub(super) tokens: usize,
    /// What was to be sealed.
    pub(super) hidden: usize,
    /// What was not.
    pub(super) shown: usize,
}

/// The end of each token that is looked for.
pub(super) type Tails = HashSet<[u8; TAIL]>;

/// Searches all files.
pub(super) fn search(dir: &Path, tails: &Tails) -> Result<Found, Failure> {
    let mut found = Found::default();
    for entry in std::fs::read_dir(dir)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            let inner = search(&entry.path(), tails)?;
            found.bytes += inner.bytes;
            found.tokens += inner.tokens;
            found.hidden += inner.hidden;
            found.shown += inner.shown;
        } else {
            found.take(&std::fs::read(entry.path())?, tails);
        }
    }
    Ok(found)
}

impl Found {
    fn take(&mut self, bytes: &[u8], tails: &Tails) {
        self.bytes += bytes.len();
        // All that is looked for consists of these.
        let mut texts = bytes.split(|byte| !is_text(*byte));
        for text in texts.by_ref().filter(|text| text.len() >= SHOWN.len()) {
            self.tokens += count(text, PREFIX, SURE);
            self.hidden += count(text, HIDDEN.as_bytes(), 0);
            self.shown += count(text, SHOWN.as_bytes(), 0);
            if !tails.is_empty() {
                self.tokens += text
                    .windows(TAIL)
                    .filter(|window| {
                        <[u8; TAIL]>::try_from(*window).is_ok_and(|tail| tails.contains(&tail))
                    })
                    .count();
            }
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.')
}

/// How often `what` is there with so many bytes behind it.
fn count(text: &[u8], what: &[u8], behind: usize) -> usize {
    let whole = text.windows(what.len() + behind);
    whole.filter(|window| window.starts_with(what)).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_is_there_and_nothing_else() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        std::fs::create_dir(&inner).unwrap();
        let look = |bytes: &[u8], tails: &Tails| {
            std::fs::write(inner.join("file"), bytes).unwrap();
            search(dir.path(), tails).unwrap()
        };
        let none = Tails::new();
        assert_eq!(look(b"st1.short\0of", &none), Found { bytes: 12, ..Found::default() });
        let token = look(b"\x01st1.AQEBAgMEoKGi\xff", &none);
        assert_eq!((token.tokens, token.hidden, token.shown), (1, 0, 0));
        let words = look(b"\0hidden-canary-7\0shown-client-7 hidden-8", &none);
        assert_eq!((words.tokens, words.hidden, words.shown), (0, 2, 1));
        let tail: Tails = [*b"0123456789abcdef"].into();
        assert_eq!(look(b"xx0123456789abcdefyy", &tail).tokens, 1);
        assert_eq!(look(b"xx0123456789abcde yy", &tail).tokens, 0);
    }
}
