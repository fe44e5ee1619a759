//! Refuses models in training mode, and weights that are not finite.

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Graph, Node, Tensor, ValueId};

/// Checks that no node was exported in training mode. Before constants are folded (`folds`), nodes that
/// normalise constants may be in this mode, as those of standardised weights are.
///
/// # Errors
/// [`ErrorKind::Unsupported`] naming the node.
pub(super) fn inference_mode(graph: &Graph, folds: bool) -> Result<()> {
    let will_fold = |node: &Node| {
        let is_constant = |value| is_constant(graph, value);
        folds && node.is("BatchNormalization") && node.input(0).is_some_and(is_constant)
    };
    for (_, node) in graph.nodes() {
        if trains(graph, node) && !will_fold(node) {
            let message = format!("{} is in training mode", node.op);
            return Err(Error::new(ErrorKind::Unsupported, message)
                .at_node(&node.name)
                .hint("export the model in evaluation mode"));
        }
        node.subgraphs().try_for_each(|own| inference_mode(own, folds))?;
    }
    Ok(())
}

/// Limit of nodes between constants and a normalisation.
const LONGEST_WAY: usize = 16;

/// Whether a value is a constant, or computed from one constant by a few nodes.
fn is_constant(graph: &Graph, value: ValueId) -> bool {
    let mut value = value;
    for _ in 0..LONGEST_WAY {
        if graph.initializer(value).is_some() {
            return true;
        }
        let Some(node) = graph.producer(value).map(|id| graph.node(id)) else { return false };
        let others = node.inputs.iter().skip(1).flatten();
        let is_plain = others.into_iter().all(|v| graph.initializer(*v).is_some());
        match node.input(0).filter(|_| is_plain && node.subgraphs().next().is_none()) {
            Some(source) => value = source,
            None => return false,
        }
    }
    false
}

fn trains(graph: &Graph, node: &Node) -> bool {
    if node.is("BatchNormalization") {
        // Before version 14, outputs of statistics mean training mode.
        return node.int("training_mode", 0) != 0 || (1..5).any(|i| node.output(i).is_some());
    }
    let training = || graph.initializer(node.input(2)?)?.to_i64();
    node.is("Dropout") && training().is_some_and(|mode| mode.iter().any(|m| *m != 0))
}

/// Operators that multiply with their constants: an infinite weight makes every result infinite or NaN.
/// In other operators (masks, bounds, padding), infinities are intended.
const MULTIPLY: &[&str] = &[
    "BatchNormalization",
    "Conv",
    "ConvTranspose",
    "Div",
    "GRU",
    "Gemm",
    "GroupNormalization",
    "InstanceNormalization",
    "LSTM",
    "LayerNormalization",
    "MatMul",
    "Mul",
    "PRelu",
    "RNN",
];

/// Checks that no initializer contains NaN, and no factor of a product contains infinities.
///
/// # Errors
/// [`ErrorKind::Numeric`] naming the initializer and a node that reads it.
pub(super) fn finite(graph: &Graph) -> Result<()> {
    for (_, node) in graph.nodes() {
        for value in node.inputs.iter().flatten() {
            let Some(found) = graph.initializer(*value).and_then(worst) else { continue };
            if found == Special::Nan || MULTIPLY.contains(&node.op.as_str()) {
                return Err(not_finite(graph, *value, found).at_node(&node.name));
            }
        }
        node.subgraphs().try_for_each(finite)?;
    }
    Ok(())
}

/// Whether a tensor holds neither infinities nor NaN in its own precision.
pub(super) fn is_finite(tensor: &Tensor) -> bool {
    worst(tensor).is_none()
}

fn not_finite(graph: &Graph, value: ValueId, found: Special) -> Error {
    let what = match found {
        Special::Nan => "NaN",
        Special::Infinite => "infinite values",
    };
    let message = format!("initializer '{}' holds {what}", graph.value(value).name);
    Error::new(ErrorKind::Numeric, message).hint("train or export the model again")
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Special {
    Infinite,
    Nan,
}

/// The worst element of a floating-point tensor. Reads bit patterns, so that large weights are not
/// converted: an exponent of all ones means infinity, or NaN if the fraction is not zero.
fn worst(tensor: &Tensor) -> Option<Special> {
    let (size, infinity) = match tensor.dtype {
        DataType::F64 => (8, f64::INFINITY.to_bits()),
        DataType::F32 => (4, u64::from(f32::INFINITY.to_bits())),
        DataType::F16 => (2, u64::from(half::f16::INFINITY.to_bits())),
        DataType::BF16 => (2, u64::from(half::bf16::INFINITY.to_bits())),
        _ => return None,
    };
    let sign = 1u64 << (8 * size - 1);
    let special = |chunk: &[u8]| {
        let mut bytes = [0; 8];
        bytes[..size].copy_from_slice(chunk);
        match u64::from_le_bytes(bytes) & !sign {
            magnitude if magnitude > infinity => Some(Special::Nan),
            magnitude if magnitude == infinity => Some(Special::Infinite),
            _ => None,
        }
    };
    tensor.data.chunks_exact(size).filter_map(special).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use ndarray::arr1;

    #[test]
    fn special_values_of_every_width_are_found() {
        for dtype in [DataType::F32, DataType::F64, DataType::F16, DataType::BF16] {
            let worst_of =
                |v: &[f64]| worst(&Tensor::from_f64(dtype, &arr1(v).into_dyn()).unwrap());
            assert_eq!(worst_of(&[1.0, -2.0, 0.0, 60000.0]), None);
            assert_eq!(worst_of(&[1.0, f64::NEG_INFINITY]), Some(Special::Infinite));
            assert_eq!(worst_of(&[f64::INFINITY, f64::NAN]), Some(Special::Nan));
        }
        assert_eq!(worst(&Tensor::from_i64(vec![1], &[-1])), None);
    }

    #[test]
    fn infinite_weights_are_refused_and_infinite_masks_are_not() {
        let graph = |op: &str| {
            let mut b = GraphBuilder::new("net", 13);
            let x = b.input("x", "n,2");
            let infinite = arr1(&[1.0, f32::NEG_INFINITY]).into_dyn();
            let w = b.constant("w", Tensor::from_f32(&infinite));
            let y = b.op(op, "y", &[x, w], []);
            b.build(&[y]).graph
        };
        assert!(finite(&graph("Add")).is_ok());
        assert_eq!(
            finite(&graph("Mul")).unwrap_err().to_string(),
            "node 'y': initializer 'w' holds infinite values; train or export the model again"
        );
    }

    #[test]
    fn training_mode_is_refused() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,2");
        let ratio = b.scalar("ratio", 0.5);
        let on =
            b.constant("on", Tensor { dtype: DataType::Bool, dims: vec![], data: vec![1].into() });
        let y = b.op("Dropout", "drop", &[x, ratio, on], []);
        let graph = b.build(&[y]).graph;
        assert_eq!(
            inference_mode(&graph, false).unwrap_err().to_string(),
            "node 'drop': Dropout is in training mode; export the model in evaluation mode"
        );
    }
}
