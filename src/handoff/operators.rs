//! Operators that ONNX Runtime training differentiates correctly.
//!
//! The list was found by comparing gradients of version 1.19.2 with finite differences, operator by
//! operator. Other operators have no gradient there, abort the process, or silently get a wrong
//! gradient.

use std::collections::HashSet;

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Consumers, Graph, Node, ValueId};

/// Operators with a correct gradient, under the conditions of `objection`.
pub const TRAINABLE_OPS: &[&str] = &[
    "Abs",
    "Add",
    "Clip",
    "Concat",
    "Conv",
    "Cos",
    "Div",
    "Erf",
    "Exp",
    "Expand",
    "Flatten",
    "Gather",
    "Gelu",
    "Gemm",
    "GlobalAveragePool",
    "Identity",
    "LeakyRelu",
    "Log",
    "LogSoftmax",
    "MatMul",
    "Max",
    "MaxPool",
    "Min",
    "Mul",
    "Neg",
    "Pad",
    "Pow",
    "Reciprocal",
    "ReduceL2",
    "ReduceLogSumExp",
    "ReduceMean",
    "ReduceSum",
    "Relu",
    "Reshape",
    "Sigmoid",
    "Sin",
    "Slice",
    "Softmax",
    "Split",
    "Sqrt",
    "Squeeze",
    "Sub",
    "Tanh",
    "Tile",
    "Transpose",
    "Unsqueeze",
    "Where",
];

/// Checks that ONNX Runtime training computes correct gradients for `trained`.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the first node that stands in the way.
pub(super) fn check(graph: &Graph, trained: &[ValueId]) -> Result<()> {
    let readers = graph.consumers();
    let mut active: HashSet<ValueId> = trained.iter().copied().collect();
    for id in graph.topological_order()? {
        let node = graph.node(id);
        let is_active = node.reads().any(|v| active.contains(&v));
        // A sub-graph aborts the process even where no gradient goes through it.
        if is_active || node.subgraphs().next().is_some() {
            if let Some(reason) = objection(graph, node, &readers) {
                return Err(Error::new(ErrorKind::Unsupported, reason)
                    .at_node(&node.name)
                    .hint("ONNX Runtime training cannot train this model"));
            }
            active.extend(node.outputs.iter().flatten());
        }
    }
    Ok(())
}

/// The reason why the gradient through a node would be wrong or missing; `None` if it is correct.
fn objection(graph: &Graph, node: &Node, readers: &Consumers) -> Option<String> {
    let op = &node.op;
    if node.subgraphs().next().is_some() {
        return Some(format!("the sub-graph of {op} aborts ONNX Runtime training"));
    }
    if !node.domain.is_empty() || !TRAINABLE_OPS.contains(&op.as_str()) {
        return Some(format!("operator {op} has no right gradient in ONNX Runtime training"));
    }
    let is_read = |v: &ValueId| !readers[v.index()].is_empty() || graph.outputs.contains(v);
    match op.as_str() {
        "Conv" if node.str("auto_pad").is_some_and(|p| p.starts_with("SAME")) => {
            Some("the gradient of Conv with auto_pad is wrong in ONNX Runtime training".into())
        }
        "Split" if !node.outputs.iter().all(|o| o.as_ref().is_some_and(is_read)) => Some(
            "the gradient of Split with an unused output is wrong in ONNX Runtime training".into(),
        ),
        "MaxPool" if node.output(1).is_some() => {
            Some("MaxPool with indices has no gradient in ONNX Runtime training".into())
        }
        "Pad" if node.str("mode").is_some_and(|m| m != "constant") || node.input(3).is_some() => {
            let what = "only Pad with a constant and without axes";
            Some(format!("{what} has a gradient in ONNX Runtime training"))
        }
        "Pow" if node.input(1).is_none_or(|v| graph.initializer(v).is_none()) => {
            Some("Pow with a computed exponent has no gradient in ONNX Runtime training".into())
        }
        _ => None,
    }
}
