//! Element-wise operators, with broadcasting.

use crate::ir::Dim;

use super::types::broadcast;
use super::{Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise, aligned_axis};

/// Functions of one tensor.
pub struct Unary;
/// Functions of several tensors with broadcasting.
pub struct Binary;
/// `Clip`, whose bounds are scalars.
pub struct Clip;

impl OpRule for Unary {
    fn ops(&self) -> &'static [&'static str] {
        &[
            "Relu",
            "LeakyRelu",
            "Elu",
            "Selu",
            "Celu",
            "Sigmoid",
            "HardSigmoid",
            "HardSwish",
            "Tanh",
            "Softplus",
            "Softsign",
            "Mish",
            "Gelu",
            "Erf",
            "Exp",
            "Log",
            "Sqrt",
            "Reciprocal",
            "Neg",
            "Abs",
            "Floor",
            "Ceil",
            "Round",
            "Sign",
            "Sin",
            "Cos",
            "ThresholdedRelu",
            "Identity",
            "Not",
            "Swish",
            "Tan",
            "Asin",
            "Acos",
            "Atan",
            "Sinh",
            "Cosh",
            "Asinh",
            "Acosh",
            "Atanh",
            "Shrink",
            "IsNaN",
            "IsInf",
        ]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        same_axis(node, vec![Operand::Channels])
    }
}

impl OpRule for Clip {
    fn ops(&self) -> &'static [&'static str] {
        &["Clip"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        same_axis(node, vec![Operand::Channels, Operand::Plain, Operand::Plain])
    }
}

/// The flow of a part-wise node whose only tracked operand is its first input.
pub(super) fn same_axis(node: &NodeView<'_>, mut operands: Vec<Operand>) -> Flow {
    operands.truncate(node.node.inputs.len());
    match node.labels(0) {
        Some(labels) => Flow::Partwise(Partwise {
            output: labels.clone(),
            operands,
            coupled: Vec::new(),
            expand: Expand::NONE,
        }),
        None => Flow::whole("channels in an operand that must be plain"),
    }
}

/// [`same_axis`], with the output's channels on axis `axis`.
pub(super) fn on_axis(node: &NodeView<'_>, axis: usize, operands: Vec<Operand>) -> Flow {
    match same_axis(node, operands) {
        Flow::Partwise(mut partwise) => {
            partwise.output = Labels::along(axis, partwise.output.atoms);
            Flow::Partwise(partwise)
        }
        other => other,
    }
}

/// The flow of a node that needs the channels of its first input whole, and keeps their order.
pub(super) fn whole_alike(node: &NodeView<'_>, reason: &'static str) -> Flow {
    match node.labels(0) {
        Some(labels) => Flow::whole_with(reason, labels.clone()),
        None => Flow::whole(reason),
    }
}

impl OpRule for Binary {
    fn ops(&self) -> &'static [&'static str] {
        &[
            "Add",
            "Sub",
            "Mul",
            "Div",
            "Pow",
            "Min",
            "Max",
            "Sum",
            "Mean",
            "PRelu",
            "Equal",
            "Greater",
            "Less",
            "GreaterOrEqual",
            "LessOrEqual",
            "And",
            "Or",
            "Xor",
            "Mod",
            "Where",
        ]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let shapes: Option<Vec<Vec<Dim>>> =
            (0..node.node.inputs.len()).map(|i| node.shape(i)).collect();
        let Some(shapes) = shapes else { return Flow::whole("operands of unknown shape") };
        let rank = shapes.iter().map(Vec::len).max().unwrap_or(0);
        // Operands of extent 1 are broadcast along the axis; the longest labels lead.
        let lead = (0..shapes.len())
            .filter_map(|i| Some((i, node.labels(i)?)))
            .max_by_key(|(i, l)| (l.atoms.len(), usize::MAX - i));
        let Some((_, lead)) = lead.map(|(i, l)| (i, on_output_axis(l, shapes[i].len(), rank)))
        else {
            return Flow::Untracked;
        };
        let mut operands = Vec::new();
        let mut coupled = Vec::new();
        for i in 0..shapes.len() {
            match operand(node, i, rank, &lead) {
                Some(Operand::Channels) => {
                    if let Some(labels) = node.labels(i) {
                        coupled.push((lead.atoms.clone(), labels.atoms.clone()));
                    }
                    operands.push(Operand::Channels);
                }
                Some(other) => operands.push(other),
                None => return fixed_order(&shapes, lead),
            }
        }
        Flow::Partwise(Partwise { output: lead, operands, coupled, expand: Expand::NONE })
    }
}

/// The flow if some operand cannot be permuted like the channels `lead`.
fn fixed_order(shapes: &[Vec<Dim>], lead: Labels) -> Flow {
    let reason = "an operand whose channels are in a fixed order";
    match broadcast(shapes).get(lead.axis) {
        Some(Dim::Known(n)) if *n == lead.atoms.len() => Flow::whole_with(reason, lead),
        _ => Flow::whole(reason),
    }
}

fn on_output_axis(labels: &Labels, rank: usize, out_rank: usize) -> Labels {
    Labels::along(labels.axis + out_rank - rank, labels.atoms.clone())
}

/// The role of input `index`, which broadcasts to an output of rank `rank` with the channels `lead`;
/// `None` if it cannot be permuted like them.
pub(super) fn operand(
    node: &NodeView<'_>,
    index: usize,
    rank: usize,
    lead: &Labels,
) -> Option<Operand> {
    if node.node.input(index).is_none() {
        return Some(Operand::Plain);
    }
    let shape = node.shape(index)?;
    let axis = aligned_axis(lead.axis, rank, shape.len());
    if let Some(labels) = node.labels(index) {
        if axis == Some(labels.axis) && labels.atoms.len() == lead.atoms.len() {
            return Some(Operand::Channels);
        }
        // A gate or a mask of positions is the same for all that it meets, and so are channels on another
        // axis.
        let is_spread = axis.is_none_or(|axis| shape.get(axis).and_then(Dim::known) == Some(1));
        return (labels.within.is_none() && is_spread).then_some(Operand::Plain);
    }
    // PRelu's slope may leave out leading axes and is aligned from the right like the others.
    let Some(axis) = axis else { return Some(Operand::Plain) };
    match shape.get(axis).and_then(Dim::known) {
        Some(1) => Some(Operand::Plain),
        Some(n) if n == lead.atoms.len() && node.constant(index).is_some() => {
            Some(Operand::Param { axis })
        }
        _ => None,
    }
}
