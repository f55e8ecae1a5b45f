//! A real Chromium, without a window.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use base64ct::{Base64, Encoding};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::Result;
use crate::browser::{Browser, Tab, View};
use crate::cdp::Pipe;

/// Pages see no difference to a window. It asks nobody but our server, and needs no sandbox for what that one serves
/// (there is none for root).
const FLAGS: [&str; 15] = [
    "--headless",
    "--remote-debugging-pipe",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-breakpad",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    // All tabs are alike; otherwise timers of those behind are slowed down.
    "--disable-background-timer-throttling",
    "--disable-renderer-backgrounding",
    "--disable-backgrounding-occluded-windows",
    "--window-size=640,560",
];

/// The pipe is at the descriptors 3 and 4.
const WITH_PIPE: &str = r#"exec "$@" 3<&0 4>&1 </dev/null >/dev/null"#;

/// The data attributes, and where `resurge-session.js` keeps the token.
const LOOK: &str = "JSON.stringify({ ...document.querySelector('#counter').dataset, \
     url: location.href, token: sessionStorage.getItem('resurge:counter') })";

/// How often something is looked for.
const POLL: Duration = Duration::from_millis(20);
/// How often at most.
const LOOKS: usize = 500;

/// The browser; killed with all of its processes when dropped.
pub(crate) struct Chromium {
    process: Child,
    pipe: Pipe,
    pages: Vec<Page>,
}

struct Page {
    target: String,
    session: String,
}

/// Where Chromium is: `CHROMIUM`, or `chromium` in the `PATH`. `None` where it is not installed.
pub(crate) fn find() -> Result<Option<PathBuf>> {
    if let Some(given) = std::env::var_os("CHROMIUM") {
        let given = PathBuf::from(given);
        let there = given.is_file();
        return if there { Ok(Some(given)) } else { Err("there is no file CHROMIUM".into()) };
    }
    let path: OsString = std::env::var_os("PATH").unwrap_or_default();
    Ok(std::env::split_paths(&path).map(|dir| dir.join("chromium")).find(|file| file.is_file()))
}

impl Chromium {
    /// Starts it; what it writes goes to `dir`.
    pub(crate) async fn start(binary: &Path, dir: &Path) -> Result<Self> {
        std::fs::create_dir_all(dir)?;
        let (log, profile) = (dir.join("log"), dir.join("profile"));
        let mut user_data = OsString::from("--user-data-dir=");
        user_data.push(&profile);
        let mut process = Command::new("sh")
            .args(["-c", WITH_PIPE, "sh"])
            .arg(binary)
            .args(FLAGS)
            .arg(user_data)
            .arg("about:blank")
            .env("HOME", dir)
            .env("XDG_CONFIG_HOME", dir)
            .env("XDG_CACHE_HOME", dir)
            .env("TMPDIR", dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(File::create(&log)?)
            .process_group(0)
            .kill_on_drop(true)
            .spawn()?;
        let (Some(to), Some(from)) = (process.stdin.take(), process.stdout.take()) else {
            return Err("no pipe to chromium".into());
        };
        let mut browser = Self { process, pipe: Pipe::new(to, from), pages: Vec::new() };
        match browser.pipe.call(None, "Browser.getVersion", json!({})).await {
            Ok(version) => {
                let product = version.get("product").and_then(Value::as_str).unwrap_or_default();
                eprintln!("driven in {product}");
                Ok(browser)
            }
            Err(error) => {
                let said = std::fs::read_to_string(&log).unwrap_or_default();
                Err(format!("{error}; it said:\n{said}").into())
            }
        }
    }

    fn page(&self, tab: Tab) -> Result<&Page> {
        self.pages.get(tab.0).ok_or_else(|| "no such tab".into())
    }

    /// Takes a new page under control.
    async fn attach(&mut self, target: String) -> Result<Tab> {
        let params = json!({ "targetId": target, "flatten": true });
        let session =
            string(&self.pipe.call(None, "Target.attachToTarget", params).await?, "sessionId")?;
        self.pages.push(Page { target, session });
        Ok(Tab(self.pages.len() - 1))
    }

    async fn page_call(&mut self, tab: Tab, method: &str, params: Value) -> Result<Value> {
        let session = self.page(tab)?.session.clone();
        self.pipe.call(Some(&session), method, params).await
    }

    /// Runs a script in the page, as if the user had done it, and returns what it comes to.
    async fn run(&mut self, tab: Tab, script: &str) -> Result<Value> {
        let params = json!({ "expression": script, "returnByValue": true, "userGesture": true });
        let done = self.page_call(tab, "Runtime.evaluate", params).await?;
        if let Some(thrown) = done.get("exceptionDetails") {
            return Err(format!("the page threw {thrown}").into());
        }
        Ok(done.pointer("/result/value").cloned().unwrap_or_default())
    }

    /// Waits until the script says true; while the page is being loaded it may fail.
    async fn wait(&mut self, tab: Tab, script: &str) -> Result<()> {
        let mut poll = tokio::time::interval(POLL);
        for _ in 0..LOOKS {
            poll.tick().await;
            if matches!(self.run(tab, script).await, Ok(Value::Bool(true))) {
                return Ok(());
            }
        }
        Err(format!("the page never came to `{script}`").into())
    }

    async fn loaded(&mut self, tab: Tab) -> Result<()> {
        let script = "document.readyState === 'complete' && !window.reloading \
                      && document.querySelector('#counter') !== null";
        self.wait(tab, script).await
    }
}

impl Browser for Chromium {
    async fn open(&mut self, url: &str) -> Result<Tab> {
        let context = self.pipe.call(None, "Target.createBrowserContext", json!({})).await?;
        let context = string(&context, "browserContextId")?;
        let params = json!({ "url": url, "browserContextId": context });
        let created = self.pipe.call(None, "Target.createTarget", params).await?;
        let tab = self.attach(string(&created, "targetId")?).await?;
        self.loaded(tab).await?;
        Ok(tab)
    }

    async fn duplicate(&mut self, tab: Tab) -> Result<Tab> {
        let first = self.page(tab)?.target.clone();
        let before: Vec<String> = self.pages.iter().map(|page| page.target.clone()).collect();
        // A window that a page opens begins with a copy of its session storage.
        self.run(tab, "void window.open(location.href)").await?;
        let mut poll = tokio::time::interval(POLL);
        for _ in 0..LOOKS {
            poll.tick().await;
            let targets = self.pipe.call(None, "Target.getTargets", json!({})).await?;
            let infos = targets.get("targetInfos").and_then(Value::as_array);
            let opened = infos.into_iter().flatten().find(|info| {
                let of = |name| info.get(name).and_then(Value::as_str).unwrap_or_default();
                of("openerId") == first && !before.iter().any(|known| known == of("targetId"))
            });
            if let Some(opened) = opened {
                let target = string(opened, "targetId")?;
                let tab = self.attach(target).await?;
                self.loaded(tab).await?;
                return Ok(tab);
            }
        }
        Err("no second tab was opened".into())
    }

    async fn reload(&mut self, tab: Tab) -> Result<()> {
        self.run(tab, "window.reloading = true").await?;
        self.page_call(tab, "Page.reload", json!({})).await?;
        self.loaded(tab).await
    }

    async fn click(&mut self, tab: Tab) -> Result<()> {
        self.run(tab, "document.querySelector('#click').click()").await?;
        Ok(())
    }

    async fn view(&mut self, tab: Tab) -> Result<View> {
        let look = self.run(tab, LOOK).await?;
        Ok(serde_json::from_str(look.as_str().unwrap_or_default())?)
    }

    async fn set_token(&mut self, tab: Tab, token: &str) -> Result<()> {
        let token = Value::from(token);
        self.run(tab, &format!("sessionStorage.setItem('resurge:counter', {token})")).await?;
        Ok(())
    }

    async fn screenshot(&mut self, tab: Tab, path: &Path) -> Result<()> {
        let params = json!({ "format": "png" });
        let picture = self.page_call(tab, "Page.captureScreenshot", params).await?;
        let picture = Base64::decode_vec(&string(&picture, "data")?)?;
        std::fs::write(path, picture)?;
        eprintln!("wrote {}", path.display());
        Ok(())
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let leader =
            self.process.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
        if let Some(leader) = leader {
            // Fails only when all of them ended.
            let _ended = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn string(value: &Value, name: &str) -> Result<String> {
    let found = value.get(name).and_then(Value::as_str);
    Ok(found.ok_or_else(|| format!("chromium gave no {name}"))?.to_owned())
}
