//! The examples that README and guide show do what they say, run after run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Built beside this test.
fn example(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples").join(name)
}

/// What an example prints, run in `dir`.
fn printed(name: &str, dir: &Path) -> String {
    let mut command = Command::new(example(name));
    let output = command.current_dir(dir).stdin(Stdio::null()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The code of an example, without what only its build needs.
fn shown(example: &str) -> &str {
    example.split_once("\n\n").unwrap().1
}

#[test]
fn an_account_goes_on_where_the_last_run_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let wanted = format!("{run} events replayed\nthe balance is {}\n", (run + 1) * 100);
        assert_eq!(printed("account", dir.path()), wanted);
    }
}

#[test]
fn an_order_is_placed_once() {
    let dir = tempfile::tempdir().unwrap();
    let done = "done: book, then reserve, then charge, then ship\n";
    let steps = "reserve book\ncharge book, then reserve\nship book, then reserve, then charge\n";
    assert_eq!(printed("order", dir.path()), format!("{steps}{done}"));
    for _ in 0..2 {
        assert_eq!(printed("order", dir.path()), done);
    }
}

#[test]
fn the_readme_shows_that_order() {
    let readme = include_str!("../README.md");
    assert!(readme.contains(shown(include_str!("../examples/order.rs"))));
}

/// Runs the guide's flow up to its second step, and kills it there.
fn killed_while_charging(dir: &Path) -> Vec<String> {
    let mut command = Command::new(example("first_flow"));
    command.current_dir(dir).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut lines = Vec::new();
    for line in BufReader::new(child.stdout.take().unwrap()).lines() {
        lines.push(line.unwrap());
        if lines.last().unwrap().starts_with("charging") {
            break;
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();
    lines
}

const CHARGING: &str = "charging; kill me now, or press Enter to let the payment through";

#[test]
fn the_guides_flow_survives_kill_9() {
    let dir = tempfile::tempdir().unwrap();
    let killed = killed_while_charging(dir.path());
    assert_eq!(killed, ["0 unfinished runs found", "reserving a book", CHARGING]);
    for _ in 0..2 {
        // Interleaved: the run is recovered while `main` goes on.
        let mut killed = killed_while_charging(dir.path());
        killed.sort();
        assert_eq!(killed.last().unwrap(), CHARGING);
        assert!(!killed.iter().any(|line| line.starts_with("reserving")), "{killed:?}");
    }

    let mut command = Command::new(example("first_flow"));
    command.current_dir(dir.path()).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"\n").unwrap();
    let output = child.wait_with_output().unwrap();
    let mut lines: Vec<_> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines.pop(), Some("done: receipt for a book"));
    lines.sort_unstable();
    assert_eq!(lines, ["1 unfinished runs found", CHARGING, "shipping from shelf 7"]);

    let again = printed("first_flow", dir.path());
    assert_eq!(again, "0 unfinished runs found\ndone: receipt for a book\n");
}

#[test]
fn the_guide_shows_that_flow() {
    let guide = include_str!("../../../docs/guide/first-flow.md");
    assert!(guide.contains(shown(include_str!("../examples/first_flow.rs"))));
}
