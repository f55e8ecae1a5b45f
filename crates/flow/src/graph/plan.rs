//! From names to an order: who depends on whom, and whether that can be run at all.

use std::collections::{HashMap, HashSet, VecDeque};

/// Why nodes make no graph.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GraphError {
    /// There are no nodes.
    #[error("a graph needs a node")]
    Empty,
    /// Two nodes have this name.
    #[error("two nodes are named `{0}`")]
    Duplicate(String),
    /// A node depends on one that is not there.
    #[error("node `{node}` depends on `{dependency}`, which is not there")]
    Unknown {
        /// The node.
        node: String,
        /// What it depends on.
        dependency: String,
    },
    /// Nodes depend on each other; the first is named again at the end.
    #[error("nodes depend on each other: {}", .0.join(" -> "))]
    Cycle(Vec<String>),
    /// A name was refused: empty, longer than 200 bytes, or beginning with `@`.
    #[error("`{0}` is no name for a node")]
    Name(String),
    /// A limit of 0 bodies at work.
    #[error("no body may be at work; at least 1 is needed")]
    NoParallelism,
}

/// Where a node stands.
#[derive(Clone, Debug, Default)]
pub(super) struct Place {
    /// What it depends on, each once.
    pub(super) after: Vec<usize>,
    /// What it depends on, directly or not.
    pub(super) before: HashSet<usize>,
    pub(super) dependents: Vec<usize>,
}

/// Checks nodes and what they depend on, and places them.
pub(super) fn plan(nodes: &[(&str, &[String])]) -> Result<Vec<Place>, GraphError> {
    if nodes.is_empty() {
        return Err(GraphError::Empty);
    }
    let mut index = HashMap::new();
    for (at, (name, _)) in nodes.iter().enumerate() {
        if index.insert(*name, at).is_some() {
            return Err(GraphError::Duplicate((*name).to_owned()));
        }
    }
    let mut places = Vec::with_capacity(nodes.len());
    for (name, after) in nodes {
        let mut place = Place::default();
        for dependency in *after {
            let Some(at) = index.get(dependency.as_str()) else {
                let (node, dependency) = ((*name).to_owned(), dependency.clone());
                return Err(GraphError::Unknown { node, dependency });
            };
            if !place.after.contains(at) {
                place.after.push(*at);
            }
        }
        places.push(place);
    }
    for at in 0..places.len() {
        for dependency in after(&places, at) {
            if let Some(place) = places.get_mut(dependency) {
                place.dependents.push(at);
            }
        }
    }
    let order = order(nodes, &places)?;
    for at in order {
        let mut before = HashSet::new();
        for dependency in after(&places, at) {
            before.insert(dependency);
            before.extend(places.get(dependency).into_iter().flat_map(|place| &place.before));
        }
        if let Some(place) = places.get_mut(at) {
            place.before = before;
        }
    }
    Ok(places)
}

fn after(places: &[Place], at: usize) -> Vec<usize> {
    places.get(at).map(|place| place.after.clone()).unwrap_or_default()
}

/// An order in which every node comes after what it depends on.
fn order(nodes: &[(&str, &[String])], places: &[Place]) -> Result<Vec<usize>, GraphError> {
    let mut left: Vec<usize> = places.iter().map(|place| place.after.len()).collect();
    let free = left.iter().enumerate().filter(|(_, left)| **left == 0);
    let mut ready: VecDeque<usize> = free.map(|(at, _)| at).collect();
    let mut order = Vec::with_capacity(places.len());
    while let Some(at) = ready.pop_front() {
        order.push(at);
        for dependent in places.get(at).into_iter().flat_map(|place| &place.dependents) {
            if let Some(left) = left.get_mut(*dependent) {
                *left -= 1;
                if *left == 0 {
                    ready.push_back(*dependent);
                }
            }
        }
    }
    if order.len() == places.len() {
        return Ok(order);
    }
    Err(GraphError::Cycle(circle(nodes, places, &left)))
}

/// A circle among the nodes that are left: each of them depends on another one of them.
fn circle(nodes: &[(&str, &[String])], places: &[Place], left: &[usize]) -> Vec<String> {
    let is_left = |at: usize| left.get(at).is_some_and(|left| *left > 0);
    let mut path: Vec<usize> = Vec::new();
    let mut next = (0..places.len()).find(|at| is_left(*at));
    while let Some(at) = next {
        if let Some(begin) = path.iter().position(|seen| *seen == at) {
            path.drain(..begin);
            path.push(at);
            break;
        }
        path.push(at);
        next = after(places, at).into_iter().find(|at| is_left(*at));
    }
    path.iter().filter_map(|at| nodes.get(*at)).map(|(name, _)| (*name).to_owned()).collect()
}
