//! Nobody kills any more: everything is looked at once more, then everything expires.

use resurge_store::Store;
use resurge_store_sled::Offline;
use resurge_testkit::Failure;

use super::Around;
use super::client::Client;
use super::kinds::{END, Managers};
use super::leaks::{TAIL, Tails};
use super::look::open_at;
use super::whole::{entries, whole};

impl Around {
    pub(super) fn finish(&mut self, cycle: u64) -> Result<(), Failure> {
        let dir = self.state.clone();
        let tails: Tails = self.clients.iter().flat_map(tails).collect();
        let found = self.search(&dir, &tails)?;
        if found.shown == 0 {
            self.tally.lock().wrong("what is not sealed was not found: the search is blind");
        }
        let (store, managers) = open_at(&dir, cycle, self.hour)?;
        let Self { runtime, clients, tally, hour, .. } = self;
        runtime.block_on(async {
            for client in clients {
                client.look(&managers, *hour, None).await?;
                client.is_listed(&managers).await?;
            }
            whole(&store, &managers, tally).await?;
            Ok::<_, Failure>(store.close().await?)
        })?;
        // Every session has ended.
        let (store, managers) = open_at(&dir, cycle + 1, self.hour + END)?;
        let left = self.runtime.block_on(expire(&store, &managers))?;
        for what in left {
            self.tally.lock().wrong(&what);
        }
        let report = Offline::new().verify(&dir)?;
        if report.is_intact() {
            Ok(())
        } else {
            Err(format!("the store is damaged: {report:?}").into())
        }
    }
}

fn tails(client: &Client) -> impl Iterator<Item = [u8; TAIL]> {
    client.owed.tokens.iter().filter_map(|token| token.as_bytes().last_chunk().copied())
}

impl Client {
    /// The sessions of its subject are those it knows of.
    async fn is_listed(&self, managers: &Managers) -> Result<(), Failure> {
        let there = managers.of(self.kind)?.list(self.subject()).await?.len() as u64;
        let sure = self.stranded + u64::from(self.session.is_some());
        if !(sure..=sure + self.uncertain).contains(&there) {
            let most = sure + self.uncertain;
            let what = format!("client {}: {there} listed, {sure} to {most} known", self.id);
            self.tally.lock().wrong(&what);
        }
        Ok(())
    }
}

/// Removes everything, and says what is still there.
async fn expire(store: &Store, managers: &Managers) -> Result<Vec<String>, Failure> {
    let mut left = Vec::new();
    for (kind, sessions) in managers.all() {
        let report = sessions.cleanup_expired(u64::MAX).await?;
        let entries = entries(store, kind).await?;
        let live = sessions.live().await?;
        if report.failed + report.orphans + report.renewed + live > 0 || !entries.is_empty() {
            let there: usize = entries.values().map(std::collections::BTreeSet::len).sum();
            left.push(format!("{}: {report:?}, {live} live, {there} entries", kind.name()));
        }
    }
    store.close().await?;
    Ok(left)
}
