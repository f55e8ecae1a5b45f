//! Benchmarks beside the raw fdatasync floor of the same run.
//!
//! `resurge-bench [--quick] [SECTION]...`; sections: `appends`, `commits`, `peers`, `replay`, `open`, `recovery`, `flows`.
//! Absolute figures belong to the machine and the minute; the ratios are what to compare.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its output is the product")]

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

mod appends;
mod commits;
mod disk;
mod drive;
mod floor;
mod flows;
mod open;
mod peers;
mod recovery;
mod replay;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// How long and how much.
#[derive(Clone, Copy, Debug)]
struct Scale {
    name: &'static str,
    /// Each figure of appends and floors.
    figure: Duration,
    /// Store commits, long enough for the index to lag if it does.
    sustained: Duration,
    /// Records in a store that is opened.
    records: u64,
    /// Bytes of the log that is replayed.
    replay_bytes: u64,
}

const FULL: Scale = Scale {
    name: "full",
    figure: Duration::from_secs(3),
    sustained: Duration::from_secs(10),
    records: 1_000_000,
    replay_bytes: 1 << 30,
};
const QUICK: Scale = Scale {
    name: "quick",
    figure: Duration::from_millis(500),
    sustained: Duration::from_secs(2),
    records: 100_000,
    replay_bytes: 64 << 20,
};

type Section = (&'static str, fn(Scale) -> Result<()>);

const SECTIONS: [Section; 7] = [
    ("appends", appends::run),
    ("commits", commits::run),
    ("peers", peers::run),
    ("replay", replay::run),
    ("open", open::run),
    ("recovery", recovery::run),
    ("flows", flows::run),
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [child, path] = args.as_slice()
        && child == replay::CHILD
    {
        return ended(child, replay::child(path.as_ref()));
    }
    if let [child, args @ ..] = args.as_slice()
        && child == flows::CHILD
    {
        return ended(child, flows::child(args));
    }
    let mut scale = FULL;
    let mut wanted = Vec::new();
    for arg in args {
        match SECTIONS.iter().find(|(name, _)| *name == arg) {
            Some(section) => wanted.push(section),
            None if arg == "--quick" => scale = QUICK,
            None => {
                let names: Vec<_> = SECTIONS.iter().map(|(name, _)| *name).collect();
                eprintln!("unknown argument `{arg}`: --quick or any of {}", names.join(", "));
                return ExitCode::from(2);
            }
        }
    }
    if wanted.is_empty() {
        wanted.extend(SECTIONS.iter());
    }
    for (name, section) in wanted {
        println!("== {name}");
        if ended(name, section(scale)) != ExitCode::SUCCESS {
            return ExitCode::FAILURE;
        }
        println!();
    }
    ExitCode::SUCCESS
}

fn ended(name: &str, result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{name}: {error}");
            ExitCode::FAILURE
        }
    }
}
