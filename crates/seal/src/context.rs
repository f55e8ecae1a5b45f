//! Where a value lives: what a sealed value is bound to, and what an error about it names.

use std::fmt;
use std::sync::Arc;

/// Where a value lives. A sealed value opens only where it was sealed: the three names are
/// authenticated with it.
///
/// Names are not secret: they are stored and logged in clear.
///
/// ```
/// use resurge_seal::Context;
/// let context = Context::new("order-42", "ctx", "password");
/// assert_eq!(context.to_string(), "`password` in `ctx` of `order-42`");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Context<'a> {
    /// The workflow run, session or other owner.
    pub run: &'a str,
    /// The kind of place within it: context values, step results, inputs.
    pub scope: &'a str,
    /// The value's own name.
    pub name: &'a str,
}

impl<'a> Context<'a> {
    /// From its three parts.
    pub const fn new(run: &'a str, scope: &'a str, name: &'a str) -> Self {
        Self { run, scope, name }
    }

    /// The same, owned, for an error.
    pub fn place(&self) -> Place {
        let part = Arc::<str>::from;
        Place { run: part(self.run), scope: part(self.scope), name: part(self.name) }
    }
}

impl fmt::Display for Context<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { run, scope, name } = self;
        write!(f, "`{name}` in `{scope}` of `{run}`")
    }
}

/// A [`Context`] by value: what errors name. Cheap to clone.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    run: Arc<str>,
    scope: Arc<str>,
    name: Arc<str>,
}

impl Place {
    /// Borrowed.
    pub fn context(&self) -> Context<'_> {
        Context::new(&self.run, &self.scope, &self.name)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.context().fmt(f)
    }
}
