//! The README's example does what it says, run after run.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::process::Command;

/// Built beside this test.
fn example() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    test.parent().unwrap().parent().unwrap().join("examples/account")
}

#[test]
fn each_run_goes_on_where_the_last_one_stopped() {
    let dir = tempfile::tempdir().unwrap();
    for run in 0..3 {
        let output = Command::new(example()).current_dir(dir.path()).output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap();
        let wanted = format!("{run} events replayed\nthe balance is {}\n", (run + 1) * 100);
        assert_eq!(printed, wanted, "{}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn the_readme_shows_that_example() {
    let shown = include_str!("../README.md");
    let example = include_str!("../examples/account.rs");
    let code = example.split_once("\n\n").unwrap().1;
    assert!(shown.contains(code), "README.md and examples/account.rs differ");
}
