//! Numbers out of printed lines, and what they must be.

use std::fmt::{Debug, Display};

/// What follows `name=` in a line, up to the next space.
pub fn field<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The number that follows `name=` in a line.
pub fn number(line: &str, name: &str) -> Option<u64> {
    field(line, name)?.parse().ok()
}

/// Collects what was off. A demo succeeds only when nothing was.
#[derive(Debug, Default)]
pub struct Expectations {
    checked: usize,
    failed: Vec<String>,
}

impl Expectations {
    /// None yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// `found` must equal `wanted`.
    #[expect(clippy::needless_pass_by_value, reason = "reads better where it is called")]
    pub fn equal<T: PartialEq + Debug>(&mut self, what: impl Display, found: T, wanted: T) {
        self.checked += 1;
        if found != wanted {
            self.failed.push(format!("{what}: found {found:?}, expected {wanted:?}"));
        }
    }

    /// `held` must be true.
    pub fn holds(&mut self, what: impl Display, held: bool) {
        self.checked += 1;
        if !held {
            self.failed.push(what.to_string());
        }
    }

    /// How many were checked.
    pub fn checked(&self) -> usize {
        self.checked
    }

    /// How many were checked, if nothing was off.
    ///
    /// # Errors
    /// A list of what was off.
    pub fn verdict(&self) -> Result<usize, String> {
        if self.failed.is_empty() {
            return Ok(self.checked);
        }
        let (failed, list) = (self.failed.len(), self.failed.join("\n  "));
        Err(format!("{failed} of {} expectations failed:\n  {list}", self.checked))
    }

    /// What was off.
    pub fn failed(&self) -> &[String] {
        &self.failed
    }
}

#[cfg(test)]
mod tests {
    use super::{Expectations, field, number};

    #[test]
    fn fields_are_found_whole() {
        let line = "INFO Snapshot loaded duration=71us jobs=5 xjobs=7";
        assert_eq!(number(line, "jobs"), Some(5));
        assert_eq!(field(line, "duration"), Some("71us"));
        assert_eq!(number(line, "duration"), None);
        assert_eq!(number(line, "job"), None);
    }

    #[test]
    fn what_is_off_is_kept() {
        let mut expect = Expectations::new();
        expect.equal("jobs", 5, 5);
        expect.equal("jobs", 4, 5);
        expect.holds("no job ran twice", false);
        assert_eq!(expect.checked(), 3);
        assert_eq!(expect.failed(), ["jobs: found 4, expected 5", "no job ran twice"]);
        assert!(expect.verdict().unwrap_err().starts_with("2 of 3 expectations failed"));
    }

    #[test]
    fn nothing_off_is_a_verdict_too() {
        let mut expect = Expectations::new();
        expect.equal("jobs", 5, 5);
        assert_eq!(expect.verdict(), Ok(1));
    }
}
