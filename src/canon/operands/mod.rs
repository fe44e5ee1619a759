//! Checks constants against the operators that read them.
//!
//! No runtime can run a model with a bias that is too short, or a permutation of too many axes. Such
//! faults are found here, once for all operators, so that later code may rely on constants. Computed
//! values are not compared with each other, because files carry stale shapes.

mod axes;
mod broadcast;
mod kinds;
mod layers;
mod moves;
mod whole;

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Dim, Graph, Node, NodeId};
use crate::ops::{NodeView, REDUCTIONS};

/// A fault of a node, as a clause that follows its operator; `None` if there is none.
type Check = fn(&Operands<'_>) -> Option<String>;

/// For each operator, the smallest and largest number of inputs, and the check of its inputs.
#[rustfmt::skip]
const CHECKS: &[(&[&str], (usize, usize), Check)] = &[
    (&["Conv"], (2, 3), layers::conv),
    (&["ConvTranspose"], (2, 3), layers::conv_transpose),
    (&["MaxPool", "AveragePool", "LpPool"], (1, 1), layers::pool),
    (&["Gemm"], (2, 3), layers::gemm),
    (&["MatMul"], (2, 2), layers::matmul),
    (&["ConvInteger"], (2, 4), layers::integer_conv),
    (&["MatMulInteger"], (2, 4), layers::matmul),
    (&["QLinearConv"], (8, 9), layers::quantised_conv),
    (&["QLinearMatMul"], (8, 8), layers::quantised_matmul),
    (&["BatchNormalization"], (5, 5), layers::per_channel),
    (&["InstanceNormalization"], (3, 3), layers::per_channel),
    (&["GroupNormalization"], (3, 3), layers::group_norm),
    (&["LayerNormalization"], (2, 3), broadcast::layer_norm),
    (&["LSTM"], (3, 8), layers::lstm),
    (&["GRU"], (3, 6), layers::gru),
    (&["RNN"], (3, 6), layers::rnn),
    (&["PRelu"], (2, 2), broadcast::one_way),
    (&["Add", "And", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift", "Div", "Equal", "Greater",
       "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Mul", "Or", "Pow", "Sub", "Xor"],
        (2, 2), broadcast::both_ways),
    (&["Where"], (3, 3), broadcast::both_ways),
    (&["Max", "Mean", "Min", "Sum"], (1, usize::MAX), broadcast::both_ways),
    (&["Expand"], (2, 2), broadcast::expand),
    (&["Concat"], (1, usize::MAX), moves::concat),
    (&["Split"], (1, 2), moves::split),
    (&["Slice"], (3, 5), moves::slice),
    (&["Gather"], (2, 2), moves::gather),
    (&["Transpose"], (1, 1), moves::transpose),
    (&["Reshape"], (2, 2), moves::reshape),
    (&["Flatten"], (1, 1), moves::flatten),
    (&["Squeeze"], (1, 2), moves::squeeze),
    (&["Unsqueeze"], (1, 2), moves::unsqueeze),
    (&["Pad"], (2, 4), moves::pad),
    (&["Tile"], (2, 2), moves::tile),
    (REDUCTIONS, (1, 2), moves::reduced),
    (&["Softmax", "LogSoftmax", "Hardmax"], (1, 1), moves::on_axis),
    (&["Abs", "Ceil", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "GlobalAveragePool",
       "GlobalLpPool", "GlobalMaxPool", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Log",
       "LRN", "Mish", "Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Shape", "Sigmoid", "Sign",
       "Sin", "Size", "Softplus", "Softsign", "Sqrt", "Tanh"], (1, 1), nothing),
    (&["Cast"], (1, 1), nothing),
    (&["Clip"], (1, 3), bounds),
];

/// Checks that the constants of a node fit its operator, in the form of operator set 13 and later.
///
/// # Errors
/// [`ErrorKind::Format`] naming the node and the fault.
pub(super) fn check(graph: &Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return Ok(());
    }
    let operands = Operands(NodeView::new(graph, id, &[]));
    let row = CHECKS.iter().find(|(ops, ..)| ops.contains(&node.op.as_str()));
    let fault = kinds::fault(node)
        .or_else(|| row.and_then(|(_, (least, most), _)| wrong_count(&operands, *least, *most)))
        .or_else(|| whole::other_type(&operands))
        .or_else(|| row.and_then(|(_, _, check)| check(&operands)))
        .or_else(|| axes::fault(&operands));
    refused(fault, node)
}

/// Checks a node of any version for faults that a runtime does not survive.
///
/// # Errors
/// As [`check`].
pub(super) fn check_any_version(graph: &Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return Ok(());
    }
    let fault = kinds::fault(node);
    refused(fault.or_else(|| axes::fault(&Operands(NodeView::new(graph, id, &[])))), node)
}

fn refused(fault: Option<String>, node: &Node) -> Result<()> {
    match fault {
        Some(fault) => Err(Error::new(ErrorKind::Format, format!("{} {fault}", node.op))
            .at_node(&node.name)
            .hint("the model is damaged; export it again")),
        None => Ok(()),
    }
}

fn wrong_count(operands: &Operands<'_>, least: usize, most: usize) -> Option<String> {
    let inputs = &operands.0.node.inputs;
    let missing = (0..least).any(|slot| inputs.get(slot).copied().flatten().is_none());
    let given = inputs.iter().rposition(Option::is_some).map_or(0, |last| last + 1);
    if missing {
        return Some(format!("lacks inputs: it needs {least}"));
    }
    (given > most).then(|| format!("has {given} inputs, more than {most}"))
}

fn nothing(_: &Operands<'_>) -> Option<String> {
    None
}

fn bounds(operands: &Operands<'_>) -> Option<String> {
    let single = |slot: &usize| operands.constant(*slot).is_none_or(|dims| length(&dims) == 1);
    [1, 2].iter().find(|slot| !single(slot)).map(|_| "has bounds that are not single".to_owned())
}

/// A node with the shapes of its inputs.
struct Operands<'a>(NodeView<'a>);

impl Operands<'_> {
    /// The extents of an input of known rank.
    fn shape(&self, slot: usize) -> Option<Vec<Dim>> {
        self.0.shape(slot)
    }

    fn rank(&self, slot: usize) -> Option<usize> {
        Some(self.shape(slot)?.len())
    }

    /// One fixed extent of an input.
    fn extent(&self, slot: usize, axis: usize) -> Option<usize> {
        self.shape(slot)?.get(axis)?.known()
    }

    /// The shape of a constant input.
    fn constant(&self, slot: usize) -> Option<Vec<usize>> {
        Some(self.0.constant(slot)?.dims.clone())
    }

    /// The elements of a constant input of integers.
    fn ints(&self, slot: usize) -> Option<Vec<i64>> {
        self.0.ints(slot)
    }

    fn attribute(&self, name: &str) -> Option<&[i64]> {
        self.0.node.ints(name)
    }

    fn int(&self, name: &str, default: i64) -> i64 {
        self.0.node.int(name, default)
    }

    /// The fault of a constant input without these extents; open extents may have any size.
    fn wrong_shape(&self, slot: usize, what: &str, wanted: &[Option<usize>]) -> Option<String> {
        let found = self.constant(slot)?;
        let mut pairs = found.iter().zip(wanted);
        let fits = found.len() == wanted.len()
            && pairs.all(|(found, wanted)| wanted.is_none_or(|wanted| *found == wanted));
        (!fits).then(|| {
            let extent = |n: &Option<usize>| n.map_or("?".to_owned(), |n| n.to_string());
            let wanted: Vec<String> = wanted.iter().map(extent).collect();
            format!("has {what} of shape {found:?} where [{}] is needed", wanted.join(", "))
        })
    }
}

fn length(dims: &[usize]) -> usize {
    dims.iter().fold(1usize, |n, d| n.saturating_mul(*d))
}

#[cfg(test)]
mod tests;
