//! The parent: starts, tells and kills.

use std::fs;
use std::path::Path;

use resurge_example_driver::Expectations;
use resurge_supervisor_example::{ACTS, CANNOT_START, OPEN_MS, traces};
use serde_json::Value;

use crate::Result;
use crate::life::{Life, millis};

mod trails;

type Act = fn(&Path, &str, &mut Expectations) -> Result<()>;

const STORY: [(&str, Act); 7] = [
    ("It crashes: restarted", crash),
    ("It hangs, and nobody calls: health checks notice", hang),
    ("It gets slow: a strategy says that it helped, and did not", slow),
    ("It refuses connections and cannot be started: given up, and probed all the same", refused),
    ("The supervising process is killed while the circuit is open", killed_open),
    ("It is killed while it repairs", killed_repairing),
    ("Every repair kills it", crash_loop),
];

pub(crate) fn run() -> Result<()> {
    let mut expect = Expectations::new();
    for (act, (title, play)) in ACTS.into_iter().zip(STORY) {
        println!("=== {title} ===\n");
        let dir = tempfile::tempdir()?;
        if let Err(error) = play(dir.path(), act, &mut expect) {
            // What was off before says more.
            expect.verdict()?;
            return Err(error);
        }
        println!();
    }
    println!("{} expectations held.", expect.verdict()?);
    Ok(())
}

const REFUSED: &str = "failed: connection refused";

fn crash(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.expect(expect, "call 1", &["pong"])?;
    life.tell("tell crash")?;
    life.expect(expect, "call 3", &[REFUSED; 3])?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::CRASH)?;
    life.end(expect)
}

fn hang(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.tell("tell hang")?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::HANG)?;
    life.end(expect)
}

fn slow(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.tell("tell be slow")?;
    life.expect(expect, "at-once 4", &["pong"; 4])?;
    life.tell("until half_open")?;
    life.expect(expect, "at-once 2", &["pong"; 2])?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::SLOW)?;
    life.end(expect)
}

fn refused(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.tell("tell be deaf")?;
    fs::write(dir.join(CANNOT_START), "")?;
    println!("a file is missing: it cannot be started any more");
    life.expect(expect, "call 3", &[REFUSED; 3])?;
    life.tell("until half_open")?;
    life.expect(expect, "call 1", &[REFUSED])?;
    life.tell("until exhausted")?;
    let status: Value = serde_json::from_str(&life.tell("status")?.join("\n"))?;
    let shown = |what| status.pointer("/plugins/mailer").and_then(|mailer| mailer.pointer(what));
    expect.equal("exhausted", shown("/recovery/exhausted"), Some(&Value::from(true)));
    expect.equal("attempts", shown("/recovery/attempts"), Some(&Value::from(3)));
    expect.equal("state", shown("/circuit_breaker/state"), Some(&Value::from("open")));
    life.tell("until half_open")?;
    life.expect(expect, "call 1", &[REFUSED])?;
    fs::remove_file(dir.join(CANNOT_START))?;
    println!("the file is there again, and somebody starts it by hand");
    life.tell("start")?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::REFUSED)?;
    life.end(expect)
}

/// The first life of an act.
fn begin(dir: &Path, act: &str, expect: &mut Expectations) -> Result<Life> {
    let life = Life::begin(dir, act)?;
    println!("a supervising process: {}", life.found);
    expect.equal("the first life", life.found.as_str(), "circuit closed");
    Ok(life)
}

/// A later one, with the circuit open for what is left.
fn begin_open(dir: &Path, act: &str, expect: &mut Expectations) -> Result<Life> {
    let life = Life::begin(dir, act)?;
    println!("the next one: {}", life.found);
    let open = life.found.starts_with("circuit open, ");
    expect.holds(format!("open in the next life: {}", life.found), open);
    is_rest("left", &life.found, expect);
    Ok(life)
}

/// More than nothing, and less than the whole.
fn is_rest(name: &str, line: &str, expect: &mut Expectations) {
    let rest = millis(line, name).unwrap_or(0);
    expect.holds(format!("{name} of {OPEN_MS} ms: {line}"), 0 < rest && rest < OPEN_MS);
}

fn killed_open(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    for _ in 0..3 {
        life.tell("report its licence ran out")?;
    }
    life.tell("until open")?;
    // Told right after: the trail does not hold the circuit up.
    life.tell("audit unrecoverable")?;
    life.kill(expect)?;

    let mut life = begin_open(dir, act, expect)?;
    for answer in life.tell("call 2")? {
        is_rest("retry_after", &answer, expect);
    }
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit probes went well", trails::KILLED_OPEN)?;
    life.end(expect)
}

fn killed_repairing(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.tell("tell crash")?;
    life.expect(expect, "call 3", &[REFUSED; 3])?;
    life.tell("until repairing")?;
    life.kill(expect)?;

    let mut life = begin_open(dir, act, expect)?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::KILLED_REPAIRING)?;
    life.end(expect)
}

fn crash_loop(dir: &Path, act: &str, expect: &mut Expectations) -> Result<()> {
    let mut life = begin(dir, act, expect)?;
    life.tell("tell crash")?;
    life.expect(expect, "call 3", &[REFUSED; 3])?;
    for _ in 0..3 {
        life.tell("until repairing")?;
        life.kill(expect)?;
        life = Life::begin(dir, act)?;
        // On a slow machine the open time may be over by now.
        let open = !life.found.contains("circuit closed");
        println!("the next one: circuit {}", if open { "not closed" } else { "closed" });
        expect.holds(format!("not closed in the next life: {}", life.found), open);
    }
    life.tell("until exhausted")?;
    life.tell("until half_open")?;
    life.expect(expect, "call 2", &["pong"; 2])?;
    life.expect(expect, "audit well again", trails::CRASH_LOOP)?;
    life.end(expect)?;
    let repairs = traces(dir).count("shut down")?;
    println!("repairs begun in 4 lives, counted outside of the store: {repairs}");
    expect.equal("repairs in 4 lives", repairs, 3);
    Ok(())
}
