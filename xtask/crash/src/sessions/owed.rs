//! What must be true of tokens a client does not use any more, or keeps for later.

use super::kinds::{Kind, State};

/// A token that must be refused.
#[derive(Clone, Debug)]
pub(super) struct Relic {
    pub(super) kind: Kind,
    pub(super) token: String,
    /// With one of these.
    pub(super) classes: &'static [&'static str],
    /// From this hour on.
    pub(super) from: u64,
    /// How often the parent looked.
    pub(super) looks: u8,
}

/// A token that must lead to this, in this hour.
#[derive(Clone, Debug)]
pub(super) struct Kept {
    pub(super) kind: Kind,
    pub(super) token: String,
    pub(super) state: State,
    pub(super) hour: u64,
}

/// A session made to be replayed in a later life.
#[derive(Clone, Debug)]
pub(super) struct Grave {
    /// Each one's successor follows it.
    pub(super) tokens: Vec<String>,
    pub(super) state: State,
    pub(super) cycle: u64,
    /// When the oldest one is a replay.
    pub(super) from: u64,
    /// It was replayed, and perhaps nothing was answered.
    pub(super) asked: bool,
}

#[derive(Debug, Default)]
pub(super) struct Owed {
    pub(super) relics: Vec<Relic>,
    pub(super) kept: Vec<Kept>,
    pub(super) graves: Vec<Grave>,
    /// All that were ever seen.
    pub(super) tokens: Vec<String>,
}

const REPLAYED: &[&str] = &["replayed"];
const REVOKED: &[&str] = &["revoked"];
const OVER: &[&str] = &["replayed", "revoked"];
const GONE: &[&str] = &["not_found"];
const EXPIRED: &[&str] = &["expired", "not_found"];

impl Owed {
    pub(super) fn saw(&mut self, token: &str) {
        self.tokens.push(token.to_owned());
    }

    pub(super) fn replaced(&mut self, kind: Kind, token: String, from: u64) {
        self.must(kind, token, REPLAYED, from);
    }

    pub(super) fn revoked(&mut self, kind: Kind, token: String) {
        self.must(kind, token, REVOKED, 0);
    }

    /// The oldest token of a session that will be replayed, or was.
    pub(super) fn buried(&mut self, kind: Kind, token: String, from: u64) {
        self.must(kind, token, OVER, from);
    }

    pub(super) fn deleted(&mut self, kind: Kind, token: String) {
        self.must(kind, token, GONE, 0);
    }

    pub(super) fn expires(&mut self, kind: Kind, token: String, from: u64) {
        self.must(kind, token, EXPIRED, from);
    }

    fn must(&mut self, kind: Kind, token: String, classes: &'static [&'static str], from: u64) {
        self.relics.push(Relic { kind, token, classes, from, looks: 0 });
    }
}
