//! What was done, and what was found.

/// Counts of all clients and of the parent.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) cycles: u64,
    clients: u64,
    pub(super) saves: u64,
    pub(super) recovers: u64,
    pub(super) rotated: u64,
    /// Recoveries with a token of which it was not known whether it had been used.
    pub(super) retried: u64,
    /// Retries that got the same successor again.
    pub(super) same: u64,
    pub(super) replays_refused: u64,
    pub(super) conflicts: u64,
    /// Deleted or revoked.
    pub(super) ended: u64,
    /// Looks of the parent at tokens that must be refused.
    pub(super) looks: u64,
    lost: u64,
    crossed: u64,
    replayed: u64,
    unopenable: u64,
    /// Writes by who did not own the session any more.
    stale: u64,
    leaked: u64,
    wrong: u64,
}

impl Tally {
    pub(super) fn of(clients: u64) -> Self {
        Self { clients, ..Self::default() }
    }

    /// An acknowledged save, or the whole session, is not there.
    pub(super) fn lost(&mut self, what: &str) {
        eprintln!("lost: {what}");
        self.lost += 1;
    }

    /// Somebody got what is another's.
    pub(super) fn crossed(&mut self, what: &str) {
        eprintln!("crossed: {what}");
        self.crossed += 1;
    }

    /// A token was taken that was replaced, used, deleted, revoked or expired.
    pub(super) fn replayed(&mut self, what: &str) {
        eprintln!("replayed: {what}");
        self.replayed += 1;
    }

    pub(super) fn stale(&mut self, what: &str) {
        eprintln!("stale: {what}");
        self.stale += 1;
    }

    pub(super) fn leaked(&mut self, what: &str) {
        eprintln!("leaked: {what}");
        self.leaked += 1;
    }

    pub(super) fn wrong(&mut self, what: &str) {
        eprintln!("wrong: {what}");
        self.wrong += 1;
    }

    pub(super) fn unopenable(&mut self, what: &str) {
        eprintln!("unopenable: {what}");
        self.unopenable += 1;
    }

    pub(super) fn is_clean(&self) -> bool {
        let Self { lost, crossed, replayed, unopenable, stale, leaked, wrong, .. } = self;
        lost + crossed + replayed + unopenable + stale + leaked + wrong == 0
    }

    pub(super) fn more(&self) -> String {
        let Self { retried, same, conflicts, ended, looks, stale, leaked, wrong, .. } = self;
        format!(
            "retried={retried} same_successor={same} conflicts={conflicts} ended={ended} looked_at={looks} \
             stale={stale} leaked={leaked} wrong={wrong}"
        )
    }

    pub(super) fn line(&self) -> String {
        let Self { cycles, clients, saves, recovers, rotated, replays_refused, .. } = self;
        let Self { lost, crossed, replayed, unopenable, .. } = self;
        format!(
            "cycles={cycles} clients={clients} saves={saves} recovers={recovers} \
             rotated={rotated} replays_refused={replays_refused} lost={lost} crossed={crossed} \
             replayed={replayed} unopenable={unopenable}"
        )
    }
}
