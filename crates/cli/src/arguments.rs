//! What was asked for.

use std::ffi::OsString;
use std::path::PathBuf;

pub(crate) const HELP: &str = "\
usage:
  resurge verify DIR [--index] [--json]   reads and checks every byte, changes nothing
  resurge inspect DIR [--json]            segments, images, namespaces, logs, snapshots
  resurge backup DIR DEST [--json]        a verified copy
  resurge restore BACKUP DEST [--json]    the way back

DIR is the directory of a store that no process has open; DEST is absent or empty.
--index  also checks a copy of the sled index, made in the directory for temporary files

exit code: 0 all is well, 1 damage found, 2 wrong usage, 3 in use, 4 something else failed
";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) command: Command,
    pub(crate) json: bool,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Verify { dir: PathBuf, index: bool },
    Inspect { dir: PathBuf },
    Backup { dir: PathBuf, dest: PathBuf },
    Restore { backup: PathBuf, dest: PathBuf },
}

/// `None` when help was asked for; otherwise what is wrong.
pub(crate) fn parse(
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Option<Request>, String> {
    let (mut words, mut json, mut index) = (Vec::new(), false, false);
    let mut options = true;
    for argument in arguments {
        match argument.to_str().filter(|_| options) {
            Some("-h" | "--help") => return Ok(None),
            Some("--json") => json = true,
            Some("--index") => index = true,
            // What follows are names, whatever they look like.
            Some("--") => options = false,
            Some(other) if other.starts_with('-') => return Err(format!("unknown option {other}")),
            _ => words.push(argument),
        }
    }
    let mut words = words.into_iter();
    let Some(command) = words.next() else { return Err("say what to do".to_owned()) };
    let command = command.to_string_lossy().into_owned();
    if command == "help" {
        return Ok(None);
    }
    let mut path = |what: &str| {
        words.next().map(PathBuf::from).ok_or_else(|| format!("{command} needs {what}"))
    };
    let parsed = match command.as_str() {
        "verify" => Command::Verify { dir: path("DIR")?, index },
        "inspect" => Command::Inspect { dir: path("DIR")? },
        "backup" => Command::Backup { dir: path("DIR")?, dest: path("DEST")? },
        "restore" => Command::Restore { backup: path("BACKUP")?, dest: path("DEST")? },
        other => return Err(format!("unknown command {other}")),
    };
    if let Some(extra) = words.next() {
        return Err(format!("{} is one argument too many", extra.to_string_lossy()));
    }
    if index && !matches!(parsed, Command::Verify { .. }) {
        return Err("--index goes with verify".to_owned());
    }
    Ok(Some(Request { command: parsed, json }))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Option<Request>, String> {
        parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn options_may_stand_anywhere() {
        for line in ["--json verify d --index", "verify --index d --json"] {
            let command = Command::Verify { dir: "d".into(), index: true };
            assert_eq!(parsed(line), Ok(Some(Request { command, json: true })), "{line}");
        }
        let command = Command::Backup { dir: "--json".into(), dest: "b".into() };
        assert_eq!(parsed("backup -- --json b"), Ok(Some(Request { command, json: false })));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in [
            "",
            "verify",
            "verify a b",
            "backup a",
            "mend a",
            "verify a --fast",
            "inspect a --index",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
        for line in ["help", "--help", "verify -h"] {
            assert_eq!(parsed(line), Ok(None), "{line}");
        }
    }
}
