//! Where a request carries its token, and how a response gives a new one.

use std::fmt::Write;
use std::time::Duration;

use http::header::{CACHE_CONTROL, COOKIE, SET_COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Uri};

use crate::token::Token;

/// What browsers keep of a cookie with its name and attributes, in bytes.
const MAX_COOKIE: usize = 4_096;

/// Whether a browser sends the cookie along when another site leads to ours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum SameSite {
    /// With links only.
    #[default]
    Lax,
    /// Never.
    Strict,
}

/// The cookie that carries the token: `HttpOnly`, so that scripts do not see it.
///
/// ```
/// use resurge_session_token::{Cookie, SameSite};
/// let cookie = Cookie::host("recovery").same_site(SameSite::Strict);
/// assert_eq!(cookie.name(), "__Host-recovery");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Cookie {
    name: String,
    secure: bool,
    same_site: SameSite,
    max_age: Option<Duration>,
}

impl Cookie {
    /// `__Host-<name>`: only over HTTPS, only for this very host, not to be planted by a subdomain.
    pub fn host(name: &str) -> Self {
        Self::named(format!("__Host-{name}"), true)
    }

    /// A cookie that also travels in clear, for development on a machine without certificates.
    pub fn insecure(name: &str) -> Self {
        Self::named(name.to_owned(), false)
    }

    fn named(mut name: String, secure: bool) -> Self {
        // Anything else could end the name and begin an attribute.
        name.retain(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_'));
        Self { name, secure, same_site: SameSite::default(), max_age: None }
    }

    /// `Lax` by default.
    pub fn same_site(mut self, same_site: SameSite) -> Self {
        self.same_site = same_site;
        self
    }

    /// Keeps it so long, also when the browser is closed; by default it goes with the browser.
    pub fn max_age(mut self, max_age: Duration) -> Self {
        self.max_age = Some(max_age);
        self
    }

    /// Its full name.
    pub fn name(&self) -> &str {
        &self.name
    }

    fn with(&self, value: &str, max_age: Option<u64>) -> Option<HeaderValue> {
        let same_site = match self.same_site {
            SameSite::Lax => "Lax",
            SameSite::Strict => "Strict",
        };
        let mut text = format!("{}={value}; Path=/; HttpOnly; SameSite={same_site}", self.name);
        if self.secure {
            text.push_str("; Secure");
        }
        if let Some(max_age) = max_age {
            write!(text, "; Max-Age={max_age}").ok()?;
        }
        if text.len() > MAX_COOKIE {
            tracing::warn!(
                len = text.len(),
                "a cookie that browsers will not keep; limit max_token_len"
            );
        }
        let mut value = HeaderValue::from_str(&text).ok()?;
        value.set_sensitive(true);
        Some(value)
    }
}

impl Default for Cookie {
    /// `__Host-recovery`.
    fn default() -> Self {
        Self::host("recovery")
    }
}

/// Where tokens travel.
#[derive(Clone, Debug)]
pub(super) struct Carrier {
    pub(super) header: Option<HeaderName>,
    pub(super) cookie: Option<Cookie>,
    pub(super) query: Option<String>,
}

impl Default for Carrier {
    fn default() -> Self {
        let header = Some(HeaderName::from_static("x-recovery-token"));
        Self { header, cookie: Some(Cookie::default()), query: None }
    }
}

/// How the token of a request came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum By {
    Header,
    Cookie,
    Query,
    Nothing,
}

impl Carrier {
    /// The token of a request: the header's before the cookie's, the query's last and only on request.
    pub(super) fn find(&self, headers: &HeaderMap, uri: &Uri) -> Option<(Token, By)> {
        let header = self.header.as_ref().and_then(|name| headers.get(name)?.to_str().ok());
        let header = header.filter(|text| !text.is_empty()).map(|text| (text, By::Header));
        header
            .or_else(|| Some((self.in_cookie(headers)?, By::Cookie)))
            .or_else(|| Some((self.in_query(uri)?, By::Query)))
            .filter(|(text, _)| !text.is_empty())
            .map(|(text, by)| (Token::from(text), by))
    }

    fn in_cookie<'a>(&self, headers: &'a HeaderMap) -> Option<&'a str> {
        let cookie = self.cookie.as_ref()?;
        let lines = headers.get_all(COOKIE).iter().filter_map(|line| line.to_str().ok());
        let mut pairs = lines.flat_map(|line| line.split(';'));
        pairs.find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == cookie.name).then_some(value)
        })
    }

    fn in_query<'a>(&self, uri: &'a Uri) -> Option<&'a str> {
        let wanted = self.query.as_deref()?;
        let mut pairs = uri.query()?.split('&');
        pairs.find_map(|pair| {
            pair.split_once('=').filter(|(name, _)| *name == wanted).map(|(_, value)| value)
        })
    }

    /// Gives the client its token, and no cache on the way.
    pub(super) fn give(&self, headers: &mut HeaderMap, token: &Token, by: By) {
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(cookie) = &self.cookie
            && let Some(value) =
                cookie.with(token.expose(), cookie.max_age.map(|age| age.as_secs()))
        {
            headers.append(SET_COOKIE, value);
        }
        // A script that cannot read the cookie must not read it here.
        if let Some(name) = self.header.as_ref().filter(|_| by != By::Cookie)
            && let Ok(mut value) = HeaderValue::from_str(token.expose())
        {
            value.set_sensitive(true);
            headers.insert(name, value);
        }
    }

    /// Takes a dead cookie away.
    pub(super) fn clear(&self, headers: &mut HeaderMap) {
        if let Some(value) = self.cookie.as_ref().and_then(|cookie| cookie.with("", Some(0))) {
            headers.append(SET_COOKIE, value);
        }
    }
}
