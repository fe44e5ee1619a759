//! How large the sizes are that a model computes.
//!
//! tract computes sizes with 64 bits. A product that does not fit stays a formula even if all its factors are numbers,
//! and formulas that read each other twice are written out without end.

use std::collections::HashMap;

use tract_onnx::pb;
use tract_onnx::pb::tensor_proto::DataType;

/// Bits of an extent.
const EXTENT: u64 = 8;

/// Bits of a number that tract computes with.
const WIDEST: u64 = 63;

/// Whether a model may compute sizes that do not fit 64 bits, by the operators on their way.
pub(super) fn overflow(graph: &pb::GraphProto) -> bool {
    widest(graph, &mut Known::default()) > WIDEST
}

/// What is known of the values so far.
#[derive(Default)]
struct Known<'g> {
    /// Bits of sizes; other values have none.
    bits: HashMap<&'g str, u64>,
    /// Bits by which dividing by a constant shortens a number.
    divisors: HashMap<&'g str, u64>,
}

/// Bits of the largest size of a graph.
fn widest<'g>(graph: &'g pb::GraphProto, known: &mut Known<'g>) -> u64 {
    for tensor in &graph.initializer {
        known.divisors.insert(&tensor.name, shift(tensor));
    }
    let mut most = 0;
    for node in &graph.node {
        let made = of_result(node, known);
        most = most.max(made);
        for body in node.attribute.iter().filter_map(|attribute| attribute.g.as_ref()) {
            most = most.max(widest(body, known));
        }
        let constant = node.attribute.iter().find_map(|attribute| attribute.t.as_ref());
        let shift = constant.filter(|_| node.op_type == "Constant").map_or(0, shift);
        for name in &node.output {
            known.bits.insert(name, made);
            known.divisors.insert(name, shift);
        }
    }
    most
}

/// Bits of what a node returns.
fn of_result(node: &pb::NodeProto, known: &Known<'_>) -> u64 {
    let bits = |name: &String| known.bits.get(name.as_str()).copied().unwrap_or(0);
    let read: Vec<u64> = node.input.iter().map(bits).collect();
    let largest = read.iter().copied().max().unwrap_or(0);
    let first = read.first().copied().unwrap_or(0);
    match node.op_type.as_str() {
        "Shape" => EXTENT,
        "Size" => 2 * EXTENT,
        "Mul" => read.into_iter().fold(0, u64::saturating_add),
        "Add" | "Sum" if largest > 0 => largest.saturating_add(1),
        "Pow" | "ReduceProd" => first.saturating_mul(2),
        "Div" => {
            let divisor = node.input.get(1).and_then(|name| known.divisors.get(name.as_str()));
            first.saturating_sub(divisor.copied().unwrap_or(0))
        }
        "Mod" => first,
        "ConstantOfShape" | "Conv" | "Gemm" | "MatMul" => 0,
        _ => largest,
    }
}

/// Bits by which dividing by the smallest number of a constant shortens a number.
fn shift(tensor: &pb::TensorProto) -> u64 {
    if tensor.data_type != DataType::Int64 as i32 {
        return 0;
    }
    let (raw, _) = tensor.raw_data.as_chunks::<8>();
    let stored = raw.iter().map(|bytes| i64::from_le_bytes(*bytes));
    let least = stored.chain(tensor.int64_data.iter().copied()).map(i64::unsigned_abs).min();
    least.and_then(u64::checked_ilog2).map_or(0, u64::from)
}

#[cfg(test)]
mod tests {
    use tract_core::prelude::*;

    use super::*;
    use crate::ir::ValueId;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx::encode_any;

    /// Whether sizes overflow in a graph with `rounds` of nodes behind the number of elements of its input.
    fn after(rounds: usize, round: fn(&mut GraphBuilder, ValueId) -> ValueId) -> bool {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let mut size = b.op("Size", "size", &[x], []);
        for _ in 0..rounds {
            size = round(&mut b, size);
        }
        let bytes = encode_any(&b.build(&[size])).unwrap();
        let model = tract_onnx::onnx().proto_model_for_read(&mut bytes.as_slice()).unwrap();
        overflow(&model.graph.unwrap())
    }

    #[test]
    fn products_overflow_and_their_quotients_by_constants_do_not() {
        let squared = |b: &mut GraphBuilder, size| b.op("Mul", "squared", &[size, size], []);
        assert!(!after(1, squared));
        assert!(after(24, squared));
        let doubled = |b: &mut GraphBuilder, size| b.op("Add", "doubled", &[size, size], []);
        assert!(!after(12, doubled));
        assert!(after(100, doubled));
        let halved = |b: &mut GraphBuilder, size| {
            let (two, sum) = (b.ints("two", &[2]), b.op("Add", "sum", &[size, size], []));
            b.op("Div", "halved", &[sum, two], [])
        };
        assert!(!after(100, halved));
    }
}
