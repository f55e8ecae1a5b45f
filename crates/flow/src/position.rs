//! Where in a flow something durable happens: scope, name and occurrence.

use std::borrow::Cow;
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The longest name of a step, scope, signal or context value, in bytes.
pub const MAX_NAME_LEN: usize = 200;
/// The longest path of nested scopes, in bytes.
pub const MAX_SCOPE_LEN: usize = 1000;

/// A place in a flow, the same in every execution of a run: the path of scopes, the name, and how
/// many times that name was used in that scope before.
///
/// ```
/// use resurge_flow::Position;
/// let position = Position::new("branch", "charge", 1);
/// assert_eq!(position.to_string(), "branch/charge#1");
/// assert_eq!(Position::new("", "charge", 0).to_string(), "charge");
/// ```
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    scope: Arc<str>,
    name: Cow<'static, str>,
    nth: u32,
}

impl Position {
    /// The `nth` use (from 0) of `name` in `scope`; the outermost scope is the empty string.
    pub fn new(scope: &str, name: impl Into<Cow<'static, str>>, nth: u32) -> Self {
        Self::in_scope(scope.into(), name.into(), nth)
    }

    pub(crate) fn in_scope(scope: Arc<str>, name: Cow<'static, str>, nth: u32) -> Self {
        Self { scope, name, nth }
    }

    /// The path of scopes, separated by `/`; empty outside of any.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// The name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How often the name was used in the scope before.
    pub fn occurrence(&self) -> u32 {
        self.nth
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.scope.is_empty() {
            write!(f, "{}/", self.scope)?;
        }
        f.write_str(&self.name)?;
        if self.nth > 0 {
            write!(f, "#{}", self.nth)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{self}`")
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&*self.scope, &*self.name, self.nth).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let (scope, name, nth) = <(String, String, u32)>::deserialize(deserializer)?;
        Ok(Self { scope: scope.into(), name: Cow::Owned(name), nth })
    }
}

/// What is done at a position. A replay that finds another kind there has met other code.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[non_exhaustive]
pub enum Kind {
    /// A step with a body of the user's.
    #[serde(rename = "step")]
    Step,
    /// A durable timer.
    #[serde(rename = "sleep")]
    Sleep,
    /// Waiting for a signal.
    #[serde(rename = "signal")]
    Signal,
    /// A child run.
    #[serde(rename = "child")]
    Child,
    /// The winner of a race.
    #[serde(rename = "select")]
    Select,
    /// A reading of the clock.
    #[serde(rename = "now")]
    Now,
    /// A context value set by the flow's code.
    #[serde(rename = "set")]
    Set,
    /// A marker of changed code.
    #[serde(rename = "patch")]
    Patch,
    /// A callback.
    #[serde(rename = "callback")]
    Callback,
    /// A resource's `init` or `recover`.
    #[serde(rename = "resource")]
    Resource,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Step => "step",
            Self::Sleep => "sleep",
            Self::Signal => "signal",
            Self::Child => "child",
            Self::Select => "select",
            Self::Now => "now",
            Self::Set => "set",
            Self::Patch => "patch",
            Self::Callback => "callback",
            Self::Resource => "resource",
        })
    }
}
