//! Real processes, really killed: `kill -9` in a loop, with the acknowledgements kept by the parent.
//!
//! The child does its work and writes one line to standard output for everything it acknowledged,
//! after it was acknowledged. The pipe belongs to the parent, so what was said survives the child.
//! After each kill the parent looks at what is left: every line must be true.
//!
//! ```no_run
//! use std::process::Command;
//! use std::time::Duration;
//! use resurge_testkit::kill::KillLoop;
//!
//! let mut told: Vec<u64> = Vec::new();
//! let report = KillLoop::new(200).seed(7).kill_within(Duration::from_millis(300)).run(
//!     |_cycle| {
//!         let mut writer = Command::new("target/debug/my-service");
//!         writer.args(["--state", "/tmp/state", "--print-acknowledgements"]);
//!         writer
//!     },
//!     |ended| {
//!         for line in &ended.lines {
//!             told.push(line.parse()?);
//!         }
//!         // Open /tmp/state and look for everything in `told`; an error here fails the loop.
//!         Ok(())
//!     },
//! )?;
//! println!("{report}"); // 200 kills, 123456 acknowledgements
//! # Ok::<(), resurge_testkit::Failure>(())
//! ```

use std::fmt;
use std::io::{self, BufRead, BufReader};
use std::process::{self, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use resurge_store::{Clock, Entropy, SeededEntropy, SystemClock};

use crate::Failure;

/// Lines the reader may be ahead of the test. The child waits when the pipe is full.
const LINES_AHEAD: usize = 4_096;
/// How long the pipe may stay silent, yet open, after the child is gone.
const PIPE_GRACE: Duration = Duration::from_secs(2);

/// How long a child may take to say its first line before it is killed without one.
const FIRST_LINE: Duration = Duration::from_secs(60);

/// A child process whose standard output is read line by line. Killed and reaped when dropped.
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use resurge_testkit::kill::Child;
///
/// let mut command = Command::new("sh");
/// command.args(["-c", "echo first; echo second; exec sleep 600"]);
/// let mut child = Child::spawn(&mut command)?;
/// assert_eq!(child.next_line(Duration::from_secs(60)), Some("first".to_owned()));
/// let ended = child.kill()?; // SIGKILL, now
/// assert!(ended.killed);
/// assert_eq!(ended.lines[0], "first");
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    incoming: Receiver<String>,
    reader: Option<JoinHandle<()>>,
    lines: Vec<String>,
    clock: SystemClock,
}

/// How a child ended, and everything it said.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The cycle of a [`KillLoop`], from 0.
    pub cycle: u64,
    /// Its complete lines. A last line without its end was not said.
    pub lines: Vec<String>,
    /// As the system reports it.
    pub status: ExitStatus,
    /// Whether it was killed by the parent; otherwise it ended by itself.
    pub killed: bool,
}

impl Child {
    /// Starts the command, with nothing on its standard input.
    ///
    /// # Errors
    /// Those of [`Command::spawn`].
    pub fn spawn(command: &mut Command) -> io::Result<Self> {
        let mut process = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
        let (sender, incoming) = sync_channel(LINES_AHEAD);
        let output = process.stdout.take();
        let reader = std::thread::Builder::new().name("child-output".to_owned()).spawn(move || {
            let Some(output) = output else { return };
            let mut output = BufReader::new(output);
            let mut line = Vec::new();
            while output.read_until(b'\n', &mut line).is_ok_and(|read| read > 0) {
                // Cut short by the kill: not said.
                let Some(text) = line.strip_suffix(b"\n") else { return };
                if sender.send(String::from_utf8_lossy(text).into_owned()).is_err() {
                    return;
                }
                line.clear();
            }
        });
        let (reader, failed) = match reader {
            Ok(reader) => (Some(reader), None),
            Err(e) => (None, Some(e)),
        };
        let child =
            Self { process, incoming, reader, lines: Vec::new(), clock: SystemClock::new() };
        // Dropping the child kills it.
        failed.map_or(Ok(child), Err)
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    /// The next line, when there is one within this time; `None` also when the child ended.
    pub fn next_line(&mut self, within: Duration) -> Option<String> {
        let line = self.incoming.recv_timeout(within).ok()?;
        self.lines.push(line.clone());
        Some(line)
    }

    /// Lets it run for this long, then kills it. Returns earlier when it ends by itself.
    ///
    /// # Errors
    /// When the system cannot kill or reap it.
    pub fn run_for(mut self, time: Duration) -> io::Result<Ended> {
        let deadline = self.clock.monotonic().saturating_add(time);
        loop {
            let left = deadline.saturating_since(self.clock.monotonic());
            match self.incoming.recv_timeout(left) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Timeout) => break,
                // Its output is closed; give it the rest of its time to exit.
                Err(RecvTimeoutError::Disconnected) => return self.exit_within(left),
            }
            if left.is_zero() {
                break;
            }
        }
        self.kill()
    }

    /// Kills it with `SIGKILL`, reaps it and collects what it had said.
    ///
    /// # Errors
    /// When the system cannot kill or reap it.
    pub fn kill(mut self) -> io::Result<Ended> {
        let ended_before = self.process.try_wait()?;
        if ended_before.is_none() {
            self.process.kill()?;
        }
        let status = self.process.wait()?;
        self.ended(status, ended_before.is_none())
    }

    fn exit_within(mut self, time: Duration) -> io::Result<Ended> {
        let deadline = self.clock.monotonic().saturating_add(time);
        loop {
            if let Some(status) = self.process.try_wait()? {
                return self.ended(status, false);
            }
            if deadline.saturating_since(self.clock.monotonic()).is_zero() {
                return self.kill();
            }
            std::thread::yield_now();
        }
    }

    fn ended(&mut self, status: ExitStatus, killed: bool) -> io::Result<Ended> {
        let gone = loop {
            match self.incoming.recv_timeout(PIPE_GRACE) {
                Ok(line) => self.lines.push(line),
                Err(e) => break e == RecvTimeoutError::Disconnected,
            }
        };
        // A grandchild that still holds the pipe keeps the reader; what the child said is in.
        if let Some(reader) = self.reader.take().filter(|_| gone)
            && reader.join().is_err()
        {
            return Err(io::Error::other("the thread that reads the child's output panicked"));
        }
        let lines = std::mem::take(&mut self.lines);
        Ok(Ended { cycle: 0, lines, status, killed })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only for a child that is gone already.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts a process, kills it at a random moment, checks what it left, and again.
///
/// Moments are drawn from the seed. A quarter of them count from the start, so that opening and
/// recovering are hit; the others from the child's first line, so that work is done however slow the
/// machine is. What the child does by then is up to the machine: a seed does not replay a run exactly.
#[derive(Clone, Debug)]
pub struct KillLoop {
    cycles: u64,
    seed: u64,
    kill_within: Duration,
    within: Duration,
}

/// What a [`KillLoop`] did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KillReport {
    /// Children started and checked.
    pub cycles: u64,
    /// Those that were killed; the others ended by themselves.
    pub kills: u64,
    /// Lines they said.
    pub lines: u64,
}

impl fmt::Display for KillReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} kills, {} acknowledgements", self.kills, self.lines)
    }
}

impl KillLoop {
    /// So many children one after the other; seed 1, killed within 500 ms, an hour in all.
    pub fn new(cycles: u64) -> Self {
        let (kill_within, within) = (Duration::from_millis(500), Duration::from_secs(3_600));
        Self { cycles, seed: 1, kill_within, within }
    }

    /// Draws other moments.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// The longest a child lives, from its start or from its first line.
    #[must_use]
    pub fn kill_within(mut self, time: Duration) -> Self {
        self.kill_within = time;
        self
    }

    /// No child is started after this time; the report says how many there were.
    #[must_use]
    pub fn within(mut self, time: Duration) -> Self {
        self.within = time;
        self
    }

    /// Runs it: `command` makes each child, `verify` looks at what it said and left.
    ///
    /// # Errors
    /// The first one of `verify` or of the system, with the cycle and the seed.
    pub fn run(
        &self,
        mut command: impl FnMut(u64) -> Command,
        mut verify: impl FnMut(&Ended) -> Result<(), Failure>,
    ) -> Result<KillReport, Failure> {
        let clock = SystemClock::new();
        let chance = SeededEntropy::new(self.seed);
        let mut report = KillReport::default();
        for cycle in 0..self.cycles {
            if clock.monotonic().since_origin() >= self.within {
                break;
            }
            let mut run_one = || -> Result<Ended, Failure> {
                let (moment, after_first_line) = self.moment(&chance)?;
                let mut child = Child::spawn(&mut command(cycle))?;
                if after_first_line {
                    // Whether it came or the child ended or hangs: the kill settles it.
                    drop(child.next_line(FIRST_LINE));
                }
                let ended = child.run_for(moment)?;
                let ended = Ended { cycle, ..ended };
                verify(&ended)?;
                Ok(ended)
            };
            let ended =
                run_one().map_err(|e| format!("cycle {cycle} of seed {}: {e}", self.seed))?;
            report.cycles += 1;
            report.kills += u64::from(ended.killed);
            report.lines += ended.lines.len() as u64;
        }
        Ok(report)
    }

    /// When to kill, and whether that counts from the child's first line.
    fn moment(&self, chance: &SeededEntropy) -> Result<(Duration, bool), Failure> {
        let after_first_line = chance.next_u64()? % 4 != 0;
        let micros = u64::try_from(self.kill_within.as_micros()).unwrap_or(u64::MAX).max(1);
        Ok((Duration::from_micros(chance.next_u64()? % micros), after_first_line))
    }
}
