//! The parent: every process really killed or ended, every file searched after it.

use std::fs;
use std::path::{Path, PathBuf};

use resurge_example_driver::{Child, Effects, Expectations};
use resurge_secrets_example::{CANARY, PIN};

use crate::Result;

struct Demo {
    state: PathBuf,
    effects: PathBuf,
    expect: Expectations,
}

pub(crate) fn run() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let (state, effects) = (dir.path().join("state"), dir.path().join("effects"));
    let mut demo = Demo { state, effects, expect: Expectations::new() };
    demo.a_run_is_killed()?;
    demo.keys_are_wrong_and_right()?;
    demo.the_key_is_changed()?;
    println!("{} expectations held.", demo.expect.verdict()?);
    Ok(())
}

impl Demo {
    fn begin(&self, what: &str, keys: &str) -> Result<Child> {
        let (state, effects) = (self.state.as_os_str(), self.effects.as_os_str());
        Ok(Child::start([what.as_ref(), state, effects, keys.as_ref()])?)
    }

    /// Waits for a line, then kills the process.
    fn kill_at(&mut self, what: &str, line: &str) -> Result<()> {
        let mut child = self.begin(what, "right")?;
        child.wait_for(line, |line| println!("{line}"))?;
        child.kill()?;
        println!("killed with SIGKILL");
        self.search()
    }

    /// Lets a process end, and checks what it says.
    fn finish(&mut self, what: &str, keys: &str, wanted: &[&str]) -> Result<()> {
        let lines = self.begin(what, keys)?.finish()?;
        for line in &lines {
            println!("{line}");
        }
        for wanted in wanted {
            let said = lines.iter().any(|line| line.contains(wanted));
            self.expect.holds(format!("`{what}` with `{keys}` says `{wanted}`"), said);
        }
        self.search()
    }

    /// No file of the directory holds a secret.
    fn search(&mut self) -> Result<()> {
        let mut files = Vec::new();
        read(&self.state, &mut files)?;
        let holds = |part: &str| files.iter().filter(|file| file.contains(part)).count();
        let pin = PIN.to_be_bytes();
        let found = holds(CANARY) + holds(std::str::from_utf8(&pin)?);
        println!("files with a secret in them: {found}");
        self.expect.equal("files with a secret", found, 0);
        // What is not sensitive is found: the search works.
        self.expect.holds("the flow's name is found", holds("sign-up") > 0);
        Ok(())
    }

    fn a_run_is_killed(&mut self) -> Result<()> {
        println!(">>> A run fails with a secret in its error; its process is killed <<<");
        self.kill_at("fail", "failed at [`connect`]; the secret in its text: true")?;
        println!("\n>>> Another process resumes it, and is killed inside a step <<<");
        self.kill_at("hang", "[charge] waiting")?;
        println!();
        Ok(())
    }

    fn keys_are_wrong_and_right(&mut self) -> Result<()> {
        println!(">>> With the wrong key nothing is opened <<<");
        let wrong = "not opened: wrong key: what was given as key 1 is not key 1 of ring `main`";
        self.finish("finish", "wrong", &[wrong])?;
        println!("\n>>> Without a key the run stands still <<<");
        let none = "run `sign-up-1` is blocked: no key for `input` in `input` of `sign-up-1`";
        self.finish("finish", "none", &[none])?;
        println!("\n>>> With the right key it ends <<<");
        let recovered = "[session] recovered, its secret as it was: true";
        self.finish("finish", "right", &[recovered, "finished, everything as it was: true"])?;
        let counted = Effects::at(&self.effects);
        for (step, wanted) in [("api_token", 1), ("connect", 2), ("charge", 2)] {
            let times = counted.count(step)?;
            println!("`{step}` ran {times} times");
            self.expect.equal(step, times, wanted);
        }
        println!();
        Ok(())
    }

    fn the_key_is_changed(&mut self) -> Result<()> {
        println!(">>> The key is changed; the old one goes when nothing needs it <<<");
        let steps = ["promoted key 2", "key 1 cannot be destroyed", "swept: 1", "destroyed key 1"];
        self.finish("rotate", "both", &steps)?;
        println!("\n>>> With the new key alone <<<");
        self.finish("again", "new", &["finished, everything as it was: true"])?;
        println!();
        Ok(())
    }
}

/// What is no text becomes something else; the secrets are text.
fn read(dir: &Path, files: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            read(&path, files)?;
        } else {
            files.push(String::from_utf8_lossy(&fs::read(path)?).into_owned());
        }
    }
    Ok(())
}
