//! The parent: every scenario in real processes, every line and number checked.

use std::path::Path;

use resurge_example_driver::{Child, Effects, Expectations};
use resurge_recover_example::{ONCE, POINTS};

use crate::Result;

/// What a run prints until it fails, and what it prints when it is recovered.
const FAILS: [&str; 2] = ["[Step: Step1] start", "[Step: Step1] failed"];
const RECOVERS: [&str; 5] = [
    "[Step: Step1] start",
    "[Step: Step1] success",
    "[Step: Step2] start",
    "[Step: Step2] get value: {1 John}",
    "[Step: Step2] success",
];
const BETWEEN: &str = "======Recover======";

type Scenario = (&'static str, fn(&Path, &mut Expectations) -> Result<()>);

const SCENARIOS: [Scenario; 4] = [
    ("A run fails, its process is killed, another one recovers it by its id", two_processes),
    ("The same in one process", one_process),
    ("Four recover one run at once", at_once),
    ("Seventeen failures, each process killed: every recovery gets to the next one", chain),
];

pub(crate) fn run() -> Result<()> {
    let mut expect = Expectations::new();
    for (title, scenario) in SCENARIOS {
        println!(">>> {title} <<<");
        let dir = tempfile::tempdir()?;
        scenario(dir.path(), &mut expect)?;
        println!();
    }
    println!("{} expectations held.", expect.verdict()?);
    Ok(())
}

fn begin(what: &str, dir: &Path, id: &str) -> Result<Child> {
    let state = dir.join("state");
    Ok(Child::start([what.as_ref(), state.as_os_str(), id.as_ref()])?)
}

fn show(lines: &[String]) {
    for line in lines {
        println!("{line}");
    }
}

fn two_processes(dir: &Path, expect: &mut Expectations) -> Result<()> {
    let mut first = begin("run", dir, "recover-1")?;
    let why = first.wait_for("suspended: ", |_| {})?;
    expect.equal("why it failed", why.as_str(), "suspended: something went wrong");
    let mut lines = first.kill()?;
    lines.retain(|line| *line != why);
    expect.equal("the first process", lines.as_slice(), FAILS.map(str::to_owned).as_slice());
    show(&lines);

    println!("{BETWEEN}");
    let lines = begin("recover", dir, "recover-1")?.finish()?;
    expect.equal("the second process", lines.as_slice(), RECOVERS.map(str::to_owned).as_slice());
    show(&lines);

    // It succeeded; nothing is left to recover, and nothing runs.
    let lines = begin("recover", dir, "recover-1")?.finish()?;
    let wanted =
        "refused: run `recover-1` is not failed but succeeded; only failed runs can be resumed";
    expect.equal("recovering a success", lines.as_slice(), [wanted.to_owned()].as_slice());
    show(&lines);
    let lines = begin("recover", dir, "recover-2")?.finish()?;
    let wanted = "refused: there is no run `recover-2`";
    expect.equal("recovering nothing", lines.as_slice(), [wanted.to_owned()].as_slice());
    show(&lines);
    Ok(())
}

fn one_process(dir: &Path, expect: &mut Expectations) -> Result<()> {
    let lines = begin("both", dir, "recover-1")?.finish()?;
    let wanted: Vec<_> = FAILS.iter().chain([&BETWEEN]).chain(&RECOVERS).copied().collect();
    expect.equal("one process", lines.iter().map(String::as_str).collect(), wanted);
    show(&lines);
    Ok(())
}

fn at_once(dir: &Path, expect: &mut Expectations) -> Result<()> {
    let effects = dir.join("effects");
    let (state, counted) = (dir.join("state"), Effects::at(&effects));
    let args = ["at-once".as_ref(), state.as_os_str(), effects.as_os_str()];
    let lines = Child::start(args)?.finish()?;
    let wanted = "recovered by 1, refused as running already 3";
    expect.equal("four at once", lines.as_slice(), [wanted.to_owned()].as_slice());
    expect.equal("runs of the step", counted.count("step")?, 2);
    show(&lines);
    Ok(())
}

fn chain(dir: &Path, expect: &mut Expectations) -> Result<()> {
    let effects = dir.join("effects");
    let (state, counted) = (dir.join("state"), Effects::at(&effects));
    let process = |number: usize| -> Result<String> {
        let number = number.to_string();
        let args = ["chain".as_ref(), state.as_os_str(), effects.as_os_str(), number.as_ref()];
        let mut child = Child::start(args)?;
        let outcome = child.wait_for("outcome: ", |_| {})?;
        child.kill()?;
        Ok(outcome.replacen("outcome: ", "", 1))
    };
    for (number, point) in (1..).zip(POINTS) {
        let outcome = process(number)?;
        println!("process {number:>2} {outcome}");
        expect.equal(format!("process {number}"), outcome, format!("failed: {point}"));
    }
    for (number, wanted) in [
        (18, "succeeded"),
        (19, "refused: run `chain-1` is not failed but succeeded; only failed runs can be resumed"),
    ] {
        let outcome = process(number)?;
        println!("process {number} {outcome}");
        expect.equal(format!("process {number}"), outcome.as_str(), wanted);
    }
    println!("\nHow often each was called:");
    let counts = counted.counts()?;
    for (point, wanted) in POINTS.into_iter().zip(CALLS).chain(ONCE.map(|once| (once, 1))) {
        let found = counts.get(point).copied().unwrap_or(0);
        println!("{point:<16} {found:>2}");
        expect.equal(format!("calls of {point}"), found, wanted);
    }
    Ok(())
}

/// How often the points are called in all. What comes before something, and the step, twice: when it
/// fails, and when it passes; never again. What comes after a step, a process or the flow is also called
/// each time that one failed, and told so; after a process and the flow all of it is called again when
/// one of them failed.
const CALLS: [u64; 17] = [2, 2, 2, 2, 2, 2, 2, 2, 2, 6, 6, 6, 14, 13, 12, 18, 17];
