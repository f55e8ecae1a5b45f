//! The parent: every scenario against real processes, really killed, every number checked.

use std::collections::BTreeMap;
use std::path::PathBuf;

use resurge_example_driver::{Child, Expectations, number};

use crate::Result;

/// One demo in its own directory.
struct Stage {
    dir: tempfile::TempDir,
    expect: Expectations,
}

impl Stage {
    fn new() -> Result<Self> {
        Ok(Self { dir: tempfile::tempdir()?, expect: Expectations::new() })
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn effects(&self) -> PathBuf {
        self.dir.path().join("effects")
    }

    /// Starts a scheduler on the stage's directory; returns it with the lines it opened with.
    fn start(&self, options: &[&str]) -> Result<(Child, Opened)> {
        let (state, effects) = (self.state(), self.effects());
        let mut args = vec!["serve".as_ref(), state.as_os_str()];
        args.extend(["--effects".as_ref(), effects.as_os_str()]);
        args.extend(options.iter().map(std::ffi::OsStr::new));
        let mut child = Child::start(args)?;
        let mut opened = Opened::default();
        child.wait_for("ready", |line| opened.read(line))?;
        Ok((child, opened))
    }

    /// How often each job ran, by the traces it left outside the store.
    fn runs(&self) -> Result<BTreeMap<String, u64>> {
        let mut runs = BTreeMap::new();
        if self.effects().exists() {
            for line in std::fs::read_to_string(self.effects())?.lines() {
                let id = line.split(' ').next().unwrap_or_default();
                *runs.entry(id.to_owned()).or_insert(0) += 1;
            }
        }
        Ok(runs)
    }
}

/// What a scheduler said when it came up.
#[derive(Debug, Default)]
struct Opened {
    snapshot_jobs: u64,
    replayed: u64,
    requeued: u64,
    total: u64,
}

impl Opened {
    fn read(&mut self, line: &str) {
        show(line);
        if line.contains("Snapshot loaded") {
            self.snapshot_jobs = number(line, "jobs").unwrap_or(u64::MAX);
        } else if line.contains("Recovery completed") {
            self.replayed = number(line, "replayed").unwrap_or(u64::MAX);
            self.requeued = number(line, "requeued_jobs").unwrap_or(u64::MAX);
        } else if line.contains("total jobs from crash") {
            let digits = line.split_whitespace().find_map(|word| word.parse().ok());
            self.total = digits.unwrap_or(u64::MAX);
        }
    }
}

fn show(line: &str) {
    // Protocol between the two of us, and in no fixed order.
    let told = ["ready", "acknowledged ", "dead "];
    if !told.iter().any(|told| line.starts_with(told)) {
        println!("  | {}", line.trim_start());
    }
}

/// Tells a child something and shows its answer, up to the line that contains `wanted`.
fn ask(child: &mut Child, command: &str, wanted: &str) -> Result<String> {
    println!("  > {command}");
    child.tell(command)?;
    Ok(child.wait_for(wanted, show)?)
}

fn kill(child: Child) -> Result<Vec<String>> {
    let lines = child.kill()?;
    println!("  ! kill -9");
    Ok(lines)
}

type Scenario = (&'static str, fn(&mut Stage) -> Result<()>);

const SCENARIOS: [Scenario; 7] = [
    ("Scenario 1: 5 jobs, killed before any snapshot", before_any_snapshot),
    ("Scenario 1b: the same while all 5 are in flight", all_in_flight),
    ("Scenario 2: 5 jobs, a snapshot, 3 more jobs, killed", snapshot_and_replay),
    ("Scenario 3: 5 jobs, killed, 2 more, killed again", killed_twice),
    ("Scenario 4: 5 jobs completed, a snapshot, killed", completed_and_snapshot),
    ("Scenario 5: 20 jobs, killed with 6 in flight", twenty_jobs),
    ("Scenario 6: failing, hanging and panicking jobs", dead_letters),
];

pub(crate) fn run() -> Result<()> {
    let (mut checked, mut failed) = (0, Vec::new());
    for (title, scenario) in SCENARIOS {
        println!("=== {title} ===");
        let mut stage = Stage::new()?;
        scenario(&mut stage)?;
        checked += stage.expect.checked();
        for failure in stage.expect.failed() {
            println!("  \u{2717} {failure}");
            failed.push(format!("{title}: {failure}"));
        }
        println!();
    }
    if failed.is_empty() {
        println!(
            "\u{2713} {checked} expectations held. No job lost, none run again after its end."
        );
        Ok(())
    } else {
        Err(format!("{} of {checked} expectations failed", failed.len()).into())
    }
}

fn before_any_snapshot(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&["--workers", "0"])?;
    ask(&mut child, "submit 5", "Enqueued")?;
    kill(child)?;
    let (mut child, opened) = stage.start(&[])?;
    stage.expect.equal("jobs in the snapshot", opened.snapshot_jobs, 0);
    stage.expect.equal("events replayed", opened.replayed, 5);
    stage.expect.equal("jobs recovered", opened.total, 5);
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status", status.as_str(), "Current Status: Completed: 5");
    child.finish()?;
    Ok(())
}

fn all_in_flight(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&["--workers", "5", "--block-from", "1"])?;
    ask(&mut child, "submit 5", "Enqueued")?;
    ask(&mut child, "blocked 5", "Current Status")?;
    kill(child)?;
    let (mut child, opened) = stage.start(&[])?;
    stage.expect.equal("jobs requeued", opened.requeued, 5);
    stage.expect.equal("jobs recovered", opened.total, 5);
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status", status.as_str(), "Current Status: Completed: 5");
    child.finish()?;
    Ok(())
}

fn snapshot_and_replay(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&["--workers", "0"])?;
    ask(&mut child, "submit 5", "Enqueued")?;
    let taken = ask(&mut child, "snapshot", "Snapshot taken")?;
    stage.expect.equal("jobs in the snapshot taken", number(&taken, "jobs"), Some(5));
    ask(&mut child, "submit 3", "Enqueued")?;
    kill(child)?;
    let (child, opened) = stage.start(&["--workers", "0"])?;
    stage.expect.equal("jobs in the snapshot loaded", opened.snapshot_jobs, 5);
    stage.expect.equal("events replayed", opened.replayed, 3);
    stage.expect.equal("jobs recovered", opened.total, 8);
    child.finish()?;
    Ok(())
}

fn killed_twice(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&["--workers", "0"])?;
    ask(&mut child, "submit 5", "Enqueued")?;
    kill(child)?;
    let (mut child, opened) = stage.start(&["--workers", "0"])?;
    stage.expect.equal("jobs after the first crash", opened.total, 5);
    ask(&mut child, "submit 2", "Enqueued")?;
    kill(child)?;
    let (mut child, opened) = stage.start(&[])?;
    stage.expect.equal("jobs after the second crash", opened.total, 7);
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status", status.as_str(), "Current Status: Completed: 7");
    child.finish()?;
    Ok(())
}

fn completed_and_snapshot(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&[])?;
    ask(&mut child, "submit 5", "Enqueued")?;
    ask(&mut child, "finish", "Current Status: Completed: 5")?;
    let taken = ask(&mut child, "snapshot", "Snapshot taken")?;
    stage.expect.equal("jobs in the snapshot taken", number(&taken, "jobs"), Some(5));
    kill(child)?;
    let (mut child, opened) = stage.start(&[])?;
    stage.expect.equal("jobs in the snapshot loaded", opened.snapshot_jobs, 5);
    stage.expect.equal("jobs requeued", opened.requeued, 0);
    stage.expect.equal("jobs recovered", opened.total, 5);
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status after recovery", status.as_str(), "Current Status: Completed: 5");
    child.finish()?;
    let runs = stage.runs()?;
    stage.expect.holds("no job ran twice", runs.len() == 5 && runs.values().all(|n| *n == 1));
    Ok(())
}

fn twenty_jobs(stage: &mut Stage) -> Result<()> {
    const IN_FLIGHT: u64 = 6;
    let (mut child, _) = stage.start(&["--workers", "6", "--block-from", "11"])?;
    ask(&mut child, "submit 20", "Enqueued")?;
    ask(&mut child, &format!("blocked {IN_FLIGHT}"), "Current Status")?;
    let lines = kill(child)?;
    let acknowledged = |line: &String| line.strip_prefix("acknowledged ").map(str::to_owned);
    let acknowledged: Vec<_> = lines.iter().filter_map(acknowledged).collect();
    let before = stage.runs()?;
    stage.expect.equal("completed before the crash", acknowledged.len(), 10);

    let (mut child, opened) = stage.start(&["--workers", "6"])?;
    stage.expect.equal("jobs requeued", opened.requeued, IN_FLIGHT);
    stage.expect.equal("jobs recovered", opened.total, 20);
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status after recovery", status.as_str(), "Current Status: Completed: 20");
    child.finish()?;

    let runs = stage.runs()?;
    for id in &acknowledged {
        stage.expect.equal(format!("runs of {id}, acknowledged"), runs.get(id), before.get(id));
    }
    let repeated = runs.values().filter(|n| **n == 2).count();
    stage.expect.equal("jobs that ran twice, all of them in flight", repeated, 6);
    stage.expect.holds("every job ran", runs.len() == 20 && runs.values().all(|n| *n <= 2));
    let once = runs.len() - repeated;
    println!("  runs counted outside the store: {once} jobs once, {repeated} twice");
    Ok(())
}

fn dead_letters(stage: &mut Stage) -> Result<()> {
    let (mut child, _) = stage.start(&[])?;
    ask(&mut child, "submit failing do=fail", "Enqueued")?;
    ask(&mut child, "submit hanging do=hang timeout_ms=20", "Enqueued")?;
    ask(&mut child, "submit panicking do=panic", "Enqueued")?;
    ask(&mut child, "submit good", "Enqueued")?;
    let refused = ask(&mut child, "submit good", "already exists")?;
    stage.expect.equal("a duplicate", refused.as_str(), "refused: job good already exists");
    let wanted = "Current Status: Completed: 1, Dead: 3";
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status", status.as_str(), wanted);
    kill(child)?;
    let (mut child, _) = stage.start(&[])?;
    let status = ask(&mut child, "finish", "Current Status")?;
    stage.expect.equal("status after recovery", status.as_str(), wanted);
    let again = ask(&mut child, "submit failing", "already exists")?;
    stage.expect.equal("a dead job's id", again.as_str(), "refused: job failing already exists");
    child.finish()?;
    let runs = stage.runs()?;
    for id in ["failing", "hanging", "panicking"] {
        stage.expect.equal(format!("runs of {id}"), runs.get(id), Some(&3));
    }
    stage.expect.equal("runs of good", runs.get("good"), Some(&1));
    Ok(())
}
