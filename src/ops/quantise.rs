//! Numbers of few bits and back.

use crate::ir::{DataType, TensorType};

use super::elementwise::same_axis;
use super::{Flow, NodeView, OpRule, Operand, normal_axis};

/// `QuantizeLinear` and `DequantizeLinear`.
pub struct Quantise;

impl OpRule for Quantise {
    fn ops(&self) -> &'static [&'static str] {
        &["QuantizeLinear", "DequantizeLinear"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let quantises = node.node.op == "QuantizeLinear";
        // Codes are of the zero point's type, and what they stand for of the scale's.
        let dtype = match (quantises, node.node.input(2)) {
            (true, None) => Some(DataType::U8),
            (true, Some(_)) => node.ty(2).map(|ty| ty.dtype),
            (false, _) => node.ty(1).map(|ty| ty.dtype),
        };
        vec![node.ty(0).zip(dtype).map(|(ty, dtype)| TensorType { dtype, shape: ty.shape })]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a quantisation by computed scales, or of blocks";
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole(reason);
        };
        let axis = normal_axis(node.node.int("axis", 1), shape.len());
        let param = |index: usize| {
            if node.node.input(index).is_none() {
                return Some(Operand::Plain);
            }
            match node.constant(index)?.dims.as_slice() {
                [] | [1] => Some(Operand::Plain),
                [_] if axis == Some(labels.axis) => Some(Operand::Param { axis: 0 }),
                [_] => Some(Operand::Plain),
                _ => None,
            }
        };
        match (1..node.node.inputs.len()).map(param).collect::<Option<Vec<Operand>>>() {
            Some(params) => same_axis(node, [vec![Operand::Channels], params].concat()),
            None => Flow::whole_with(reason, labels.clone()),
        }
    }
}
