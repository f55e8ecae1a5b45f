//! The parent: every run in a process of its own, killed when it has its result; effects counted
//! outside of the store.

use std::path::Path;

use resurge_example_driver::{Child, Effects, Expectations};

use crate::Result;

pub(crate) fn run() -> Result<()> {
    let mut expect = Expectations::new();
    exactly_once(&mut expect)?;
    scope_comparison(&mut expect)?;
    println!("{} expectations held.", expect.verdict()?);
    Ok(())
}

/// One run in a process of its own, which is killed afterwards.
fn sign_up(share: &str, name: &str, run: &str, dir: &Path) -> Result<String> {
    let (state, accounts) = (dir.join("state"), dir.join("accounts"));
    let words = ["sign-up", share, name, run].map(std::ffi::OsStr::new);
    let args = words.into_iter().chain([state.as_os_str(), accounts.as_os_str()]);
    let mut child = Child::start(args)?;
    let result = child.wait_for("result: ", |_| {})?;
    child.kill()?;
    Ok(result.replacen("result: ", "", 1))
}

fn exactly_once(expect: &mut Expectations) -> Result<()> {
    println!("=== Exactly Once: three processes, three runs, each killed with SIGKILL ===\n");
    let dir = tempfile::tempdir()?;
    let accounts = Effects::at(dir.path().join("accounts"));
    let steps = [
        ("sign-up-1", "Alice", 1, "account 1 of Alice"),
        ("sign-up-2", "Alice", 1, "account 1 of Alice"),
        ("sign-up-3", "Bob", 2, "account 2 of Bob"),
    ];
    let mut before = 0;
    for (run, name, wanted, account) in steps {
        let result = sign_up("global", name, run, dir.path())?;
        let count: u64 = accounts.counts()?.values().sum();
        let executed = if count > before { "executed" } else { "not executed" };
        println!("{run}  {name:<5}  {executed:<12}  {result:<18}  (execution count: {count})");
        expect.equal(format!("{run}: executions"), count, wanted);
        expect.equal(format!("{run}: result"), result.as_str(), account);
        before = count;
    }
    println!();
    Ok(())
}

fn scope_comparison(expect: &mut Expectations) -> Result<()> {
    println!("=== Scope Comparison: the same input in three runs, each in its own process ===\n");
    for (share, wanted) in [("workflow", 3), ("global", 1)] {
        let dir = tempfile::tempdir()?;
        let accounts = Effects::at(dir.path().join("accounts"));
        let mut result = String::new();
        for (run, at_least) in [("run-1", 1), ("run-2", 2), ("run-3", 3)] {
            // Each run asks for the step twice: within one run it executes once at most.
            result = sign_up(share, "Alice", run, dir.path())?;
            let count = accounts.count("Alice")?;
            expect.equal(format!("{share}: {run}: executions"), count, wanted.min(at_least));
        }
        // The last run's account is the one its scope gives it.
        let account = format!("account {wanted} of Alice");
        expect.equal(format!("{share}: result"), result.as_str(), account.as_str());
        println!("{share:<8} scope: 3 runs, {} executions", accounts.count("Alice")?);
    }
    println!();
    Ok(())
}
