//! The parent looks at what a killed server left: every session, every token that must be refused.

use std::path::Path;

use resurge_session_token::SessionManager;
use resurge_store::Store;
use resurge_testkit::Failure;

use super::Around;
use super::client::Client;
use super::kinds::{Ahead, Kind, Managers, State};
use super::leaks::{self, Tails};
use super::owed::Relic;
use super::server::Planted;
use super::whole::whole;
use crate::child::open;

/// How often a token that must be refused is looked at between kills; the end looks at all of them.
const LOOKS: u8 = 3;

/// Opens the store as the servers do, at this hour.
pub(super) fn open_at(dir: &Path, cycle: u64, hour: u64) -> Result<(Store, Managers), Failure> {
    let (store, _) = open(dir, cycle)?;
    let store = Store::new(store).with_clock(Ahead::by_hours(hour));
    let managers = Managers::on(&store, Planted::Nothing, None)?;
    Ok((store, managers))
}

impl Around {
    pub(super) fn look(&mut self, cycle: u64) -> Result<(), Failure> {
        let dir = self.state.clone();
        // A kill may come before there is a directory.
        if dir.exists() {
            self.search(&dir, &Tails::new())?;
        }
        let (store, managers) = match open_at(&dir, cycle, self.hour) {
            Ok(opened) => opened,
            Err(e) => {
                self.tally.lock().unopenable(&e.to_string());
                return Ok(());
            }
        };
        let Self { runtime, clients, tally, hour, .. } = self;
        runtime.block_on(async {
            for client in clients {
                client.look(&managers, *hour, Some(LOOKS)).await?;
            }
            whole(&store, &managers, tally).await?;
            Ok(store.close().await?)
        })
    }

    pub(super) fn search(&self, dir: &Path, tails: &Tails) -> Result<leaks::Found, Failure> {
        let found = leaks::search(dir, tails)?;
        if found.tokens + found.hidden > 0 {
            self.tally.lock().leaked(&format!("{found:?}"));
        }
        Ok(found)
    }
}

/// Looks without taking over: the state and its subject, or the class of the error.
async fn peek(
    sessions: &SessionManager,
    token: &str,
) -> Result<Result<(String, State), &'static str>, Failure> {
    match sessions.peek::<State>(&token.into()).await {
        Ok(peeked) => Ok(Ok((peeked.subject, peeked.state))),
        Err(e) if matches!(e.class(), "store" | "closed") => Err(e.into()),
        Err(e) => Ok(Err(e.class())),
    }
}

impl Client {
    /// At most so many looks at each token that must be refused.
    pub(super) async fn look(
        &mut self,
        managers: &Managers,
        hour: u64,
        looks: Option<u8>,
    ) -> Result<(), Failure> {
        self.look_at_session(managers).await?;
        self.owed.kept.retain(|kept| kept.hour == hour);
        for kept in &self.owed.kept {
            self.must_lead_to(managers, kept.kind, &kept.token, &kept.state).await?;
        }
        for grave in self.owed.graves.iter().filter(|grave| !grave.asked) {
            if let Some(newest) = grave.tokens.last() {
                self.must_lead_to(managers, Kind::Rotate, newest, &grave.state).await?;
            }
        }
        let mut relics = std::mem::take(&mut self.owed.relics);
        for relic in &mut relics {
            if relic.from <= hour && looks.is_none_or(|looks| relic.looks < looks) {
                relic.looks += 1;
                self.must_be_refused(managers, relic).await?;
            }
        }
        self.owed.relics = relics;
        Ok(())
    }

    async fn look_at_session(&mut self, managers: &Managers) -> Result<(), Failure> {
        let Some(session) = &self.session else { return Ok(()) };
        match peek(managers.of(self.kind)?, &session.token).await? {
            Ok((subject, state)) => self.check(&subject, &state),
            // Asked for, and nothing was answered: it may have worked once, as it must.
            Err("replayed") if self.kind == Kind::Single && session.asked => {}
            // Its first save was not acknowledged.
            Err("not_found") if session.acknowledged == 0 => {}
            Err(class) => {
                let told = session.acknowledged;
                let what = format!("client {}: {told} told, and its session is {class}", self.id);
                self.tally.lock().lost(&what);
            }
        }
        Ok(())
    }

    async fn must_lead_to(
        &self,
        managers: &Managers,
        kind: Kind,
        token: &str,
        state: &State,
    ) -> Result<(), Failure> {
        match peek(managers.of(kind)?, token).await? {
            Ok((_, found)) if found == *state => {}
            Ok((_, found)) => {
                self.tally.lock().crossed(&format!("client {}: {found:?}, not {state:?}", self.id));
            }
            Err(class) => {
                let kind = kind.name();
                let what = format!("client {}: another session of {kind} is {class}", self.id);
                self.tally.lock().lost(&what);
            }
        }
        Ok(())
    }

    async fn must_be_refused(&self, managers: &Managers, relic: &Relic) -> Result<(), Failure> {
        let found = peek(managers.of(relic.kind)?, &relic.token).await?;
        let (id, kind, classes) = (self.id, relic.kind.name(), relic.classes);
        let mut tally = self.tally.lock();
        tally.looks += 1;
        match found {
            Err(class) if classes.contains(&class) => {}
            Err(class) => tally.wrong(&format!("client {id}: {kind}: {class}, not {classes:?}")),
            Ok((_, state)) => {
                tally.replayed(&format!("client {id}: {kind}: {state:?}, not {classes:?}"));
            }
        }
        Ok(())
    }
}
