//! Graphs: named nodes with dependencies, run in parallel where they can.

use std::any::{Any, type_name};
use std::collections::{HashMap, HashSet};
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use resurge_store::BoxFuture;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::callback::{around_process, around_step};
use crate::core::{Claimed, check_name};
use crate::fan_out::Branch;
use crate::gate::IntoGate;
use crate::step::{Name, Options, drive};
use crate::step_error::{Class, FlowResult, StepError, StepErrorKind};
use crate::{Ctx, Retry};

mod plan;
mod run;

pub use plan::GraphError;

/// Named nodes with dependencies, checked; run it with [`Ctx::graph`].
///
/// A node begins as soon as what it depends on is done. When a node fails, only what depends on it is
/// skipped; the others run to their ends. Then the graph fails with an error that carries the failure
/// points of all failed nodes; a resumed run goes on at each of them, and what was done stays done.
///
/// A node is a *step*, or a *process*: a part of the flow with steps, timers or another graph in it.
///
/// ```
/// use resurge_flow::{Ctx, FlowResult, Graph, StepError};
///
/// async fn build(ctx: Ctx, source: String) -> FlowResult<usize> {
///     let mut graph = Graph::builder();
///     graph.step("compile", &[], |_| async { Ok::<_, StepError>(source.len()) });
///     graph.step("docs", &[], |_| async { Ok::<_, StepError>("docs".to_owned()) });
///     graph.process("test", &["compile"], |ctx, done| async move {
///         let size: usize = done.get("compile")?;
///         ctx.step("unit", || async { Ok::<_, StepError>(size) }).await?;
///         ctx.step("end-to-end", || async { Ok::<_, StepError>(size * 2) }).await
///     });
///     graph.step("publish", &["test", "docs"], |done| async move {
///         Ok::<_, StepError>(done.get::<usize>("test")? + done.get::<String>("docs")?.len())
///     });
///     let done = ctx.graph("build", graph.build()?).await?;
///     done.get("publish")
/// }
/// ```
pub struct Graph<'g> {
    nodes: Vec<Planned<'g>>,
    index: HashMap<Name, usize>,
    max_parallel: Option<usize>,
}

/// A node, and where its dependencies are.
struct Planned<'g> {
    name: Name,
    after: Vec<usize>,
    /// What it can read: everything it depends on, directly or not.
    before: HashSet<usize>,
    dependents: Vec<usize>,
    options: Options,
    work: Work<'g>,
}

/// Makes a [`Graph`]. Dependencies may be named before they are added.
pub struct GraphBuilder<'g> {
    nodes: Vec<Spec<'g>>,
    max_parallel: Option<usize>,
}

struct Spec<'g> {
    name: Name,
    after: Vec<String>,
    options: Options,
    work: Work<'g>,
}

enum Work<'g> {
    Step(Begin<'g>),
    Process(Begin<'g>),
}

type Begin<'g> = Box<dyn FnOnce(Start) -> BoxFuture<'g, FlowResult<Stored>> + Send + 'g>;

/// What a node's work is given.
struct Start {
    /// In the node's scope for a process, in the graph's for a step.
    ctx: Ctx,
    /// A step's position.
    claimed: Option<Claimed>,
    name: Name,
    options: Options,
    results: NodeResults,
    born: u64,
}

/// A node's result.
#[derive(Clone)]
struct Stored {
    value: Arc<dyn Any + Send + Sync>,
    of_type: &'static str,
}

impl Stored {
    fn new<T: Send + Sync + 'static>(value: T) -> Self {
        Self { value: Arc::new(value), of_type: type_name::<T>() }
    }
}

/// Results of nodes: in a node's body of all nodes it depends on, directly or not; after the graph of
/// all nodes.
#[derive(Clone)]
pub struct NodeResults {
    shared: Arc<Results>,
    /// The node that asks, and what it can read.
    reader: Option<(Name, Arc<HashSet<usize>>)>,
}

struct Results {
    index: HashMap<Name, usize>,
    values: Mutex<Vec<Option<Stored>>>,
}

impl NodeResults {
    /// The result of the node called `name`.
    ///
    /// # Errors
    /// [`Invalid`](StepErrorKind::Invalid) when its result is not a `T`, when there is no such node,
    /// and in a node's body when that does not depend on it.
    pub fn get<T: Clone + Send + Sync + 'static>(&self, name: &str) -> FlowResult<T> {
        let refused = |why: String| {
            let message = format!("the result of node `{name}` was asked for: {why}");
            StepError::of(StepErrorKind::Invalid, Class::Permanent, message)
        };
        let Some(at) = self.shared.index.get(name) else {
            return Err(refused("there is no such node".to_owned()));
        };
        if let Some((reader, readable)) = &self.reader
            && !readable.contains(at)
        {
            return Err(refused(format!("node `{reader}` does not depend on it")));
        }
        let stored = self.shared.values.lock().get(*at).cloned().flatten();
        let Some(stored) = stored else { return Err(refused("it is not done".to_owned())) };
        let value = stored.value.downcast_ref::<T>().cloned();
        let wanted = type_name::<T>();
        value.ok_or_else(|| refused(format!("it is a {}, not a {wanted}", stored.of_type)))
    }
}

impl Graph<'_> {
    /// An empty one to add nodes to.
    pub fn builder<'g>() -> GraphBuilder<'g> {
        GraphBuilder { nodes: Vec::new(), max_parallel: None }
    }

    /// The names of the nodes, in the order they were added.
    pub fn nodes(&self) -> impl Iterator<Item = &str> {
        self.nodes.iter().map(|node| &*node.name)
    }
}

impl<'g> GraphBuilder<'g> {
    /// Adds a step that runs after the nodes named; it is given their results.
    ///
    /// The body is called once for each attempt. See [`Ctx::step`] for what is durable; retries, a
    /// time limit and the like are set on what this returns.
    ///
    /// To [memoise](crate::Step::memoize) one, add a [process](Self::process) and memoise a step in it:
    /// there the results that it is keyed by are known.
    pub fn step<F, Fut, T, E>(&mut self, name: impl Into<Name>, after: &[&str], body: F) -> Node<'_>
    where
        F: FnMut(NodeResults) -> Fut + Send + 'g,
        Fut: Future<Output = Result<T, E>> + Send + 'g,
        E: Into<StepError> + 'g,
        T: Serialize + DeserializeOwned + Send + Sync + 'static,
    {
        let begin: Begin<'g> = Box::new(move |start| {
            let mut body = body;
            Box::pin(async move {
                let Start { claimed, options, results, born, .. } = start;
                let Some(claimed) = claimed else {
                    return Err(StepError::permanent("a step has no position"));
                };
                let path = claimed.position().to_string();
                let _branch = Branch::begin(&claimed.core, path.into(), born);
                let attempts = drive(&claimed, || body(results.clone()), &options);
                around_step(&claimed, attempts).await.map(Stored::new::<T>)
            })
        });
        self.add(name.into(), after, Work::Step(begin));
        Node { options: self.nodes.last_mut().map(|node| &mut node.options) }
    }

    /// Adds a process that runs after the nodes named: a part of the flow in a scope of its own, with
    /// callbacks as [`Ctx::process`] has them. Its result is not recorded, only what happens in it.
    pub fn process<F, Fut, T>(&mut self, name: impl Into<Name>, after: &[&str], work: F)
    where
        F: FnOnce(Ctx, NodeResults) -> Fut + Send + 'g,
        Fut: Future<Output = FlowResult<T>> + Send + 'g,
        T: Send + Sync + 'static,
    {
        let begin: Begin<'g> = Box::new(move |start| {
            Box::pin(async move {
                let Start { ctx, name, results, born, .. } = start;
                let own = ctx.clone();
                let work = async move { work(own, results).await };
                around_process(&ctx, &name, Some(born), work).await.map(Stored::new::<T>)
            })
        });
        self.add(name.into(), after, Work::Process(begin));
    }

    /// How many bodies of the graph's steps, those of its processes included, may be at work at once;
    /// any number by default. What sleeps or waits does not count.
    pub fn max_parallel(&mut self, bodies: usize) -> &mut Self {
        self.max_parallel = Some(bodies);
        self
    }

    fn add(&mut self, name: Name, after: &[&str], work: Work<'g>) {
        let after = after.iter().map(|name| (*name).to_owned()).collect();
        self.nodes.push(Spec { name, after, options: Options::default(), work });
    }

    /// Checks it.
    ///
    /// # Errors
    /// [`GraphError`] for a graph without nodes, two nodes of one name, a dependency that is not
    /// there, a circle, a bad name or a limit of 0.
    ///
    /// ```
    /// use resurge_flow::{Graph, GraphError, StepError};
    /// let mut graph = Graph::builder();
    /// graph.step("hen", &["egg"], |_| async { Ok::<_, StepError>(()) });
    /// graph.step("egg", &["hen"], |_| async { Ok::<_, StepError>(()) });
    /// let circle = graph.build().unwrap_err();
    /// assert_eq!(circle.to_string(), "nodes depend on each other: hen -> egg -> hen");
    /// ```
    pub fn build(self) -> Result<Graph<'g>, GraphError> {
        let Self { nodes, max_parallel } = self;
        if max_parallel == Some(0) {
            return Err(GraphError::NoParallelism);
        }
        for node in &nodes {
            check_name(&node.name).map_err(|_| GraphError::Name(node.name.to_string()))?;
        }
        let names: Vec<(&str, &[String])> =
            nodes.iter().map(|node| (&*node.name, &*node.after)).collect();
        let plan = plan::plan(&names)?;
        let index = nodes.iter().enumerate().map(|(at, node)| (node.name.clone(), at)).collect();
        let nodes = nodes
            .into_iter()
            .zip(plan)
            .map(|(Spec { name, options, work, .. }, place)| {
                let plan::Place { after, before, dependents } = place;
                Planned { name, after, before, dependents, options, work }
            })
            .collect();
        Ok(Graph { nodes, index, max_parallel })
    }
}

/// A step just added to a graph, to be set up.
#[derive(Debug)]
pub struct Node<'b> {
    /// Of the node added last.
    options: Option<&'b mut Options>,
}

#[expect(clippy::return_self_not_must_use, reason = "the settings are in the graph already")]
impl Node<'_> {
    fn set(&mut self, set: impl FnOnce(&mut Options)) {
        if let Some(options) = &mut self.options {
            set(options);
        }
    }

    /// As [`Step::retry`](crate::Step::retry).
    pub fn retry(mut self, retry: Retry) -> Self {
        self.set(|options| options.retry = retry);
        self
    }

    /// As [`Step::timeout`](crate::Step::timeout).
    pub fn timeout(mut self, each_attempt: Duration) -> Self {
        self.set(|options| options.timeout = Some(each_attempt));
        self
    }

    /// As [`Step::through`](crate::Step::through).
    pub fn through(mut self, gate: &impl IntoGate) -> Self {
        self.set(|options| options.gates.push(gate.gate()));
        self
    }

    /// As [`Step::deferred`](crate::Step::deferred).
    pub fn deferred(mut self) -> Self {
        self.set(|options| options.deferred = true);
        self
    }
}

impl fmt::Debug for Graph<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<&str> = self.nodes().collect();
        f.debug_struct("Graph").field("nodes", &nodes).finish_non_exhaustive()
    }
}

impl fmt::Debug for GraphBuilder<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let nodes: Vec<_> = self.nodes.iter().map(|node| (&*node.name, &node.after)).collect();
        f.debug_struct("GraphBuilder").field("nodes", &nodes).finish_non_exhaustive()
    }
}

/// Values may be sensitive: only the names are shown.
impl fmt::Debug for NodeResults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut names: Vec<&Name> = self.shared.index.keys().collect();
        names.sort();
        f.debug_struct("NodeResults").field("nodes", &names).finish_non_exhaustive()
    }
}
