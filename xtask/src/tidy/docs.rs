//! READMEs are crate documentation, and their examples run.

use super::assert_clean;
use super::files::{self, File};
use crate::workspace;

const FACADE: &str = "crates/resurge/README.md";

/// What makes a code block one that is never compiled.
const NOT_RUN: [&str; 2] = ["ignore", "compile_fail"];

fn violations(files: &[File]) -> Vec<String> {
    let text = |path: &str| files.iter().find(|f| f.path == path).map(|f| f.text.as_str());
    let mut found = Vec::new();
    if text("README.md") != text(FACADE) {
        found.push(format!("README.md and {FACADE} differ: `cp README.md {FACADE}`"));
    }
    for file in files.iter().filter(|f| f.path.starts_with("crates/")) {
        let path = &file.path;
        if path.ends_with("/src/lib.rs")
            && !file.text.contains("#![doc = include_str!(\"../README.md\")]")
        {
            found.push(format!("{path}: its README.md is not its documentation"));
        }
        if !path.ends_with("README.md") {
            continue;
        }
        for (i, line) in file.text.lines().enumerate() {
            let Some(info) = line.trim_start().strip_prefix("```") else { continue };
            if info.split([',', ' ']).any(|word| NOT_RUN.contains(&word)) {
                found.push(format!("{path}:{}: an example that is not run", i + 1));
            }
        }
    }
    found
}

/// Links from our documents to files of the repository.
fn dead_links(file: &File, exists: impl Fn(&str) -> bool) -> Vec<String> {
    const REPOSITORY: &str = "https://github.com/resurge-rs/resurge/blob/main/";
    let dir = file.path.rsplit_once('/').map_or("", |(dir, _)| dir);
    let mut found = Vec::new();
    for (i, line) in file.text.lines().enumerate() {
        for rest in line.split("](").skip(1) {
            let link = rest.split([')', '#', ' ']).next().unwrap_or_default();
            let target = match link.strip_prefix(REPOSITORY) {
                Some(path) => path.to_owned(),
                None if link.is_empty() || link.contains(':') => continue,
                // In documents outside a crate every relative link is a file; inside one,
                // it may be an item, which rustdoc checks.
                None if file.path.starts_with("crates/") => continue,
                None if dir.is_empty() => link.to_owned(),
                None => format!("{dir}/{link}"),
            };
            if !exists(&target) {
                found.push(format!("{}:{}: dead link `{link}`", file.path, i + 1));
            }
        }
    }
    found
}

#[test]
fn readmes_are_documentation_that_runs() {
    assert_clean(&violations(&files::all()));
}

#[test]
fn links_lead_somewhere() {
    let exists = |path: &str| workspace::root().join(path).exists();
    let markdown = files::all().into_iter().filter(|file| file.is("md"));
    assert_clean(&markdown.flat_map(|file| dead_links(&file, exists)).collect::<Vec<_>>());
}

#[test]
fn planted_violations_are_found() {
    let readme = File::new("README.md", "# resurge\n");
    let facade = File::new(FACADE, "# resurge\n");
    let included = "#![doc = include_str!(\"../README.md\")]\n";
    assert_clean(&violations(&[
        readme.clone(),
        facade.clone(),
        File::new("crates/a/src/lib.rs", included),
    ]));
    for (path, text) in [
        (FACADE, "# another\n"),
        ("crates/a/src/lib.rs", "//! Other text.\n"),
        ("crates/a/README.md", "```rust,ignore\nlet x;\n```\n"),
    ] {
        let mut files = vec![readme.clone(), facade.clone()];
        files.retain(|file| file.path != path);
        files.push(File::new(path, text));
        assert_eq!(violations(&files).len(), 1, "{path}");
    }
    let page = File::new("docs/a.md", "[x](b.md) [y](../README.md#top) [z](https://example.org)\n");
    assert_clean(&dead_links(&page, |path| path == "docs/b.md" || path == "docs/../README.md"));
    assert_eq!(dead_links(&page, |_| false).len(), 2);
}
