//! The command line: what can be asked for, and what it means.

use crate::ci;

/// A command and its options.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Demo { name: Option<String>, list: bool, update: bool, screenshots: Option<String> },
    Test,
    Ci { skip: Vec<String>, keep_going: bool },
    Bench { args: Vec<String> },
    Crash { cycles: u64, victim: Victim },
    Powercut { cycles: u64, sessions: bool },
    Docs { open: bool },
    Fmt,
    Lint,
}

/// What `crash` kills.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Victim {
    Writers,
    Flows,
    Sessions,
}

/// A well-formed command line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Parsed {
    Help(&'static str),
    Run(Command),
}

/// How many times `crash` kills when not told otherwise.
const DEFAULT_CYCLES: u64 = 200;

/// The same of `crash --flows`.
const DEFAULT_FLOWS_CYCLES: u64 = 100;

/// The same of `crash --sessions`.
const DEFAULT_SESSIONS_CYCLES: u64 = 100;

/// How many times `powercut` cuts, on each file system.
const DEFAULT_CUTS: u64 = 40;

const HELP: &str = "\
Developer commands of Resurge.

Usage: cargo xtask <COMMAND> [OPTIONS]

  demo [NAME] [--list] [--update]   run the demos (or one of them), each in child processes, and
                                    compare what they print with examples/<name>/expected.txt;
                                    --list only lists them, --update rewrites the expectation
  demo reconnect --screenshots DIR  the same, with pictures of the pages in DIR
  test                              every test CI runs: unit and integration tests, doctests, tidy,
                                    the client for browsers (with node 18 or newer)
  ci [--skip STEP]... [--keep-going]
                                    everything CI runs; stops at the first failure unless told not to
                                    steps: fmt tidy clippy test doctest client features docs deny demos
                                    crash crash-flows crash-sessions powercut
  bench [--quick] [SECTION]...      measure, beside the raw fdatasync floor of the same run; all of it, or
                                    sections: appends commits peers replay open recovery flows
                                    breaker (beside other crates' breakers, no disk)
                                    session (beside other crates' tokens and sessions)
  crash [--flows | --sessions] [--cycles N]
                                    kill -9 a writing program N times (default 200), verify each time;
                                    with --flows one that runs workflows (default 100), with --sessions
                                    a server whose clients come back (default 100)
  powercut [--sessions] [--cycles N]
                                    shut ext4 and XFS down under it N times each (default 40); needs
                                    root, loop devices and xfsprogs, says SKIPPED where there are none
  docs [--open]                     build the API documentation, warnings are errors
  fmt                               format the workspace in place
  lint                              what CI says about style: fmt --check, clippy, tidy

Exit status: 0 done, 1 something failed, 2 the command line is wrong.";

/// Reads the arguments after `cargo xtask`. The error says what is wrong, in one line.
pub(crate) fn parse(args: &[String]) -> Result<Parsed, String> {
    let mut args = args.iter().map(String::as_str);
    let Some(command) = args.next() else { return Ok(Parsed::Help(HELP)) };
    let rest: Vec<&str> = args.collect();
    if matches!(command, "help" | "-h" | "--help") || rest.iter().any(|a| is_help(a)) {
        return Ok(Parsed::Help(HELP));
    }
    let rest = rest.into_iter();
    let command = match command {
        "demo" => demo(rest)?,
        "test" => none("test", rest, Command::Test)?,
        "ci" => ci(rest)?,
        "bench" => bench(rest)?,
        "crash" => crash(rest)?,
        "powercut" => powercut(rest)?,
        "docs" => Command::Docs { open: switch("docs", "--open", rest)? },
        "fmt" => none("fmt", rest, Command::Fmt)?,
        "lint" => none("lint", rest, Command::Lint)?,
        unknown => return Err(format!("no command `{unknown}`")),
    };
    Ok(Parsed::Run(command))
}

fn is_help(arg: &str) -> bool {
    matches!(arg, "-h" | "--help")
}

fn none<'a>(
    command: &str,
    mut args: impl Iterator<Item = &'a str>,
    parsed: Command,
) -> Result<Command, String> {
    match args.next() {
        None => Ok(parsed),
        Some(arg) => Err(format!("`{command}` takes no argument `{arg}`")),
    }
}

fn switch<'a>(
    command: &str,
    name: &str,
    args: impl Iterator<Item = &'a str>,
) -> Result<bool, String> {
    let mut on = false;
    for arg in args {
        if arg != name {
            return Err(format!("`{command}` takes no argument `{arg}`, only `{name}`"));
        }
        on = true;
    }
    Ok(on)
}

fn demo<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let (mut name, mut list, mut update, mut screenshots) = (None, false, false, None);
    while let Some(arg) = args.next() {
        match arg {
            "--list" => list = true,
            "--update" => update = true,
            "--screenshots" => {
                screenshots = Some(args.next().ok_or("`--screenshots` needs a directory")?);
            }
            flag if flag.starts_with('-') => return Err(format!("`demo` has no option `{flag}`")),
            given if name.is_none() => name = Some(given.to_owned()),
            extra => return Err(format!("`demo` takes one name, `{extra}` is a second one")),
        }
    }
    if screenshots.is_some() && name.as_deref() != Some("reconnect") {
        return Err("`--screenshots` is for `demo reconnect`: the others have no page".to_owned());
    }
    Ok(Command::Demo { name, list, update, screenshots: screenshots.map(str::to_owned) })
}

fn ci<'a>(mut args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let (mut skip, mut keep_going) = (Vec::new(), false);
    while let Some(arg) = args.next() {
        match arg {
            "--keep-going" => keep_going = true,
            "--skip" => {
                let step = args.next().ok_or("`--skip` needs the name of a step")?;
                if !ci::STEPS.contains(&step) {
                    return Err(format!("no step `{step}`; steps: {}", ci::STEPS.join(" ")));
                }
                skip.push(step.to_owned());
            }
            _ => return Err(format!("`ci` has no option `{arg}`")),
        }
    }
    Ok(Command::Ci { skip, keep_going })
}

/// Which sections there are is known to the benchmarks.
fn bench<'a>(args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let args: Vec<String> = args.map(str::to_owned).collect();
    match args.iter().find(|arg| arg.starts_with('-') && *arg != "--quick") {
        Some(flag) => Err(format!("`bench` has no option `{flag}`")),
        None => Ok(Command::Bench { args }),
    }
}

fn crash<'a>(args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let (named, rest): (Vec<_>, Vec<_>) =
        args.partition(|arg| matches!(*arg, "--flows" | "--sessions"));
    let (victim, default) = match named[..] {
        [] => (Victim::Writers, DEFAULT_CYCLES),
        ["--flows"] => (Victim::Flows, DEFAULT_FLOWS_CYCLES),
        ["--sessions"] => (Victim::Sessions, DEFAULT_SESSIONS_CYCLES),
        _ => return Err("`crash` takes one of `--flows` and `--sessions`".to_owned()),
    };
    Ok(Command::Crash { cycles: cycles("crash", default, rest.into_iter())?, victim })
}

fn powercut<'a>(args: impl Iterator<Item = &'a str>) -> Result<Command, String> {
    let (named, rest): (Vec<_>, Vec<_>) = args.partition(|arg| *arg == "--sessions");
    let cycles = cycles("powercut", DEFAULT_CUTS, rest.into_iter())?;
    Ok(Command::Powercut { cycles, sessions: !named.is_empty() })
}

fn cycles<'a>(
    command: &str,
    default: u64,
    mut args: impl Iterator<Item = &'a str>,
) -> Result<u64, String> {
    let mut cycles = default;
    while let Some(arg) = args.next() {
        if arg != "--cycles" {
            return Err(format!("`{command}` has no option `{arg}`"));
        }
        let given = args.next().ok_or("`--cycles` needs a number")?;
        cycles = match given.parse() {
            Ok(n) if n > 0 => n,
            _ => return Err(format!("`--cycles` needs a number above 0, not `{given}`")),
        };
    }
    Ok(cycles)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Parsed, String> {
        parse(&line.split_whitespace().map(str::to_owned).collect::<Vec<_>>())
    }

    fn command(line: &str) -> Command {
        match parsed(line) {
            Ok(Parsed::Run(command)) => command,
            other => panic!("`{line}` gave {other:?}"),
        }
    }

    #[test]
    fn every_command_with_its_options() {
        let demo = |name: Option<&str>, list, update| Command::Demo {
            name: name.map(str::to_owned),
            list,
            update,
            screenshots: None,
        };
        assert_eq!(command("demo"), demo(None, false, false));
        assert_eq!(command("demo --list"), demo(None, true, false));
        assert_eq!(command("demo scheduler --update"), demo(Some("scheduler"), false, true));
        assert_eq!(
            command("demo reconnect --screenshots shots"),
            Command::Demo {
                name: Some("reconnect".into()),
                list: false,
                update: false,
                screenshots: Some("shots".into()),
            }
        );
        assert_eq!(command("test"), Command::Test);
        assert_eq!(command("ci"), Command::Ci { skip: vec![], keep_going: false });
        assert_eq!(
            command("ci --skip test --keep-going --skip crash"),
            Command::Ci { skip: vec!["test".into(), "crash".into()], keep_going: true }
        );
        assert_eq!(command("bench"), Command::Bench { args: vec![] });
        assert_eq!(
            command("bench --quick flows"),
            Command::Bench { args: vec!["--quick".into(), "flows".into()] }
        );
        let crash = |cycles, victim| Command::Crash { cycles, victim };
        assert_eq!(command("crash"), crash(DEFAULT_CYCLES, Victim::Writers));
        assert_eq!(command("crash --cycles 7"), crash(7, Victim::Writers));
        assert_eq!(command("crash --flows"), crash(DEFAULT_FLOWS_CYCLES, Victim::Flows));
        assert_eq!(command("crash --cycles 7 --flows"), crash(7, Victim::Flows));
        assert_eq!(command("crash --sessions"), crash(DEFAULT_SESSIONS_CYCLES, Victim::Sessions));
        assert_eq!(command("crash --sessions --cycles 7"), crash(7, Victim::Sessions));
        let cut = |cycles, sessions| Command::Powercut { cycles, sessions };
        assert_eq!(command("powercut"), cut(DEFAULT_CUTS, false));
        assert_eq!(command("powercut --cycles 7"), cut(7, false));
        assert_eq!(command("powercut --cycles 7 --sessions"), cut(7, true));
        assert_eq!(command("docs --open"), Command::Docs { open: true });
        assert_eq!(command("fmt"), Command::Fmt);
        assert_eq!(command("lint"), Command::Lint);
    }

    #[test]
    fn help_is_found_everywhere_and_names_every_step() {
        for line in ["", "help", "--help", "-h", "ci --help", "demo -h"] {
            assert_eq!(parsed(line), Ok(Parsed::Help(HELP)), "`{line}`");
        }
        let words: Vec<&str> = HELP.split_whitespace().collect();
        assert!(words.join(" ").contains(&ci::STEPS.join(" ")));
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, expected) in [
            ("dmeo", "no command `dmeo`"),
            ("test -v", "`test` takes no argument `-v`"),
            ("demo a b", "`demo` takes one name, `b` is a second one"),
            ("demo --fast", "`demo` has no option `--fast`"),
            ("demo reconnect --screenshots", "`--screenshots` needs a directory"),
            (
                "demo scheduler --screenshots shots",
                "`--screenshots` is for `demo reconnect`: the others have no page",
            ),
            ("crash --cycles", "`--cycles` needs a number"),
            ("crash --cycles 0", "`--cycles` needs a number above 0, not `0`"),
            ("crash --cycles many", "`--cycles` needs a number above 0, not `many`"),
            ("powercut now", "`powercut` has no option `now`"),
            ("crash now", "`crash` has no option `now`"),
            ("crash --flows --sessions", "`crash` takes one of `--flows` and `--sessions`"),
            ("ci --skip", "`--skip` needs the name of a step"),
            ("ci --fast", "`ci` has no option `--fast`"),
            ("bench --open", "`bench` has no option `--open`"),
        ] {
            assert_eq!(parsed(line), Err(expected.to_owned()), "`{line}`");
        }
        assert!(parsed("ci --skip tests").is_err_and(|e| e.starts_with("no step `tests`")));
    }
}
