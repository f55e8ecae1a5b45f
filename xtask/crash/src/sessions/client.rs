//! A client, which outlives the servers: it keeps its token as a browser does, comes back with it, and
//! knows what it was told.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::{Clock, Entropy, SeededEntropy, SystemClock};
use tokio::sync::watch;

use super::kinds::{Kind, State};
use super::owed::Owed;
use super::session::Session;
use super::tally::Tally;
use super::wire::{Answer, Silence, Wire};

const RETRY: Duration = Duration::from_millis(2);
/// What a writer that lost its session would add to the counter: more than was ever asked for.
pub(super) const STALE: u64 = 1 << 40;

/// One life of a server, as a client sees it.
#[derive(Clone, Debug)]
pub(super) struct Life {
    pub(super) cycle: u64,
    pub(super) hour: u64,
    pub(super) socket: PathBuf,
    /// Its disk may fail before it is gone.
    pub(super) disk_fails: bool,
    /// True when the server is gone.
    pub(super) over: watch::Receiver<bool>,
}

impl Life {
    pub(super) async fn connect(&self) -> Result<Wire, Silence> {
        Wire::connect(&self.socket, self.disk_fails).await
    }
}

#[derive(Debug)]
pub(super) struct Client {
    pub(super) id: u64,
    pub(super) kind: Kind,
    pub(super) session: Option<Session>,
    pub(super) owed: Owed,
    /// Of its subject: sessions that exist and nobody can get into, and those that may exist.
    pub(super) stranded: u64,
    pub(super) uncertain: u64,
    /// It got its session in this life.
    pub(super) came_back: bool,
    pub(super) tally: Arc<Mutex<Tally>>,
    chance: SeededEntropy,
}

impl Client {
    pub(super) fn new(id: u64, seed: u64, tally: &Arc<Mutex<Tally>>) -> Self {
        let kind = match id % 4 {
            0 | 1 => Kind::Rotate,
            2 => Kind::Single,
            _ => Kind::Reuse,
        };
        Self {
            id,
            kind,
            session: None,
            owed: Owed::default(),
            stranded: 0,
            uncertain: 0,
            came_back: false,
            tally: Arc::clone(tally),
            chance: SeededEntropy::new(seed.wrapping_mul(1_000).wrapping_add(id)),
        }
    }

    pub(super) fn subject(&self) -> String {
        self.kind.secret("client", self.id)
    }

    pub(super) fn state(&self, kind: Kind, counter: u64) -> State {
        let canary = kind.secret("canary", self.id);
        State { client: self.id, counter, canary }
    }

    pub(super) fn random(&self, below: u64) -> u64 {
        self.chance.next_u64().unwrap_or_default() % below
    }

    /// Until the server is gone.
    pub(super) async fn live(mut self, mut life: Life) -> Self {
        let clock = SystemClock::new();
        self.came_back = false;
        while !*life.over.borrow() {
            let served = match life.connect().await {
                // Whatever was not answered by then is unknown; the next connection finds out.
                Ok(wire) => self.connected(wire, &life).await,
                Err(silence) => Err(silence),
            };
            if served.is_err() {
                tokio::select! {
                    _ = life.over.changed() => {}
                    () = clock.sleep(RETRY) => {}
                }
            }
        }
        self
    }

    async fn connected(&mut self, mut wire: Wire, life: &Life) -> Result<(), Silence> {
        let first = !self.came_back;
        self.come_back(&mut wire, life).await?;
        if first {
            self.former_owners_are_refused(&mut wire).await?;
        }
        for _ in 0..self.random(20) {
            if self.session.is_none() {
                return Ok(());
            }
            match self.random(40) {
                0 => self.bury(life).await?,
                1 => self.exhume(life).await?,
                2 => self.end(life, "delete").await?,
                3 => self.end(life, "revoke").await?,
                4 => self.short_lived(life).await?,
                5 => self.crowd(life).await?,
                6 | 7 => self.two_owners(&mut wire, life).await?,
                8 | 9 => self.present_again(life).await?,
                10 | 11 => self.recover(&mut wire, life).await?,
                // The answer is lost on its way: the client comes back as if it had never asked.
                12 => return self.lose_an_answer(&mut wire, life).await,
                _ => self.save(&mut wire).await?,
            }
        }
        Ok(())
    }

    /// With the newest token there is, or as somebody new.
    async fn come_back(&mut self, wire: &mut Wire, life: &Life) -> Result<(), Silence> {
        if self.session.is_some() {
            self.recover(wire, life).await?;
        }
        if self.session.is_none() {
            let (kind, subject) = (self.kind, self.subject());
            self.uncertain += 1;
            let answer = wire.ask(&format!("create {} {subject}", kind.name())).await?;
            self.uncertain -= 1;
            match answer {
                Answer::Token(token) => {
                    self.owed.saw(&token);
                    self.session = Some(Session::new(token));
                }
                other => return self.wrong("create", &other),
            }
            self.save(wire).await?;
        }
        self.came_back = true;
        Ok(())
    }

    pub(super) async fn save(&mut self, wire: &mut Wire) -> Result<(), Silence> {
        let Some(session) = &mut self.session else { return Ok(()) };
        session.attempted = session.acknowledged + 1;
        let counter = session.attempted;
        let state = self.state(self.kind, counter);
        let answer = wire.ask(&format!("save {}", words(&state))).await?;
        match (&mut self.session, answer) {
            (Some(session), Answer::Saved(version)) => {
                session.acknowledged = counter;
                session.version = version;
                self.tally.lock().saves += 1;
                Ok(())
            }
            (_, other) => self.wrong("save", &other),
        }
    }

    /// Takes the session over with the newest token it knows of.
    pub(super) async fn recover(&mut self, wire: &mut Wire, life: &Life) -> Result<(), Silence> {
        let Some(session) = &mut self.session else { return Ok(()) };
        let ask = format!("recover {} {}", self.kind.name(), session.token);
        let asked_before = std::mem::replace(&mut session.asked, true);
        match wire.ask(&ask).await? {
            Answer::Back(back) => {
                self.owed.saw(&back.token);
                self.check(&back.subject, &back.state);
                let mut tally = self.tally.lock();
                tally.recovers += 1;
                tally.retried += u64::from(asked_before);
                drop(tally);
                self.replace_token(back.token, back.version, life);
            }
            answer => {
                let used = self.kind == Kind::Single && asked_before;
                let never_saved = session.acknowledged == 0;
                let fine = (used && answer.is_refused(&["replayed"]))
                    || (never_saved && answer.is_refused(&["not_found"]));
                if !fine {
                    let what = format!("client {}: recover: {}", self.id, answer.shown());
                    self.tally.lock().lost(&what);
                }
                // It is there, and its client has no way in.
                self.session = None;
                self.stranded += 1;
            }
        }
        Ok(())
    }

    /// What came back is this client's, and all that was acknowledged.
    pub(super) fn check(&mut self, subject: &str, state: &State) {
        let expected = self.state(self.kind, state.counter);
        let Some(session) = &mut self.session else { return };
        let mut tally = self.tally.lock();
        if subject != self.kind.secret("client", self.id) || *state != expected {
            tally.crossed(&format!("client {} got {state:?} of {subject}", self.id));
            return;
        }
        let (counter, told, asked) = (state.counter, session.acknowledged, session.attempted);
        if counter < told {
            tally.lost(&format!("client {}: {told} told, {counter} there", self.id));
        } else if counter >= STALE {
            tally.stale(&format!("client {}: a former owner saved over {told}", self.id));
        } else if counter > asked {
            tally.wrong(&format!("client {}: {counter} there, {asked} asked for", self.id));
        }
        session.acknowledged = counter;
        session.attempted = counter;
    }

    fn replace_token(&mut self, token: String, version: u64, life: &Life) {
        let Some(session) = &mut self.session else { return };
        let rotates = self.kind != Kind::Reuse;
        let mut tally = self.tally.lock();
        if rotates == (session.token == token) {
            tally.wrong(&format!("client {}: its token was replaced: {}", self.id, !rotates));
        }
        if let Some(witness) = session.witness.take() {
            if witness == token {
                tally.same += 1;
            } else {
                tally.wrong(&format!("client {}: two successors of one token", self.id));
            }
        }
        session.asked = false;
        session.version = version;
        if rotates {
            tally.rotated += 1;
            session.rotated_in = Some(life.hour);
            let old = std::mem::replace(&mut session.token, token);
            // Two generations old, or its grace is over: what comes first.
            if let Some(older) = session.previous.replace(old.clone()) {
                self.owed.replaced(self.kind, older, life.hour);
            }
            let grace = if self.kind == Kind::Rotate { 2 } else { 0 };
            self.owed.replaced(self.kind, old, life.hour + grace);
        }
    }

    /// Nobody writes with a token, or over a version, of before the restart.
    async fn former_owners_are_refused(&mut self, wire: &mut Wire) -> Result<(), Silence> {
        let Some(session) = &self.session else { return Ok(()) };
        let (kind, token, version) = (self.kind, session.token.clone(), session.version);
        let words = words(&self.state(kind, session.acknowledged + STALE));
        let mut attempts = Vec::new();
        if let Some(previous) = &session.previous {
            attempts.push(format!("save-with {} {previous} - {words}", kind.name()));
        }
        if version > 1 {
            attempts.push(format!("save-with {} {token} {} {words}", kind.name(), version - 1));
        }
        for attempt in attempts {
            let answer = wire.ask(&attempt).await?;
            self.must_conflict("a writer of before the restart", &answer);
        }
        Ok(())
    }

    pub(super) fn must_conflict(&self, who: &str, answer: &Answer) {
        let mut tally = self.tally.lock();
        if answer.is_refused(&["conflict"]) {
            tally.conflicts += 1;
        } else {
            tally.stale(&format!("client {}: {who}: {}", self.id, answer.shown()));
        }
    }

    pub(super) fn wrong(&mut self, what: &str, answer: &Answer) -> Result<(), Silence> {
        let what = format!("client {}: {what}: {}", self.id, answer.shown());
        self.tally.lock().wrong(&what);
        self.session = None;
        Err(Silence)
    }
}

/// A state on the wire.
pub(super) fn words(state: &State) -> String {
    format!("{} {} {}", state.client, state.counter, state.canary)
}
