//! Killed children are reaped, what they said is kept, and what they said too early is caught.
#![cfg(unix)]
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use resurge_testkit::Failure;
use resurge_testkit::kill::{Child, KillLoop, KillReport};

const LONG: Duration = Duration::from_secs(60);

fn sh(script: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    command
}

fn alive(pid: u32) -> bool {
    sh(&format!("kill -0 {pid} 2>/dev/null")).status().unwrap().success()
}

#[test]
fn a_child_is_read_and_killed() {
    let mut child = Child::spawn(&mut sh("echo one; echo two; exec sleep 600")).unwrap();
    let pid = child.id();
    assert_eq!(child.next_line(LONG).as_deref(), Some("one"));
    assert_eq!(child.next_line(LONG).as_deref(), Some("two"));
    assert!(alive(pid));
    let ended = child.kill().unwrap();
    assert!(ended.killed && !ended.status.success());
    assert_eq!(ended.lines, ["one", "two"]);
    assert!(!alive(pid), "not reaped");
}

#[test]
fn a_dropped_child_does_not_live_on() {
    let child = Child::spawn(&mut sh("exec sleep 600")).unwrap();
    let pid = child.id();
    drop(child);
    assert!(!alive(pid));
}

#[test]
fn a_child_may_end_by_itself() {
    let ended = Child::spawn(&mut sh("echo done; exit 3")).unwrap().run_for(LONG).unwrap();
    assert!(!ended.killed);
    assert_eq!(ended.status.code(), Some(3));
    assert_eq!(ended.lines, ["done"]);
}

#[test]
fn a_line_cut_short_was_not_said() {
    let mut child = Child::spawn(&mut sh("echo whole; printf half; exec sleep 600")).unwrap();
    child.next_line(LONG).unwrap();
    // Nothing more comes: half a line is none.
    assert_eq!(child.next_line(Duration::from_millis(50)), None);
    assert_eq!(child.kill().unwrap().lines, ["whole"]);
}

#[test]
fn a_talkative_child_can_be_killed() {
    let child = Child::spawn(&mut sh("while :; do echo 0123456789; done")).unwrap();
    let ended = child.run_for(Duration::from_millis(100)).unwrap();
    assert!(ended.killed);
    assert!(ended.lines.iter().all(|line| line == "0123456789"));
}

/// Counts up in a file and says each number: after it is in the file, or (wrong) before.
fn count_in(dir: &Path, kill_loop: &KillLoop, order: [&str; 2]) -> Result<KillReport, Failure> {
    let path = dir.join("numbers");
    std::fs::write(&path, "").unwrap();
    let file = path.display().to_string();
    let [first, second] = order.map(|step| step.replace("FILE", &file));
    let script = format!("i=$(wc -l <{file}); while :; do i=$((i+1)); {first}; {second}; done");
    let mut said = 0;
    kill_loop.run(
        |_| sh(&script),
        |ended| {
            let text = std::fs::read_to_string(&path)?;
            let written = text.lines().count();
            for line in &ended.lines {
                said = said.max(line.parse::<usize>()?);
            }
            if said > written {
                return Err(format!("{said} was said, {written} are there").into());
            }
            Ok(())
        },
    )
}

#[test]
fn a_loop_kills_and_verifies_and_catches_who_speaks_too_early() {
    let dir = tempfile::tempdir().unwrap();
    let (write, say) = ("echo $i >>FILE", "echo $i");
    let fast = KillLoop::new(20).kill_within(Duration::from_millis(20)).seed(3);
    let report = count_in(dir.path(), &fast, [write, say]).unwrap();
    assert_eq!((report.cycles, report.kills), (20, 20));
    // Speaking first leaves a window of half the time: 200 kills do not all miss it.
    let planted = KillLoop::new(200).kill_within(Duration::from_millis(20)).seed(3);
    let caught = count_in(dir.path(), &planted, [say, write]).unwrap_err().to_string();
    assert!(caught.contains("seed 3") && caught.contains("was said"), "{caught}");
}

#[test]
fn a_loop_ends_in_time() {
    let none = KillLoop::new(1_000).within(Duration::ZERO);
    assert_eq!(none.run(|_| sh("exit 1"), |_| Ok(())).unwrap(), KillReport::default());
}

#[test]
fn a_verdict_ends_the_loop() {
    let mut seen = 0;
    let failed = KillLoop::new(5).kill_within(Duration::from_millis(1)).run(
        |_| sh("echo up; exec sleep 600"),
        |ended| {
            seen = ended.cycle;
            if ended.cycle == 2 { Err("enough".into()) } else { Ok(()) }
        },
    );
    assert!(failed.unwrap_err().to_string().starts_with("cycle 2 of seed 1: enough"));
    assert_eq!(seen, 2);
}

#[test]
fn most_children_live_to_say_something_and_some_do_not() {
    let mut silent = 0;
    let instant = KillLoop::new(40).kill_within(Duration::from_micros(1));
    let report = instant.run(
        |_| sh("sleep 0.02; echo up; exec sleep 600"),
        |ended| {
            silent += u64::from(ended.lines.is_empty());
            Ok(())
        },
    );
    assert_eq!(report.unwrap().kills, 40);
    assert!((1..20).contains(&silent), "{silent} of 40 were killed at their start");
}

#[test]
fn what_cannot_be_started_is_an_error() {
    let missing = KillLoop::new(1).run(|_| Command::new("/no/such/program"), |_| Ok(()));
    assert!(missing.unwrap_err().to_string().starts_with("cycle 0"));
}
