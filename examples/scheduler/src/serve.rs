//! The child: a scheduler that obeys commands on its input and is killed at any moment.
//!
//! `submit N` takes in the next N jobs, `submit ID KEY=VALUE..` one with a payload, `snapshot` takes one,
//! `finish` waits until nothing is pending or running, `blocked N` until N runs are stuck, `quit` or the
//! end of input stops in order.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use resurge::Resurge;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::sync::watch;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use resurge_scheduler_example::{
    Config, Counts, Handler, Job, JobStatus, Jobs, NewJob, Running, Scheduler, SchedulerError,
};

use crate::Result;

/// What a job panics with when it is told to.
const TOLD_TO_PANIC: &str = "told to panic";

/// What the jobs do: leave a trace outside the store, and whatever their payload says.
#[derive(Debug)]
struct Work {
    /// One line a run, so that runs can be counted whatever the store says.
    effects: Option<File>,
    /// Jobs from this number on never end in this process.
    block_from: Option<u32>,
    blocked: watch::Sender<usize>,
}

impl Handler for Work {
    #[expect(clippy::panic, reason = "some jobs are there to panic")]
    fn run(&self, job: Job) -> Running {
        if let Some(mut effects) = self.effects.as_ref() {
            // One write to a file opened for appending: whole, or not at all.
            if let Err(e) = effects.write_all(format!("{} run={}\n", job.id, job.runs).as_bytes()) {
                return Box::pin(std::future::ready(Err(format!("no trace left: {e}"))));
            }
        }
        let number = job.id.strip_prefix("job-").and_then(|n| n.parse::<u32>().ok());
        if number >= self.block_from && self.block_from.is_some() {
            self.blocked.send_modify(|n| *n += 1);
            return Box::pin(std::future::pending());
        }
        match job.payload.get("do").map(String::as_str) {
            Some("fail") => Box::pin(std::future::ready(Err("told to fail".to_owned()))),
            Some("hang") => Box::pin(std::future::pending()),
            Some("panic") => Box::pin(async { std::panic::panic_any(TOLD_TO_PANIC) }),
            _ => Box::pin(std::future::ready(Ok(()))),
        }
    }

    fn settled(&self, id: &str, status: JobStatus) {
        match status {
            JobStatus::Completed => println!("acknowledged {id}"),
            JobStatus::Dead => println!("dead {id}"),
            JobStatus::Pending | JobStatus::InFlight => {}
        }
    }
}

fn listen_to_tracing() {
    let lines = tracing_subscriber::fmt::layer().without_time().with_target(false).with_ansi(false);
    let own = Targets::new().with_target("resurge_scheduler_example", tracing::Level::INFO);
    // Fails only when something listens already.
    let _already = tracing_subscriber::registry().with(lines).with(own).try_init();
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A panic that was ordered is no news; every other one is reported as always.
fn expect_ordered_panics() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&TOLD_TO_PANIC) {
            report(info);
        }
    }));
}

pub(crate) fn run(dir: &str, options: &[&str]) -> Result<()> {
    listen_to_tracing();
    expect_ordered_panics();
    let mut config = Config::default();
    let mut work = Work { effects: None, block_from: None, blocked: watch::Sender::new(0) };
    let mut options = options.chunks_exact(2);
    for option in &mut options {
        match option {
            ["--workers", n] => config.workers = n.parse()?,
            ["--block-from", n] => work.block_from = Some(n.parse()?),
            ["--effects", path] => {
                work.effects = Some(OpenOptions::new().create(true).append(true).open(path)?);
            }
            other => return Err(format!("unknown option {other:?}").into()),
        }
    }
    if !options.remainder().is_empty() {
        return Err("an option has no value".into());
    }
    runtime()?.block_on(serve(dir, config, Arc::new(work)))
}

async fn serve(dir: &str, config: Config, work: Arc<Work>) -> Result<()> {
    let app = Resurge::open(dir).await?;
    let handler: Arc<dyn Handler> = Arc::clone(&work) as _;
    let (scheduler, recovered) = Scheduler::start(&app, config, handler).await?;
    if recovered.total > 0 {
        println!("\u{2713} Recovered {} total jobs from crash!", recovered.total);
    }
    println!("ready");
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    while let Some(line) = lines.next_line().await? {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["submit", n] if n.parse::<u32>().is_ok() => {
                submit_next(&scheduler, n.parse()?).await?;
            }
            ["submit", id, payload @ ..] => submit_one(&scheduler, id, payload).await?,
            ["snapshot"] => {
                scheduler.snapshot().await?;
            }
            ["finish"] => {
                let idle = |c: Counts| c.pending + c.in_flight == 0;
                println!("Current Status: {}", shown(scheduler.wait_until(idle).await?));
            }
            ["blocked", n] => {
                let n: usize = n.parse()?;
                work.blocked.subscribe().wait_for(|blocked| *blocked == n).await?;
                println!("Current Status: {}", shown(scheduler.counts().await?));
            }
            ["quit"] => break,
            _ => println!("unknown command: {line}"),
        }
    }
    scheduler.stop().await;
    app.shutdown().await?;
    println!("stopped");
    Ok(())
}

async fn submit_next(scheduler: &Scheduler, n: usize) -> Result<()> {
    let first = scheduler.counts().await?.total() + 1;
    for i in first..first + n {
        scheduler.submit(NewJob::new(format!("job-{i:02}"))).await?;
    }
    println!("\u{2713} Enqueued {n} jobs");
    Ok(())
}

async fn submit_one(scheduler: &Scheduler, id: &str, payload: &[&str]) -> Result<()> {
    let mut new = NewJob::new(id);
    let pairs = payload.iter().filter_map(|pair| pair.split_once('='));
    new.payload = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect();
    if let Some(ms) = new.payload.get("timeout_ms") {
        new.timeout = Duration::from_millis(ms.parse()?);
    }
    match scheduler.submit(new).await {
        Ok(()) => println!("\u{2713} Enqueued {id}"),
        Err(SchedulerError::Job(refused)) => println!("refused: {refused}"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

fn shown(counts: Counts) -> String {
    let parts = [
        ("Pending", counts.pending),
        ("In flight", counts.in_flight),
        ("Completed", counts.completed),
        ("Dead", counts.dead),
    ];
    let shown: Vec<_> =
        parts.iter().filter(|(_, n)| *n > 0).map(|(what, n)| format!("{what}: {n}")).collect();
    if shown.is_empty() { "no jobs".to_owned() } else { shown.join(", ") }
}

/// Shows what a directory holds, without running anything.
pub(crate) fn status(dir: &str) -> Result<()> {
    if !Path::new(dir).exists() {
        return Err(format!("there is no directory {dir}").into());
    }
    runtime()?.block_on(async {
        let app = Resurge::open(dir).await?;
        let (jobs, _) = app.journal::<Jobs>("jobs").await?;
        for job in jobs.read(|jobs| jobs.iter().cloned().collect::<Vec<_>>()).await? {
            let error = job.last_error.as_deref().unwrap_or("-");
            println!("{} {:?} runs={} last_error={error}", job.id, job.status, job.runs);
        }
        println!("Current Status: {}", shown(jobs.read(Jobs::counts).await?));
        app.shutdown().await?;
        Ok(())
    })
}
