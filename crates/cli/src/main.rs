#![doc = include_str!("../README.md")]

mod arguments;
mod inspect;

use std::fmt;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use resurge_store::{ErrorKind, StoreError};
use resurge_store_sled::{Offline, OfflineError, VerifyReport};
use serde::Serialize;

use arguments::{Command, Request};

const DAMAGED: u8 = 1;
const USAGE: u8 = 2;
const IN_USE: u8 = 3;
const FAILED: u8 = 4;

/// Why nothing, or not all of it, was done.
enum Failure {
    Offline(OfflineError),
    /// Standard output is gone, or a report could not be written as JSON.
    Output(io::Error),
    Read(String),
}

impl From<OfflineError> for Failure {
    fn from(error: OfflineError) -> Self {
        Self::Offline(error)
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        Self::Offline(error.into())
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::Output(error)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Offline(error) => error.fmt(f),
            Self::Output(error) => write!(f, "cannot write: {error}"),
            Self::Read(error) => f.write_str(error),
        }
    }
}

impl Failure {
    fn code(&self) -> u8 {
        match self {
            Self::Offline(OfflineError::InUse { .. }) => IN_USE,
            Self::Offline(OfflineError::NotAStore { .. }) => USAGE,
            Self::Offline(OfflineError::Damaged { .. }) | Self::Read(_) => DAMAGED,
            Self::Offline(OfflineError::Store(e)) => match e.kind() {
                ErrorKind::Corrupt => DAMAGED,
                ErrorKind::Invalid => USAGE,
                _ => FAILED,
            },
            Self::Offline(_) | Self::Output(_) => FAILED,
        }
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os();
    let _program = arguments.next();
    let request = match arguments::parse(arguments) {
        Ok(Some(request)) => request,
        Ok(None) => {
            // Nobody to tell when standard output is gone.
            let _ = io::stdout().write_all(arguments::HELP.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(what) => return fail(USAGE, &format!("{what}\n\n{}", arguments::HELP.trim_end())),
    };
    match run(&request) {
        Ok(code) => ExitCode::from(code),
        // `resurge inspect | head` is no failure.
        Err(Failure::Output(e)) if e.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => fail(failure.code(), &failure),
    }
}

fn fail(code: u8, what: &dyn fmt::Display) -> ExitCode {
    // The exit code says it all the same.
    let _ = writeln!(io::stderr(), "resurge: {what}");
    ExitCode::from(code)
}

fn run(request: &Request) -> Result<u8, Failure> {
    let offline = Offline::new();
    match &request.command {
        Command::Verify { dir, index } => {
            let offline = if *index { offline.check_index_in(scratch()) } else { offline };
            let report = offline.verify(dir)?;
            print(request, &report)?;
            Ok(verdict(&report))
        }
        Command::Backup { dir, dest } => {
            print(request, &offline.backup(dir, dest)?)?;
            Ok(0)
        }
        Command::Restore { backup, dest } => {
            print(request, &offline.restore(backup, dest)?)?;
            Ok(0)
        }
        Command::Inspect { dir } => inspect(request, &offline, dir),
    }
}

fn inspect(request: &Request, offline: &Offline, dir: &Path) -> Result<u8, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().build()?;
    let loaded = offline.load(dir)?;
    let inspection = runtime.block_on(inspect::of(loaded)).map_err(Failure::Read)?;
    print(request, &inspection)?;
    Ok(inspection.code())
}

fn verdict(report: &VerifyReport) -> u8 {
    if report.is_intact() { 0 } else { DAMAGED }
}

fn print<T: fmt::Display + Serialize>(request: &Request, what: &T) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if request.json {
        serde_json::to_writer_pretty(&mut out, what)?;
        return writeln!(out);
    }
    writeln!(out, "{what}")
}

/// A name for the copy of an index. The process id keeps two calls apart.
fn scratch() -> PathBuf {
    std::env::temp_dir().join(format!("resurge-verify-{}", std::process::id()))
}
