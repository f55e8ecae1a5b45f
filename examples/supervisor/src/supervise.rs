//! The supervising process: does what it is told, one line at a time, and says what came of it.

use std::io::{self, BufRead};
use std::path::Path;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use resurge::breaker::{FailureKind, State};
use resurge::supervisor::{ExecuteError, Failure, Registration, Severity};
use resurge::{Breaker, RecoveryManager, Resurge};
use resurge_supervisor_example::{NAME, Plugin, calm_down, config};
use tokio::sync::mpsc;

use crate::{Result, audit};

/// Ends every answer.
pub(crate) const DONE: &str = "-- done --";

/// Between two looks at something.
const LOOK: Duration = Duration::from_millis(5);
/// The longest that anything is waited for.
const LIMIT: Duration = Duration::from_secs(30);

struct Supervisor {
    app: Resurge,
    manager: RecoveryManager,
    breaker: Breaker,
    plugin: Arc<Plugin>,
}

/// Starts the service, supervises it, and reads commands until its input ends.
// One thread, so that nothing but time decides what comes first.
#[tokio::main(flavor = "current_thread")]
pub(crate) async fn run(dir: &Path, act: &str) -> Result<()> {
    let plugin = Arc::new(Plugin::new(dir));
    let builder =
        Resurge::builder().supervisor(config(act)).strategy(calm_down(Arc::clone(&plugin)));
    let app = builder.open(dir.join("state")).await?;
    plugin.start().await?;
    let manager = app.supervisor().await?;
    let breaker = manager.register(NAME, Registration::shared(Arc::clone(&plugin) as _))?;
    println!("circuit {}", found(&breaker));
    let supervisor = Arc::new(Supervisor { app, manager, breaker, plugin });
    println!("{DONE}");
    let mut commands = commands()?;
    while let Some(command) = commands.recv().await {
        supervisor.obey(&command).await?;
        println!("{DONE}");
    }
    supervisor.app.shutdown().await?;
    supervisor.plugin.stop().await
}

/// How the circuit was found in the store.
fn found(breaker: &Breaker) -> String {
    match breaker.restored().and_then(|restored| restored.remaining) {
        Some(left) => format!("{}, left={}ms", breaker.state(), left.as_millis()),
        None => breaker.state().to_string(),
    }
}

fn commands() -> Result<mpsc::UnboundedReceiver<String>> {
    let (sender, receiver) = mpsc::unbounded_channel();
    let read = move || {
        for line in io::stdin().lock().lines().map_while(io::Result::ok) {
            if sender.send(line).is_err() {
                break;
            }
        }
    };
    thread::Builder::new().name("commands".to_owned()).spawn(read)?;
    Ok(receiver)
}

impl Supervisor {
    async fn obey(self: &Arc<Self>, command: &str) -> Result<()> {
        let (verb, rest) = command.split_once(' ').unwrap_or((command, ""));
        match verb {
            "call" => self.call(rest.parse()?).await,
            "at-once" => self.at_once(rest.parse()?).await,
            "tell" => self.tell(rest).await,
            "start" => self.plugin.start().await,
            "report" => self.report(rest).await,
            "until" => self.until(rest).await,
            "audit" => self.audit(rest).await,
            "status" => {
                println!("{}", serde_json::to_string_pretty(&self.manager.status())?);
                Ok(())
            }
            _ => Err(format!("no such command: {command}").into()),
        }
    }

    /// One call of the service, through its breaker.
    async fn ask(&self) -> String {
        match self.manager.execute(NAME, self.plugin.ask("ping")).await {
            Ok(answer) => answer,
            Err(ExecuteError::Rejected(rejected)) => match rejected.retry_after {
                Some(after) => format!("refused, retry_after={}ms", after.as_millis()),
                None => "refused".to_owned(),
            },
            Err(error) => format!("failed: {error}"),
        }
    }

    async fn call(&self, times: u32) -> Result<()> {
        for _ in 0..times {
            println!("{}", self.ask().await);
        }
        Ok(())
    }

    async fn at_once(self: &Arc<Self>, times: u32) -> Result<()> {
        let call = || {
            let me = Arc::clone(self);
            tokio::spawn(async move { me.ask().await })
        };
        let calls: Vec<_> = (0..times).map(|_| call()).collect();
        for call in calls {
            println!("{}", call.await?);
        }
        Ok(())
    }

    /// Tells the service something; not through its breaker.
    async fn tell(&self, what: &str) -> Result<()> {
        let told = self.plugin.ask(what).await;
        if what == "crash" {
            return self.plugin.crashed().await;
        }
        Ok(told.map(drop)?)
    }

    /// Reports a failure that nothing here can repair.
    async fn report(&self, why: &str) -> Result<()> {
        let failure = Failure::new(FailureKind::Panic, why).severity(Severity::CRITICAL);
        Ok(self.manager.record_failure(NAME, failure.unrecoverable()).await?)
    }

    /// Waits until it is so, and until that is on disk.
    async fn until(&self, what: &str) -> Result<()> {
        let clock = self.app.store().clock();
        let give_up = clock.monotonic().saturating_add(LIMIT);
        while !self.is(what) {
            if clock.monotonic() > give_up {
                return Err(format!("still not {what}").into());
            }
            clock.sleep(LOOK).await;
        }
        Ok(self.breaker.flush().await?)
    }

    fn is(&self, what: &str) -> bool {
        let state = self.breaker.state();
        let exhausted = || {
            let status = self.manager.status();
            status.plugins.values().all(|plugin| plugin.recovery.exhausted)
        };
        match what {
            // In the middle of it: the attempt was on disk before.
            "repairing" => state == State::Repairing && self.plugin.is_shut_down(),
            "exhausted" => exhausted(),
            other => state.as_str() == other,
        }
    }

    /// Prints the audit trail as soon as it ends with a record like this.
    async fn audit(&self, last: &str) -> Result<()> {
        let clock = self.app.store().clock();
        let give_up = clock.monotonic().saturating_add(LIMIT);
        loop {
            let trail = self.manager.audit().await?.of(NAME).await?;
            let lines: Vec<_> = trail.iter().map(audit::line).collect();
            if lines.last().is_some_and(|line| line.contains(last)) {
                println!("{}", lines.join("\n"));
                return Ok(());
            }
            if clock.monotonic() > give_up {
                return Err(
                    format!("the audit trail does not end with `{last}`: {lines:#?}").into()
                );
            }
            clock.sleep(LOOK).await;
        }
    }
}
