//! The role of each node with weights: what leads to it, and what it leads to.
//!
//! Exporters and optimisers write one net with other nodes, in another order. Layers, products, sums and
//! concatenations stay. So a role depends on these only: any other node is passed through, and so is a
//! node that combines a value with what was computed from this value without a layer.

use std::collections::hash_map::DefaultHasher;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{Hash, Hasher};

use crate::error::Result;
use crate::ir::{Graph, Node, NodeId, ValueId};

/// Nodes ahead that a role depends on. Beyond them are heads, which differ.
const AHEAD: usize = 2;

/// Kinds of nodes ahead of one value at most.
const MOST_KINDS: usize = 16;

/// What leads to a node with weights from the inputs on, and what the node leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Role {
    before: u64,
    ahead: u64,
}

/// A node with weights.
pub(super) struct Member {
    pub(super) node: NodeId,
    pub(super) weight: ValueId,
    pub(super) role: Role,
}

/// The nodes with weights, in topological order.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn members(graph: &Graph) -> Result<Vec<Member>> {
    let order = graph.topological_order()?;
    let mut before: Vec<Origin> = vec![Origin::default(); graph.value_count()];
    for input in &graph.inputs {
        let hash = hash(("input", graph.type_of(*input).map(|ty| ty.dtype.code())));
        before[input.index()] = Origin { hash, source: Some(*input) };
    }
    let mut steps: Vec<Step> = Vec::with_capacity(order.len());
    for id in &order {
        let (step, result) = Step::of(graph, *id, &before);
        graph.node(*id).outputs.iter().flatten().for_each(|out| before[out.index()] = result);
        steps.push(step);
    }
    join_sums(graph, &order, &mut steps);
    let ahead = ahead(graph, &order, &steps);
    let member = |(id, step): (&NodeId, &Step)| {
        let output = graph.node(*id).output(0)?;
        let Kind::Layer { weight, .. } = step.kind else { return None };
        let ahead = ahead.get(output.index())?.get(AHEAD - 1)?;
        let role = Role { before: before[output.index()].hash, ahead: hash(ahead) };
        Some(Member { node: *id, weight, role })
    };
    Ok(order.iter().zip(&steps).filter_map(member).collect())
}

fn hash(of: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    of.hash(&mut hasher);
    hasher.finish()
}

/// What leads to a value.
#[derive(Debug, Clone, Copy, Default)]
struct Origin {
    hash: u64,
    /// The value that was passed through to it: an input, or the result of a layer or a combination;
    /// `None` for constants.
    source: Option<ValueId>,
}

enum Kind {
    /// Multiplies with a weight.
    Layer {
        weight: ValueId,
        shape: u64,
    },
    /// Adds values, in any order.
    Sum,
    /// Combines values element by element, in any order.
    Commuting,
    Ordered,
    /// Passes one value on.
    Through,
}

/// What a node does to the values that it computes with.
struct Step {
    kind: Kind,
    op: String,
    operands: Vec<ValueId>,
}

impl Step {
    /// The step at a node, and the origin of its results.
    fn of(graph: &Graph, id: NodeId, before: &[Origin]) -> (Step, Origin) {
        let node = graph.node(id);
        let operands = operands(graph, node);
        let op = node.op.clone();
        let origins: Vec<Origin> = operands.iter().map(|value| before[value.index()]).collect();
        let hashes: Vec<u64> = origins.iter().map(|origin| origin.hash).collect();
        let begins =
            |hash: u64| Origin { hash, source: node.outputs.iter().flatten().next().copied() };
        if let Some((weight, shape)) = weight(graph, node) {
            let result = begins(hash(("layer", shape, &hashes)));
            return (Step { kind: Kind::Layer { weight, shape }, op, operands }, result);
        }
        let sources: BTreeMap<Option<ValueId>, u64> =
            origins.iter().map(|origin| (origin.source, origin.hash)).collect();
        let mut terms: Vec<u64> = sources.into_values().collect();
        terms.sort_unstable();
        let (kind, result) = match (op.as_str(), terms.as_slice()) {
            (_, [] | [_]) => {
                let constant = Origin { hash: hash("constant"), source: None };
                (Kind::Through, origins.first().copied().unwrap_or(constant))
            }
            // The terms of a sum of sums are terms of the sum.
            ("Add" | "Sum", terms) => {
                let sum = terms.iter().fold(0u64, |sum, term| sum.wrapping_add(*term));
                (Kind::Sum, begins(sum))
            }
            ("Mul" | "Max" | "Min" | "Mean", terms) => {
                (Kind::Commuting, begins(hash((&op, terms))))
            }
            _ => (Kind::Ordered, begins(hash((&op, &hashes)))),
        };
        (Step { kind, op, operands }, result)
    }

    /// What an operand of the node leads to, if its result leads to `after`.
    fn seen(&self, place: usize, after: &[u64]) -> u64 {
        match &self.kind {
            Kind::Layer { shape, .. } => hash(("layer", shape)),
            Kind::Sum => hash(("sum", after)),
            Kind::Ordered => hash((&self.op, place, after)),
            Kind::Commuting | Kind::Through => hash((&self.op, after)),
        }
    }
}

/// The values that a node computes with: floats that are not constant, or else all that are not.
fn operands(graph: &Graph, node: &Node) -> Vec<ValueId> {
    let computed: Vec<ValueId> =
        node.reads().filter(|value| graph.initializer(*value).is_none()).collect();
    let is_float = |value: &ValueId| graph.type_of(*value).is_none_or(|ty| ty.dtype.is_float());
    match computed.iter().any(is_float) {
        true => computed.into_iter().filter(is_float).collect(),
        false => computed,
    }
}

/// The weight of a node with its kind and shape.
fn weight(graph: &Graph, node: &Node) -> Option<(ValueId, u64)> {
    let stored = |index: usize| {
        let value = node.input(index)?;
        let tensor = graph.initializer(value)?;
        (tensor.dtype.is_float() && tensor.dims.len() > 1).then_some((value, &tensor.dims))
    };
    if !node.domain.is_empty() {
        return None;
    }
    Some(match node.op.as_str() {
        "Gemm" | "MatMul" => {
            let (value, dims) = stored(1).or_else(|| stored(0))?;
            let mut dims = dims.clone();
            // A weight may be stored transposed.
            dims.sort_unstable();
            (value, hash(("product", dims)))
        }
        "Gather" => stored(0).map(|(value, dims)| (value, hash(("table", dims))))?,
        op @ ("Conv" | "ConvTranspose") => {
            let (value, dims) = stored(1)?;
            let strides = node.ints("strides").filter(|s| s.iter().any(|stride| *stride != 1));
            (value, hash((op, dims, strides, node.int("group", 1))))
        }
        op @ ("LSTM" | "GRU" | "RNN") => {
            stored(1).map(|(value, dims)| (value, hash((op, dims))))?
        }
        _ => return None,
    })
}

/// Passes on the terms of a sum that is only a term of another sum: exporters add in any order.
fn join_sums(graph: &Graph, order: &[NodeId], steps: &mut [Step]) {
    let sums = order.iter().zip(&*steps).filter(|(_, step)| matches!(step.kind, Kind::Sum));
    let sums: BTreeSet<NodeId> = sums.map(|(id, _)| *id).collect();
    for (id, step) in order.iter().zip(steps).filter(|(id, _)| sums.contains(id)) {
        let user = graph.node(*id).output(0).and_then(|output| graph.only_use(output));
        if user.is_some_and(|user| sums.contains(&user)) {
            step.kind = Kind::Through;
        }
    }
}

/// For each value and 1 to [`AHEAD`] nodes, what the value leads to.
fn ahead(graph: &Graph, order: &[NodeId], steps: &[Step]) -> Vec<[BTreeSet<u64>; AHEAD]> {
    let mut ahead: Vec<[BTreeSet<u64>; AHEAD]> = vec![Default::default(); graph.value_count()];
    for (id, step) in order.iter().zip(steps).rev() {
        let mut after: [BTreeSet<u64>; AHEAD] = Default::default();
        for output in graph.node(*id).outputs.iter().flatten() {
            for (all, own) in after.iter_mut().zip(&ahead[output.index()]) {
                all.extend(own);
            }
        }
        for (place, operand) in step.operands.iter().enumerate() {
            let mut nearer: Vec<u64> = Vec::new();
            for (far, own) in after.iter().enumerate() {
                let seen = match step.kind {
                    Kind::Through => own.clone(),
                    _ => BTreeSet::from([step.seen(place, &nearer)]),
                };
                nearer = own.iter().copied().collect();
                let kinds = &mut ahead[operand.index()][far];
                kinds.extend(seen);
                while kinds.len() > MOST_KINDS {
                    kinds.pop_last();
                }
            }
        }
    }
    ahead
}
