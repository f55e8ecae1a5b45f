//! A page with a counter whose server is killed: `demo` drives it in Chromium, or with a client of its own where there is
//! none; `serve` is the server.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a program that talks to people")]

mod browser;
mod cdp;
mod chromium;
mod client;
mod demo;
mod serve;
mod stage;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

const USAGE: &str = "usage: resurge-reconnect-example demo [--client] [--screenshots DIR]
       resurge-reconnect-example serve DIR PORT";

/// Longer than the demo takes on any machine.
const LIMIT: Duration = Duration::from_secs(100);

/// For the browser and the server to be gone.
const CLEANUP: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let done = match words.as_slice() {
        ["demo"] => demo(false, None),
        ["demo", "--client"] => demo(true, None),
        ["demo", "--screenshots", dir] => demo(false, Some(dir.into())),
        ["serve", dir, port] => serve::run(dir, port),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Runs the demo, until it ends, is interrupted or takes too long; leaves no process behind in any case.
fn demo(client: bool, screenshots: Option<PathBuf>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let done = runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut story = tokio::spawn(demo::run(client, screenshots));
        let stopped = tokio::select! {
            done = &mut story => return done?,
            _ = interrupt.recv() => "interrupted".to_owned(),
            _ = terminate.recv() => "terminated".to_owned(),
            () = past(LIMIT) => format!("still running after {LIMIT:?}"),
        };
        // ORDER: dropping the story kills its processes. Where it cannot be dropped, they end with this one.
        story.abort();
        let _aborted = tokio::time::timeout(CLEANUP, story).await;
        Err(stopped.into())
    });
    runtime.shutdown_timeout(CLEANUP);
    done
}

async fn past(limit: Duration) {
    let _elapsed = tokio::time::timeout(limit, std::future::pending::<()>()).await;
}
