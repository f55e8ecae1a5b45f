//! What every manifest of a published crate must say.

use super::assert_clean;
use super::files::File;
use crate::workspace::{self, Package};

fn violations(package: &Package, manifest: &File) -> Vec<String> {
    let mut missing = Vec::new();
    let has_line = |wanted: &str| manifest.text.lines().any(|line| line == wanted);
    if !manifest.text.contains("[lints]\nworkspace = true\n") {
        missing.push("`[lints] workspace = true`");
    }
    if !has_line("version.workspace = true") {
        missing.push("`version.workspace = true`");
    }
    if package.published {
        for field in ["description", "readme"] {
            if package.raw[field].as_str().is_none_or(str::is_empty) {
                missing.push(field);
            }
        }
        let docs_rs = &package.raw["metadata"]["docs"]["rs"];
        if docs_rs["all-features"] != true {
            missing.push("`[package.metadata.docs.rs] all-features = true`");
        }
    }
    missing.into_iter().map(|what| format!("{}: lacks {what}", manifest.path)).collect()
}

#[test]
fn manifests_are_complete() {
    let packages = workspace::load().unwrap().packages;
    let checked = packages.iter().flat_map(|package| {
        let text = std::fs::read_to_string(&package.manifest).unwrap();
        violations(package, &File::new(&package.manifest.display().to_string(), &text))
    });
    assert_clean(&checked.collect::<Vec<_>>());
}

#[test]
fn planted_gaps_are_found() {
    let raw = serde_json::json!({
        "name": "resurge-wal", "manifest_path": "/wal/Cargo.toml",
        "description": "A log.", "readme": "README.md",
        "metadata": { "docs": { "rs": { "all-features": true } } },
    });
    let complete = "[package]\nversion.workspace = true\n\n[lints]\nworkspace = true\n";
    let check = |raw: &serde_json::Value, text: &str| {
        let metadata = serde_json::json!({ "packages": [raw], "target_directory": "/target" });
        let workspace = workspace::parse(&metadata).unwrap();
        violations(&workspace.packages[0], &File::new("Cargo.toml", text))
    };
    assert_clean(&check(&raw, complete));
    for field in ["description", "readme", "metadata"] {
        let mut without = raw.clone();
        without.as_object_mut().unwrap().remove(field);
        assert_eq!(check(&without, complete).len(), 1, "{field}");
    }
    for line in ["version.workspace = true\n", "[lints]\nworkspace = true\n"] {
        assert_eq!(check(&raw, &complete.replace(line, "")).len(), 1, "{line}");
    }
}
