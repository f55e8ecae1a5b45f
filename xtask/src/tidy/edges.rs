//! Which of our packages may depend on which: a new edge is the rarest kind of change.

use super::assert_clean;
use crate::workspace::{self, Package};

/// What a library may use: as normal (or build) dependency, and, beyond that, only for its tests.
struct Rule {
    package: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
}

const fn rule(
    package: &'static str,
    normal: &'static [&'static str],
    dev: &'static [&'static str],
) -> Rule {
    Rule { package, normal, dev }
}

/// Tests of pattern crates run on the real store and under the crash simulators.
const TESTED: &[&str] = &["resurge-testkit", "resurge-store-sled"];

/// Every library there is or will be. `testkit` tests the three at the bottom, so those may not use
/// it, not even in their tests.
const RULES: &[Rule] = &[
    rule("resurge-store", &[], &[]),
    rule("resurge-commit-log", &[], &[]),
    rule("resurge-store-sled", &["resurge-store", "resurge-commit-log"], &[]),
    rule("resurge-testkit", &["resurge-store", "resurge-commit-log", "resurge-store-sled"], &[]),
    rule("resurge-seal", &["resurge-store"], TESTED),
    rule("resurge-wal", &["resurge-store"], TESTED),
    rule("resurge-snapshot", &["resurge-store"], TESTED),
    rule("resurge-journal", &["resurge-store", "resurge-wal", "resurge-snapshot"], TESTED),
    rule("resurge-checkpoint", &["resurge-store"], TESTED),
    rule("resurge-breaker", &["resurge-store"], TESTED),
    rule("resurge-supervisor", &["resurge-store", "resurge-breaker", "resurge-wal"], TESTED),
    rule("resurge-session-token", &["resurge-store", "resurge-seal"], TESTED),
    rule(
        "resurge-flow",
        &["resurge-store", "resurge-wal", "resurge-checkpoint", "resurge-breaker", "resurge-seal"],
        TESTED,
    ),
    rule(
        "resurge-flow-testkit",
        &["resurge-store", "resurge-flow", "resurge-testkit"],
        &["resurge-store-sled"],
    ),
    rule(
        "resurge",
        &[
            "resurge-store",
            "resurge-commit-log",
            "resurge-store-sled",
            "resurge-seal",
            "resurge-wal",
            "resurge-snapshot",
            "resurge-journal",
            "resurge-checkpoint",
            "resurge-breaker",
            "resurge-supervisor",
            "resurge-session-token",
            "resurge-flow",
        ],
        &["resurge-testkit"],
    ),
    rule(
        "resurge-cli",
        &["resurge-store", "resurge-store-sled", "resurge-wal", "resurge-snapshot"],
        &["resurge-journal"],
    ),
];

/// The only package that may import sled; `deny.toml` says so too, for the whole graph.
/// What the demos share; the only unpublished package that others use.
const DEMO_DRIVER: &str = "resurge-example-driver";
const SLED_WRAPPER: &str = "resurge-store-sled";

fn violations(packages: &[Package]) -> Vec<String> {
    let mut found = Vec::new();
    let ours = |name: &str| packages.iter().find(|package| package.name == name);
    for package in packages {
        let name = &package.name;
        if package.dependencies.iter().any(|d| d.name == "sled") && name != SLED_WRAPPER {
            found.push(format!("{name} -> sled: only {SLED_WRAPPER} may import sled"));
        }
        let rule = RULES.iter().find(|rule| rule.package == name);
        if package.published && rule.is_none() {
            found.push(format!("{name}: a new library needs a line in {}", file!()));
        }
        for dependency in &package.dependencies {
            let to = &dependency.name;
            let Some(target) = ours(to) else { continue };
            let shared_by_demos = to == DEMO_DRIVER && !package.published;
            if !target.published && !shared_by_demos {
                found.push(format!("{name} -> {to}: nobody depends on an unpublished package"));
            }
            // Examples, benchmarks and tools are leaves: they may use any library.
            let Some(rule) = rule else { continue };
            let normal = rule.normal.contains(&to.as_str());
            if dependency.dev && !normal && !rule.dev.contains(&to.as_str()) {
                found.push(format!("{name} -> {to}: not even in tests"));
            } else if !dependency.dev && !normal {
                found.push(format!("{name} -> {to}: not an allowed dependency"));
            }
        }
    }
    found
}

/// `deny.toml` must name the same wrapper.
fn deny_violations(deny: &str) -> Vec<String> {
    let expected = format!("crate = \"sled\", wrappers = [\"{SLED_WRAPPER}\"]");
    if deny.contains(&expected) { vec![] } else { vec![format!("deny.toml lacks `{expected}`")] }
}

#[test]
fn the_dependency_edges_are_the_allowed_ones() {
    assert_clean(&violations(&workspace::load().unwrap().packages));
}

#[test]
fn deny_toml_agrees() {
    let deny = std::fs::read_to_string(workspace::root().join("deny.toml")).unwrap();
    assert_clean(&deny_violations(&deny));
}

mod planted {
    use serde_json::{Value, json};

    use super::*;

    /// A workspace of one published package with one dependency, beside published and private ones.
    fn with_edge(from: &str, to: &str, kind: Option<&str>) -> Vec<String> {
        let bare = |name: &str, publish: Value, dependencies: Value| {
            let path = format!("/{name}/Cargo.toml");
            json!({ "name": name, "manifest_path": path, "publish": publish, "dependencies": dependencies })
        };
        let mut packages = vec![bare(from, Value::Null, json!([{ "name": to, "kind": kind }]))];
        for rule in RULES.iter().filter(|rule| rule.package != from) {
            packages.push(bare(rule.package, Value::Null, json!([])));
        }
        packages.push(bare("resurge-bench", json!([]), json!([])));
        let metadata = json!({ "packages": packages, "target_directory": "/target" });
        violations(&workspace::parse(&metadata).unwrap().packages)
    }

    #[test]
    fn allowed_edges_pass() {
        for (from, to, kind) in [
            ("resurge-wal", "resurge-store", None),
            ("resurge-wal", "resurge-testkit", Some("dev")),
            ("resurge-wal", "resurge-store-sled", Some("dev")),
            ("resurge-journal", "resurge-wal", None),
            ("resurge-store-sled", "sled", None),
            ("resurge", "resurge-flow", None),
            ("resurge-flow-testkit", "resurge-flow", None),
            ("resurge-store", "tokio", None),
        ] {
            assert_clean(&with_edge(from, to, kind));
        }
    }

    #[test]
    fn forbidden_edges_are_found() {
        for (from, to, kind) in [
            ("resurge-wal", "sled", None),
            ("resurge-testkit", "sled", Some("dev")),
            ("resurge-wal", "resurge-store-sled", None),
            ("resurge-wal", "resurge-store-sled", Some("build")),
            ("resurge-wal", "resurge-testkit", None),
            ("resurge-wal", "resurge-snapshot", None),
            ("resurge-wal", "resurge", None),
            ("resurge-store", "resurge-testkit", Some("dev")),
            ("resurge-commit-log", "resurge-store", None),
            ("resurge-store-sled", "resurge-testkit", Some("dev")),
            ("resurge-flow", "resurge-flow-testkit", Some("dev")),
            ("resurge", "resurge-testkit", None),
            ("resurge-journal", "resurge-bench", Some("dev")),
        ] {
            let found = with_edge(from, to, kind);
            assert!(!found.is_empty(), "{from} -> {to} ({kind:?}) passed");
            assert!(found[0].starts_with(&format!("{from} -> {to}")), "{found:?}");
        }
    }

    #[test]
    fn an_unknown_library_is_found() {
        assert_eq!(with_edge("resurge-new", "serde", None).len(), 1);
    }

    #[test]
    fn another_wrapper_in_deny_toml_is_found() {
        let other = "deny = [{ crate = \"sled\", wrappers = [\"resurge-wal\"] }]";
        assert_eq!(deny_violations(other).len(), 1);
    }
}
