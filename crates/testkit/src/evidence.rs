//! Lines that passing tests leave behind to be read by people.

use std::io::Write;
use std::path::Path;

/// The variable that names the directory.
const VARIABLE: &str = "RESURGE_EVIDENCE_DIR";

/// Leaves one line of text behind: prints it, and when the environment variable
/// `RESURGE_EVIDENCE_DIR` is set, writes it to the file `slug` in that directory, replacing what was
/// there. Test runners hide what passing tests print; the file is how a number gets out.
///
/// Slugs are `a-z`, `0-9` and `-`. A test passes or fails by its assertions, never by its evidence:
/// what goes wrong here is printed to standard error and nothing else.
///
/// ```
/// resurge_testkit::evidence("orders-crash-points", "812 crash points, 0 lost acknowledgements");
/// ```
pub fn evidence(slug: &str, line: &str) {
    let dir = std::env::var_os(VARIABLE);
    let written = write(slug, line, dir.as_deref().map(Path::new));
    // Not `print`: libraries do not own the output, but this function's purpose is to show a line.
    drop(writeln!(std::io::stdout(), "{slug}: {line}"));
    if let Err(e) = written {
        drop(writeln!(std::io::stderr(), "no evidence for {slug}: {e}"));
    }
}

fn write(slug: &str, line: &str, dir: Option<&Path>) -> std::io::Result<()> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
    if slug.is_empty() || !slug.bytes().all(allowed) || line.contains('\n') {
        let message = "a slug is a-z, 0-9 and -; evidence is one line";
        return Err(std::io::Error::new(std::io::ErrorKind::InvalidInput, message));
    }
    match dir {
        Some(dir) => std::fs::write(dir.join(slug), format!("{line}\n")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::write;

    #[test]
    fn the_line_is_written_and_replaced() {
        let dir = tempfile::tempdir().unwrap();
        write("some-test-1", "1 crash point", Some(dir.path())).unwrap();
        write("some-test-1", "2 crash points", Some(dir.path())).unwrap();
        let text = std::fs::read_to_string(dir.path().join("some-test-1")).unwrap();
        assert_eq!(text, "2 crash points\n");
    }

    #[test]
    fn without_a_directory_nothing_is_written() {
        write("some-test-2", "x", None).unwrap();
    }

    #[test]
    fn bad_slugs_and_lines_are_refused() {
        for (slug, line) in [("", "x"), ("Up", "x"), ("a/b", "x"), ("..", "x"), ("ok", "x\ny")] {
            assert!(write(slug, line, None).is_err(), "{slug:?} {line:?}");
        }
    }
}
