//! Runs named steps one after the other, shows where it is, and sums up at the end.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::Result;

/// How a step ended when nothing went wrong.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Done {
    Ran,
    /// It could not run here, and that is acceptable here; the text says why.
    Skipped(String),
}

/// A named piece of work.
pub(crate) struct Step<'a> {
    name: &'static str,
    work: Box<dyn FnOnce() -> Result<Done> + 'a>,
}

impl<'a> Step<'a> {
    pub(crate) fn new(name: &'static str, work: impl FnOnce() -> Result<Done> + 'a) -> Self {
        Step { name, work: Box::new(work) }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }
}

struct Line {
    name: &'static str,
    result: String,
    elapsed: Duration,
}

/// Runs the steps in order and prints a table of what happened.
///
/// Stops at the first failure unless `keep_going`; the error names every step that failed.
pub(crate) fn run(steps: Vec<Step<'_>>, keep_going: bool) -> Result<()> {
    let total = steps.len();
    let mut lines = Vec::with_capacity(total);
    let mut failed = Vec::new();
    for (i, step) in steps.into_iter().enumerate() {
        let name = step.name;
        if !failed.is_empty() && !keep_going {
            lines.push(Line { name, result: "not run".into(), elapsed: Duration::ZERO });
            continue;
        }
        println!("\n[{}/{total}] {name}", i + 1);
        let start = now();
        let result = match (step.work)() {
            Ok(Done::Ran) => "ok".to_owned(),
            Ok(Done::Skipped(why)) => format!("SKIPPED: {why}"),
            Err(error) => {
                failed.push(name);
                format!("FAILED: {error}")
            }
        };
        let elapsed = start.elapsed();
        println!("[{}/{total}] {name}: {result} ({})", i + 1, seconds(elapsed));
        lines.push(Line { name, result, elapsed });
    }
    println!("\n{:<10} {:>8}  result", "step", "time");
    for Line { name, result, elapsed } in lines {
        println!("{name:<10} {:>8}  {result}", seconds(elapsed));
    }
    if failed.is_empty() { Ok(()) } else { Err(format!("failed: {}", failed.join(", ")).into()) }
}

/// Runs a program with the user's terminal, no input; anything but exit status 0 is an error.
pub(crate) fn execute(command: &mut Command) -> Result<()> {
    let shown = shown(command);
    println!("  $ {shown}");
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("`{shown}`: {status}").into()) }
}

/// The same; what it prints is shown, and returned.
pub(crate) fn execute_and_read(command: &mut Command) -> Result<String> {
    let shown = shown(command);
    println!("  $ {shown}");
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot start `{shown}`: {error}"))?;
    let mut text = String::new();
    if let Some(output) = child.stdout.take() {
        for line in BufReader::new(output).lines() {
            let line = line?;
            println!("{line}");
            text.push_str(&line);
            text.push('\n');
        }
    }
    let status = child.wait()?;
    if status.success() { Ok(text) } else { Err(format!("`{shown}`: {status}").into()) }
}

/// `cargo` with these arguments, in the workspace root.
pub(crate) fn cargo<'a>(args: impl IntoIterator<Item = &'a str>) -> Command {
    // Set by cargo for the programs it runs: the very cargo the user called.
    let program = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(program);
    command.args(args).current_dir(crate::workspace::root());
    command
}

/// The time limits and the progress display are about real time.
#[expect(clippy::disallowed_methods, reason = "a person waits in real time")]
pub(crate) fn now() -> Instant {
    Instant::now()
}

pub(crate) fn seconds(elapsed: Duration) -> String {
    format!("{:.1} s", elapsed.as_secs_f64())
}

fn shown(command: &Command) -> String {
    let program = std::path::Path::new(command.get_program());
    let program = program.file_name().unwrap_or(command.get_program()).to_string_lossy();
    let args = command.get_args().map(|arg| arg.to_string_lossy());
    std::iter::once(program).chain(args).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;

    fn steps<'a>(log: &'a RefCell<Vec<&'static str>>) -> Vec<Step<'a>> {
        let step = |name: &'static str, work: fn() -> Result<Done>| {
            Step::new(name, move || {
                log.borrow_mut().push(name);
                work()
            })
        };
        vec![
            step("first", || Ok(Done::Ran)),
            step("second", || Err("planted".into())),
            step("third", || Ok(Done::Skipped("not here".into()))),
            step("fourth", || Err("planted".into())),
        ]
    }

    #[test]
    fn stops_at_the_first_failure() {
        let log = RefCell::default();
        let error = run(steps(&log), false).unwrap_err();
        assert_eq!(error.to_string(), "failed: second");
        assert_eq!(log.into_inner(), ["first", "second"]);
    }

    #[test]
    fn keep_going_runs_all_and_names_every_failure() {
        let log = RefCell::default();
        let error = run(steps(&log), true).unwrap_err();
        assert_eq!(error.to_string(), "failed: second, fourth");
        assert_eq!(log.into_inner(), ["first", "second", "third", "fourth"]);
    }

    #[test]
    fn skipping_is_no_failure() {
        let step = Step::new("only", || Ok(Done::Skipped("not here".into())));
        assert!(run(vec![step], false).is_ok());
    }

    #[test]
    fn a_failing_program_is_an_error_that_names_it() {
        assert!(execute(&mut Command::new("true")).is_ok());
        let error = execute(Command::new("false").arg("-x")).unwrap_err();
        assert!(error.to_string().starts_with("`false -x`: exit status"), "{error}");
        assert_eq!(execute_and_read(Command::new("echo").arg("said")).unwrap(), "said\n");
        assert!(execute_and_read(&mut Command::new("false")).is_err());
        let error = execute(&mut Command::new("no-such-program")).unwrap_err();
        assert!(error.to_string().starts_with("cannot start `no-such-program`"), "{error}");
    }
}
