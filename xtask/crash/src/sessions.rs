//! A server with sessions killed again and again, under 32 clients that come back with their tokens: no
//! acknowledged save is lost, no token is taken that was replaced, nobody gets another's session.
//!
//! `resurge-crash sessions --cycles 100`; the last line is
//! `cycles=100 clients=32 saves=90000 recovers=20000 rotated=15000 replays_refused=1500 lost=0 crossed=0 replayed=0 unopenable=0`.
//! `--plant early-save` (`forgiving`, `reusable`, `immortal`, `unlimited`, `crossed`, `undead`, `unfenced`,
//! `clear`, `orphan`) makes the server misbehave, to see that it is caught.
//!
//! The clients live here, the server is the child. Its wall clock is ahead by an hour for each life in
//! which every client got its session back: grace and lifetimes end between kills.

use std::cell::RefCell;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_testkit::Failure;
use resurge_testkit::kill::{Ended, KillLoop};
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::child::UNOPENABLE;
use crate::parent::Settings;

mod client;
mod cut;
mod finish;
mod kinds;
mod leaks;
mod look;
mod owed;
mod rites;
mod server;
mod session;
mod tally;
mod whole;
mod wire;

use client::{Client, Life};
pub(crate) use server::child;
use tally::Tally;

const CLIENTS: u64 = 32;
/// The longest a child lives after it opened; or, for a quarter of them, from its start.
const LIFE: Duration = Duration::from_millis(400);
/// Every so many-th wreck is left for the next child to recover from.
const UNSEEN: u64 = 3;

/// Reads the command line.
pub(crate) fn settings(args: &[&str]) -> Result<Settings, Failure> {
    Settings::parse_with(args, 100, |bug| server::Planted::parse(bug).is_some())
}

/// Runs all cycles, then looks at everything once more and lets it expire; a success when nothing was wrong.
pub(crate) fn main(args: &[&str]) -> Result<ExitCode, Failure> {
    let settings = settings(args)?;
    let mut dir = tempfile::Builder::new().prefix("resurge-crash-").tempdir()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let tally = Arc::new(Mutex::new(Tally::of(CLIENTS)));
    let state = dir.path().join("state");
    let around = Around::new(&settings, &state, dir.path(), runtime, Arc::clone(&tally))?;
    let around = RefCell::new(around);
    let looped = KillLoop::new(settings.cycles)
        .seed(settings.seed)
        .kill_within(LIFE)
        .within(settings.within)
        .run(
            |cycle| around.borrow_mut().begin(cycle),
            |ended| {
                around.borrow_mut().end(ended)?;
                let mut tally = tally.lock();
                tally.cycles += 1;
                if tally.cycles.is_multiple_of(10) {
                    println!("{}", tally.line());
                }
                if tally.is_clean() { Ok(()) } else { Err("see above".into()) }
            },
        )
        .map(drop)
        .and_then(|()| around.borrow_mut().finish(settings.cycles));
    if let Err(e) = &looped {
        dir.disable_cleanup(true);
        eprintln!("{e}; the state is in {}", state.display());
    }
    let tally = tally.lock();
    println!("hours={} {}", around.borrow().hour, tally.more());
    println!("{}", tally.line());
    let clean = looped.is_ok() && tally.is_clean();
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// The clients, and where and when they are.
pub(crate) struct Around {
    program: PathBuf,
    /// The store of the servers.
    state: PathBuf,
    sockets: PathBuf,
    disk_fails: bool,
    plant: String,
    runtime: Runtime,
    tally: Arc<Mutex<Tally>>,
    hour: u64,
    clients: Vec<Client>,
    /// While a server lives.
    living: JoinSet<Client>,
    over: watch::Sender<bool>,
}

impl Around {
    fn new(
        settings: &Settings,
        state: &Path,
        sockets: &Path,
        runtime: Runtime,
        tally: Arc<Mutex<Tally>>,
    ) -> Result<Self, Failure> {
        Ok(Self {
            program: std::env::current_exe()?,
            state: state.to_owned(),
            sockets: sockets.to_owned(),
            disk_fails: false,
            plant: settings.plant.clone(),
            runtime,
            hour: 0,
            clients: (0..CLIENTS).map(|id| Client::new(id, settings.seed, &tally)).collect(),
            tally,
            living: JoinSet::new(),
            over: watch::Sender::new(false),
        })
    }

    /// The clients are there before the server is.
    fn begin(&mut self, cycle: u64) -> Command {
        let socket = self.sockets.join(format!("{cycle}.sock"));
        self.over.send_replace(false);
        for client in self.clients.drain(..) {
            let (over, socket) = (self.over.subscribe(), socket.clone());
            let (hour, disk_fails) = (self.hour, self.disk_fails);
            let life = Life { cycle, hour, socket, disk_fails, over };
            self.living.spawn_on(client.live(life), self.runtime.handle());
        }
        let mut command = Command::new(&self.program);
        command.arg("sessions-child").arg(&self.state).arg(socket);
        command.args([cycle.to_string(), self.hour.to_string()]).arg(&self.plant);
        command
    }

    /// What one life left.
    fn end(&mut self, ended: &Ended) -> Result<(), Failure> {
        self.gather()?;
        if !ended.killed {
            if ended.status.code() == Some(i32::from(UNOPENABLE)) {
                self.tally.lock().unopenable("by the child");
            }
            return Err(format!("the child ended by itself: {}", ended.status).into());
        }
        if ended.cycle % UNSEEN != 1 {
            self.look(ended.cycle)?;
        }
        self.pass_time();
        Ok(())
    }

    /// Nobody serves the clients any more.
    fn gather(&mut self) -> Result<(), Failure> {
        self.over.send_replace(true);
        while let Some(client) = self.runtime.block_on(self.living.join_next()) {
            self.clients.push(client?);
        }
        self.clients.sort_by_key(|client| client.id);
        Ok(())
    }

    /// An hour passes only when no client still waits for what it asked in the last one.
    fn pass_time(&mut self) {
        self.hour += u64::from(self.clients.iter().all(|client| client.came_back));
    }
}
