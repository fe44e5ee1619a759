//! Removes pairs of `QuantizeLinear` and `DequantizeLinear` that round values to the grid on which they lie already.
//!
//! Tools that quantise activations put a pair around every operator, also behind those that only move elements. These
//! pairs change nothing, and stand between layers and the nodes that split their channels into heads.

use crate::error::Result;
use crate::ir::{DataType, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::{CanonOptions, rewire, types};

/// Operators whose results consist of elements of their first input, or of those and zeros.
const MOVE: [&str; 11] = [
    "Expand",
    "Flatten",
    "Gather",
    "Identity",
    "Relu",
    "Reshape",
    "Slice",
    "Split",
    "Squeeze",
    "Transpose",
    "Unsqueeze",
];

/// Limit of nodes between two pairs.
const LONGEST_WAY: usize = 16;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        if let Some((rounded, source)) = repeated(graph, id) {
            modified |= rewire::bypass(graph, rounded, source);
        }
    }
    Ok(modified)
}

/// Whether a node quantises or dequantises all elements by one constant scale.
pub(super) fn has_one_scale(graph: &Graph, node: &Node) -> bool {
    let is_one = |value: &ValueId| graph.initializer(*value).is_some_and(|t| t.len() == 1);
    let is_pair = node.is("QuantizeLinear") || node.is("DequantizeLinear");
    is_pair && node.input(1).is_some() && node.inputs.iter().skip(1).flatten().all(is_one)
}

/// The result of `DequantizeLinear` `id`, and the value that it equals.
fn repeated(graph: &Graph, id: NodeId) -> Option<(ValueId, ValueId)> {
    let node = graph.node(id).is("DequantizeLinear").then(|| graph.node(id))?;
    let quantising = graph.node(graph.producer(node.input(0)?)?);
    let own = Grid::of(graph, node, node.input(0)?)?;
    let source = quantising.input(0)?;
    let is_pair = quantising.is("QuantizeLinear")
        && Grid::of(graph, quantising, quantising.output(0)?).as_ref() == Some(&own);
    (is_pair && lies_on(graph, source, &own)).then_some((node.output(0)?, source))
}

/// Whether all elements of a value come from a `DequantizeLinear` with this grid.
fn lies_on(graph: &Graph, value: ValueId, grid: &Grid) -> bool {
    let mut value = value;
    for _ in 0..LONGEST_WAY {
        let Some(node) = graph.producer(value).map(|id| graph.node(id)) else { return false };
        let Some(before) = node.input(0) else { return false };
        if node.is("DequantizeLinear") {
            return Grid::of(graph, node, before).as_ref() == Some(grid);
        }
        if !MOVE.iter().any(|op| node.is(op)) {
            return false;
        }
        value = before;
    }
    false
}

/// The numbers that integers of one type stand for, by one scale and zero point.
#[derive(PartialEq)]
struct Grid {
    integers: DataType,
    scale: f32,
    zero: i64,
}

impl Grid {
    /// The grid of a node that quantises to the value `integers`, or dequantises it. In single precision, the product
    /// of an integer of 16 bits and the scale, divided by the scale, is nearest to that integer.
    fn of(graph: &Graph, node: &Node, integers: ValueId) -> Option<Grid> {
        let scale = graph.initializer(node.input(1)?)?;
        if !has_one_scale(graph, node) || scale.dtype != DataType::F32 {
            return None;
        }
        let scale = scale.to_f32().ok()?.first().copied()?;
        let largest = scale * f32::from(u16::MAX);
        let zero = match node.input(2) {
            Some(zero) => *graph.initializer(zero).and_then(Tensor::to_i64)?.first()?,
            None => 0,
        };
        let integers = types::of(graph, integers)?.dtype;
        let small = [DataType::I8, DataType::U8, DataType::I16, DataType::U16];
        let fits = scale.is_normal() && scale > 0.0 && largest.is_finite();
        (fits && small.contains(&integers)).then_some(Grid { integers, scale, zero })
    }
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{DataType, Tensor, ValueId};
    use ndarray::arr0;

    /// Rounds a value to multiples of `step`, from `zero` as the integer for zero.
    fn rounded(b: &mut GraphBuilder, x: ValueId, step: f32, zero: i64) -> ValueId {
        let zero = Tensor::from_ints(DataType::U8, &arr0(zero).into_dyn()).unwrap();
        let (step, zero) = (b.scalar("step", step), b.constant("zero", zero));
        let integers = b.op("QuantizeLinear", "integers", &[x, step, zero], []);
        b.op("DequantizeLinear", "floats", &[integers, step, zero], [])
    }

    /// The operators of a net that rounds a value, applies `op`, and rounds again.
    fn ops(op: &str, step: f32, zero: i64) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "2,3");
        let first = rounded(&mut b, x, 0.1, 7);
        let moved = b.op(op, "moved", &[first], []);
        let again = rounded(&mut b, moved, step, zero);
        let y = b.op("Exp", "y", &[again], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.into_iter().map(|id| model.graph.node(id).op.clone()).collect()
    }

    #[test]
    fn values_are_rounded_once_to_the_same_grid() {
        for op in ["Transpose", "Relu"] {
            assert_eq!(ops(op, 0.1, 7), ["QuantizeLinear", "DequantizeLinear", op, "Exp"]);
        }
    }

    #[test]
    fn values_are_rounded_again_to_another_grid_or_if_they_have_changed() {
        for (op, step, zero) in [("Transpose", 0.2, 7), ("Transpose", 0.1, 8), ("Sigmoid", 0.1, 7)]
        {
            assert_eq!(ops(op, step, zero).len(), 6, "{op} {step} {zero}");
        }
    }
}
