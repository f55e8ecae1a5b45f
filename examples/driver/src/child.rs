//! A child process that is read line by line and killed with SIGKILL.

use std::io::{self, BufRead, BufReader, Write};
use std::process::{self, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// How long a line may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// Why a child did not do what the demo needs.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ChildError {
    /// It could not be started, written to or waited for.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It ended before it said that.
    #[error("the child ended before it printed `{wanted}`; it had printed:\n{printed}")]
    Ended {
        /// What was waited for.
        wanted: String,
        /// All it said.
        printed: String,
    },
    /// It did not say that in time.
    #[error("the child did not print `{wanted}` within 60 s; it had printed:\n{printed}")]
    Silent {
        /// What was waited for.
        wanted: String,
        /// All it said.
        printed: String,
    },
    /// It was to end by itself, and well.
    #[error("the child failed: {0}")]
    Failed(ExitStatus),
}

/// A running child. Killed when dropped, so no demo leaves one behind.
#[derive(Debug)]
pub struct Child {
    process: process::Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
    printed: Vec<String>,
}

impl Child {
    /// Starts this very program with `args`, its output captured and its input open.
    ///
    /// # Errors
    /// What the system says.
    pub fn start<S: AsRef<std::ffi::OsStr>>(
        args: impl IntoIterator<Item = S>,
    ) -> Result<Self, ChildError> {
        Self::start_with(args, [])
    }

    /// The same, with more in its environment than this process has: names and values.
    ///
    /// # Errors
    /// What the system says.
    pub fn start_with<S: AsRef<std::ffi::OsStr>>(
        args: impl IntoIterator<Item = S>,
        environment: impl IntoIterator<Item = (&'static str, String)>,
    ) -> Result<Self, ChildError> {
        let mut process = Command::new(std::env::current_exe()?)
            .args(args)
            .envs(environment)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let stdout = process.stdout.take().ok_or_else(|| io::Error::other("no output to read"))?;
        let (sender, lines) = channel();
        // Ends with the child's output.
        thread::Builder::new().name("child-output".to_owned()).spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        })?;
        let stdin = process.stdin.take();
        Ok(Self { process, stdin, lines, printed: Vec::new() })
    }

    /// Waits for a line that contains `wanted` and returns it. `show` is given every line on the way.
    ///
    /// # Errors
    /// `Ended` and `Silent`, with what it said.
    pub fn wait_for(
        &mut self,
        wanted: &str,
        mut show: impl FnMut(&str),
    ) -> Result<String, ChildError> {
        loop {
            let printed = |lines: &[String]| lines.join("\n");
            let line = match self.lines.recv_timeout(PATIENCE) {
                Ok(line) => line,
                Err(RecvTimeoutError::Disconnected) => {
                    let printed = printed(&self.printed);
                    return Err(ChildError::Ended { wanted: wanted.to_owned(), printed });
                }
                Err(RecvTimeoutError::Timeout) => {
                    let printed = printed(&self.printed);
                    return Err(ChildError::Silent { wanted: wanted.to_owned(), printed });
                }
            };
            show(&line);
            self.printed.push(line.clone());
            if line.contains(wanted) {
                return Ok(line);
            }
        }
    }

    /// Writes a line to its input.
    ///
    /// # Errors
    /// When it does not listen any more.
    pub fn tell(&mut self, line: &str) -> Result<(), ChildError> {
        if let Some(stdin) = &mut self.stdin {
            writeln!(stdin, "{line}")?;
            stdin.flush()?;
        }
        Ok(())
    }

    /// Kills it with SIGKILL, now, and returns all it said until then.
    ///
    /// # Errors
    /// What the system says.
    pub fn kill(mut self) -> Result<Vec<String>, ChildError> {
        self.process.kill()?;
        self.process.wait()?;
        Ok(self.rest())
    }

    /// Closes its input, waits until it ends by itself, and returns all it said.
    ///
    /// # Errors
    /// `Failed` when it did not end with success, `Silent` when it did not end.
    pub fn finish(mut self) -> Result<Vec<String>, ChildError> {
        drop(self.stdin.take());
        match self.wait_for("\0never printed", |_| {}) {
            Ok(_) | Err(ChildError::Ended { .. }) => {}
            Err(other) => return Err(other),
        }
        let status = self.process.wait()?;
        if status.success() { Ok(self.rest()) } else { Err(ChildError::Failed(status)) }
    }

    fn rest(&mut self) -> Vec<String> {
        self.printed.extend(self.lines.iter());
        std::mem::take(&mut self.printed)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Both fail only when it has ended.
        let _ended = self.process.kill();
        let _ended = self.process.wait();
    }
}
