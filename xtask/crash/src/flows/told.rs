//! Everything that was said, and what must be true of it.

use std::collections::{BTreeMap, HashMap, HashSet};

use resurge_testkit::Failure;

/// Steps of the flow that must be over before each step begins; the last row is the end.
const BEFORE: [&[u8]; 6] = [&[], &[1], &[2], &[2], &[3, 4], &[5]];

#[derive(Debug, Default)]
struct Run {
    /// Its start was acknowledged.
    started: bool,
    /// It was seen to have succeeded.
    ended: bool,
    /// The cycles in which each step had its effect.
    effects: BTreeMap<u8, Vec<u64>>,
    /// When it was said to have ended.
    ended_in: Option<u64>,
}

#[derive(Debug, Default)]
pub(super) struct Told {
    pub(super) cycles: u64,
    pub(super) succeeded: u64,
    runs: HashMap<String, Run>,
    lost: u64,
    wrong: u64,
    unopenable: u64,
}

impl Told {
    pub(super) fn hear(&mut self, cycle: u64, line: &str) -> Result<(), Failure> {
        let words: Vec<&str> = line.split(' ').collect();
        match words[..] {
            ["open"] => {}
            ["started", run] => self.run(run).started = true,
            ["ended", run] => self.run(run).ended_in = Some(cycle),
            ["effect", run, step] => {
                let step = step.parse()?;
                self.run(run).effects.entry(step).or_default().push(cycle);
            }
            _ => return Err(format!("the child said `{line}`").into()),
        }
        Ok(())
    }

    fn run(&mut self, run: &str) -> &mut Run {
        self.runs.entry(run.to_owned()).or_default()
    }

    /// Runs that were not yet seen to have succeeded. A run whose start was not acknowledged is there,
    /// too, when one of its steps ran.
    pub(super) fn unfinished(&self) -> Vec<String> {
        self.runs.iter().filter(|(_, run)| !run.ended).map(|(id, _)| id.clone()).collect()
    }

    /// All runs, with their input.
    pub(super) fn runs(&self) -> Vec<(String, u64)> {
        let input = |id: &str| id.strip_prefix("run-").and_then(|n| n.parse().ok());
        self.runs.keys().map(|id| (id.clone(), input(id).unwrap_or_default())).collect()
    }

    pub(super) fn ended(&mut self, run: &str) {
        self.run(run).ended = true;
    }

    pub(super) fn lost(&mut self, run: &str) {
        eprintln!("lost: run {run}");
        self.lost += 1;
        // Told once.
        self.run(run).ended = true;
    }

    pub(super) fn wrong(&mut self, what: &str) {
        eprintln!("wrong: {what}");
        self.wrong += 1;
    }

    pub(super) fn unopenable(&mut self, what: &str) {
        eprintln!("unopenable: {what}");
        self.unopenable += 1;
    }

    /// After everything ended: each step had its effect, at most once in a process, and again in
    /// a later one only if nothing that follows it had begun before: then it was in flight at the kill.
    pub(super) fn check(&mut self) {
        let mut wrong = Vec::new();
        for (id, run) in &self.runs {
            for step in 1..=5_u8 {
                let cycles = run.effects.get(&step).map_or(&[][..], Vec::as_slice);
                let once: HashSet<_> = cycles.iter().collect();
                if cycles.is_empty() {
                    wrong.push(format!("step {step} of {id} never ran"));
                } else if once.len() < cycles.len() {
                    wrong.push(format!("step {step} of {id} ran twice in one process: {cycles:?}"));
                }
                let last = cycles.iter().max().copied().unwrap_or_default();
                if let Some((next, at)) = run.follower_before(step, last) {
                    wrong.push(format!(
                        "step {step} of {id} ran in cycle {last}, after {next} in cycle {at}"
                    ));
                }
            }
        }
        for what in wrong {
            self.wrong(&what);
        }
    }

    /// How many times a step had its effect, and how many of them were not the first.
    fn effects(&self) -> (u64, u64) {
        let of = |run: &Run| run.effects.values().map(|cycles| cycles.len() as u64).sum::<u64>();
        let all: u64 = self.runs.values().map(of).sum();
        let first: u64 = self.runs.values().map(|run| run.effects.len() as u64).sum();
        (all, all - first)
    }

    pub(super) fn is_clean(&self) -> bool {
        self.lost + self.wrong + self.unopenable == 0
    }

    pub(super) fn line(&self) -> String {
        let started = self.runs.values().filter(|run| run.started).count();
        let (effects, repeated) = self.effects();
        let Self { cycles, succeeded, lost, wrong, unopenable, .. } = self;
        format!(
            "cycles={cycles} started={started} succeeded={succeeded} lost={lost} wrong={wrong} \
             steps={effects} repeated={repeated} unopenable={unopenable}"
        )
    }
}

impl Run {
    /// Something that follows `step` and happened in a cycle before `cycle`.
    fn follower_before(&self, step: u8, cycle: u64) -> Option<(String, u64)> {
        for (next, before) in (1_u8..).zip(BEFORE) {
            if !before.contains(&step) {
                continue;
            }
            let first = self.effects.get(&next).and_then(|cycles| cycles.iter().min().copied());
            let first = if next == 6 { self.ended_in } else { first };
            if let Some(first) = first.filter(|first| *first < cycle) {
                let next = if next == 6 { "its end".to_owned() } else { format!("step {next}") };
                return Some((next, first));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(lines: &[(u64, &str)]) -> Told {
        let mut told = Told::default();
        for (cycle, line) in lines {
            told.hear(*cycle, line).unwrap();
        }
        told.check();
        told
    }

    const WHOLE: [(u64, &str); 6] = [
        (0, "started r"),
        (0, "effect r 1"),
        (0, "effect r 2"),
        (0, "effect r 3"),
        (0, "effect r 4"),
        (1, "effect r 5"),
    ];

    #[test]
    fn what_is_whole_is_clean_and_repeating_what_was_in_flight_is_fine() {
        assert!(told(&WHOLE).is_clean());
        let mut again = WHOLE.to_vec();
        again.insert(5, (1, "effect r 4"));
        assert!(told(&again).is_clean());
        assert!(told(&again).line().contains(" steps=6 repeated=1 "));
    }

    #[test]
    fn what_may_not_be_is_found() {
        for (at, line) in
            [(0, "effect r 5"), (1, "effect r 5"), (1, "effect r 1"), (2, "effect r 3")]
        {
            let mut lines = WHOLE.to_vec();
            lines.push((at, line));
            assert_eq!(told(&lines).is_clean(), line == "effect r 5" && at == 0, "{at} {line}");
        }
        assert!(!told(&WHOLE[..5]).is_clean(), "a step is missing");
        let mut ended = WHOLE.to_vec();
        ended.extend([(1, "ended r"), (2, "effect r 5")]);
        assert!(!told(&ended).is_clean());
        assert!(Told::default().hear(0, "nonsense").is_err());
    }
}
