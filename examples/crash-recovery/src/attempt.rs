//! The child: one process's attempt at the run.

use resurge::{FlowError, Resurge, RunState};
use resurge_crash_recovery_example::{Enriched, Mode, Work, pipeline};
use resurge_example_driver::Effects;

use crate::Result;

const RUN: &str = "etl-1";

#[tokio::main]
pub(crate) async fn run(what: &str, dir: &str, effects: &str) -> Result<()> {
    let mode = match what {
        "fail" => Mode::Fail,
        "hang" => Mode::Hang,
        _ => Mode::Succeed,
    };
    let (number, configuration) = match mode {
        Mode::Succeed => (2, "All steps should succeed (recovery mode)"),
        _ => (1, "Step2 will FAIL (simulating crash)"),
    };
    if what != "look" {
        println!("=== Attempt #{number} ===\nConfiguration: {configuration}\n");
    }

    let app = Resurge::open(dir).await?;
    let work = Work::new(Effects::at(effects), mode);
    let etl = app.register("etl", move |ctx, source| pipeline(ctx, source, work.clone()))?;
    let recovered = app.start().await?;

    let run = match what {
        // The same id and input: the same run, whether or not it has ended.
        "fail" | "hang" | "look" => etl.start(RUN, "to rise again".to_owned()).await?,
        // Killed, not failed: it runs already.
        "recover" => {
            if (recovered.unfinished, recovered.running) != (1, 1) {
                return Err(format!("one run to recover, found {recovered:?}").into());
            }
            etl.run(RUN)
        }
        // Failed, so it waits until somebody says that the cause is gone.
        "resume" => {
            if recovered.unfinished != 0 || etl.run(RUN).state().await? != RunState::Failed {
                return Err(format!("a failed run was expected, found {recovered:?}").into());
            }
            etl.run(RUN).resume().await?
        }
        other => return Err(format!("no attempt `{other}`").into()),
    };
    match run.result().await {
        Ok(_) if what == "look" => println!("nothing to do"),
        Ok(words) => {
            println!("\n\u{2713} Execution succeeded!");
            println!("result: {}", shown(&words));
        }
        Err(FlowError::Failed { error, .. }) => {
            println!("\n\u{274c} Execution failed: {}", error.root_cause());
        }
        Err(other) => return Err(other.into()),
    }
    app.shutdown().await?;
    Ok(())
}

fn shown(words: &[Enriched]) -> String {
    let words: Vec<_> = words.iter().map(|w| format!("{}={}", w.word, w.letters)).collect();
    words.join(" ")
}
