//! Rules about the text of source files.

use std::path::Path;

use super::assert_clean;
use super::files::{self, File};

/// A file over this is refused, tests apart.
const MAX_LINES: usize = 800;

/// A file over this is listed, to be looked at.
const LONG_LINES: usize = 500;

/// Names that say nothing about what is inside.
const VAGUE: [&str; 7] = ["util", "utils", "helper", "helpers", "common", "misc", "stuff"];

/// Written apart so that this file does not violate its own rules.
const ANYWHERE: [(&str, &str); 6] = [
    (concat!("#[should_", "panic"), "assert on the error instead"),
    (concat!("#[ign", "ore"), "a test that does not run proves nothing"),
    (concat!("to", "do!("), "finish it"),
    (concat!("unimpl", "emented!("), "finish it"),
    (concat!("FIX", "ME"), "fix it"),
    (concat!("XX", "X"), "say what it is"),
];

const IN_LIBRARIES: [(&str, &str); 3] = [
    (concat!("SystemTime::", "now"), "time is injected: resurge_store::Clock"),
    (concat!("Instant::", "now"), "time is injected: resurge_store::Clock"),
    (concat!("print", "ln!("), "libraries use tracing"),
];

fn violations(file: &File) -> Vec<String> {
    let path = &file.path;
    let mut found = layout(file);
    // Unfinished work is unfinished in comments, too.
    if file.is("rs") || file.is("js") || file.is("ts") {
        for (i, line) in file.text.lines().enumerate() {
            for (pattern, advice) in ANYWHERE {
                if line.contains(pattern) {
                    found.push(format!("{path}:{}: `{pattern}`: {advice}", i + 1));
                }
            }
        }
    }
    if file.is("js") {
        found.extend(script(file));
    }
    if !file.is("rs") {
        return found;
    }
    let first = file.text.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    if !first.starts_with("//!") && !first.starts_with("#![doc = include_str!") {
        found.push(format!("{path}: starts without `//!`: say which question the file answers"));
    }
    if file.text.lines().count() > MAX_LINES && !file.is_test() {
        found.push(format!("{path}: over {MAX_LINES} lines: find the two things it does"));
    }
    let clock = path.starts_with("crates/store/src/clock");
    let library =
        if file.is_library() && !file.is_test() && !clock { &IN_LIBRARIES[..] } else { &[] };
    for (number, line) in file.code() {
        for (pattern, advice) in library {
            if line.contains(pattern) {
                found.push(format!("{path}:{number}: `{pattern}`: {advice}"));
            }
        }
    }
    found
}

/// What holds for scripts: they say what they are for, log nothing, and need nothing.
fn script(file: &File) -> Vec<String> {
    let path = &file.path;
    let mut found = Vec::new();
    if !file.text.starts_with("// ") {
        found.push(format!("{path}: starts without `// `: say which question the file answers"));
    }
    if file.text.lines().count() > MAX_LINES {
        found.push(format!("{path}: over {MAX_LINES} lines: find the two things it does"));
    }
    if path.starts_with("crates/") {
        for (number, line) in file.code() {
            if line.contains("console.") {
                found.push(format!("{path}:{number}: `console.`: a library does not print"));
            }
        }
    }
    found
}

/// What holds for every text file.
fn layout(file: &File) -> Vec<String> {
    let path = &file.path;
    let mut found = Vec::new();
    let stems = Path::new(path).iter().filter_map(|part| Path::new(part).file_stem()?.to_str());
    for stem in stems {
        if VAGUE.contains(&stem) {
            found.push(format!("{path}: `{stem}` says nothing: name what is inside"));
        }
    }
    if !file.text.is_empty() && !file.text.ends_with('\n') {
        found.push(format!("{path}: does not end with a newline"));
    }
    for (i, line) in file.text.lines().enumerate() {
        if line.ends_with([' ', '\t', '\r']) {
            found.push(format!("{path}:{}: trailing whitespace", i + 1));
        }
        if !line.is_ascii() && !file.is("md") {
            found.push(format!("{path}:{}: not ASCII: write an escape", i + 1));
        }
    }
    found
}

#[test]
fn the_source_files_follow_the_rules() {
    let files = files::all();
    let found: Vec<String> = files.iter().flat_map(violations).collect();
    assert_clean(&found);
    let long = |f: &&File| f.is("rs") && !f.is_test() && f.text.lines().count() > LONG_LINES;
    let long: Vec<_> = files.iter().filter(long).map(|f| f.path.as_str()).collect();
    if let Some(dir) = std::env::var_os(crate::evidence::VARIABLE) {
        let line = format!("{} files over {LONG_LINES} lines {}\n", long.len(), long.join(" "));
        std::fs::write(Path::new(&dir).join("tidy-long-files"), line).unwrap();
    }
}

#[test]
fn planted_violations_are_found() {
    let ok = "//! Why.\n";
    let (panics, skipped) = (ANYWHERE[0].0, ANYWHERE[1].0);
    let (unfinished, printing, now) = (ANYWHERE[2].0, IN_LIBRARIES[2].0, IN_LIBRARIES[1].0);
    for (path, text) in [
        ("crates/wal/src/a.rs", "fn a() {}\n".to_owned()),
        ("crates/wal/src/utils.rs", ok.to_owned()),
        ("crates/wal/tests/common/mod.rs", ok.to_owned()),
        ("crates/wal/src/a.rs", format!("{ok}{}", "//\n".repeat(MAX_LINES))),
        ("crates/wal/src/a.rs", "//! Why.".to_owned()),
        ("crates/wal/src/a.rs", "//! Why. \n".to_owned()),
        ("crates/wal/src/a.rs", "//! Wh\u{fd}.\n".to_owned()),
        ("crates/wal/tests/a.rs", format!("{ok}{panics}]\n")),
        ("crates/wal/tests/a.rs", format!("{ok}{skipped} = \"slow\"]\n")),
        ("xtask/src/a.rs", format!("{ok}{unfinished})\n")),
        ("crates/wal/src/a.rs", format!("{ok}    {printing}\"\")\n")),
        ("crates/wal/src/a.rs", format!("{ok}let t = {now}();\n")),
        ("crates/wal/client/a.js", "let a;\n".to_owned()),
        ("crates/wal/client/a.js", "// Why.\n  console.log(1);\n".to_owned()),
        ("crates/wal/client/a.js", format!("// Why.\n{}", "//\n".repeat(MAX_LINES))),
        ("crates/wal/client/a.js", format!("// Why: {}\n", ANYWHERE[4].0)),
        ("crates/wal/client/a.d.ts", "// Wh\u{fd}.\n".to_owned()),
    ] {
        let found = violations(&File::new(path, &text));
        assert_eq!(found.len(), 1, "{path} {text:.40?}: {found:?}");
    }
}

#[test]
fn what_is_allowed_passes() {
    let ok = "//! Why.\n";
    let now = IN_LIBRARIES[1].0;
    for (path, text) in [
        ("crates/wal/src/lib.rs", "#![doc = include_str!(\"../README.md\")]\n".to_owned()),
        ("crates/store/src/clock.rs", format!("{ok}let t = {now}();\n")),
        ("crates/store/src/clock/system.rs", format!("{ok}let t = {now}();\n")),
        ("crates/wal/src/a.rs", format!("{ok}// never {now}\n")),
        ("xtask/bench/src/a.rs", format!("{ok}let t = {now}();\n")),
        ("crates/wal/src/log/tests.rs", format!("{ok}{}", "//\n".repeat(MAX_LINES))),
        ("examples/a/page.js", "// Why.\nconsole.log(1);\n".to_owned()),
        ("docs/a.md", "Gr\u{fc}n\n".to_owned()),
    ] {
        assert_clean(&violations(&File::new(path, &text)));
    }
}
