//! The integration demos: run each in child processes, show what it prints, compare it.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::Duration;

use crate::steps::{cargo, execute, now, seconds};
use crate::workspace::{self, Workspace};
use crate::{Result, transcript};

/// A program in `examples/<name>` that shows something end to end.
struct Demo {
    name: &'static str,
    package: &'static str,
    bin: &'static str,
    /// It is run with each of these, and prints the same.
    runs: &'static [&'static [&'static str]],
    limit: Duration,
    about: &'static str,
}

const DEMOS: &[Demo] = &[
    Demo {
        name: "breaker-http",
        package: "resurge-breaker-http-example",
        bin: "resurge-breaker-http-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(60),
        about: "a breaker answers for an axum service whose backend is down, until probes find it mended",
    },
    Demo {
        name: "crash-recovery",
        package: "resurge-crash-recovery-example",
        bin: "resurge-crash-recovery-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(60),
        about: "a pipeline is killed in its second step; the first one is not run again",
    },
    Demo {
        name: "exactly-once",
        package: "resurge-exactly-once-example",
        bin: "resurge-exactly-once-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(60),
        about: "a memoised step runs once for each input, whatever runs and processes ask for it",
    },
    Demo {
        name: "reconnect",
        package: "resurge-reconnect-example",
        bin: "resurge-reconnect-example",
        runs: &[&["demo"], &["demo", "--client"]],
        limit: Duration::from_secs(120),
        about: "a page in Chromium (or a client) whose server is killed comes back by itself, with its state",
    },
    Demo {
        name: "recover",
        package: "resurge-recover-example",
        bin: "resurge-recover-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(120),
        about: "a failed run is recovered by another process; seventeen failures, each recovery gets to the next",
    },
    Demo {
        name: "scheduler",
        package: "resurge-scheduler-example",
        bin: "resurge-scheduler-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(120),
        about: "a job scheduler is killed with SIGKILL, again and again, and loses no job",
    },
    Demo {
        name: "secrets",
        package: "resurge-secrets-example",
        bin: "resurge-secrets-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(120),
        about: "a run full of secrets fails, is killed, meets a wrong key, ends; no file holds one",
    },
    Demo {
        name: "supervisor",
        package: "resurge-supervisor-example",
        bin: "resurge-supervisor-example",
        runs: &[&["demo"]],
        limit: Duration::from_secs(120),
        about: "a service breaks in every way and is repaired by its supervisor, which is killed while it does",
    },
];

/// How often a child that closed its output is asked whether it ended.
const POLL: Duration = Duration::from_millis(10);

/// Lists the demos, then runs the named one or all of them.
pub(crate) fn command(
    name: Option<&str>,
    list: bool,
    update: bool,
    screenshots: Option<&str>,
) -> Result<()> {
    if name.is_none() || list {
        for demo in DEMOS {
            println!("{:<15} {}", demo.name, demo.about);
        }
    }
    if list {
        return Ok(());
    }
    let workspace = workspace::load()?;
    match name {
        None => DEMOS.iter().try_for_each(|demo| run(demo, &workspace, update, None)),
        Some(name) => run(find(name)?, &workspace, update, screenshots),
    }
}

/// Runs every demo and compares its transcript.
pub(crate) fn run_all(workspace: &Workspace) -> Result<()> {
    DEMOS.iter().try_for_each(|demo| run(demo, workspace, false, None))
}

fn find(name: &str) -> Result<&'static Demo> {
    let names: Vec<_> = DEMOS.iter().map(|demo| demo.name).collect();
    let found = DEMOS.iter().find(|demo| demo.name == name);
    found.ok_or_else(|| format!("no demo `{name}`; there is: {}", names.join(", ")).into())
}

fn run(demo: &Demo, workspace: &Workspace, update: bool, screenshots: Option<&str>) -> Result<()> {
    execute(&mut cargo(["build", "--package", demo.package, "--bin", demo.bin]))?;
    for (i, args) in demo.runs.iter().enumerate() {
        println!("\n== demo {}: {} ==", demo.name, demo.about);
        let start = now();
        let mut command = Command::new(workspace.target.join("debug").join(demo.bin));
        command.args(*args).current_dir(workspace::root());
        // Pictures are what the first run can take.
        if let (0, Some(dir)) = (i, screenshots) {
            command.arg("--screenshots").arg(std::path::absolute(dir)?);
        }
        let (status, lines) = watch(&mut command, demo.limit)?;
        let called = args.join(" ");
        if !status.success() {
            return Err(format!("demo {} ({called}): {status}", demo.name).into());
        }
        println!("== demo {} ({called}): done in {} ==", demo.name, seconds(start.elapsed()));
        // Only the first run writes the expectation; the others must agree with it.
        compare(&expectation(demo.name), &lines, update && i == 0)?;
    }
    Ok(())
}

fn expectation(name: &str) -> PathBuf {
    workspace::root().join("examples").join(name).join("expected.txt")
}

/// Runs a program, shows its output as it comes and returns it. Kills it when it takes too long.
fn watch(command: &mut Command, limit: Duration) -> Result<(ExitStatus, Vec<String>)> {
    let start = now();
    let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn()?;
    let output = lines_of(&mut child);
    let mut lines = Vec::new();
    loop {
        match output.recv_timeout(limit.saturating_sub(start.elapsed())) {
            Ok(line) => {
                println!("{line}");
                lines.push(line);
            }
            Err(RecvTimeoutError::Timeout) => return Err(stop(child, limit)),
            Err(RecvTimeoutError::Disconnected) => break,
        }
    }
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status, lines));
        }
        if start.elapsed() > limit {
            return Err(stop(child, limit));
        }
        std::thread::park_timeout(POLL);
    }
}

fn stop(mut child: Child, limit: Duration) -> Box<dyn std::error::Error> {
    let killed = child.kill().and_then(|()| child.wait());
    let note =
        killed.map_or_else(|error| format!(", and cannot be killed: {error}"), |_| String::new());
    format!("still running after {}{note}", seconds(limit)).into()
}

/// The lines of a child's output, read on a thread of its own so that waiting can end.
fn lines_of(child: &mut Child) -> Receiver<String> {
    let (sender, receiver) = channel();
    if let Some(stdout) = child.stdout.take() {
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(std::result::Result::ok) {
                if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                    break;
                }
            }
        });
    }
    receiver
}

/// Compares the normalised output with the file, if there is one; `update` rewrites it.
fn compare(path: &Path, lines: &[String], update: bool) -> Result<()> {
    let actual = transcript::normalise(lines);
    if update {
        fs::write(path, actual.join("\n") + "\n")?;
        println!("wrote {}", path.display());
        return Ok(());
    }
    if !path.exists() {
        println!("no {} to compare with (--update writes it)", path.display());
        return Ok(());
    }
    let expected = fs::read_to_string(path)?;
    let expected: Vec<String> = expected.lines().map(str::to_owned).collect();
    let difference = transcript::diff(&expected, &actual);
    if difference.is_empty() {
        println!("transcript as expected ({} lines)", actual.len());
        return Ok(());
    }
    println!("\n- {} \n+ this run", path.display());
    for line in difference {
        println!("{line}");
    }
    Err(format!("the transcript differs from {}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    const LONG: Duration = Duration::from_secs(60);

    #[test]
    fn output_and_status_arrive() {
        let (status, lines) = watch(&mut shell("echo one; echo two; exit 3"), LONG).unwrap();
        assert_eq!(status.code(), Some(3));
        assert_eq!(lines, ["one", "two"]);
    }

    #[test]
    fn a_child_past_its_limit_is_killed() {
        let limit = Duration::from_millis(50);
        // A stopped child waits for ever; the second one closes its output first, so that only the
        // status poll can notice.
        for script in ["kill -STOP $$", "exec 1>&-; kill -STOP $$"] {
            let error = watch(&mut shell(script), limit).unwrap_err();
            assert!(error.to_string().starts_with("still running"), "{script}: {error}");
        }
    }

    #[test]
    fn a_transcript_must_match_once_it_is_written() {
        let path = std::env::temp_dir().join(format!("resurge-expected-{}", std::process::id()));
        let lines = |n: u32| vec![format!("Recovered {n} jobs in {n}.5ms")];
        assert!(compare(&path, &lines(5), false).is_ok(), "nothing to compare with yet");
        compare(&path, &lines(5), true).unwrap();
        let written = fs::read_to_string(&path).unwrap();
        let same = compare(&path, &["Recovered 5 jobs in 7s".to_owned()], false);
        let other = compare(&path, &lines(6), false);
        fs::remove_file(&path).unwrap();
        assert_eq!(written, "Recovered 5 jobs in <time>\n");
        assert!(same.is_ok());
        assert!(other.is_err());
    }

    #[test]
    fn every_demo_has_a_folder_and_a_package_with_that_binary() {
        let workspace = workspace::load().unwrap();
        for demo in DEMOS {
            let package = workspace.packages.iter().find(|p| p.name == demo.package);
            let package = package.unwrap_or_else(|| panic!("no package {}", demo.package));
            let folder = workspace::root().join("examples").join(demo.name);
            assert_eq!(package.manifest.parent(), Some(folder.as_path()));
            let targets = package.raw["targets"].as_array().unwrap();
            assert!(targets.iter().any(|t| t["kind"][0] == "bin" && t["name"] == demo.bin));
            assert_eq!(find(demo.name).unwrap().package, demo.package);
        }
        assert!(find("no-such-demo").is_err());
    }
}
