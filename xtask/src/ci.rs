//! What `test`, `ci` and the single commands run.
//!
//! Steps share profile and features where they can, so that little is compiled twice: clippy, docs
//! and the feature matrix use check artefacts, tests and demos the dev profile, and only the crash
//! loop and the benchmarks are built for release.

use std::path::Path;
use std::process::Command;

use crate::cli::Victim;
use crate::steps::{Done, Step, cargo, execute};
use crate::workspace::{self, Package, Workspace};
use crate::{Result, demo, evidence, steps};

/// The steps of `ci`, in order.
pub(crate) const STEPS: [&str; 14] = [
    "fmt",
    "tidy",
    "clippy",
    "test",
    "doctest",
    "client",
    "features",
    "docs",
    "deny",
    "demos",
    "crash",
    "crash-flows",
    "crash-sessions",
    "powercut",
];

/// What `test` runs.
const TESTS: [&str; 4] = ["tidy", "test", "doctest", "client"];

/// What `lint` runs.
const LINTS: [&str; 3] = ["fmt", "tidy", "clippy"];

/// Kills in the crash loop of `ci`; `crash` alone defaults to more.
const CI_CRASH_CYCLES: u64 = 20;

/// The same, of the loop that kills workflows.
const CI_FLOWS_CYCLES: u64 = 20;

/// The same, of the loop that kills a server with sessions.
const CI_SESSIONS_CYCLES: u64 = 20;

/// Power cuts on each file system, and the time for all of them, in seconds; twice.
const CI_POWERCUT: (u64, u64) = (4, 60);

pub(crate) fn test() -> Result<()> {
    run_steps(|name| TESTS.contains(&name), true)
}

pub(crate) fn lint() -> Result<()> {
    run_steps(|name| LINTS.contains(&name), true)
}

pub(crate) fn ci(skip: &[String], keep_going: bool) -> Result<()> {
    run_steps(|name| !skip.iter().any(|skipped| skipped == name), keep_going)
}

pub(crate) fn fmt() -> Result<()> {
    execute(&mut cargo(["fmt", "--all"]))
}

pub(crate) fn docs(open: bool) -> Result<()> {
    // No `--open` here: it cannot be told which of the packages to open.
    build_docs()?;
    let index = workspace::load()?.target.join("doc/resurge/index.html");
    println!("{}", index.display());
    if open { execute(Command::new(opener()).arg(index)) } else { Ok(()) }
}

/// The sections of the benchmarks that are programs of their own, with dependencies that are not ours.
const PEERS: [&str; 2] = ["breaker", "session"];

pub(crate) fn bench(args: &[String]) -> Result<()> {
    let (ours, options, peers) = bench_parts(args);
    if let Some(args) = ours {
        let mut command = cargo(["run", "--release", "--package", "resurge-bench", "--"]);
        execute(command.args(args))?;
    }
    for peer in peers {
        let manifest = format!("peers/{peer}/Cargo.toml");
        let mut command = cargo(["run", "--release", "--manifest-path", &manifest, "--"]);
        execute(command.args(&options))?;
    }
    Ok(())
}

/// What the first program is called with, if it is, what the others are called with, and which; no section at
/// all means all of them.
fn bench_parts(args: &[String]) -> (Option<Vec<&str>>, Vec<&str>, Vec<&'static str>) {
    let args = args.iter().map(String::as_str);
    let (options, sections): (Vec<_>, Vec<_>) = args.partition(|arg| arg.starts_with('-'));
    let ours: Vec<_> = sections.iter().copied().filter(|name| !PEERS.contains(name)).collect();
    let wanted = |peer: &&str| sections.is_empty() || sections.contains(peer);
    let peers = PEERS.into_iter().filter(wanted).collect();
    let all = sections.is_empty() || !ours.is_empty();
    (all.then(|| [options.as_slice(), &ours].concat()), options, peers)
}

pub(crate) fn crash(cycles: u64, victim: Victim) -> Result<()> {
    let mut command = cargo(["run", "--release", "--package", "resurge-crash", "--"]);
    command.args(match victim {
        Victim::Writers => None,
        Victim::Flows => Some("flows"),
        Victim::Sessions => Some("sessions"),
    });
    execute(command.args(["--cycles", &cycles.to_string()]))
}

pub(crate) fn powercut(cycles: u64, sessions: bool) -> Result<()> {
    // More than a cycle ever took.
    cut(cycles, 60 * (cycles + 1), sessions).map(|_| ())
}

fn cut(cycles: u64, seconds: u64, sessions: bool) -> Result<Done> {
    let args = ["run", "--release", "--package", "resurge-crash", "--", "powercut"];
    let (cycles, seconds) = (cycles.to_string(), seconds.to_string());
    let mut command = cargo(args.into_iter().chain(sessions.then_some("sessions")));
    let shown = steps::execute_and_read(command.args(["--cycles", &cycles, "--within", &seconds]))?;
    let skipped: Vec<&str> = shown.lines().filter(|line| line.starts_with("SKIPPED")).collect();
    Ok(if skipped.is_empty() { Done::Ran } else { Done::Skipped(skipped.join("; ")) })
}

/// Those of `ci`, under writers and under sessions.
fn cuts() -> Result<Done> {
    let (cycles, seconds) = CI_POWERCUT;
    match cut(cycles, seconds, false)? {
        Done::Ran => cut(cycles, seconds, true),
        skipped @ Done::Skipped(_) => Ok(skipped),
    }
}

fn run_steps(wanted: impl Fn(&str) -> bool, keep_going: bool) -> Result<()> {
    let workspace = workspace::load()?;
    let evidence = evidence::prepare(&workspace.target)?;
    let mut steps = all(&workspace, &evidence);
    steps.retain(|step| wanted(step.name()));
    let result = steps::run(steps, keep_going);
    evidence::print(&evidence)?;
    result
}

fn all<'a>(workspace: &'a Workspace, evidence: &'a Path) -> Vec<Step<'a>> {
    vec![
        Step::new("fmt", || ran(execute(&mut cargo(["fmt", "--all", "--check"])))),
        Step::new("tidy", move || {
            let mut command = cargo(["test", "--quiet", "--package", "xtask"]);
            ran(execute(command.env(evidence::VARIABLE, evidence)))
        }),
        Step::new("clippy", || {
            let args = ["clippy", "--workspace", "--all-targets", "--all-features", "--"];
            ran(execute(cargo(args).args(["-D", "warnings"])))
        }),
        Step::new("test", move || ran(tests(evidence))),
        Step::new("doctest", move || {
            let mut command = cargo(["test", "--workspace", "--all-features", "--doc", "--quiet"]);
            ran(execute(command.env(evidence::VARIABLE, evidence)))
        }),
        Step::new("client", client),
        Step::new("features", || ran(features(&workspace.packages))),
        Step::new("docs", || ran(build_docs())),
        Step::new("deny", deny),
        Step::new("demos", || ran(demo::run_all(workspace))),
        Step::new("crash", || ran(crash(CI_CRASH_CYCLES, Victim::Writers))),
        Step::new("crash-flows", || ran(crash(CI_FLOWS_CYCLES, Victim::Flows))),
        Step::new("crash-sessions", || ran(crash(CI_SESSIONS_CYCLES, Victim::Sessions))),
        Step::new("powercut", cuts),
    ]
}

fn ran(result: Result<()>) -> Result<Done> {
    result.map(|()| Done::Ran)
}

/// Unit and integration tests of everything but this package, whose tests are the step `tidy`.
fn tests(evidence: &Path) -> Result<()> {
    let whole = ["--workspace", "--exclude", "xtask", "--all-features"];
    let mut command = if installed("nextest") {
        cargo(["nextest", "run", "--no-fail-fast"])
    } else {
        cargo(["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"])
    };
    execute(command.args(whole).env(evidence::VARIABLE, evidence))
}

/// Each package that has features: none of them, each alone, all.
fn features(packages: &[Package]) -> Result<()> {
    for package in packages {
        for selection in selections(package) {
            let selection = selection.iter().map(String::as_str);
            execute(&mut cargo(
                ["check", "--quiet", "--package", &package.name].into_iter().chain(selection),
            ))?;
        }
    }
    Ok(())
}

fn selections(package: &Package) -> Vec<Vec<String>> {
    if package.features.is_empty() {
        return Vec::new();
    }
    let none = || vec!["--no-default-features".to_owned()];
    let mut selections = vec![none()];
    for feature in &package.features {
        let mut one = none();
        one.extend(["--features".to_owned(), feature.clone()]);
        selections.push(one);
    }
    selections.push(vec!["--all-features".to_owned()]);
    selections
}

/// Where the client for browsers is, with its tests.
const CLIENT: &str = "crates/session-token/client";

/// The first major version of node that has a runner of tests.
const NODE: u32 = 18;

/// The tests of the client for browsers. They need node and nothing else; without it, only CI insists.
fn client() -> Result<Done> {
    let output = Command::new("node").arg("--version").output();
    let version = output.ok().and_then(|output| String::from_utf8(output.stdout).ok());
    if version.as_deref().and_then(major).is_none_or(|major| major < NODE) {
        return without_node(required());
    }
    // Without the name of a directory: what node makes of one differs between its versions.
    let client = workspace::root().join(CLIENT);
    ran(execute(Command::new("node").arg("--test").current_dir(client)))
}

fn without_node(required: bool) -> Result<Done> {
    let advice = format!("node {NODE} or newer is not installed: {CLIENT} is not tested");
    if required { Err(advice.into()) } else { Ok(Done::Skipped(advice)) }
}

/// `v20.1.2` is 20.
fn major(version: &str) -> Option<u32> {
    version.trim().strip_prefix('v')?.split('.').next()?.parse().ok()
}

fn build_docs() -> Result<()> {
    let mut command = cargo(["doc", "--workspace", "--no-deps", "--all-features"]);
    execute(command.env("RUSTDOCFLAGS", "-D warnings"))
}

/// Licences, banned crates and sources. Takes minutes to install, so only CI insists on it.
fn deny() -> Result<Done> {
    if installed("deny") {
        return ran(execute(&mut cargo(["deny", "check", "bans", "licenses", "sources"])));
    }
    missing("cargo-deny", required())
}

/// Whether this is CI, where a missing tool is an error.
fn required() -> bool {
    std::env::var_os("CI").is_some_and(|value| value == "true")
}

fn missing(tool: &str, required: bool) -> Result<Done> {
    let advice = format!("{tool} is not installed (`cargo install --locked {tool}`)");
    if required { Err(advice.into()) } else { Ok(Done::Skipped(advice)) }
}

/// Whether `cargo <subcommand>` exists.
fn installed(subcommand: &str) -> bool {
    cargo([subcommand, "--version"]).output().is_ok_and(|output| output.status.success())
}

fn opener() -> &'static str {
    if cfg!(target_os = "macos") { "open" } else { "xdg-open" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_of_names_is_the_list_of_steps() {
        let workspace = workspace::load().unwrap();
        let names: Vec<_> = all(&workspace, Path::new("")).iter().map(Step::name).collect();
        assert_eq!(names, STEPS);
        assert!(TESTS.iter().chain(&LINTS).all(|name| STEPS.contains(name)));
    }

    #[test]
    fn each_feature_is_checked_alone_and_with_the_others() {
        let workspace = workspace::load().unwrap();
        let facade = workspace.packages.iter().find(|p| p.name == "resurge").unwrap();
        let selections = selections(facade);
        assert_eq!(selections.len(), facade.features.len() + 2);
        assert_eq!(selections[0], ["--no-default-features"]);
        assert!(selections.contains(&vec![
            "--no-default-features".to_owned(),
            "--features".to_owned(),
            "sled".to_owned()
        ]));
        assert_eq!(selections.last().unwrap(), &["--all-features"]);
        let xtask = workspace.packages.iter().find(|p| p.name == "xtask").unwrap();
        assert!(super::selections(xtask).is_empty());
    }

    #[test]
    fn the_sections_with_peers_are_programs_of_their_own() {
        let parts = |line: &str| {
            let args: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
            let (ours, options, peers) = bench_parts(&args);
            (ours.map(|args| args.join(" ")), options.join(" "), peers.join(" "))
        };
        let some = |args: &str| Some(args.to_owned());
        let is = |ours, options: &str, peers: &str| (ours, options.to_owned(), peers.to_owned());
        assert_eq!(parts(""), is(some(""), "", "breaker session"));
        assert_eq!(parts("--quick"), is(some("--quick"), "--quick", "breaker session"));
        assert_eq!(parts("breaker"), is(None, "", "breaker"));
        assert_eq!(parts("flows --quick"), is(some("--quick flows"), "--quick", ""));
        assert_eq!(parts("open session --quick"), is(some("--quick open"), "--quick", "session"));
        for peer in PEERS {
            let manifest = format!("{}/../peers/{peer}/Cargo.toml", env!("CARGO_MANIFEST_DIR"));
            assert!(Path::new(&manifest).is_file(), "{manifest}");
        }
    }

    #[test]
    fn a_missing_tool_is_an_error_only_where_it_is_required() {
        assert!(missing("cargo-deny", true).is_err());
        assert!(matches!(missing("cargo-deny", false), Ok(Done::Skipped(_))));
        assert!(!installed("no-such-subcommand"));
        assert!(without_node(true).is_err());
        assert!(matches!(without_node(false), Ok(Done::Skipped(_))));
    }

    #[test]
    fn the_version_of_node_is_read() {
        assert_eq!(major("v20.11.1\n"), Some(20));
        assert_eq!([major(""), major("20.1"), major("vnext")], [None; 3]);
    }
}
