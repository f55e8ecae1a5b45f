//! What bodies did, counted where no crash reaches.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::Mutex;
use resurge_flow::{Position, StepInfo};
use resurge_testkit::Failure;

/// Counts what the bodies of steps do, outside of the store: the world that a crash does not undo.
///
/// Call [`ran`](Self::ran) in a body where it would charge the card. Clones count together.
///
/// ```
/// let effects = resurge_flow_testkit::Effects::new();
/// assert_eq!(effects.ran("charge"), 1);
/// assert_eq!(effects.ran("charge"), 2);
/// assert_eq!((effects.count("charge"), effects.count("ship")), (2, 0));
/// ```
#[derive(Clone, Default)]
pub struct Effects {
    log: Arc<Mutex<Log>>,
}

#[derive(Clone, Default)]
struct Log {
    life: usize,
    seen: Vec<Effect>,
}

/// One effect.
#[derive(Clone, Debug)]
pub(crate) struct Effect {
    pub(crate) name: String,
    /// In which life of the process, from 0.
    pub(crate) life: usize,
    /// Whose body did it; `None` outside of any.
    pub(crate) spot: Option<Spot>,
}

/// A body at work.
#[derive(Clone, Debug)]
pub(crate) struct Spot {
    pub(crate) run: String,
    pub(crate) position: Position,
    pub(crate) attempt: u32,
    pub(crate) deferred: bool,
    pub(crate) idempotency_key: String,
}

impl Spot {
    pub(crate) fn place(&self) -> (String, Position) {
        (self.run.clone(), self.position.clone())
    }
}

impl Effects {
    /// Nothing happened yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// The effect called `name` happens now. Returns how often it has, this time included.
    ///
    /// In a step's body it also notes which step of which run it is, and which attempt.
    pub fn ran(&self, name: impl Into<String>) -> u32 {
        let name = name.into();
        let spot = StepInfo::current().map(|step| Spot {
            run: step.run_id().to_owned(),
            position: step.position().clone(),
            attempt: step.attempt(),
            deferred: step.deferred(),
            idempotency_key: step.idempotency_key(),
        });
        let mut log = self.log.lock();
        let life = log.life;
        log.seen.push(Effect { name: name.clone(), life, spot });
        count(&log.seen, &name)
    }

    /// How often the effect called `name` happened.
    pub fn count(&self, name: &str) -> u32 {
        count(&self.log.lock().seen, name)
    }

    /// Checks that these effects happened so often, and no others did at all.
    ///
    /// ```
    /// let effects = resurge_flow_testkit::Effects::new();
    /// effects.ran("charge");
    /// effects.ran("charge");
    /// assert!(effects.exactly(&[("charge", 2)]).is_ok());
    /// let wrong = effects.exactly(&[("charge", 1), ("ship", 1)]).unwrap_err();
    /// assert_eq!(wrong.to_string(), "charge happened 2 times instead of 1; ship happened 0 times instead of 1");
    /// ```
    ///
    /// # Errors
    /// Naming every one that differs.
    pub fn exactly(&self, expected: &[(&str, u32)]) -> Result<(), Failure> {
        let mut wanted: BTreeMap<String, u32> =
            self.names().into_iter().map(|name| (name, 0)).collect();
        wanted.extend(expected.iter().map(|(name, times)| ((*name).to_owned(), *times)));
        let differ = wanted.into_iter().filter_map(|(name, times)| {
            let got = self.count(&name);
            (got != times).then(|| format!("{name} happened {got} times instead of {times}"))
        });
        let differ: Vec<String> = differ.collect();
        if differ.is_empty() { Ok(()) } else { Err(differ.join("; ").into()) }
    }

    /// The names of all effects in the order in which they happened.
    pub fn names(&self) -> Vec<String> {
        self.log.lock().seen.iter().map(|effect| effect.name.clone()).collect()
    }

    /// What happened so far, to go on from separately, in another life of the process.
    pub(crate) fn fork(&self, life: usize) -> Self {
        let mut log = self.log.lock().clone();
        log.life = life;
        Self { log: Arc::new(Mutex::new(log)) }
    }

    pub(crate) fn seen(&self) -> Vec<Effect> {
        self.log.lock().seen.clone()
    }
}

fn count(seen: &[Effect], name: &str) -> u32 {
    let times = seen.iter().filter(|effect| effect.name == name).count();
    u32::try_from(times).unwrap_or(u32::MAX)
}

impl fmt::Debug for Effects {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.names()).finish()
    }
}
