//! A short run of the whole program: nothing is lost, and what is planted is found.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::process::Command;

/// Whether it was content, and its last line.
fn run(args: &[&str]) -> (bool, String) {
    let (clean, text) = run_and_read(args);
    (clean, text.lines().last().unwrap_or_default().to_owned())
}

/// Whether it was content, and all it said.
fn run_and_read(args: &[&str]) -> (bool, String) {
    // What it keeps for inspection is not kept here.
    let dir = tempfile::tempdir().unwrap();
    let mut program = Command::new(env!("CARGO_BIN_EXE_resurge-crash"));
    let output = program.args(args).env("TMPDIR", dir.path()).output().unwrap();
    (output.status.success(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn nothing_acknowledged_is_lost() {
    let (clean, line) = run(&["--cycles", "6", "--seed", "2"]);
    assert!(clean && line.starts_with("cycles=6 acknowledged="), "{line}");
    assert!(line.ends_with(" lost=0 unopenable=0"), "{line}");
    resurge_testkit::evidence("crash-kill-9", &line);
}

#[test]
fn speaking_too_early_is_found() {
    for bug in ["early-batch", "early-log", "early-event"] {
        let (clean, line) = run(&["--cycles", "60", "--plant", bug]);
        assert!(!clean && !line.contains(" lost=0 "), "{bug}: {line}");
    }
}

#[test]
fn half_a_batch_is_found() {
    let (clean, line) = run(&["--cycles", "60", "--plant", "half"]);
    assert!(!clean && line.contains(" lost=0 "), "{line}");
}

#[test]
fn workflows_end_and_no_step_is_repeated_that_was_over() {
    let (clean, line) = run(&["flows", "--cycles", "6", "--seed", "3"]);
    assert!(clean && line.starts_with("cycles=6 started="), "{line}");
    assert!(line.contains(" lost=0 wrong=0 ") && !line.contains(" repeated=0 "), "{line}");
    resurge_testkit::evidence("crash-kill-9-flows", &line);
}

#[test]
fn workflows_gone_wrong_are_found() {
    let (clean, line) = run(&["flows", "--cycles", "40", "--plant", "early-start"]);
    assert!(!clean && !line.contains(" lost=0 "), "{line}");
    for bug in ["deferred", "forgetful"] {
        let (clean, line) = run(&["flows", "--cycles", "20", "--plant", bug]);
        assert!(!clean && !line.contains(" wrong=0 "), "{bug}: {line}");
    }
}

#[test]
fn sessions_come_back_to_those_who_had_them_and_to_nobody_else() {
    let (clean, line) = run(&["sessions", "--cycles", "6", "--seed", "4"]);
    assert!(clean && line.starts_with("cycles=6 clients=32 saves="), "{line}");
    assert!(line.ends_with(" lost=0 crossed=0 replayed=0 unopenable=0"), "{line}");
    assert!(!line.contains("saves=0 ") && !line.contains("rotated=0 "), "{line}");
    resurge_testkit::evidence("crash-kill-9-sessions", &line);
}

#[test]
fn a_server_that_gets_sessions_wrong_is_found() {
    for (bug, found) in [
        ("early-save", "lost"),
        ("forgiving", "replayed"),
        ("reusable", "replayed"),
        ("immortal", "replayed"),
        ("undead", "replayed"),
        ("crossed", "crossed"),
        ("unfenced", "stale"),
        ("clear", "leaked"),
        ("unlimited", "wrong"),
        ("orphan", "wrong"),
    ] {
        let (clean, text) = run_and_read(&["sessions", "--cycles", "60", "--plant", bug]);
        let missed = |word: &str| word.strip_prefix(found) == Some("=0");
        assert!(text.contains(&format!("{found}=")), "{bug}: {text}");
        // The counts are in the last two lines; those before are of cycles before it was found.
        let mut last = text.lines().rev().take(2).flat_map(str::split_whitespace);
        assert!(!clean && !last.any(missed), "{bug}: {text}");
    }
}

/// Power cuts, with the last line for each file system; `None` where there can be none.
fn cut(args: &[&str]) -> Option<(bool, Vec<String>)> {
    let mut program = Command::new(env!("CARGO_BIN_EXE_resurge-crash"));
    let output = program.arg("powercut").args(args).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    if let Some(skipped) = text.lines().find(|line| line.starts_with("SKIPPED")) {
        resurge_testkit::evidence("crash-power-cuts", skipped);
    }
    let lines = text.lines().filter(|line| line.contains(" cycles="));
    let lines: Vec<_> = lines.map(str::to_owned).collect();
    assert!(!lines.is_empty() || text.starts_with("SKIPPED"), "{text}");
    (!lines.is_empty()).then(|| (output.status.success(), lines))
}

#[test]
fn nothing_acknowledged_is_lost_by_power_cuts() {
    let Some((clean, lines)) = cut(&["--cycles", "4"]) else { return };
    for line in &lines {
        assert!(line.contains(" cycles=4 ") && line.ends_with(" lost=0 unopenable=0"), "{line}");
        assert!(!line.contains("acknowledged=0 "), "{line}");
    }
    assert!(clean);
    resurge_testkit::evidence("crash-power-cuts", &lines.join("; "));
}

#[test]
fn sessions_survive_power_cuts() {
    let Some((clean, lines)) = cut(&["sessions", "--cycles", "4"]) else { return };
    for line in &lines {
        assert!(line.contains(" cycles=4 ") && !line.contains("saves=0 "), "{line}");
        assert!(line.ends_with(" lost=0 crossed=0 replayed=0 unopenable=0"), "{line}");
    }
    assert!(clean);
    resurge_testkit::evidence("crash-power-cuts-sessions", &lines.join("; "));
}

#[test]
fn a_disk_that_is_never_synced_is_found() {
    for victim in [&[][..], &["sessions"]] {
        let args = [victim, &["--cycles", "6", "--plant", "no-sync"]].concat();
        let Some((clean, lines)) = cut(&args) else { return };
        assert!(!clean, "{lines:?}");
    }
}
