//! What a client does besides saving and coming back: sessions that end, tokens that are shown again, two
//! owners, answers that are lost.

use super::client::{Client, Life, STALE, words};
use super::kinds::Kind;
use super::owed::{Grave, Kept};
use super::wire::{Answer, Silence, Wire};

impl Client {
    /// Recovers, and behaves as if no answer had come: the retry, in this life or the next, must get the
    /// very same successor.
    pub(super) async fn lose_an_answer(
        &mut self,
        wire: &mut Wire,
        life: &Life,
    ) -> Result<(), Silence> {
        if self.kind != Kind::Rotate {
            return self.recover(wire, life).await;
        }
        let Some(session) = &mut self.session else { return Ok(()) };
        let ask = format!("recover {} {}", self.kind.name(), session.token);
        session.asked = true;
        match wire.ask(&ask).await? {
            Answer::Back(back) => {
                self.owed.saw(&back.token);
                if session.witness.as_ref().is_some_and(|witness| *witness != back.token) {
                    let what = format!("client {}: two successors of one token", self.id);
                    self.tally.lock().wrong(&what);
                }
                session.witness = Some(back.token);
                self.check(&back.subject, &back.state);
                Ok(())
            }
            other => self.wrong("recover", &other),
        }
    }

    /// Shows the token before the current one.
    pub(super) async fn present_again(&mut self, life: &Life) -> Result<(), Silence> {
        let Some(session) = &self.session else { return Ok(()) };
        let Some(previous) = session.previous.clone() else { return Ok(()) };
        // It may be past its grace, and would revoke the session.
        if self.kind == Kind::Rotate && session.rotated_in != Some(life.hour) {
            return Ok(());
        }
        let mut wire = life.connect().await?;
        let ask = format!("recover {} {previous}", self.kind.name());
        let answer = wire.ask(&ask).await?;
        let Some(session) = &self.session else { return Ok(()) };
        let mut tally = self.tally.lock();
        match (self.kind, &answer) {
            (Kind::Rotate, Answer::Back(back)) => {
                if back.token == session.token {
                    tally.same += 1;
                } else {
                    tally.wrong(&format!("client {}: two successors of one token", self.id));
                }
                drop(tally);
                self.check(&back.subject, &back.state);
            }
            (Kind::Single, answer) if answer.is_refused(&["replayed"]) => {
                tally.replays_refused += 1;
            }
            (Kind::Single, Answer::Back(_)) => {
                tally.replayed(&format!("client {}: a token that works once", self.id));
            }
            (_, answer) => {
                tally.wrong(&format!("client {}: shown again: {}", self.id, answer.shown()));
            }
        }
        Ok(())
    }

    /// A second connection takes the session over; the first one may not save any more.
    pub(super) async fn two_owners(&mut self, wire: &mut Wire, life: &Life) -> Result<(), Silence> {
        let mut second = life.connect().await?;
        self.recover(&mut second, life).await?;
        let Some(session) = &self.session else { return Ok(()) };
        let state = self.state(self.kind, session.acknowledged + STALE);
        let answer = wire.ask(&format!("save {}", words(&state))).await?;
        self.must_conflict("a former owner", &answer);
        *wire = second;
        Ok(())
    }

    /// A session that is created and saved; nothing is owed for it yet.
    async fn other_session(&mut self, wire: &mut Wire, kind: Kind) -> Result<String, Silence> {
        let subject = kind.secret("other", self.id);
        let token = match wire.ask(&format!("create {} {subject}", kind.name())).await? {
            Answer::Token(token) => token,
            other => return self.wrong("create another", &other).map(|()| String::new()),
        };
        self.owed.saw(&token);
        let state = self.state(kind, 1);
        match wire.ask(&format!("save {}", words(&state))).await? {
            Answer::Saved(_) => self.tally.lock().saves += 1,
            other => return self.wrong("save another", &other).map(|()| String::new()),
        }
        Ok(token)
    }

    /// Makes a session whose first token will be replayed: two generations old, or after its grace.
    pub(super) async fn bury(&mut self, life: &Life) -> Result<(), Silence> {
        let mut wire = life.connect().await?;
        let mut tokens = vec![self.other_session(&mut wire, Kind::Rotate).await?];
        let generations = 1 + self.random(2);
        for _ in 0..generations {
            let Some(newest) = tokens.last() else { break };
            let ask = format!("recover {} {newest}", Kind::Rotate.name());
            match wire.ask(&ask).await? {
                Answer::Back(back) => {
                    let mut tally = self.tally.lock();
                    tally.recovers += 1;
                    tally.rotated += 1;
                    self.owed.saw(&back.token);
                    tokens.push(back.token);
                }
                other => return self.wrong("recover another", &other),
            }
        }
        let from = if generations == 2 { life.hour } else { life.hour + 2 };
        if let Some(oldest) = tokens.first() {
            self.owed.buried(Kind::Rotate, oldest.clone(), from);
        }
        let state = self.state(Kind::Rotate, 1);
        self.owed.graves.push(Grave { tokens, state, cycle: life.cycle, from, asked: false });
        Ok(())
    }

    /// Replays the oldest token of a session of an earlier life: refused, and nobody gets in any more.
    pub(super) async fn exhume(&mut self, life: &Life) -> Result<(), Silence> {
        let ripe = |grave: &Grave| grave.cycle < life.cycle && grave.from <= life.hour;
        let Some(at) = self.owed.graves.iter().position(ripe) else { return Ok(()) };
        let mut wire = life.connect().await?;
        let Some(grave) = self.owed.graves.get_mut(at) else { return Ok(()) };
        let asked_before = std::mem::replace(&mut grave.asked, true);
        let first: &[&str] = if asked_before { &["replayed", "revoked"] } else { &["replayed"] };
        let tokens = grave.tokens.clone();
        let ends = [(tokens.first(), first), (tokens.last(), &["revoked"])];
        for (token, classes) in ends {
            let Some(token) = token else { continue };
            let answer = wire.ask(&format!("recover {} {token}", Kind::Rotate.name())).await?;
            let mut tally = self.tally.lock();
            if answer.is_refused(classes) {
                tally.replays_refused += 1;
            } else {
                let shown = answer.shown();
                tally.replayed(&format!("client {}: {classes:?} expected: {shown}", self.id));
            }
        }
        self.owed.graves.remove(at);
        for token in tokens {
            self.owed.revoked(Kind::Rotate, token);
        }
        Ok(())
    }

    /// Ends a session, and it does not come back.
    pub(super) async fn end(&mut self, life: &Life, how: &str) -> Result<(), Silence> {
        let kind = match self.random(3) {
            0 => Kind::Rotate,
            1 => Kind::Single,
            _ => Kind::Reuse,
        };
        let mut wire = life.connect().await?;
        let token = self.other_session(&mut wire, kind).await?;
        match wire.ask(&format!("{how} {} {token}", kind.name())).await? {
            Answer::Done => self.tally.lock().ended += 1,
            other => return self.wrong(how, &other),
        }
        if how == "delete" {
            self.owed.deleted(kind, token);
        } else {
            self.owed.revoked(kind, token);
        }
        Ok(())
    }

    /// A session that will be over in the next hour.
    pub(super) async fn short_lived(&mut self, life: &Life) -> Result<(), Silence> {
        let kind = Kind::Brief;
        let mut wire = life.connect().await?;
        let token = self.other_session(&mut wire, kind).await?;
        let state = self.state(kind, 1);
        self.owed.kept.push(Kept { kind, token: token.clone(), state, hour: life.hour });
        self.owed.expires(kind, token, life.hour + 1);
        Ok(())
    }

    /// One session more than there may be, most of the time.
    pub(super) async fn crowd(&mut self, life: &Life) -> Result<(), Silence> {
        let mut wire = life.connect().await?;
        let subject = Kind::Few.secret("crowd", self.id);
        match wire.ask(&format!("create {} {subject}", Kind::Few.name())).await? {
            Answer::Token(token) => self.owed.saw(&token),
            other => return self.wrong("create in a crowd", &other),
        }
        Ok(())
    }
}
