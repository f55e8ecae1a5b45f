//! One crash: where, how, and what it left. Written as a line that replays it.

use std::fmt;
use std::str::FromStr;

use resurge_store::StoreError;

/// How a run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Ending {
    /// The process is killed: calls in flight never return, all tasks are dropped.
    Kill,
    /// The disk fails: calls in flight are `Indeterminate`, later ones `Closed`. The process goes on
    /// for a while, and must not claim anything it cannot know.
    Poison,
}

impl fmt::Display for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kill => "kill",
            Self::Poison => "poison",
        })
    }
}

/// One simulated crash. Its text is what [`Simulation::replay`](super::Simulation::replay) takes.
///
/// A crash takes the newest commits that were not known to be durable: none, all, or any number
/// between, those in flight included. `keep` says how many are left.
///
/// ```
/// use resurge_testkit::sim::Crash;
/// let line = "seed=7 after=3 ending=kill keep=2 again=1/0";
/// let crash: Crash = line.parse()?;
/// assert_eq!((crash.after, crash.keep, crash.again), (Some(3), 2, Some((1, 0))));
/// assert_eq!(crash.to_string(), line);
/// # Ok::<(), resurge_store::StoreError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Crash {
    /// Of the whole run.
    pub seed: u64,
    /// The process ends when it has submitted this many commits; `None`: after the scenario returned.
    pub after: Option<usize>,
    /// How.
    pub ending: Ending,
    /// How many commits are left.
    pub keep: usize,
    /// A second crash during the recovery from the first: after so many commits of the recovery,
    /// leaving so many of them.
    pub again: Option<(usize, usize)>,
}

impl fmt::Display for Crash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed={} ", self.seed)?;
        match self.after {
            Some(commits) => write!(f, "after={commits}")?,
            None => f.write_str("after=end")?,
        }
        write!(f, " ending={} keep={}", self.ending, self.keep)?;
        match self.again {
            Some((after, keep)) => write!(f, " again={after}/{keep}"),
            None => Ok(()),
        }
    }
}

impl FromStr for Crash {
    type Err = StoreError;

    fn from_str(line: &str) -> Result<Self, StoreError> {
        let bad = |what: &str| StoreError::invalid(format!("`{line}` is no crash: {what}"));
        let number = |text: &str| text.parse().map_err(|_| bad(&format!("`{text}` is no number")));
        let mut seed = None;
        let mut after = None;
        let mut ending = None;
        let mut keep = None;
        let mut again = None;
        for part in line.split_whitespace() {
            match part.split_once('=') {
                Some(("seed", text)) => {
                    seed = Some(text.parse().map_err(|_| bad("the seed is no number"))?);
                }
                Some(("after", "end")) => after = Some(None),
                Some(("after", text)) => after = Some(Some(number(text)?)),
                Some(("ending", "kill")) => ending = Some(Ending::Kill),
                Some(("ending", "poison")) => ending = Some(Ending::Poison),
                Some(("keep", text)) => keep = Some(number(text)?),
                Some(("again", text)) => {
                    let (after, keep) = text.split_once('/').ok_or_else(|| bad("again=N/N"))?;
                    again = Some((number(after)?, number(keep)?));
                }
                _ => return Err(bad(&format!("`{part}` means nothing"))),
            }
        }
        Ok(Self {
            seed: seed.ok_or_else(|| bad("no seed"))?,
            after: after.ok_or_else(|| bad("no after"))?,
            ending: ending.ok_or_else(|| bad("no ending"))?,
            keep: keep.ok_or_else(|| bad("no keep"))?,
            again,
        })
    }
}
