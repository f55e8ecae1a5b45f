//! Every metric in the code is in `docs/metrics.md`, and the other way round.
//!
//! All names start with `resurge_`, and no other string literal does; so a name is found wherever
//! it is written, in the macro or in a constant.

use std::collections::BTreeSet;

use super::assert_clean;
use super::files::{self, File};

const PAGE: &str = "docs/metrics.md";
const MACROS: [&str; 6] = [
    "counter!(",
    "gauge!(",
    "histogram!(",
    "describe_counter!(",
    "describe_gauge!(",
    "describe_histogram!(",
];

fn violations(sources: &[File], page: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut used = BTreeSet::new();
    for file in sources.iter().filter(|file| file.is_library() && !file.is_test()) {
        for (number, line) in file.code() {
            // Every second part of a line split at quotes is a literal.
            used.extend(line.split('"').skip(1).step_by(2).filter(|text| is_name(text)));
            for call in MACROS {
                let literal = line.split_once(call).and_then(|(_, after)| after.strip_prefix('"'));
                if literal.is_some_and(|name| !name.starts_with("resurge_")) {
                    let path = &file.path;
                    found.push(format!("{path}:{number}: metric names start with `resurge_`"));
                }
            }
        }
    }
    let listed: BTreeSet<&str> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name))
        .collect();
    found.extend(used.difference(&listed).map(|name| format!("{PAGE} does not list `{name}`")));
    found.extend(
        listed.difference(&used).map(|name| format!("{PAGE} lists `{name}`: not in the code")),
    );
    found
}

fn is_name(text: &str) -> bool {
    text.strip_prefix("resurge_").is_some_and(|rest| {
        !rest.is_empty()
            && rest.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
    })
}

#[test]
fn the_page_lists_the_metrics_of_the_code() {
    let files = files::all();
    let page = files.iter().find(|file| file.path == PAGE).unwrap();
    assert_clean(&violations(&files, &page.text));
}

#[test]
fn planted_differences_are_found() {
    let source = |text: &str| vec![File::new("crates/wal/src/metrics.rs", text)];
    let page = "| name | kind |\n|---|---|\n| `resurge_wal_appends_total` | counter |\n";
    let good = "let c = counter!(\"resurge_wal_appends_total\", \"log\" => name);\n";
    let constant = "const APPENDS: &str = \"resurge_wal_appends_total\";\n";
    assert_clean(&violations(&source(good), page));
    assert_clean(&violations(&source(constant), page));
    assert_eq!(violations(&source(good), "").len(), 1);
    assert_eq!(violations(&source(""), page).len(), 1);
    let foreign = format!("{good}let g = gauge!(\"wal_size\");\n");
    assert_eq!(violations(&source(&foreign), page).len(), 1);
}
