//! The parent: both ways to go wrong in `ProcessData`, in real processes, every number checked.

use resurge_example_driver::{Child, Effects, Expectations};

use crate::Result;

const STEPS: [(&str, u64); 3] = [("IngestData", 1), ("ProcessData", 2), ("EnrichData", 1)];

/// How the first attempt ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Killed,
    Failed,
}

pub(crate) fn run() -> Result<()> {
    let mut expect = Expectations::new();
    println!(
        ">>> The process is killed inside of ProcessData; the next start recovers the run <<<\n"
    );
    story(Form::Killed, &mut expect)?;
    println!("\n>>> ProcessData fails; another process resumes the run <<<\n");
    story(Form::Failed, &mut expect)?;
    let checked = expect.verdict()?;
    println!("\n{checked} expectations held.");
    Ok(())
}

fn story(form: Form, expect: &mut Expectations) -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (state, effects) = (dir.path().join("state"), dir.path().join("effects"));
    let begin = |what: &str| {
        let args = ["attempt".as_ref(), what.as_ref(), state.as_os_str(), effects.as_os_str()];
        Child::start(args)
    };
    let counted = Effects::at(&effects);

    println!("=== Crash Recovery Example ===\n\n--- First Attempt: Simulating Crash ---\n");
    match form {
        Form::Killed => {
            let mut child = begin("hang")?;
            child.wait_for("CRASH: Simulated failure in ProcessData", show)?;
            child.kill()?;
            println!("    ! kill -9");
            // It can no longer say so itself.
            println!("\n\u{274c} Execution failed: simulated crash during processing");
        }
        Form::Failed => {
            let mut child = begin("fail")?;
            child.wait_for("Execution failed: simulated crash during processing", show)?;
            child.finish()?;
        }
    }
    expect.equal(format!("{form:?}: IngestData before"), counted.count("IngestData")?, 1);
    expect.equal(format!("{form:?}: ProcessData before"), counted.count("ProcessData")?, 1);
    expect.equal(format!("{form:?}: EnrichData before"), counted.count("EnrichData")?, 0);

    println!("\n--- Second Attempt: Recovery ---\n");
    let mut child = begin(if form == Form::Killed { "recover" } else { "resume" })?;
    child.wait_for("Execution succeeded!", show)?;
    let result = child.wait_for("result: ", |_| {})?;
    child.finish()?;
    // What the killed process had ingested went through both steps of the other one.
    expect.equal(format!("{form:?}: result"), result.as_str(), "result: TO=2 RISE=4 AGAIN=5");

    // A third process: the run has ended, so nothing executes again.
    let mut child = begin("look")?;
    child.wait_for("nothing to do", |_| {})?;
    child.finish()?;
    summary(&counted, form, expect)
}

/// Counted outside of the store.
fn summary(counted: &Effects, form: Form, expect: &mut Expectations) -> Result<()> {
    println!("\n=== Execution Summary ===");
    let mut as_expected = true;
    for (at, (name, wanted)) in (1..).zip(STEPS) {
        let found = counted.count(name)?;
        let what = format!("Step{at} ({name}) executions:");
        println!("{what:<31} {found} (expected: {wanted})");
        expect.equal(format!("{form:?}: {what}"), found, wanted);
        as_expected &= found == wanted;
    }
    if !as_expected {
        return Ok(());
    }
    println!();
    println!("\u{2713} Step1: Executed once (checkpoint restored on retry)");
    println!("\u{2713} Step2: Executed twice (failed first, succeeded on retry)");
    println!("\u{2713} Step3: Executed once (only after Step2 succeeded)");
    println!("\n\u{1f389} SUCCESS: Crash recovery working correctly!");
    Ok(())
}

fn show(line: &str) {
    println!("{line}");
}
