//! The service as its supervisor sees it: started, ended, asked.

use std::io::{self, BufRead, BufReader};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};

use resurge::Repairable;
use resurge::store::BoxFuture;
use resurge::supervisor::{BoxError, Health};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::task::spawn_blocking;

use crate::service::traces;

/// A service in a child process. When this process dies, the child's input ends, and so does the child.
#[derive(Debug)]
pub struct Plugin {
    dir: PathBuf,
    process: Mutex<Option<Child>>,
    /// Where it listened last.
    port: AtomicU16,
    /// A repair ended it, and did not start it again so far.
    shut_down: AtomicBool,
}

impl Plugin {
    /// Not started. It leaves traces in `dir`.
    pub fn new(dir: impl Into<PathBuf>) -> Self {
        Self {
            dir: dir.into(),
            process: Mutex::new(None),
            port: AtomicU16::new(0),
            shut_down: AtomicBool::new(false),
        }
    }

    /// One request, one answer.
    ///
    /// # Errors
    /// What the system says, without its numbers.
    pub async fn ask(&self, request: &str) -> io::Result<String> {
        self.try_to_ask(request).await.map_err(|error| error.kind().into())
    }

    async fn try_to_ask(&self, request: &str) -> io::Result<String> {
        let port = self.port.load(Ordering::SeqCst);
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await?;
        stream.write_all(format!("{request}\n").as_bytes()).await?;
        let mut answer = String::new();
        tokio::io::BufReader::new(stream).read_line(&mut answer).await?;
        match answer.strip_suffix('\n') {
            Some(answer) => Ok(answer.to_owned()),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Ends the process that runs, if one does, and starts another one.
    ///
    /// # Errors
    /// When it cannot be started.
    pub async fn start(&self) -> Result<(), BoxError> {
        let mut process = self.process.lock().await;
        end(process.take()).await?;
        let mut child = Command::new(std::env::current_exe()?)
            .arg("service")
            .arg(&self.dir)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let said = child.stdout.take().ok_or("no output to read")?;
        // ORDER: kept before anything is awaited: who drops this future leaves nothing nobody ends.
        *process = Some(child);
        let mut line = String::new();
        let line = spawn_blocking(move || BufReader::new(said).read_line(&mut line).map(|_| line));
        let line = line.await??;
        let line = line.trim_end();
        let port = line.strip_prefix("listening on ").ok_or_else(|| line.to_owned())?;
        self.port.store(port.parse()?, Ordering::SeqCst);
        self.shut_down.store(false, Ordering::SeqCst);
        Ok(())
    }

    /// Ends it: its input ends, and it notices.
    ///
    /// # Errors
    /// What the system says.
    pub async fn stop(&self) -> Result<(), BoxError> {
        end(self.process.lock().await.take()).await
    }

    /// Resolves when it ended by itself, which it will.
    ///
    /// # Errors
    /// What the system says.
    pub async fn crashed(&self) -> Result<(), BoxError> {
        if let Some(mut child) = self.process.lock().await.take() {
            spawn_blocking(move || child.wait()).await??;
        }
        Ok(())
    }

    /// Whether a repair ended it and did not start it again so far.
    pub fn is_shut_down(&self) -> bool {
        self.shut_down.load(Ordering::SeqCst)
    }
}

async fn end(child: Option<Child>) -> Result<(), BoxError> {
    if let Some(mut child) = child {
        drop(child.stdin.take());
        spawn_blocking(move || child.wait()).await??;
    }
    Ok(())
}

impl Repairable for Plugin {
    fn shutdown(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async {
            traces(&self.dir).leave("shut down")?;
            self.stop().await?;
            self.shut_down.store(true, Ordering::SeqCst);
            Ok(())
        })
    }

    fn load(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(self.start())
    }

    fn reload(&self) -> BoxFuture<'_, Result<(), BoxError>> {
        Box::pin(async { Ok(self.ask("reload").await.map(drop)?) })
    }

    fn health(&self) -> BoxFuture<'_, Result<Health, BoxError>> {
        Box::pin(async { Ok(self.ask("ping").await.map(|_| Health::healthy())?) })
    }
}
