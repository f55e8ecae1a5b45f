//! What is done to the server and the pages, and what the pages must show.

use super::Demo;
use crate::Result;
use crate::browser::{Browser, Tab, View};
use crate::client;

/// How often a server is killed in the scene of many kills.
const KILLS: usize = 4;

impl<B: Browser> Demo<B> {
    pub(super) async fn scenes(&mut self) -> Result<()> {
        let page = self.a_page_counts().await?;
        self.the_server_is_killed(page).await?;
        self.killed_within_a_click(page).await?;
        self.killed_within_a_join(page).await?;
        self.loaded_again(page).await?;
        let second = self.a_second_tab_takes_over(page).await?;
        self.a_forged_token(second).await?;
        self.another_session(second).await?;
        self.killed_again_and_again().await?;

        println!("\n=== Where tokens and states are not ===\n");
        self.kill()?;
        self.search()
    }

    async fn a_page_counts(&mut self) -> Result<Tab> {
        println!("=== A page, and three clicks ===\n");
        let page = self.open().await?;
        self.shows(page, "count 0, fresh, connected").await?;
        for count in 1..=3 {
            self.click(page).await?;
            self.shows(page, &format!("count {count}, fresh, connected")).await?;
        }
        self.picture(page, "1-three-clicks").await?;
        Ok(page)
    }

    async fn the_server_is_killed(&mut self, page: Tab) -> Result<()> {
        println!("\n=== The server is killed; the page comes back by itself ===\n");
        self.kill()?;
        let before = self.shows(page, "count 3, fresh, reconnecting").await?;
        self.picture(page, "2-reconnecting").await?;
        self.start()?;
        let after = self.shows(page, "count 3, recovered, connected").await?;
        self.picture(page, "3-recovered").await?;
        self.expect.equal("whose counter it is", after.visitor, before.visitor);
        self.expect.holds("the token was replaced", after.token != before.token);
        self.click(page).await?;
        self.shows(page, "count 4, recovered, connected").await?;
        Ok(())
    }

    async fn killed_within_a_click(&mut self, page: Tab) -> Result<()> {
        println!("\n=== Killed before a click is saved: it did not happen ===\n");
        self.stage.hold("Clicked")?;
        self.click(page).await?;
        self.stage.wait("holding at Clicked")?;
        self.kill()?;
        self.shows(page, "count 4, recovered, reconnecting").await?;
        self.start()?;
        self.shows(page, "count 4, recovered, connected").await?;

        println!(
            "\n=== Killed after it is saved, before the page is told: it happened, once ===\n"
        );
        self.stage.hold("Saved")?;
        self.click(page).await?;
        self.stage.wait("holding at Saved")?;
        self.kill()?;
        self.shows(page, "count 4, recovered, reconnecting").await?;
        self.start()?;
        self.shows(page, "count 5, recovered, connected").await?;
        Ok(())
    }

    async fn killed_within_a_join(&mut self, page: Tab) -> Result<()> {
        println!(
            "\n=== Killed before the page is told its new token: the old one still works ===\n"
        );
        self.stage.hold("Recovered")?;
        self.reload(page).await?;
        self.stage.wait("holding at Recovered")?;
        self.kill()?;
        self.start()?;
        self.shows(page, "count 5, recovered, connected").await?;
        Ok(())
    }

    async fn loaded_again(&mut self, page: Tab) -> Result<()> {
        println!("\n=== The page is loaded again ===\n");
        let before = self.shows(page, "count 5, recovered, connected").await?;
        self.reload(page).await?;
        let after = self.shows(page, "count 5, recovered, connected").await?;
        self.expect.holds("the token was replaced", after.token != before.token);
        Ok(())
    }

    async fn a_second_tab_takes_over(&mut self, page: Tab) -> Result<Tab> {
        println!("\n=== A second tab takes over; the first one does not fight ===\n");
        self.kill()?;
        let joins = self.stage.printed("uri=/live");
        self.start()?;
        self.shows(page, "count 5, recovered, connected").await?;
        let second = self.browser.duplicate(page).await?;
        self.shows(second, "count 5, recovered, connected").await?;
        self.click(page).await?;
        let first = self.shows(page, "count 5, recovered, superseded").await?;
        self.expect.equal("what the first one keeps", first.token, None);
        self.picture(page, "4-superseded").await?;
        self.click(second).await?;
        self.shows(second, "count 6, recovered, connected").await?;
        self.reload(second).await?;
        self.shows(second, "count 6, recovered, connected").await?;
        self.kill()?;
        let joins = self.stage.printed("uri=/live") - joins;
        println!("connections: {joins} (the first tab, the second one, the second one again)");
        self.expect.equal("connections", joins, 3);
        self.start()?;
        self.shows(second, "count 6, recovered, connected").await?;
        self.shows(page, "count 5, recovered, superseded").await?;
        Ok(second)
    }

    async fn a_forged_token(&mut self, other: Tab) -> Result<()> {
        println!("\n=== A token that was altered leads nowhere ===\n");
        let page = self.open().await?;
        self.shows(page, "count 0, fresh, connected").await?;
        self.click(page).await?;
        let own = self.shows(page, "count 1, fresh, connected").await?;
        let token = own.token.ok_or("a page without a token")?;
        for forged in [altered(&token), "no token at all".to_owned()] {
            self.browser.set_token(page, &forged).await?;
            self.reload(page).await?;
            let fresh = self.shows(page, "count 0, fresh, connected").await?;
            let new = |known: &String| fresh.token.as_ref().is_some_and(|token| token != known);
            self.expect.holds("a new token", new(&token) && new(&forged));
            self.expect.holds("a new session", fresh.visitor != own.visitor);
        }
        println!("the page shows its own one again");
        self.browser.set_token(page, &token).await?;
        self.reload(page).await?;
        let back = self.shows(page, "count 1, recovered, connected").await?;
        self.expect.equal("whose counter it is", back.visitor, own.visitor);
        self.click(other).await?;
        self.shows(other, "count 7, recovered, connected").await?;
        Ok(())
    }

    async fn another_session(&mut self, other: Tab) -> Result<()> {
        println!("\n=== Another session sees nothing of it ===\n");
        let page = self.open().await?;
        let own = self.shows(page, "count 0, fresh, connected").await?;
        self.click(page).await?;
        self.shows(page, "count 1, fresh, connected").await?;
        let theirs = self.shows(other, "count 7, recovered, connected").await?;
        self.expect.holds("two sessions", own.visitor != theirs.visitor);
        self.expect.holds("two tokens", own.token != theirs.token);
        let answer = client::connect_as("http://elsewhere.example", &self.stage.url()).await?;
        println!("a page of another site: {answer}");
        self.expect.equal("what a page of another site gets", answer, 403);
        self.kill()?;
        self.start()?;
        self.shows(page, "count 1, recovered, connected").await?;
        self.shows(other, "count 7, recovered, connected").await?;
        Ok(())
    }

    async fn killed_again_and_again(&mut self) -> Result<()> {
        println!("\n=== Killed again and again, at any moment ===\n");
        let page = self.open().await?;
        let connected = |view: &View| view.connection == "connected";
        let first = self.until(page, "connected", connected).await?;
        let mut before: u64 = first.count.parse()?;
        for _ in 0..KILLS {
            // Nobody waits for what becomes of the click.
            self.browser.click(page).await?;
            self.stage.kill()?;
            let gone = |view: &View| view.connection == "reconnecting";
            let shown: u64 = self.until(page, "reconnecting", gone).await?.count.parse()?;
            // Nor for the page to get through.
            self.stage.start()?;
            self.stage.kill()?;
            self.stage.start()?;
            let view = self.until(page, "connected", connected).await?;
            let count: u64 = view.count.parse()?;
            self.expect.holds("a click counts once, or not", [before, before + 1].contains(&count));
            self.expect.holds("what was shown is not taken back", count >= shown);
            self.expect.equal("whose counter it is", &view.visitor, &first.visitor);
            self.expect.equal("how it came back", view.status.as_str(), "recovered");
            self.holds_the_same(page, &view)?;
            before = count;
        }
        println!("{KILLS} clicks, {} kills: each click counted once, or not at all", 2 * KILLS);
        Ok(())
    }
}

/// The same token but for one character in its middle.
fn altered(token: &str) -> String {
    let middle = token.len() / 2;
    let swap = |c| if c == 'A' { 'B' } else { 'A' };
    token.chars().enumerate().map(|(i, c)| if i == middle { swap(c) } else { c }).collect()
}
