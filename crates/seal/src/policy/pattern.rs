//! A pattern: names with wildcards, matched at the end of a path or against all of it.

use std::fmt;

use crate::{Result, SealError};

const MAX_LEN: usize = 512;
/// Between the names of a path. A name that holds one counts as several.
pub(super) const SEPARATOR: char = '.';

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Pattern {
    /// At least one, none empty.
    names: Vec<Box<str>>,
    /// Whether it must match the whole path.
    anchored: bool,
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let start = if self.anchored { "/" } else { "" };
        let between = if self.anchored { "/" } else { "." };
        write!(f, "{start}{}", self.names.join(between))
    }
}

impl Pattern {
    pub(super) fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| {
            SealError::invalid(format!("`{}` is no pattern of names: {why}", text.escape_debug()))
        };
        if text.len() > MAX_LEN {
            return Err(bad("over 512 bytes"));
        }
        let (names, anchored): (Vec<Box<str>>, _) = match text.strip_prefix('/') {
            Some(pointer) => {
                let unescape = |name: &str| name.replace("~1", "/").replace("~0", "~");
                let names = pointer.split('/').map(unescape);
                let split = |name: String| name.split(SEPARATOR).map(Box::from).collect::<Vec<_>>();
                (names.flat_map(split).collect(), true)
            }
            None => (text.split(SEPARATOR).map(Box::from).collect(), false),
        };
        if names.iter().any(|name| name.is_empty()) {
            return Err(bad("an empty name"));
        }
        Ok(Self { names, anchored })
    }

    /// Whether it matches `path`, whose part from `value_at` on is inside the value.
    pub(super) fn matches(&self, path: &str, value_at: Option<usize>, any_case: bool) -> bool {
        let ends = |path: &str, whole: bool| {
            let mut found = path.rsplit(SEPARATOR);
            let mut names = self.names.iter().rev();
            let all = names.all(|name| found.next().is_some_and(|f| glob(name, f, any_case)));
            all && (!whole || found.next().is_none())
        };
        if !self.anchored {
            return ends(path, false);
        }
        let inside = value_at.and_then(|at| path.get(at..));
        ends(path, true) || inside.is_some_and(|inside| ends(inside, true))
    }
}

/// `*` for any characters, `?` for one. Linear in the length of both but for the last `*`.
fn glob(pattern: &str, text: &str, any_case: bool) -> bool {
    let (mut p, mut t) = (pattern.chars(), text.chars());
    // Where to go on when what follows the last `*` does not match here.
    let mut retry: Option<(std::str::Chars<'_>, std::str::Chars<'_>)> = None;
    loop {
        let (before_p, before_t) = (p.clone(), t.clone());
        let matched = match (p.next(), t.next()) {
            (None, None) => return true,
            (Some('*'), _) => {
                retry = Some((p.clone(), before_t.clone()));
                t = before_t;
                true
            }
            (Some('?'), Some(_)) => true,
            (Some(a), Some(b)) => a == b || any_case && a.to_lowercase().eq(b.to_lowercase()),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if matched {
            continue;
        }
        drop(before_p);
        let Some((after_star, mut from)) = retry else { return false };
        if from.next().is_none() {
            return false;
        }
        p = after_star.clone();
        t = from.clone();
        retry = Some((after_star, from));
    }
}

#[cfg(test)]
mod tests {
    use super::{Pattern, glob};

    #[test]
    fn wildcards() {
        for (pattern, text, expected) in [
            ("password", "password", true),
            ("password", "passwords", false),
            ("password", "Password", false),
            ("*_token", "api_token", true),
            ("*_token", "_token", true),
            ("*_token", "token", false),
            ("*_token", "a_token_token", true),
            ("pass*", "pass", true),
            ("*secret*", "my-secret-2", true),
            ("*secret*", "secre", false),
            ("k?y", "key", true),
            ("k?y", "ky", false),
            ("*", "", true),
            ("?", "", false),
            ("**a*", "bca", true),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*c", "a-b-b-", false),
        ] {
            assert_eq!(glob(pattern, text, false), expected, "{pattern} {text}");
        }
        assert!(glob("pass*", "PassWord", true));
        assert!(!glob("pass*", "PassWord", false));
    }

    #[test]
    fn paths() {
        let value_at = Some("name.".len());
        for (pattern, path, expected) in [
            ("password", "name.db.password", true),
            ("db.password", "name.db.password", true),
            ("db.password", "name.db.x.password", false),
            ("db.*", "name.db.x", true),
            ("db.*", "name.db", false),
            ("/db/password", "name.db.password", true),
            ("/name/db/password", "name.db.password", true),
            ("/password", "name.db.password", false),
            ("/db", "name.db.password", false),
        ] {
            let found = Pattern::parse(pattern).unwrap().matches(path, value_at, false);
            assert_eq!(found, expected, "{pattern} {path}");
        }
    }

    #[test]
    fn empty_names_are_refused() {
        for text in ["", ".", "a.", "/", "a..b", "//a", &"x".repeat(513)] {
            assert!(Pattern::parse(text).is_err(), "{text}");
        }
    }
}
