//! What shows pages: a real browser, or a client that speaks their protocol.

use std::fmt;
use std::future::Future;
use std::path::Path;

use serde::Deserialize;

use crate::Result;

/// One page of a browser.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Tab(pub(crate) usize);

/// What a page shows, as its data attributes say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub(crate) struct View {
    /// The clicks, or nothing before the first answer.
    #[serde(default)]
    pub(crate) count: String,
    /// `fresh` or `recovered`, as of the last join.
    #[serde(default)]
    pub(crate) status: String,
    /// `connecting`, `connected`, `reconnecting` or `superseded`.
    #[serde(default)]
    pub(crate) connection: String,
    /// Whose counter it is.
    #[serde(default)]
    pub(crate) visitor: String,
    /// Where the page is; no part of it may be a token.
    #[serde(default)]
    pub(crate) url: String,
    /// What it keeps to come back with.
    #[serde(default)]
    pub(crate) token: Option<String>,
}

/// What is the same in every run.
impl fmt::Display for View {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "count {}, {}, {}", self.count, self.status, self.connection)
    }
}

/// Whatever shows pages.
pub(crate) trait Browser: Send {
    /// A page in a session of its own, which shares nothing with others.
    fn open(&mut self, url: &str) -> impl Future<Output = Result<Tab>> + Send;

    /// A second tab with what the first one keeps, as browsers duplicate tabs.
    fn duplicate(&mut self, tab: Tab) -> impl Future<Output = Result<Tab>> + Send;

    /// Loads the page again; it is another one when this returns.
    fn reload(&mut self, tab: Tab) -> impl Future<Output = Result<()>> + Send;

    /// Clicks its button.
    fn click(&mut self, tab: Tab) -> impl Future<Output = Result<()>> + Send;

    /// Looks at it.
    fn view(&mut self, tab: Tab) -> impl Future<Output = Result<View>> + Send;

    /// Replaces the token it keeps.
    fn set_token(&mut self, tab: Tab, token: &str) -> impl Future<Output = Result<()>> + Send;

    /// Takes a picture, where there is something to see.
    fn screenshot(&mut self, tab: Tab, path: &Path) -> impl Future<Output = Result<()>> + Send;
}
