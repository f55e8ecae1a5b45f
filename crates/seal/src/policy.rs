//! Which values are sensitive: by name, at any depth, or by type.

use std::fmt;
use std::sync::Arc;

use resurge_store::Timestamp;
use serde::Serialize;

mod pattern;
mod redacted;
mod sensitive;
mod walk;

pub use redacted::Redacted;
pub use sensitive::Sensitive;
pub(crate) use sensitive::watch;

use crate::Result;
use pattern::Pattern;

/// What becomes of a value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Decision {
    /// Stored in clear.
    #[default]
    Plain,
    /// Stored sealed, whole.
    Seal,
    /// Never stored.
    Omit,
}

/// Which values are sensitive.
///
/// A value is sealed *whole* when its own name, or the name of a field, map key or enum variant anywhere
/// inside it, matches; or when a [`Sensitive`] is anywhere inside it. It is omitted in the same way.
///
/// A pattern is a name, or a path of names joined by dots, which matches at the end of any path:
/// `password` finds `password` and `login.password`, `db.password` finds `settings.db.password`. One that
/// begins with `/` is a JSON pointer from the value, or from its name: `/db/password`. In all of them `*`
/// stands for any characters of one name, `?` for one character. Elements of lists add nothing to a path.
///
/// ```
/// use resurge_seal::{Decision, SensitivePolicy};
/// let policy = SensitivePolicy::new().names(["password", "*_token", "db.url"])?.omit("cvv")?;
/// assert_eq!(policy.decide_name("password"), Decision::Seal);
/// assert_eq!(policy.decide_name("api_token"), Decision::Seal);
/// assert_eq!(policy.decide_name("url"), Decision::Plain);
///
/// let order = serde_json::json!({ "item": "book", "card": { "cvv": 123 } });
/// assert_eq!(policy.decide("order", &order), Decision::Omit);
/// let settings = serde_json::json!([{ "db": { "url": "postgres://" } }]);
/// assert_eq!(policy.decide("settings", &settings), Decision::Seal);
/// # Ok::<(), resurge_seal::SealError>(())
/// ```
#[derive(Clone, Default)]
pub struct SensitivePolicy {
    rules: Vec<(Pattern, Decision)>,
    except: Vec<Pattern>,
    predicates: Vec<Predicate>,
    all: bool,
    any_case: bool,
    plain_errors: bool,
    pad_to: usize,
    accept_until: Option<Timestamp>,
}

type Predicate = Arc<dyn Fn(&str) -> bool + Send + Sync>;

impl fmt::Debug for SensitivePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SensitivePolicy")
            .field("rules", &self.rules)
            .field("except", &self.except)
            .field("predicates", &self.predicates.len())
            .field("all", &self.all)
            .field("any_case", &self.any_case)
            .field("plain_errors", &self.plain_errors)
            .field("pad_to", &self.pad_to)
            .field("accept_until", &self.accept_until)
            .finish()
    }
}

impl SensitivePolicy {
    /// Nothing is sensitive by name; a [`Sensitive`] is.
    pub fn new() -> Self {
        Self::default()
    }

    /// Everything is sensitive, but values of these names; and those, too, when a pattern added later, or a
    /// [`Sensitive`], is found in them.
    ///
    /// # Errors
    /// `Invalid` for a pattern that is none.
    pub fn encrypt_all_except<P: AsRef<str>>(names: impl IntoIterator<Item = P>) -> Result<Self> {
        let except = names.into_iter().map(|name| Pattern::parse(name.as_ref()));
        let except = except.collect::<Result<Vec<_>>>()?;
        Ok(Self { all: true, except, ..Self::default() })
    }

    /// Seals what matches this pattern.
    ///
    /// # Errors
    /// `Invalid` for an empty pattern, an empty name in it, or one over 512 bytes.
    pub fn name(mut self, pattern: impl AsRef<str>) -> Result<Self> {
        self.rules.push((Pattern::parse(pattern.as_ref())?, Decision::Seal));
        Ok(self)
    }

    /// Seals what matches any of these patterns.
    ///
    /// # Errors
    /// As [`name`](Self::name).
    pub fn names<P: AsRef<str>>(self, patterns: impl IntoIterator<Item = P>) -> Result<Self> {
        patterns.into_iter().try_fold(self, Self::name)
    }

    /// Never stores what matches this pattern: the caller makes it again after a restart.
    ///
    /// # Errors
    /// As [`name`](Self::name).
    pub fn omit(mut self, pattern: impl AsRef<str>) -> Result<Self> {
        self.rules.push((Pattern::parse(pattern.as_ref())?, Decision::Omit));
        Ok(self)
    }

    /// Seals what this function says, asked for each name by itself.
    #[must_use]
    pub fn predicate(
        mut self,
        is_sensitive: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.predicates.push(Arc::new(is_sensitive));
        self
    }

    /// Makes all patterns take upper and lower case for the same.
    #[must_use]
    pub fn case_insensitive(mut self) -> Self {
        self.any_case = true;
        self
    }

    /// Pads values to the next multiple of so many bytes before they are sealed, so that the length stored
    /// tells little: 32 hides the length of a password. 0, the default, for none.
    #[must_use]
    pub fn pad_to(mut self, bytes: usize) -> Self {
        self.pad_to = bytes;
        self
    }

    /// Reads sensitive values that are stored in clear until then, and counts them: for the time between
    /// declaring a name sensitive and having rewritten what was stored before. Without it they are
    /// [`ExpectedSealed`](crate::SealError::ExpectedSealed).
    #[must_use]
    pub fn accept_plaintext(mut self, until: Timestamp) -> Self {
        self.accept_until = Some(until);
        self
    }

    /// Stores the texts of errors in clear. By default a policy that calls anything sensitive covers them,
    /// because errors like to quote what they failed on.
    #[must_use]
    pub fn plain_errors(mut self) -> Self {
        self.plain_errors = true;
        self
    }

    /// True when nothing is sensitive by name.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty() && self.predicates.is_empty() && !self.all
    }

    /// What becomes of a value of this name, whatever is in it.
    pub fn decide_name(&self, name: &str) -> Decision {
        if self.is_empty() {
            return Decision::Plain;
        }
        let all = self.all && !self.except.iter().any(|p| p.matches(name, None, self.any_case));
        let floor = if all { Decision::Seal } else { Decision::Plain };
        floor.max(self.decide_path(name, None, name))
    }

    /// What becomes of this value of this name. Looks at every name in it, and allocates nothing but the
    /// path it is at.
    pub fn decide<T: Serialize + ?Sized>(&self, name: &str, value: &T) -> Decision {
        let by_name = self.decide_name(name);
        if by_name >= self.strongest() {
            by_name
        } else {
            by_name.max(walk::walk(self, name, value))
        }
    }

    /// What becomes of the texts of errors.
    pub fn decide_errors(&self) -> Decision {
        if self.plain_errors || self.is_empty() { Decision::Plain } else { Decision::Seal }
    }

    /// A value for people and logs: shown when it is not sensitive.
    ///
    /// ```
    /// # use resurge_seal::SensitivePolicy;
    /// let policy = SensitivePolicy::new().name("password")?;
    /// assert_eq!(format!("{:?}", policy.redact("user", &"ann")), "\"ann\"");
    /// assert_eq!(format!("{:?}", policy.redact("password", &"hunter2")), "<redacted>");
    /// # Ok::<(), resurge_seal::SealError>(())
    /// ```
    pub fn redact<'a, T: Serialize + ?Sized>(&self, name: &str, value: &'a T) -> Redacted<'a, T> {
        Redacted::new((self.decide(name, value) == Decision::Plain).then_some(value))
    }

    /// What the last name of a path says; `value_at` is where the value's own names begin.
    fn decide_path(&self, path: &str, value_at: Option<usize>, name: &str) -> Decision {
        let mut found = Decision::Plain;
        for (pattern, decision) in &self.rules {
            if *decision > found && pattern.matches(path, value_at, self.any_case) {
                found = *decision;
            }
        }
        let asked = || self.predicates.iter().any(|is_sensitive| is_sensitive(name));
        if found == Decision::Plain && asked() { Decision::Seal } else { found }
    }

    /// The strongest decision any rule can come to: no need to look further.
    fn strongest(&self) -> Decision {
        self.rules.iter().map(|(_, decision)| *decision).fold(Decision::Seal, Decision::max)
    }

    pub(crate) fn padding(&self) -> usize {
        self.pad_to
    }

    pub(crate) fn accepts_plaintext(&self) -> Option<Timestamp> {
        self.accept_until
    }
}

#[cfg(test)]
mod tests;
