//! Converts a model to a newer version of the standard operator set.
//!
//! A joint model has one version, so all models are converted to the same one. A model is converted one
//! version at a time. At each step, nodes whose meaning would change are rewritten by the rows of
//! [`CHANGES`]. [`history`] lists all changes, so an operator without a row is refused rather than
//! misread.

mod broadcast;
mod history;
mod legacy;
mod moved;
mod resize;
mod softmax;

use std::collections::HashMap;

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Attribute, Graph, Model, NodeId, TensorType, ValueId, ValueKind};

use super::{limits, types, unfuse};

/// Models are converted at least to this version. From it on, `axes` are inputs and `Softmax` has its
/// present meaning, and all runtimes support it.
const LEAST: i64 = 13;

/// The conversion of a node to a version that changed its operator.
enum Change {
    /// Attributes became inputs with these positions.
    Move(&'static [(&'static str, usize)]),
    /// Attributes without a meaning any more.
    Drop(&'static [&'static str]),
    /// Anything else.
    With(fn(&mut Graph, NodeId) -> Result<()>),
}

use Change::{Drop, Move, With};

/// The conversions, by operator and version.
#[rustfmt::skip]
const CHANGES: &[(&[&str], i64, Change)] = &[
    (&["Reshape"], 5, Move(&[("shape", 1)])),
    (&["Cast"], 6, With(legacy::named_type)),
    (&["Selu"], 6, With(legacy::selu)),
    (&["Abs", "Add", "BatchNormalization", "Ceil", "Clip", "Div", "Dropout", "Elu", "Exp", "Floor",
       "HardSigmoid", "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mul",
       "Neg", "PRelu", "Reciprocal", "Relu", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh"],
        6, Drop(&["consumed_inputs"])),
    (&["Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor"],
        7, With(broadcast::align)),
    (&["PRelu"], 7, With(broadcast::slope)),
    (&["Gemm"], 7, Drop(&["broadcast"])),
    (&["BatchNormalization", "Dropout"], 7, Drop(&["is_test"])),
    (&["GRU", "LSTM", "RNN"], 7, Drop(&["output_sequence"])),
    (&["BatchNormalization"], 9, With(legacy::spatial)),
    (&["Upsample"], 9, Move(&[("scales", 1)])),
    (&["Upsample"], 10, With(resize::from_upsample)),
    (&["Slice"], 10, Move(&[("starts", 1), ("ends", 2), ("axes", 3)])),
    (&["TopK"], 10, Move(&[("k", 1)])),
    (&["Clip"], 11, Move(&[("min", 1), ("max", 2)])),
    (&["Pad"], 11, Move(&[("pads", 1), ("value", 2)])),
    (&["Resize"], 11, With(resize::name_coordinates)),
    (&["Scatter"], 11, With(legacy::scatter)),
    (&["Dropout"], 12, Move(&[("ratio", 1)])),
    (&["Squeeze", "Unsqueeze", "ReduceSum"], 13, Move(&[("axes", 1)])),
    (&["Split"], 13, Move(&[("split", 1)])),
    (&["Softmax", "LogSoftmax", "Hardmax"], 13, With(softmax::on_one_axis)),
    (&["Resize"], 13, With(resize::drop_empty_inputs)),
    (&["RoiAlign"], 16, With(legacy::roi_coordinates)),
    (&["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean",
       "ReduceMin", "ReduceProd", "ReduceSumSquare"], 18, Move(&[("axes", 1)])),
    (&["Split"], 18, With(legacy::equal_parts)),
    (&["GridSample"], 20, With(legacy::grid_mode)),
];

/// Brings the model to version `target`, or its own by default, and in any case to [`LEAST`].
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming a node that cannot be converted; [`ErrorKind::Usage`] for a
/// target older than the model.
pub(super) fn run(model: &mut Model, target: Option<i64>) -> Result<()> {
    let own = model.opset();
    let target = target.unwrap_or(own).max(LEAST).max(unfuse::oldest_opset(&model.graph));
    check_target(model, own, target)?;
    let Some(standard) = model.opsets.get_mut("") else { return Ok(()) };
    *standard = target;
    let least_ir = history::IR_VERSIONS.iter().rev().find(|(opset, _)| *opset <= target);
    model.ir_version = model.ir_version.max(least_ir.map_or(0, |(_, ir)| *ir));
    for version in own + 1..=target {
        climb(&mut model.graph, version)?;
    }
    Ok(())
}

fn check_target(model: &Model, own: i64, target: i64) -> Result<()> {
    let refused = |kind, message: String, hint: &str| Err(Error::new(kind, message).hint(hint));
    if target < own {
        let message = format!("the model uses operator set {own}, which is newer than {target}");
        return refused(ErrorKind::Usage, message, "ask for a newer operator set");
    }
    if own < 1 {
        let message = format!("the model uses operator set {own}, which does not exist");
        return refused(ErrorKind::Format, message, "export the model again");
    }
    if target > history::NEWEST {
        let message =
            format!("operator set {target} is newer than {}, the newest known", history::NEWEST);
        return refused(ErrorKind::Unsupported, message, "convert with onnx.version_converter");
    }
    if target > own && !model.functions.is_empty() {
        let message = format!("local functions cannot be converted from operator set {own}");
        return refused(ErrorKind::Unsupported, message, "inline them first with onnx.inliner");
    }
    Ok(())
}

/// Converts to the next version. Types are inferred after each node, because they are correct only in
/// the new version.
fn climb(graph: &mut Graph, version: i64) -> Result<()> {
    for id in graph.topological_order()? {
        let name = graph.node(id).name.clone();
        convert(graph, id, version).at_node(&name)?;
        climb_subgraphs(graph, id, version)?;
        limits::asked(graph, id)?;
        types::infer_node(graph, id);
        limits::returned(graph, id)?;
    }
    Ok(())
}

fn convert(graph: &mut Graph, id: NodeId, version: i64) -> Result<()> {
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return Ok(());
    }
    let op = node.op.clone();
    let change = CHANGES.iter().find(|(ops, at, _)| *at == version && ops.contains(&op.as_str()));
    match change {
        Some((_, _, Move(places))) => moved::to_inputs(graph, id, places),
        Some((_, _, Drop(names))) => {
            graph.edit_node(id, |n| n.attributes.retain(|name, _| !names.contains(&name.as_str())));
            Ok(())
        }
        Some((_, _, With(rewrite))) => rewrite(graph, id),
        None if breaks(&op, version) => Err(unsupported(format!(
            "{op} cannot be converted from operator set {} to {version}",
            version - 1
        ))),
        None => Ok(()),
    }
}

fn breaks(op: &str, version: i64) -> bool {
    history::BREAKING.iter().any(|(name, versions)| *name == op && versions.contains(&version))
}

/// An error about a node without a counterpart in the newer version.
fn unsupported(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Unsupported, message)
        .hint("convert the model with onnx.version_converter or export it with a newer opset")
}

/// Converts sub-graphs of `If` and `Loop`, too: a model has one version for all its graphs.
fn climb_subgraphs(graph: &mut Graph, id: NodeId, version: i64) -> Result<()> {
    let captured: HashMap<ValueId, TensorType> = graph
        .node(id)
        .subgraphs()
        .flat_map(Graph::captures)
        .filter_map(|v| Some((v, types::of(graph, v)?)))
        .collect();
    let mut outcome = Ok(());
    if graph.node(id).subgraphs().next().is_some() {
        graph.edit_node(id, |node| {
            for attribute in node.attributes.values_mut() {
                if let Attribute::Graph(sub) = attribute
                    && outcome.is_ok()
                {
                    type_captures(sub, &captured);
                    outcome = climb(sub, version);
                }
            }
        });
    }
    outcome
}

fn type_captures(sub: &mut Graph, outer: &HashMap<ValueId, TensorType>) {
    let captures: Vec<(ValueId, ValueId)> = sub
        .values()
        .filter_map(|(id, v)| match v.kind {
            ValueKind::Captured(from) => Some((id, from)),
            _ => None,
        })
        .collect();
    for (id, from) in captures {
        sub.set_type(id, outer.get(&from).cloned());
    }
}

#[cfg(test)]
mod tests;
