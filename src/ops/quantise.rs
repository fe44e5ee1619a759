//! Quantisation and dequantisation.

use crate::ir::Dim;

use super::elementwise::same_axis;
use super::{Flow, NodeView, OpRule, Operand, Together, normal_axis};

/// `QuantizeLinear` and `DequantizeLinear`.
pub struct Quantise;
/// `DynamicQuantizeLinear`, whose scale and zero point follow from the range of all elements.
pub struct QuantiseByRange;

impl OpRule for Quantise {
    fn ops(&self) -> &'static [&'static str] {
        &["QuantizeLinear", "DequantizeLinear"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a quantisation by computed scales, or of blocks";
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole(reason);
        };
        let axis = normal_axis(node.node.int("axis", 1), shape.len());
        let param = |index: usize| {
            if node.node.input(index).is_none() || is_one_computed_number(node, index) {
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

/// Whether input `index` is one computed number for all elements.
fn is_one_computed_number(node: &NodeView<'_>, index: usize) -> bool {
    let is_computed = node.constant(index).is_none() && node.labels(index).is_none();
    is_computed
        && node.shape(index).is_some_and(|dims| matches!(dims.as_slice(), [] | [Dim::Known(1)]))
}

impl OpRule for QuantiseByRange {
    fn ops(&self) -> &'static [&'static str] {
        &["DynamicQuantizeLinear"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        Flow::Together(Together {
            operands: vec![Operand::Channels],
            coupled: None,
            outputs: vec![node.labels(0).cloned(), None, None],
        })
    }
}
