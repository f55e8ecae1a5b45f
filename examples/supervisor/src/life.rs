//! One life of the supervising process, as its parent sees it.

use std::path::{Path, PathBuf};
use std::thread::park_timeout;
use std::time::Duration;

use resurge_example_driver::{Child, Expectations, field};
use resurge_supervisor_example::traces;

use crate::Result;
use crate::supervise::DONE;

/// A supervising process that is told what to do. Killed when dropped.
pub(crate) struct Life {
    child: Child,
    dir: PathBuf,
    /// What it said when it started.
    pub(crate) found: String,
}

impl Life {
    /// Begins one, in a directory where others may have been before.
    pub(crate) fn begin(dir: &Path, act: &str) -> Result<Self> {
        let child = Child::start(["supervise".as_ref(), dir.as_os_str(), act.as_ref()])?;
        let mut life = Self { child, dir: dir.to_owned(), found: String::new() };
        life.found = life.answer()?.join(", ");
        Ok(life)
    }

    fn answer(&mut self) -> Result<Vec<String>> {
        let mut lines = Vec::new();
        self.child.wait_for(DONE, |line| lines.push(line.to_owned()))?;
        lines.retain(|line| line != DONE);
        Ok(lines)
    }

    /// Tells it something, and returns what it says, shown on the way.
    pub(crate) fn tell(&mut self, command: &str) -> Result<Vec<String>> {
        println!("> {command}");
        self.child.tell(command)?;
        let lines = self.answer()?;
        for line in &lines {
            println!("    {line}");
        }
        Ok(lines)
    }

    /// The same, for lines that must be these.
    pub(crate) fn expect(
        &mut self,
        expect: &mut Expectations,
        command: &str,
        wanted: &[&str],
    ) -> Result<()> {
        let found = self.tell(command)?;
        expect.equal(
            format!("`{command}`"),
            found.iter().map(String::as_str).collect(),
            wanted.to_vec(),
        );
        Ok(())
    }

    /// Kills it with SIGKILL, and waits until the service it had started has noticed.
    pub(crate) fn kill(self, expect: &mut Expectations) -> Result<()> {
        self.child.kill()?;
        println!("killed with SIGKILL");
        nothing_is_left(&self.dir, expect)
    }

    /// Lets it end.
    pub(crate) fn end(self, expect: &mut Expectations) -> Result<()> {
        self.child.finish()?;
        nothing_is_left(&self.dir, expect)
    }
}

/// Every service that started has ended.
fn nothing_is_left(dir: &Path, expect: &mut Expectations) -> Result<()> {
    let running = || -> Result<u64> {
        let count = |name| traces(dir).count(name);
        Ok(count("started")?.saturating_sub(count("ended")? + count("crashed")?))
    };
    // Nobody tells when a grandchild ends; ten seconds are long.
    for _ in 0..1_000 {
        if running()? == 0 {
            break;
        }
        park_timeout(Duration::from_millis(10));
    }
    expect.equal("services left over", running()?, 0);
    Ok(())
}

/// The milliseconds that follow `name=` in a line.
pub(crate) fn millis(line: &str, name: &str) -> Option<u64> {
    field(line, name)?.strip_suffix("ms")?.parse().ok()
}
