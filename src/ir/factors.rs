//! Finds the constants that products multiply computed data by.
//!
//! ONNX Runtime computes a product with a `DequantizeLinear` right in front of its second factor as `MatMulNBits`,
//! which rounds the data to eight bits: up to 0.6 % of the result. It does so for the products and the scales that
//! are described here, and for no data that are themselves the result of a `DequantizeLinear`.

use std::collections::BTreeSet;

use super::codes::Codes;
use super::data_type::DataType;
use super::graph::Graph;
use super::ids::ValueId;
use super::node::Node;
use super::tensor::Tensor;
use super::value::ValueKind;

/// Operators that the runtime moves a `DequantizeLinear` of data through.
const MOVES: [&str; 5] = ["Reshape", "Transpose", "Squeeze", "Unsqueeze", "Identity"];

/// Limit of such operators in a row.
const MOST_MOVES: usize = 8;

/// Smallest block of inputs with a scale of its own.
const SMALLEST_BLOCK: usize = 16;

/// Second factors of a graph's products, also of those in its sub-graphs.
#[derive(Debug, Default)]
pub(crate) struct Factors {
    /// Values that a product reads.
    straight: BTreeSet<ValueId>,
    /// Values whose transpose a product reads.
    turned: BTreeSet<ValueId>,
}

impl Factors {
    /// The factors of this graph.
    pub(crate) fn of(graph: &Graph) -> Factors {
        let mut found = Factors::default();
        for (_, node) in graph.nodes() {
            found.straight.extend(factor(graph, node));
            for sub in node.subgraphs() {
                let inner = Factors::of(sub);
                let outer = |values: BTreeSet<ValueId>| {
                    values.into_iter().filter_map(|value| match sub.value(value).kind {
                        ValueKind::Captured(outer) => Some(outer),
                        _ => None,
                    })
                };
                found.straight.extend(outer(inner.straight));
                found.turned.extend(outer(inner.turned));
            }
        }
        found.add_moved(graph);
        found
    }

    /// Adds what nodes turn into factors, from the last node to the first.
    fn add_moved(&mut self, graph: &Graph) {
        let moves: Vec<&Node> =
            graph.nodes().map(|(_, node)| node).filter(|node| is_turn(node)).collect();
        for _ in 0..MOST_MOVES {
            let before = self.straight.len() + self.turned.len();
            for node in moves.iter().rev() {
                let (Some(input), Some(output)) = (node.input(0), node.output(0)) else { continue };
                let is_kept = node.is("Identity");
                let (straight, turned) =
                    (self.straight.contains(&output), self.turned.contains(&output));
                if (is_kept && straight) || (!is_kept && turned) {
                    self.straight.insert(input);
                }
                if (is_kept && turned) || (!is_kept && straight) {
                    self.turned.insert(input);
                }
            }
            if self.straight.len() + self.turned.len() == before {
                return;
            }
        }
    }

    /// Whether a product reads a constant in few bits so that the runtime rounds the data. `tensor` has the constant's
    /// sizes.
    pub(crate) fn round_data(&self, value: ValueId, tensor: &Tensor, codes: &Codes) -> bool {
        let [inputs, _] = *tensor.dims.as_slice() else { return false };
        let is_small =
            matches!(codes.dtype, DataType::I4 | DataType::U4 | DataType::I8 | DataType::U8);
        // The runtime takes a transpose of four bits into the integers only if they have zero points.
        let turns = codes.zero.is_some() || matches!(codes.dtype, DataType::I8 | DataType::U8);
        let straight = self.straight.contains(&value);
        let turned = turns && self.turned.contains(&value);
        if !is_small || !(straight || turned) {
            return false;
        }
        if codes.is_uniform() {
            return true;
        }
        if !codes.is_blocked() {
            // One scale for each output.
            return (straight && codes.axis == 1) || (turned && codes.axis == 0);
        }
        let blocks = codes.scale.dims.first().copied().unwrap_or(0);
        let size = match codes.block {
            0 => inputs.checked_div(blocks).unwrap_or(0),
            size => size,
        };
        straight && codes.axis == 0 && size >= SMALLEST_BLOCK && size.is_power_of_two()
    }
}

/// The second factor of a product of data that are not rounded to codes already.
fn factor(graph: &Graph, node: &Node) -> Option<ValueId> {
    let is_product = node.is("MatMul") || (node.is("Gemm") && node.int("transB", 0) == 0);
    let mut data = node.input(0).filter(|_| is_product)?;
    for _ in 0..MOST_MOVES {
        let Some(producer) = graph.producer(data).map(|id| graph.node(id)) else { break };
        if producer.is("DequantizeLinear") {
            return None;
        }
        let moved = producer.input(0).filter(|_| MOVES.iter().any(|op| producer.is(op)));
        let Some(before) = moved else { break };
        data = before;
    }
    node.input(1)
}

/// Whether a node returns its operand, or the transpose of a matrix.
fn is_turn(node: &Node) -> bool {
    let swaps = node.ints("perm").is_none_or(|order| order == [1, 0]);
    node.is("Identity") || (node.is("Transpose") && swaps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use ndarray::{ArrayD, IxDyn};

    /// Whether products round their data, for weights of 64 inputs and 4 outputs with scales of these sizes.
    fn rounds(op: &str, transposed: bool, dims: &[usize], axis: usize, dtype: DataType) -> bool {
        let mut b = GraphBuilder::new("net", 21);
        let x = b.input("x", "n,64");
        let w = b.weights("w", if transposed { &[4, 64] } else { &[64, 4] });
        let factor = match transposed {
            true => b.op("Transpose", "turned", &[w], [("perm", [1, 0].into())]),
            false => w,
        };
        let y = b.op(op, "y", &[x, factor], []);
        let graph = b.build(&[y]).graph;
        let scale = Tensor::from_f32(&ArrayD::ones(IxDyn(dims)));
        let codes = Codes::new(dtype, axis, scale, None);
        Factors::of(&graph).round_data(w, graph.initializer(w).unwrap(), &codes)
    }

    #[test]
    fn products_round_their_data_for_some_scales() {
        let few = DataType::I4;
        for op in ["MatMul", "Gemm"] {
            assert!(rounds(op, false, &[], 0, few));
            assert!(rounds(op, false, &[4], 1, few));
            assert!(!rounds(op, false, &[64], 0, few), "a scale for each input");
            assert!(rounds(op, false, &[4, 4], 0, few), "blocks of 16 inputs");
            assert!(!rounds(op, false, &[8, 4], 0, few), "blocks of 8 inputs");
            assert!(!rounds(op, false, &[64, 2], 1, few), "blocks of outputs");
            assert!(!rounds(op, false, &[], 0, DataType::I16));
            assert!(!rounds(op, true, &[4], 0, few));
            assert!(rounds(op, true, &[4], 0, DataType::I8), "the runtime turns them itself");
            assert!(!rounds(op, true, &[4, 4], 1, few));
        }
    }

    #[test]
    fn data_in_few_bits_are_not_rounded_again() {
        let mut b = GraphBuilder::new("net", 21);
        let x = b.typed_input("x", DataType::U8, "n,3,8");
        let step = b.scalar("step", 0.1);
        let x = b.op("DequantizeLinear", "floats", &[x, step], []);
        let sizes = b.ints("sizes", &[-1, 8]);
        let x = b.op("Reshape", "flat", &[x, sizes], []);
        let w = b.weights("w", &[8, 4]);
        let y = b.op("MatMul", "y", &[x, w], []);
        let graph = b.build(&[y]).graph;
        assert!(!Factors::of(&graph).straight.contains(&w));
    }
}
