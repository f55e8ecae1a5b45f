//! The server as the demo sees it: started, told, killed, and everything it ever said or stored searched.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};

use base64ct::{Base64, Encoding};
use resurge::store::{Entropy, OsEntropy};
use resurge_example_driver::{Child, field};
use tokio::task::block_in_place;

use crate::Result;
use crate::serve::KEYS;

/// Below where systems take ports for outgoing connections, so that none of those is in the way of a restart.
const PORTS: std::ops::Range<u16> = 20_000..32_000;

/// A server that is killed, its directory and its port.
pub(crate) struct Stage {
    dir: PathBuf,
    port: u16,
    /// Whoever starts a server has its keys; a real one gets them from where secrets are kept.
    keys: String,
    server: Option<Child>,
    /// All that servers printed.
    printed: Vec<String>,
}

impl Stage {
    /// Nothing runs yet.
    pub(crate) fn new(dir: &Path) -> Result<Self> {
        let mut key = [0; 32];
        OsEntropy.fill(&mut key)?;
        Ok(Self {
            dir: dir.join("state"),
            port: free_port()?,
            keys: format!("1:{}", Base64::encode_string(&key)),
            server: None,
            printed: Vec::new(),
        })
    }

    /// Where the page is.
    pub(crate) fn url(&self) -> String {
        format!("http://127.0.0.1:{}/", self.port)
    }

    /// Starts a server, on the same directory and port as every other one.
    pub(crate) fn start(&mut self) -> Result<()> {
        let port = self.port.to_string();
        let args = ["serve".as_ref(), self.dir.as_os_str(), port.as_ref()];
        self.server = Some(Child::start_with(args, [(KEYS, self.keys.clone())])?);
        self.wait("ready")?;
        Ok(())
    }

    /// Waits for a line of the server.
    pub(crate) fn wait(&mut self, wanted: &str) -> Result<String> {
        let server = self.server.as_mut().ok_or("no server runs")?;
        Ok(block_in_place(|| server.wait_for(wanted, |_| {}))?)
    }

    /// Kills it with SIGKILL.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let server = self.server.take().ok_or("no server runs")?;
        self.printed.extend(block_in_place(|| server.kill())?);
        Ok(())
    }

    /// Makes the server stand still at a point.
    pub(crate) fn hold(&mut self, point: &str) -> Result<()> {
        self.tell(&format!("hold {point}"))?;
        self.wait("will hold")?;
        Ok(())
    }

    /// What the server has stored for this token: the count, and whose it is.
    pub(crate) fn held(&mut self, token: &str) -> Result<(String, String)> {
        self.tell(&format!("held {token}"))?;
        let line = self.wait("held ")?;
        let of = |name| field(&line, name).map(str::to_owned);
        Ok(of("count").zip(of("by")).ok_or(line)?)
    }

    fn tell(&mut self, line: &str) -> Result<()> {
        Ok(self.server.as_mut().ok_or("no server runs")?.tell(line)?)
    }

    /// How many lines of all servers that were killed hold this.
    pub(crate) fn printed(&self, part: &str) -> usize {
        self.printed.iter().filter(|line| line.contains(part)).count()
    }

    /// In how many files of the directory one of these is.
    pub(crate) fn stored(&self, parts: &BTreeSet<String>) -> Result<usize> {
        let mut files = Vec::new();
        read(&self.dir, &mut files)?;
        let holds = |file: &&String| parts.iter().any(|part| file.contains(part));
        Ok(files.iter().filter(holds).count())
    }
}

fn free_port() -> Result<u16> {
    // Another demo at the same time begins elsewhere.
    let skipped = usize::try_from(std::process::id())? % PORTS.len();
    let mut ports = PORTS.cycle().skip(skipped).take(PORTS.len());
    let free = ports.find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok());
    Ok(free.ok_or("no port is free")?)
}

/// What is no text becomes something else; tokens and names are text.
fn read(dir: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, files)?;
        } else {
            files.push(String::from_utf8_lossy(&fs::read(path)?).into_owned());
        }
    }
    Ok(())
}
