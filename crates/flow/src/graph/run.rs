//! Running a graph in the flow's own task.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;

use parking_lot::Mutex;
use resurge_store::BoxFuture;

use super::{Begin, Graph, NodeResults, Planned, Results, Start, Stored, Work};
use crate::fan_out::{Together, gather};
use crate::step::Name;
use crate::step_error::{FlowResult, StepError};
use crate::{Ctx, Kind};

/// A node's way.
enum State<'g> {
    /// It waits for this many others.
    Waiting(usize, Box<(Start, Begin<'g>)>),
    /// It runs, is done or has failed, or it never will run.
    Begun,
    Skipped,
}

struct Run<'g> {
    name: Name,
    states: Vec<State<'g>>,
    names: Vec<Name>,
    dependents: Vec<Vec<usize>>,
    running: Together<'g, FlowResult<Stored>>,
    failed: Vec<(usize, StepError)>,
    results: Arc<Results>,
}

impl Ctx {
    /// Runs a graph in a [`scope`](Self::scope) of this name, and returns its nodes' results. The
    /// positions of all its steps are taken at once, here.
    ///
    /// # Errors
    /// When nodes failed, after all that does not depend on them has run: the first one's error, with
    /// the failure points of all of them. As [`scope`](Self::scope).
    pub fn graph<'g>(
        &self,
        name: impl Into<Name>,
        graph: Graph<'g>,
    ) -> BoxFuture<'g, FlowResult<NodeResults>> {
        let run = Run::begin(self, name.into(), graph);
        Box::pin(async move { run?.finish().await })
    }
}

impl<'g> Run<'g> {
    /// Takes every node's position, so that what happens in one is known to be independent of when
    /// others end.
    fn begin(ctx: &Ctx, name: Name, graph: Graph<'g>) -> FlowResult<Self> {
        let Graph { nodes, index, max_parallel } = graph;
        let mut ctx = ctx.scope(name.clone())?;
        if let Some(limit) = max_parallel {
            ctx = ctx.limited(limit);
        }
        let born = ctx.core().with(|state| state.machine.born(ctx.scope_path()));
        let mut values = Vec::new();
        values.resize_with(nodes.len(), || None);
        let results = Arc::new(Results { index, values: Mutex::new(values) });
        let mut run = Self {
            name,
            states: Vec::new(),
            names: Vec::new(),
            dependents: Vec::new(),
            running: Together::default(),
            failed: Vec::new(),
            results,
        };
        for node in nodes {
            let Planned { name, after, before, dependents, options, work } = node;
            let (ctx, claimed, begin) = match work {
                Work::Step(begin) => {
                    (ctx.clone(), Some(ctx.claim(name.clone(), Kind::Step)?), begin)
                }
                Work::Process(begin) => (ctx.inner_scope(&name)?, None, begin),
            };
            let reader = Some((name.clone(), Arc::new(before)));
            let results = NodeResults { shared: Arc::clone(&run.results), reader };
            let start = Start { ctx, claimed, name: name.clone(), options, results, born };
            run.states.push(State::Waiting(after.len(), Box::new((start, begin))));
            run.names.push(name);
            run.dependents.push(dependents);
        }
        Ok(run)
    }

    async fn finish(mut self) -> FlowResult<NodeResults> {
        for at in 0..self.states.len() {
            self.start_if_ready(at);
        }
        poll_fn(|cx| {
            loop {
                let ended = self.running.poll(cx);
                if ended.is_empty() {
                    break;
                }
                for (at, result) in ended {
                    self.ended(at, result);
                }
            }
            if self.running.len() == 0 { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
        let Self { name, names, failed, results, .. } = self;
        let node = |at: usize| {
            let node = names.get(at).map_or("?", |name| name);
            format!("node `{node}` of `{name}`")
        };
        gather(failed, node, |count| format!("{count} nodes of `{name}`"))?;
        Ok(NodeResults { shared: results, reader: None })
    }

    fn start_if_ready(&mut self, at: usize) {
        let Some(state) = self.states.get_mut(at) else { return };
        if !matches!(state, State::Waiting(0, _)) {
            return;
        }
        if let State::Waiting(_, work) = std::mem::replace(state, State::Begun) {
            let (start, begin) = *work;
            self.running.add_boxed(at, begin(start));
        }
    }

    fn ended(&mut self, at: usize, result: FlowResult<Stored>) {
        match result {
            Ok(stored) => {
                if let Some(place) = self.results.values.lock().get_mut(at) {
                    *place = Some(stored);
                }
                for dependent in self.dependents.get(at).cloned().unwrap_or_default() {
                    if let Some(State::Waiting(left, _)) = self.states.get_mut(dependent) {
                        *left = left.saturating_sub(1);
                    }
                    self.start_if_ready(dependent);
                }
            }
            Err(error) => {
                self.failed.push((at, error));
                self.skip_dependents(at);
            }
        }
    }

    /// What depends on it never begins; the positions taken for it are given up.
    fn skip_dependents(&mut self, at: usize) {
        let mut skipped = self.dependents.get(at).cloned().unwrap_or_default();
        while let Some(at) = skipped.pop() {
            if let Some(state @ State::Waiting(..)) = self.states.get_mut(at) {
                *state = State::Skipped;
                skipped.extend(self.dependents.get(at).into_iter().flatten());
            }
        }
    }
}
