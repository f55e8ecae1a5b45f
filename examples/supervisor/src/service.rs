//! The supervised service: a process with a TCP port, which breaks when it is told to.

use std::io::{self, Read};
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::exit;
use std::thread;
use std::time::Duration;

use resurge::Clock;
use resurge::store::SystemClock;
use resurge_example_driver::Effects;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// A file: while it is in the service's directory, the service cannot be started.
pub const CANNOT_START: &str = "cannot-start";

/// How long a slow answer takes.
const SLOW: Duration = Duration::from_secs(1);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mood {
    Well,
    /// Answers, after a while.
    Slow,
    /// Takes requests and answers none.
    Hanging,
    /// Its port is closed.
    Deaf,
}

/// What processes leave behind in `dir`: every service that started, ended or crashed.
pub fn traces(dir: &Path) -> Effects {
    Effects::at(dir.join("traces"))
}

/// Says on which port it listens, or that it cannot be started, and answers until its input ends: so it does not outlive whoever
/// started it, however that one ended.
///
/// # Errors
/// What the system says.
pub async fn serve(dir: &Path) -> io::Result<()> {
    if dir.join(CANNOT_START).exists() {
        say("it cannot be started");
        return Ok(());
    }
    let traces = traces(dir);
    traces.leave("started")?;
    end_with_input(traces.clone())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
    say(&format!("listening on {}", listener.local_addr()?.port()));
    let mood = watch::Sender::new(Mood::Well);
    let mut deaf = mood.subscribe();
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted?.0,
            _ = deaf.wait_for(|mood| *mood == Mood::Deaf) => break,
        };
        let (traces, mood) = (traces.clone(), mood.clone());
        tokio::spawn(async move {
            // Who asked has gone: its own fault.
            let _ = answer(stream, &traces, &mood).await;
        });
    }
    // ORDER: who made it deaf waits for the receiver to go.
    drop(listener);
    drop(deaf);
    std::future::pending().await
}

fn end_with_input(traces: Effects) -> io::Result<()> {
    let wait = move || {
        // An error, too, means that nobody is there any more.
        let _ = io::stdin().read_to_end(&mut Vec::new());
        let left = traces.leave("ended");
        exit(i32::from(left.is_err()));
    };
    thread::Builder::new().name("input".to_owned()).spawn(wait).map(drop)
}

async fn answer(stream: TcpStream, traces: &Effects, mood: &watch::Sender<Mood>) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut request = String::new();
    stream.read_line(&mut request).await?;
    let now = *mood.borrow();
    let answer = match request.trim_end() {
        "crash" => {
            traces.leave("crashed")?;
            exit(101);
        }
        "be well" => become_(mood, Mood::Well),
        "be slow" => become_(mood, Mood::Slow),
        "hang" => become_(mood, Mood::Hanging),
        "be deaf" => {
            mood.send_replace(Mood::Deaf);
            mood.closed().await;
            "yes"
        }
        _ if now == Mood::Hanging => std::future::pending().await,
        // It says so, and stays as it is.
        "calm down" => "calm",
        "reload" => become_(mood, Mood::Well),
        "ping" => {
            if now == Mood::Slow {
                SystemClock::new().sleep(SLOW).await;
            }
            "pong"
        }
        _ => "what?",
    };
    stream.write_all(format!("{answer}\n").as_bytes()).await
}

fn become_(mood: &watch::Sender<Mood>, now: Mood) -> &'static str {
    mood.send_replace(now);
    "yes"
}

#[expect(clippy::print_stdout, reason = "its parent reads it")]
fn say(line: &str) {
    println!("{line}");
}
