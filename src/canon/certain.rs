//! Takes the branch of an `If` that alone can run, although its condition is not a constant.
//!
//! TorchScript writes `squeeze` as an `If` on an extent that may be open: one branch takes an axis away, the other
//! keeps it. What follows mostly has layers for one number of axes only. With the other branch, every run would end
//! in an error, so none takes it. Channels are not followed through an `If` whose branches have unlike shapes.
//!
//! Each branch is tried in a copy of the model, in which shapes and further conditions are decided.

use std::collections::BTreeSet;

use crate::error::{ErrorKind, Result};
use crate::ir::{Attribute, Graph, Model, NodeId, TensorType, ValueId};

use super::splice::node_names;
use super::{CanonOptions, branches, settle, shapes, types};

/// Most nodes that are tried in one pass.
const MOST_TRIALS: usize = 64;

/// Limit of the nodes of all copies, each tried node counted once.
const MOST_COPIES: usize = 1 << 16;

/// Most rounds in which further conditions are decided in a trial.
const MOST_ROUNDS: usize = 16;

/// Runs the pass.
///
/// # Errors
/// [`ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, options: &CanonOptions) -> Result<bool> {
    // A step of a loop need not run at all, so its faults are no faults of a run.
    if repeats(&model.graph) {
        return Ok(false);
    }
    let mut trials = (MOST_COPIES / model.graph.nodes().count().max(1)).min(MOST_TRIALS);
    let (mut tried, mut modified) = (BTreeSet::new(), false);
    while let Some(id) = next(&model.graph, &tried)?.filter(|_| trials > 0) {
        tried.insert(id);
        trials -= 1;
        let fails = [true, false].map(|holds| fails(model, options, id, holds));
        if fails[0] == fails[1] {
            continue;
        }
        let (mut taken, mut names) = (model.clone(), node_names(&model.graph));
        let found = branches::take(&mut taken.graph, &mut names, id, fails[1]);
        // Shapes that the file declares may contradict the branch, and then the model stays as it is.
        if found.is_some() && settle(&mut taken).is_ok() {
            *model = taken;
            modified = true;
        }
    }
    Ok(modified)
}

/// The first node to try that was not tried before. What it returns may decide about later ones.
fn next(graph: &Graph, tried: &BTreeSet<NodeId>) -> Result<Option<NodeId>> {
    let mut order = graph.topological_order()?.into_iter();
    Ok(order.find(|id| !tried.contains(id) && differs(graph, *id)))
}

fn repeats(graph: &Graph) -> bool {
    graph.nodes().any(|(_, node)| node.is("Loop") || node.is("Scan"))
}

/// Whether a node chooses between values of unlike numbers of axes, or has a branch that cannot run.
fn differs(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let branch = |name: &str| match node.attributes.get(name) {
        Some(Attribute::Graph(branch)) if node.is("If") => Some(branch.as_ref()),
        _ => None,
    };
    let (Some(then), Some(other)) = (branch("then_branch"), branch("else_branch")) else {
        return false;
    };
    let rank = |graph: &Graph, value: ValueId| types::shape(graph, value).map(|shape| shape.len());
    let unlike = |(a, b): (&ValueId, &ValueId)| match (rank(then, *a), rank(other, *b)) {
        (Some(a), Some(b)) => a != b,
        _ => false,
    };
    let cannot_run = |branch: &Graph| types::infer(&mut branch.clone()).is_err();
    then.outputs.iter().zip(&other.outputs).any(unlike) || cannot_run(then) || cannot_run(other)
}

/// Whether every run fails in which a node takes this branch.
fn fails(model: &Model, options: &CanonOptions, id: NodeId, holds: bool) -> bool {
    let mut trial = model.clone();
    let graph = &mut trial.graph;
    let mut begin: Vec<ValueId> = graph.node(id).outputs.iter().copied().flatten().collect();
    let mut names = node_names(graph);
    let Some(copies) = branches::take(graph, &mut names, id, holds) else { return false };
    begin.extend(copies.iter().flat_map(|id| graph.node(*id).outputs.iter().copied().flatten()));
    forget_shapes(graph, begin);
    for _ in 0..MOST_ROUNDS {
        match decide_more(&mut trial, options) {
            Ok(true) if !repeats(&trial.graph) => {}
            Ok(_) => return false,
            Err(error) => return error.kind() == ErrorKind::Format && !repeats(&trial.graph),
        }
    }
    false
}

/// Decides what follows from the shapes; returns whether anything did.
fn decide_more(trial: &mut Model, options: &CanonOptions) -> Result<bool> {
    settle(trial)?;
    Ok(shapes::run(trial, options)? | branches::run(trial, options)?)
}

/// Drops the shapes of values and of all that is computed from them. Those that a file declares are the shapes of one
/// run, which may have taken the other branch.
fn forget_shapes(graph: &mut Graph, mut open: Vec<ValueId>) {
    let readers = graph.consumers();
    let mut seen: BTreeSet<ValueId> = open.iter().copied().collect();
    while let Some(value) = open.pop() {
        if let Some(TensorType { dtype, .. }) = graph.value(value).ty {
            graph.set_type(value, Some(TensorType { dtype, shape: None }));
        }
        for reader in readers.get(value.index()).into_iter().flatten() {
            let outputs = graph.node(*reader).outputs.iter().copied().flatten();
            open.extend(outputs.filter(|output| seen.insert(*output)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::canonicalise;
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{DataType, Tensor, ValueKind};

    /// `x`, or without its last axis if that has one entry, as TorchScript writes `squeeze`.
    fn squeezed(b: &mut GraphBuilder, x: ValueId) -> ValueId {
        let (last, one) = (b.ints("last", &[-1]), b.ints("one", &[1]));
        let shape = b.op("Shape", "shape", &[x], []);
        let extent = b.op("Gather", "extent", &[shape, last], []);
        let is_one = b.op("Equal", "is_one", &[extent, one], []);
        let branches = [("then_branch", "Squeeze"), ("else_branch", "Identity")];
        let branches = branches.map(|(name, op)| {
            let mut branch = Graph::new(name);
            let x = branch.add_value("inner", ValueKind::Captured(x), None);
            let axes = branch.add_initializer("axes", Tensor::from_i64(vec![1], &[-1]));
            let operands = [x, axes];
            let operands = if op == "Squeeze" { &operands[..] } else { &operands[..1] };
            branch.outputs = vec![branch.add_op(op, &format!("{op}.result"), operands, [])];
            (name, Attribute::Graph(Box::new(branch)))
        });
        b.op("If", "squeezed", &[is_one], branches)
    }

    /// A value with an axis in front, unless it has two axes, as TorchScript writes a cell for one sample.
    fn batched(b: &mut GraphBuilder, x: ValueId) -> ValueId {
        let two = b.constant("two", Tensor::from_i64(Vec::new(), &[2]));
        let shape = b.op("Shape", "shape", &[x], []);
        let rank = b.op("Size", "rank", &[shape], []);
        let is_two = b.op("Equal", "is_two", &[rank, two], []);
        let is_other = b.op("Not", "is_other", &[is_two], []);
        let branches = [("then_branch", "Unsqueeze"), ("else_branch", "Identity")];
        let branches = branches.map(|(name, op)| {
            let mut branch = Graph::new(name);
            let x = branch.add_value("inner", ValueKind::Captured(x), None);
            let axes = branch.add_initializer("axes", Tensor::from_i64(vec![1], &[0]));
            let operands = [x, axes];
            let operands = if op == "Unsqueeze" { &operands[..] } else { &operands[..1] };
            branch.outputs = vec![branch.add_op(op, &format!("{op}.result"), operands, [])];
            (name, Attribute::Graph(Box::new(branch)))
        });
        b.op("If", "batched", &[is_other], branches)
    }

    fn operators(model: Model) -> Vec<String> {
        let model = canonicalise(model, &CanonOptions::default()).unwrap();
        model.graph.nodes().map(|(_, node)| node.op.clone()).collect()
    }

    /// As in a cell of PyTorch behind the frames of a sound, whose number is open.
    #[test]
    fn a_branch_behind_which_a_layer_reads_too_many_axes_is_never_taken() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,t");
        let x = squeezed(&mut b, x);
        let x = batched(&mut b, x);
        let first = b.ints("first", &[0]);
        let x = b.op("Unsqueeze", "steps", &[x, first], []);
        let (w, r) = (b.weights("w", &[1, 8, 4]), b.weights("r", &[1, 8, 2]));
        let y = b.op("LSTM", "lstm", &[x, w, r], [("hidden_size", 2.into())]);
        let found = operators(b.build(&[y]));
        let has = |op: &str| found.iter().any(|own| own == op);
        assert!(has("LSTM") && !has("If"), "{found:?}");
    }

    #[test]
    fn both_branches_stay_where_both_can_run() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,4,t");
        let x = squeezed(&mut b, x);
        let y = b.op("Softplus", "y", &[x], []);
        assert!(operators(b.build(&[y])).contains(&"If".to_owned()));
    }

    /// As TorchScript writes a product with a matrix. The file says nothing of the number of axes between.
    #[test]
    fn a_branch_that_cannot_run_is_never_taken_and_no_fault_of_the_model() {
        let mut b = GraphBuilder::new("net", 17);
        let (x, open) = (b.input("x", "n,5,4"), b.typed_input("open", DataType::Bool, ""));
        let (w, bias) = (b.weights("w", &[4, 3]), b.weights("bias", &[3]));
        let branches = [("then_branch", "Gemm"), ("else_branch", "MatMul")].map(|(name, op)| {
            let mut branch = Graph::new(name);
            let [x, w, bias] = [("x", x), ("w", w), ("bias", bias)]
                .map(|(name, outer)| branch.add_value(name, ValueKind::Captured(outer), None));
            let operands = [x, w, bias];
            let operands = if op == "Gemm" { &operands[..] } else { &operands[..2] };
            branch.outputs = vec![branch.add_op(op, &format!("{op}.result"), operands, [])];
            (name, Attribute::Graph(Box::new(branch)))
        });
        let y = b.op("If", "linear", &[open], branches);
        let found = operators(b.build(&[y]));
        let has = |op: &str| found.iter().any(|own| own == op);
        assert!(has("MatMul") && !has("If") && !has("Gemm"), "{found:?}");
    }
}
