//! The files of the repository, as the rules see them.

use std::fs;
use std::path::{Path, PathBuf};

use crate::workspace::root;

/// A text file of the repository.
#[derive(Debug, Clone)]
pub(super) struct File {
    /// Relative to the root, with `/`.
    pub(super) path: String,
    pub(super) text: String,
}

impl File {
    pub(super) fn new(path: &str, text: &str) -> Self {
        File { path: path.to_owned(), text: text.to_owned() }
    }

    pub(super) fn is(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|e| e == extension)
    }

    /// A file that holds nothing but tests.
    pub(super) fn is_test(&self) -> bool {
        self.path.split('/').any(|part| part == "tests" || part == "tests.rs")
    }

    /// Source of a published library, its inline tests included.
    pub(super) fn is_library(&self) -> bool {
        self.is("rs") && self.path.starts_with("crates/") && self.path.contains("/src/")
    }

    /// Line numbers and lines, without those that are only a comment.
    pub(super) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = self.text.lines().enumerate().map(|(i, line)| (i + 1, line));
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }
}

/// Every Rust, TOML, Markdown, JavaScript, TypeScript, HTML and shell file, sorted by path.
pub(super) fn all() -> Vec<File> {
    let mut paths = Vec::new();
    walk(root(), &mut paths);
    paths.sort_unstable();
    let file = |path: PathBuf| {
        let relative = path.strip_prefix(root()).ok()?.to_str()?.to_owned();
        Some(File { path: relative, text: fs::read_to_string(&path).unwrap() })
    };
    paths.into_iter().filter_map(file).collect()
}

const KINDS: [&str; 6] = ["rs", "toml", "md", "js", "ts", "html"];

fn walk(dir: &Path, paths: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().and_then(|n| n.to_str()).unwrap_or_default();
        let hidden = name.starts_with('.') && name != ".ci" && name != ".cargo";
        if hidden || name == "target" || name == "node_modules" {
            continue;
        }
        if path.is_dir() {
            walk(&path, paths);
        } else if path.extension().is_some_and(|e| KINDS.iter().any(|kind| e == *kind))
            || dir == root().join(".ci")
        {
            paths.push(path);
        }
    }
}

#[test]
fn the_walk_finds_all_kinds_and_not_the_target() {
    let files = all();
    let client = "crates/session-token/client/resurge-session.js";
    for path in ["Cargo.toml", "README.md", ".ci/run", "xtask/src/tidy/files.rs", client] {
        assert!(files.iter().any(|file| file.path == path), "{path}");
    }
    assert!(files.iter().all(|file| !file.path.starts_with("target/")));
}
