//! A type that marks what it holds as sensitive, wherever it is.

use std::cell::Cell;
use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

thread_local! {
    /// Whether a `Sensitive` was serialised or deserialised on this thread since somebody began to watch.
    static SEEN: Cell<bool> = const { Cell::new(false) };
}

/// Whether a [`Sensitive`] went through serde on this thread while `f` ran.
pub(crate) fn watch<R>(f: impl FnOnce() -> R) -> (R, bool) {
    let before = SEEN.replace(false);
    let result = f();
    (result, SEEN.replace(before))
}

/// A value that is never stored in clear, whatever its name and however deep inside another one it is.
///
/// Serialises as what it holds, nothing more: only a [`Sealer`](crate::Sealer) seals it, and serialising
/// it elsewhere shows it. `Debug` does not.
///
/// ```
/// use resurge_seal::{Decision, Sensitive, SensitivePolicy};
/// #[derive(serde::Serialize)]
/// struct Order { item: String, card: Option<Sensitive<String>> }
/// let policy = SensitivePolicy::new();
/// let mut order = Order { item: "book".into(), card: None };
/// assert_eq!(policy.decide("order", &order), Decision::Plain);
/// order.card = Some(Sensitive::new("4111".into()));
/// assert_eq!(policy.decide("order", &order), Decision::Seal);
/// assert_eq!(format!("{:?}", order.card), "Some(<redacted>)");
/// ```
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sensitive<T>(T);

impl<T> Sensitive<T> {
    /// Marks a value.
    pub const fn new(value: T) -> Self {
        Self(value)
    }

    /// The value.
    pub const fn expose(&self) -> &T {
        &self.0
    }

    /// The value, to change it.
    pub const fn expose_mut(&mut self) -> &mut T {
        &mut self.0
    }

    /// The value, no longer marked.
    pub fn into_inner(self) -> T {
        self.0
    }
}

impl<T> From<T> for Sensitive<T> {
    fn from(value: T) -> Self {
        Self(value)
    }
}

impl<T> fmt::Debug for Sensitive<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(super::redacted::REDACTED)
    }
}

impl<T: Serialize> Serialize for Sensitive<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        SEEN.set(true);
        self.0.serialize(serializer)
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Sensitive<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        SEEN.set(true);
        T::deserialize(deserializer).map(Self)
    }
}
