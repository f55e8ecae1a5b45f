//! How a manager is made: everything is checked before the first token.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use resurge_seal::{KeyId, KeyRing};
use resurge_store::{Clock, Entropy, OsEntropy, Store, SystemClock};

use crate::backend::Backend;
use crate::error::{Result, SessionError};
use crate::hooks::SessionHooks;
use crate::indexed::{Indexed, Limits};
use crate::keys::Keys;
use crate::layout::Layout;
use crate::manager::SessionManager;
use crate::options::{Lifetime, Migration, Options};
use crate::own_store::TokenStore;
use crate::policy::{Eviction, OnDuplicate, ReusePolicy, TokenKind};
use crate::serializer::{FIRST_CUSTOM, Format, Serializer, StateValue};
use crate::token::MAX_TEXT;

const MIN_KEY_LEN: usize = 32;
const DEFAULT_MAX_ENTRIES: u64 = 10_000;

/// Settings of a [`SessionManager`]; see [`SessionManager::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct SessionBuilder {
    home: Home,
    name: String,
    ring: Option<KeyRing>,
    bad_key: Option<String>,
    max_entries: Most,
    max_per_subject: Option<u64>,
    eviction: Eviction,
    ttl: (Option<Duration>, Option<Duration>),
    cleanup_interval: Option<Duration>,
    metrics_alias: Option<String>,
    hooks: Option<Arc<dyn SessionHooks>>,
    options: Options,
}

/// How many sessions there may be.
#[derive(Clone, Copy)]
enum Most {
    /// As many as is usual for the storage.
    Usual,
    Set(Option<u64>),
}

enum Home {
    Store(Store),
    Own { store: Arc<dyn TokenStore>, clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy> },
}

impl fmt::Debug for SessionBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionBuilder")
            .field("name", &self.name)
            .field("ring", &self.ring)
            .finish_non_exhaustive()
    }
}

impl SessionBuilder {
    pub(crate) fn on(store: Store) -> Self {
        Self::new(Home::Store(store))
    }

    pub(crate) fn over(store: Arc<dyn TokenStore>) -> Self {
        let (clock, entropy) = (Arc::new(SystemClock::new()), Arc::new(OsEntropy));
        Self::new(Home::Own { store, clock, entropy })
    }

    fn new(home: Home) -> Self {
        Self {
            home,
            name: "default".to_owned(),
            ring: None,
            bad_key: None,
            max_entries: Most::Usual,
            max_per_subject: None,
            eviction: Eviction::default(),
            ttl: (None, None),
            cleanup_interval: Some(Duration::from_secs(60)),
            metrics_alias: None,
            hooks: None,
            options: Options::default(),
        }
    }

    /// The keys tokens are signed with. Managers may share a ring; purposes keep their tokens apart.
    pub fn ring(mut self, ring: KeyRing) -> Self {
        self.ring = Some(ring);
        self
    }

    /// A ring of one key: 32 bytes or more, from a secret store. There is no default.
    pub fn key(mut self, id: impl Into<KeyId>, key: &[u8]) -> Self {
        if key.len() < MIN_KEY_LEN {
            let len = key.len();
            self.bad_key = Some(format!(
                "the key of sessions has {len} bytes; at least {MIN_KEY_LEN} are needed, from a random source"
            ));
            return self;
        }
        match KeyRing::from_bytes(id, key) {
            Ok(ring) => self.ring = Some(ring),
            Err(e) => self.bad_key = Some(format!("the key of sessions cannot be used: {e}")),
        }
        self
    }

    /// Where in the store its sessions are: 1 to 56 characters of `a-z 0-9 . _ - /`; `default` by default.
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What tokens are for; those of another purpose are refused. `session-recovery` by default.
    pub fn purpose(mut self, purpose: impl Into<String>) -> Self {
        self.options.purpose = purpose.into();
        self
    }

    /// What tokens are; references by default.
    pub fn token_kind(mut self, kind: TokenKind) -> Self {
        self.options.kind = kind;
        self
    }

    /// What happens to a token that was used; rotation with 30 seconds of grace by default.
    pub fn reuse(mut self, policy: ReusePolicy) -> Self {
        self.options.reuse = policy;
        self
    }

    /// What a second recovery within the grace time gets.
    pub fn on_duplicate(mut self, policy: OnDuplicate) -> Self {
        self.options.duplicate = policy;
        self
    }

    /// One lifetime, from creation on, whatever happens: both the idle and the absolute one.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = (Some(ttl), Some(ttl));
        self
    }

    /// A session ends when it was not saved, recovered or touched for so long; 5 minutes by default, or the
    /// absolute lifetime if that is shorter.
    pub fn idle_ttl(mut self, ttl: Duration) -> Self {
        self.ttl.0 = Some(ttl);
        self
    }

    /// A session, and every token of it, ends so long after its creation; 24 hours by default, or the idle
    /// lifetime if that is longer.
    pub fn absolute_ttl(mut self, ttl: Duration) -> Self {
        self.ttl.1 = Some(ttl);
        self
    }

    /// Tokens may be issued so far in the future, by a server whose clock is ahead; 60 seconds by default.
    pub fn leeway(mut self, leeway: Duration) -> Self {
        self.options.leeway = leeway;
        self
    }

    /// So many sessions at once, of all subjects; 10,000 by default, `None` for no limit.
    pub fn max_entries(mut self, limit: impl Into<Option<u64>>) -> Self {
        self.max_entries = Most::Set(limit.into());
        self
    }

    /// So many sessions of one subject at once; no limit by default. Without one, who can create sessions for one
    /// subject can evict those of all others.
    pub fn max_entries_per_subject(mut self, limit: u64) -> Self {
        self.max_per_subject = Some(limit);
        self
    }

    /// Who goes when a limit is reached; the session that expires first by default.
    pub fn eviction(mut self, policy: Eviction) -> Self {
        self.eviction = policy;
        self
    }

    /// The largest serialised state, in bytes; 256 KiB by default.
    pub fn max_state_bytes(mut self, bytes: usize) -> Self {
        self.options.max_state = bytes;
        self
    }

    /// The longest token with a sealed state, in characters; 32 KiB by default, 64 KiB at most. Browsers keep cookies up to 4,096
    /// bytes with name and attributes: take 3,800 for one.
    pub fn max_token_len(mut self, characters: usize) -> Self {
        self.options.max_token_len = characters;
        self
    }

    /// How states are written; CBOR by default. Sessions remember theirs.
    pub fn format(mut self, format: Format) -> Self {
        self.options.format = format;
        self
    }

    /// Another format of your own that sessions may still be written in.
    pub fn also_reads(mut self, serializer: impl Serializer) -> Self {
        self.options.known.push(Format::Custom(Arc::new(serializer)));
        self
    }

    /// The version of the state's type; 1 by default.
    pub fn schema(mut self, version: u32) -> Self {
        self.options.schema = version;
        self
    }

    /// How a state of version `from` becomes one of version `from + 1`. An error makes it a `SchemaMismatch`; its text
    /// goes nowhere.
    pub fn migrate<F>(mut self, from: u32, step: F) -> Self
    where
        F: Fn(StateValue) -> Result<StateValue, String> + Send + Sync + 'static,
    {
        self.options.migrations.insert(from, Migration(Arc::new(step)));
        self
    }

    /// Seals subjects and states in the store, with the ring's active key. What is stored in clear is then refused.
    pub fn seal_states(mut self, seal: bool) -> Self {
        self.options.seal = seal;
        self
    }

    /// Refuses to work with tokens that are not [bound](SessionManager::bound_to) to a client.
    pub fn require_binding(mut self) -> Self {
        self.options.require_binding = true;
        self
    }

    /// Tells this what happens.
    pub fn hooks(mut self, hooks: impl SessionHooks) -> Self {
        self.hooks = Some(Arc::new(hooks));
        self
    }

    /// How often expired sessions are removed in the background, give or take a tenth; every minute by default, `None` for
    /// never. At most 10,000 at once; when there are more, it goes on a second later. Needs a tokio runtime. Not with storage of your own, which forgets by itself.
    pub fn cleanup_interval(mut self, interval: impl Into<Option<Duration>>) -> Self {
        self.cleanup_interval = interval.into();
        self
    }

    /// Also counts under `<prefix>_recovery_tokens_created_total`, `..._tokens_recovered_total`,
    /// `..._tokens_expired_total`, `..._tokens_failed_total` and `<prefix>_recovery_state_size_bytes`, for dashboards that
    /// know these names.
    pub fn metrics_alias(mut self, prefix: impl Into<String>) -> Self {
        self.metrics_alias = Some(prefix.into());
        self
    }

    /// Another clock, for storage of your own; a `Store` has its own.
    pub fn clock(mut self, by: impl Clock) -> Self {
        if let Home::Own { clock, .. } = &mut self.home {
            *clock = Arc::new(by);
        }
        self
    }

    /// Checks the settings, and starts the background cleanup.
    ///
    /// # Errors
    /// `Config`, saying what cannot be: no key or a short one, no active key, a lifetime of 0, an idle lifetime over
    /// the absolute one, limits of 0, what the storage or the kind of token cannot do.
    pub fn build(mut self) -> Result<SessionManager> {
        if let Some(what) = self.bad_key.take() {
            return Err(SessionError::Config(what));
        }
        let config = SessionError::config;
        let ring = self.ring.take().ok_or_else(|| {
            config("sessions need a key of at least 32 bytes; there is no default")
        })?;
        self.options.lifetime = self.lifetime()?;
        self.check()?;
        let keys = Keys::new(ring)?;
        let limits = self.limits()?;
        let background = matches!(self.home, Home::Store(_));
        let backend = match self.home {
            Home::Store(store) => {
                let layout = Layout::new(&self.name)
                    .map_err(|_| config("a name has 1 to 56 characters of a-z 0-9 . _ - /"))?;
                Backend::Indexed(Box::new(Indexed::new(store, layout, limits)))
            }
            Home::Own { store, clock, entropy } => Backend::Own { store, clock, entropy },
        };
        let alias = self.metrics_alias.as_deref();
        let metrics = crate::metrics::Metrics::new(&self.options.purpose, self.eviction, alias);
        let interval = self.cleanup_interval.filter(|_| background);
        SessionManager::start(backend, keys, self.options, metrics, self.hooks, interval)
    }

    fn lifetime(&self) -> Result<Lifetime> {
        const IDLE: Duration = Duration::from_secs(5 * 60);
        const ABSOLUTE: Duration = Duration::from_secs(24 * 3600);
        let (idle, absolute) = match self.ttl {
            (None, None) => (IDLE, ABSOLUTE),
            (Some(idle), None) => (idle, ABSOLUTE.max(idle)),
            (None, Some(absolute)) => (IDLE.min(absolute), absolute),
            (Some(idle), Some(absolute)) => (idle, absolute),
        };
        let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
        let (idle, absolute) = (millis(idle), millis(absolute));
        if idle == 0 || absolute == 0 {
            return Err(SessionError::config("a lifetime is at least one millisecond"));
        }
        if idle > absolute {
            return Err(SessionError::config("the idle lifetime is longer than the absolute one"));
        }
        Ok(Lifetime { idle, absolute })
    }

    fn limits(&self) -> Result<Limits> {
        let own = matches!(self.home, Home::Own { .. });
        let entries = match self.max_entries {
            Most::Set(limit) => limit,
            Most::Usual if own => None,
            Most::Usual => Some(DEFAULT_MAX_ENTRIES),
        };
        if own && (entries.is_some() || self.max_per_subject.is_some()) {
            return Err(SessionError::config(
                "storage of your own cannot count: no limits with it",
            ));
        }
        if entries == Some(0) || self.max_per_subject == Some(0) {
            return Err(SessionError::config("a limit of 0 sessions"));
        }
        if let (Some(all), Some(each)) = (entries, self.max_per_subject)
            && each > all
        {
            return Err(SessionError::config("the limit per subject is above the limit of all"));
        }
        Ok(Limits { entries, per_subject: self.max_per_subject, eviction: self.eviction })
    }

    fn check(&self) -> Result<()> {
        let refuse = |what: &str| Err(SessionError::config(what));
        let options = &self.options;
        if options.purpose.is_empty() || options.purpose.len() > 256 {
            return refuse("a purpose has 1 to 256 bytes");
        }
        if let Home::Own { store, .. } = &self.home
            && !store.compares_and_swaps()
            && options.reuse != ReusePolicy::UntilExpiry
        {
            return refuse(
                "storage without compare-and-swap allows only ReusePolicy::UntilExpiry: \
                 two recoveries at once could both succeed",
            );
        }
        if options.kind == TokenKind::Compact48
            && (options.reuse != ReusePolicy::UntilExpiry || options.require_binding)
        {
            return refuse(
                "compact48 tokens have no generation and no binding: only ReusePolicy::UntilExpiry",
            );
        }
        if options.max_state == 0 || options.max_state > resurge_store::MAX_VALUE_BYTES / 2 {
            return refuse("the largest state is 1 byte to 8 MiB");
        }
        if options.max_token_len > MAX_TEXT {
            return refuse("the longest token is 64 KiB");
        }
        let custom = |format: &Format| matches!(format, Format::Custom(_));
        let formats = options.known.iter().chain(Some(&options.format));
        if formats.filter(|f| custom(f)).any(|f| f.id() < FIRST_CUSTOM) {
            return refuse("ids of serializers of your own are 128 to 255");
        }
        if self.cleanup_interval == Some(Duration::ZERO) {
            return refuse("a cleanup interval of 0");
        }
        if self.metrics_alias.as_deref().is_some_and(str::is_empty) {
            return refuse("an empty alias for metrics");
        }
        Ok(())
    }
}

/// The longest name still makes a namespace.
const _: () = assert!(resurge_store::MAX_NAMESPACE_LEN == "session/".len() + 56);

impl Default for Options {
    fn default() -> Self {
        Self {
            purpose: "session-recovery".to_owned(),
            kind: TokenKind::default(),
            reuse: ReusePolicy::default(),
            duplicate: OnDuplicate::default(),
            lifetime: Lifetime { idle: 0, absolute: 0 },
            leeway: Duration::from_secs(60),
            max_state: 256 << 10,
            max_token_len: 32 << 10,
            format: Format::default(),
            known: Vec::new(),
            schema: 1,
            migrations: BTreeMap::new(),
            seal: false,
            require_binding: false,
        }
    }
}
