//! How the demo is run: with which browser, in which directory, and what is true at its end.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use resurge_example_driver::Expectations;

use crate::Result;
use crate::browser::{Browser, Tab, View};
use crate::chromium::{self, Chromium};
use crate::client::Client;
use crate::stage::Stage;

mod scenes;

/// How often a page is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(20);
/// How often at most.
const LOOKS: usize = 750;

const MISSING: &str = "chromium is not installed (apt-get install chromium): the same protocol is driven with a Rust client";

pub(crate) async fn run(client: bool, screenshots: Option<PathBuf>) -> Result<()> {
    let dir = tempfile::tempdir()?;
    if let Some(pictures) = &screenshots {
        std::fs::create_dir_all(pictures)?;
    }
    let stage = Stage::new(dir.path())?;
    let found = if client { None } else { chromium::find()? };
    let checked = if let Some(binary) = found {
        let browser = Chromium::start(&binary, &dir.path().join("chromium")).await?;
        Demo::new(browser, stage, screenshots).tell().await?
    } else {
        eprintln!("{}", if client { "driven with a Rust client" } else { MISSING });
        Demo::new(Client::default(), stage, None).tell().await?
    };
    println!("\n{checked} expectations held.");
    Ok(())
}

struct Demo<B> {
    browser: B,
    stage: Stage,
    expect: Expectations,
    screenshots: Option<PathBuf>,
    /// Every token a page ever kept.
    tokens: BTreeSet<String>,
    /// What is in the states, and nowhere else.
    visitors: BTreeSet<String>,
}

impl<B: Browser> Demo<B> {
    fn new(browser: B, stage: Stage, screenshots: Option<PathBuf>) -> Self {
        let expect = Expectations::new();
        let (tokens, visitors) = (BTreeSet::new(), BTreeSet::new());
        Self { browser, stage, expect, screenshots, tokens, visitors }
    }

    /// Everything, in order; how many expectations held.
    async fn tell(mut self) -> Result<usize> {
        self.stage.start()?;
        let told = self.scenes().await;
        let verdict = self.expect.verdict();
        match (told, verdict) {
            (Ok(()), verdict) => Ok(verdict?),
            (Err(error), Ok(_)) => Err(error),
            (Err(error), Err(before)) => Err(format!("{error}; before that, {before}").into()),
        }
    }

    async fn open(&mut self) -> Result<Tab> {
        let url = self.stage.url();
        self.browser.open(&url).await
    }

    /// Looks at a page, and remembers what must not be found anywhere.
    async fn view(&mut self, tab: Tab) -> Result<View> {
        let view = self.browser.view(tab).await?;
        self.tokens.extend(view.token.clone());
        self.visitors.extend(Some(view.visitor.clone()).filter(|visitor| !visitor.is_empty()));
        Ok(view)
    }

    /// Waits until the page is as wanted.
    async fn until(
        &mut self,
        tab: Tab,
        wanted: &str,
        fits: impl Fn(&View) -> bool + Send,
    ) -> Result<View> {
        let mut poll = tokio::time::interval(POLL);
        let mut view = View::default();
        for _ in 0..LOOKS {
            poll.tick().await;
            view = self.view(tab).await?;
            if fits(&view) {
                return Ok(view);
            }
        }
        Err(format!("page {} was to show `{wanted}`, and shows `{view}`", name(tab)).into())
    }

    /// Waits until the page shows this, and checks that the server holds the same.
    async fn shows(&mut self, tab: Tab, wanted: &str) -> Result<View> {
        let view = self.until(tab, wanted, |view| view.to_string() == wanted).await?;
        println!("page {}: {view}", name(tab));
        self.expect.equal(format!("page {}", name(tab)), view.to_string().as_str(), wanted);
        self.expect.equal("where the page is", view.url.clone(), self.stage.url());
        if view.connection == "connected" {
            self.holds_the_same(tab, &view)?;
        }
        Ok(view)
    }

    fn holds_the_same(&mut self, tab: Tab, view: &View) -> Result<()> {
        let held = self.stage.held(view.token.as_deref().ok_or("a page without a token")?)?;
        let shown = (view.count.clone(), view.visitor.clone());
        self.expect.equal(format!("what the server holds of page {}", name(tab)), held, shown);
        Ok(())
    }

    async fn click(&mut self, tab: Tab) -> Result<()> {
        println!("page {}: click", name(tab));
        self.browser.click(tab).await
    }

    async fn reload(&mut self, tab: Tab) -> Result<()> {
        println!("page {}: loaded again", name(tab));
        self.browser.reload(tab).await
    }

    fn kill(&mut self) -> Result<()> {
        self.stage.kill()?;
        println!("server: killed with SIGKILL");
        Ok(())
    }

    fn start(&mut self) -> Result<()> {
        self.stage.start()?;
        println!("server: started on the same directory and port");
        Ok(())
    }

    async fn picture(&mut self, tab: Tab, name: &str) -> Result<()> {
        let Some(dir) = &self.screenshots else { return Ok(()) };
        let path = dir.join(name).with_extension("png");
        self.browser.screenshot(tab, &path).await
    }

    /// Nothing but the pages ever had a token; what is in a state is in clear nowhere on disk.
    fn search(&mut self) -> Result<()> {
        let printed: usize = self.tokens.iter().map(|token| self.stage.printed(token)).sum();
        let tokens = self.stage.stored(&self.tokens)?;
        let states = self.stage.stored(&self.visitors)?;
        println!("lines of the server with a token in them: {printed}");
        println!("files with a token in them: {tokens}, with something of a state: {states}");
        self.expect.equal("lines with a token", printed, 0);
        self.expect.equal("files with a token", tokens, 0);
        self.expect.equal("files with something of a state", states, 0);
        // There is something to find, and what is not secret is found.
        self.expect.holds("many tokens were seen", self.tokens.len() > 10);
        self.expect.holds("several states were seen", self.visitors.len() > 3);
        self.expect.holds("the addresses asked for are found", self.stage.printed("uri=/live") > 0);
        let named = self.stage.stored(&BTreeSet::from(["counters".to_owned()]))?;
        self.expect.holds("the sessions' name is found", named > 0);
        Ok(())
    }
}

fn name(tab: Tab) -> char {
    ('A'..='Z').nth(tab.0).unwrap_or('?')
}
