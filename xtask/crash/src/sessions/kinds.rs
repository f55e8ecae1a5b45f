//! The managers on one store, and the time they live in.

use std::time::Duration;

use resurge_session_token::{ReusePolicy, SessionError, SessionManager};
use resurge_store::{BoxFuture, Clock, Monotonic, Store, SystemClock, Timestamp};
use serde::{Deserialize, Serialize};

use super::server::Planted;

/// Sessions of one purpose, in a namespace of their own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// Tokens are replaced; the old one works for an hour and a half more.
    Rotate,
    /// Tokens work once.
    Single,
    /// Tokens work until the session ends; the only one whose states are not sealed.
    Reuse,
    /// Ends after half an hour.
    Brief,
    /// Never more than [`FEW`].
    Few,
}

pub(super) const FEW: u64 = 8;
const HOUR: Duration = Duration::from_secs(3_600);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3_600);
/// One life takes an hour: the grace outlasts one kill, and no two hours.
const GRACE: Duration = Duration::from_secs(90 * 60);
const BRIEF: Duration = Duration::from_secs(30 * 60);
/// An hour in which every session has ended.
pub(super) const END: u64 = 20 * 365 * 24;

impl Kind {
    pub(super) const ALL: [Self; 5] =
        [Self::Rotate, Self::Single, Self::Reuse, Self::Brief, Self::Few];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Rotate => "rotate",
            Self::Single => "single",
            Self::Reuse => "reuse",
            Self::Brief => "brief",
            Self::Few => "few",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.name() == name)
    }

    /// What a client keeps in a session; what is sealed begins with [`HIDDEN`].
    pub(super) fn secret(self, what: &str, client: u64) -> String {
        let begin = if self == Self::Reuse { SHOWN } else { HIDDEN };
        format!("{begin}{what}-{client}")
    }

    fn reuse(self, planted: Planted) -> ReusePolicy {
        match self {
            Self::Rotate if planted == Planted::Forgiving => {
                ReusePolicy::RotateOnRecover { grace: YEAR }
            }
            Self::Single if planted == Planted::Reusable => {
                ReusePolicy::RotateOnRecover { grace: YEAR }
            }
            Self::Rotate | Self::Few => ReusePolicy::RotateOnRecover { grace: GRACE },
            Self::Single => ReusePolicy::SingleUse,
            Self::Reuse | Self::Brief => ReusePolicy::UntilExpiry,
        }
    }
}

/// Must be in no file.
pub(super) const HIDDEN: &str = "hidden-";
/// Must be in some file, or the search is blind.
pub(super) const SHOWN: &str = "shown-";

/// What is saved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct State {
    pub(super) client: u64,
    pub(super) counter: u64,
    pub(super) canary: String,
}

/// All managers on one store.
#[derive(Clone, Debug)]
pub(super) struct Managers(Vec<(Kind, SessionManager)>);

impl Managers {
    /// `cleanup`: how often expired sessions are removed in the background.
    pub(super) fn on(
        store: &Store,
        planted: Planted,
        cleanup: Option<Duration>,
    ) -> Result<Self, SessionError> {
        let managers = Kind::ALL.into_iter().map(|kind| {
            let brief = kind == Kind::Brief && planted != Planted::Immortal;
            let life = if brief { BRIEF } else { 10 * YEAR };
            let manager = SessionManager::builder(store.clone())
                .name(kind.name())
                .purpose(kind.name())
                .key(1, &[7, 1, 8, 2].repeat(8))
                .reuse(kind.reuse(planted))
                .seal_states(kind != Kind::Reuse && planted != Planted::Clear)
                .max_entries((kind == Kind::Few && planted != Planted::Unlimited).then_some(FEW))
                .idle_ttl(life)
                .absolute_ttl(life)
                .cleanup_interval(cleanup)
                .build()?;
            Ok((kind, manager))
        });
        managers.collect::<Result<_, SessionError>>().map(Self)
    }

    pub(super) fn of(&self, kind: Kind) -> Result<&SessionManager, SessionError> {
        let found = self.0.iter().find(|(of, _)| *of == kind);
        found.map(|(_, manager)| manager).ok_or(SessionError::NotFound)
    }

    pub(super) fn all(&self) -> impl Iterator<Item = (Kind, &SessionManager)> {
        self.0.iter().map(|(kind, manager)| (*kind, manager))
    }
}

/// The system's clock, some hours ahead: grace and lifetimes end without anybody waiting for it.
#[derive(Debug)]
pub(super) struct Ahead {
    clock: SystemClock,
    by: Duration,
}

impl Ahead {
    pub(super) fn by_hours(hours: u64) -> Self {
        let by = HOUR.saturating_mul(u32::try_from(hours).unwrap_or(u32::MAX));
        Self { clock: SystemClock::new(), by }
    }
}

impl Clock for Ahead {
    fn now(&self) -> Timestamp {
        self.clock.now().saturating_add(self.by)
    }

    fn monotonic(&self) -> Monotonic {
        self.clock.monotonic()
    }

    fn sleep_until(&self, deadline: Monotonic) -> BoxFuture<'static, ()> {
        self.clock.sleep_until(deadline)
    }
}
