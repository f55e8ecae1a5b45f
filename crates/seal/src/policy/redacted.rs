//! Values for people: shown, or not.

use std::fmt;

use serde::{Serialize, Serializer};

pub(super) const REDACTED: &str = "<redacted>";

/// A value as logs and status pages may show it; made by
/// [`SensitivePolicy::redact`](crate::SensitivePolicy::redact).
#[derive(Clone, Copy)]
pub struct Redacted<'a, T: ?Sized>(Option<&'a T>);

impl<'a, T: ?Sized> Redacted<'a, T> {
    pub(super) fn new(shown: Option<&'a T>) -> Self {
        Self(shown)
    }
}

impl<T: fmt::Debug + ?Sized> fmt::Debug for Redacted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(REDACTED),
        }
    }
}

impl<T: fmt::Display + ?Sized> fmt::Display for Redacted<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str(REDACTED),
        }
    }
}

impl<T: Serialize + ?Sized> Serialize for Redacted<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Some(value) => value.serialize(serializer),
            None => serializer.serialize_str(REDACTED),
        }
    }
}
