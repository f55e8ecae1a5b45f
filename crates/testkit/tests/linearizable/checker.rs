//! The search of Wing and Gong with Lowe's memory of what was tried.
//!
//! Our own because of what the others bring along: `porcupine-rs` 0.3 makes criterion, regex and the
//! unmaintained paste dependencies of whoever uses it. It is compared with trying out every order.

use std::collections::HashSet;
use std::fmt;

use super::history::{Operation, State};

/// The set of operations that are placed already.
type Placed = u128;

/// Most operations of one history.
pub(crate) const MOST: usize = Placed::BITS as usize;

/// No order explains the history; this is how far the best attempt came.
#[derive(Debug)]
pub(crate) struct Stuck {
    history: Vec<Operation>,
    placed: Placed,
    state: State,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "the best order ends in {:?}; - is placed, ? is not", self.state)?;
        for (i, op) in self.history.iter().enumerate() {
            let mark = if self.placed >> i & 1 == 1 { '-' } else { '?' };
            writeln!(f, "{mark} {op}")?;
        }
        Ok(())
    }
}

/// Whether some order of the operations, in which none comes before one that returned before it
/// began, leads from the empty store through all their answers.
pub(crate) fn check(history: &[Operation]) -> Result<(), Stuck> {
    assert!(history.len() <= MOST, "{} operations are too many", history.len());
    let all = (0..history.len()).fold(0, |all, i| all | 1 << i);
    let start: (Placed, State) = (0, State::default());
    let mut best = start;
    let mut tried = HashSet::from([start]);
    let mut open = vec![start];
    while let Some((placed, state)) = open.pop() {
        if placed == all {
            return Ok(());
        }
        if placed.count_ones() > best.0.count_ones() {
            best = (placed, state);
        }
        let left = || history.iter().enumerate().filter(|(i, _)| placed >> i & 1 == 0);
        // Whoever began after one of those returned comes after it.
        let first_end = left().map(|(_, op)| op.end).min().unwrap_or(u64::MAX);
        for (i, op) in left().filter(|(_, op)| op.begin < first_end) {
            for after in op.outcomes(&state) {
                let next = (placed | 1 << i, after);
                if tried.insert(next) {
                    open.push(next);
                }
            }
        }
    }
    Err(Stuck { history: history.to_vec(), placed: best.0, state: best.1 })
}

mod tests {
    use proptest::prelude::*;
    use proptest::strategy::ValueTree;

    use super::super::history::{Answer, Call, Expect};
    use super::*;

    /// Every permutation, with no thought.
    fn by_trying_all(history: &[Operation], chosen: &mut Vec<usize>, state: State) -> bool {
        if chosen.len() == history.len() {
            return true;
        }
        (0..history.len()).any(|i| {
            let overtaken = |j: &usize| history[i].end < history[*j].begin;
            if chosen.contains(&i) || chosen.iter().any(overtaken) {
                return false;
            }
            chosen.push(i);
            let found = history[i].outcomes(&state).any(|s| by_trying_all(history, chosen, s));
            chosen.pop();
            found
        })
    }

    fn operation() -> impl Strategy<Value = Operation> {
        let value = || 0..3_u32;
        let expect = prop_oneof![
            Just(Expect::Absent),
            Just(Expect::Present),
            (1..3_u32).prop_map(Expect::Exact)
        ];
        let get = (0..2_usize, value()).prop_map(|(k, v)| (Call::Get(k), Answer::Value(v)));
        let scan = (value(), value()).prop_map(|(a, b)| (Call::Scan, Answer::All([a, b, 0, 0])));
        let answer = prop_oneof![2 => Just(Answer::Done), 1 => Just(Answer::Conflict), 1 => Just(Answer::Unknown)];
        let guards = proptest::collection::vec((0..2_usize, expect), 0..2);
        let writes = proptest::collection::vec((0..2_usize, value()), 0..3);
        let commit = (guards, writes, answer)
            .prop_map(|(guards, writes, answer)| (Call::Commit { guards, writes }, answer));
        let times = (0..12_u64, 1..8_u64);
        (times, prop_oneof![2 => get, 1 => scan, 4 => commit]).prop_map(
            |((begin, length), (call, answer))| {
                // No two moments are the same.
                let (begin, end) = (2 * begin, 2 * (begin + length) + 1);
                Operation { client: 0, begin, end, call, answer }
            },
        )
    }

    #[test]
    fn it_agrees_with_trying_every_order() {
        let (mut yes, mut no) = (0, 0);
        let histories = proptest::collection::vec(operation(), 1..7);
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig {
            cases: 4_000,
            failure_persistence: None,
            ..ProptestConfig::default()
        });
        let result = runner.run(&histories, |history| {
            let expected = by_trying_all(&history, &mut Vec::new(), State::default());
            prop_assert_eq!(check(&history).is_ok(), expected, "{:#?}", history);
            Ok(())
        });
        result.unwrap();
        let mut sample = proptest::test_runner::TestRunner::deterministic();
        for _ in 0..400 {
            let history = histories.new_tree(&mut sample).unwrap().current();
            if check(&history).is_ok() { yes += 1 } else { no += 1 }
        }
        assert!(yes > 40 && no > 40, "one-sided: {yes} linearizable, {no} not");
    }

    fn op(begin: u64, end: u64, call: Call, answer: Answer) -> Operation {
        Operation { client: 0, begin, end, call, answer }
    }

    fn put(begin: u64, end: u64, value: u32, answer: Answer) -> Operation {
        op(begin, end, Call::Commit { guards: vec![], writes: vec![(0, value)] }, answer)
    }

    fn get(begin: u64, end: u64, value: u32) -> Operation {
        op(begin, end, Call::Get(0), Answer::Value(value))
    }

    #[test]
    fn a_stale_read_is_none_only_while_the_write_is_under_way() {
        assert!(check(&[put(1, 4, 7, Answer::Done), get(2, 3, 0)]).is_ok());
        assert!(check(&[put(1, 4, 7, Answer::Done), get(2, 3, 7)]).is_ok());
        assert!(check(&[put(1, 2, 7, Answer::Done), get(3, 4, 0)]).is_err());
        // Seen once, seen for ever.
        assert!(check(&[put(1, 9, 7, Answer::Done), get(2, 3, 7), get(4, 5, 0)]).is_err());
    }

    #[test]
    fn an_unknown_commit_happened_or_not_but_not_after_its_end() {
        let unknown = || put(1, 4, 7, Answer::Unknown);
        assert!(check(&[unknown(), get(5, 6, 0), get(7, 8, 0)]).is_ok());
        assert!(check(&[unknown(), get(5, 6, 7), get(7, 8, 7)]).is_ok());
        assert!(check(&[unknown(), get(5, 6, 0), get(7, 8, 7)]).is_err());
        assert!(check(&[unknown(), get(5, 6, 7), get(7, 8, 0)]).is_err());
    }

    #[test]
    fn a_compare_and_swap_has_one_winner() {
        let swap = |begin, end, answer| {
            let (guards, writes) =
                (vec![(0, Expect::Absent)], vec![(0, u32::try_from(begin).unwrap())]);
            op(begin, end, Call::Commit { guards, writes }, answer)
        };
        assert!(check(&[swap(1, 9, Answer::Done), swap(2, 8, Answer::Conflict)]).is_ok());
        assert!(check(&[swap(1, 9, Answer::Done), swap(2, 8, Answer::Done)]).is_err());
        assert!(check(&[swap(1, 9, Answer::Conflict), swap(2, 8, Answer::Conflict)]).is_err());
    }
}
