//! Normalisation.

use crate::ir::TensorType;

use super::elementwise::same_axis;
use super::{Flow, NodeView, OpRule, Operand};

/// Normalisation with statistics of one channel each.
pub struct PerChannelNorm;
/// Normalisation over neighbouring channels.
pub struct LocalResponse;
/// Softmax and its kin.
pub struct Softmax;

impl OpRule for PerChannelNorm {
    fn ops(&self) -> &'static [&'static str] {
        &["BatchNormalization", "InstanceNormalization"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        vec![node.ty(0)]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let Some(labels) = node.labels(0) else { return Flow::Untracked };
        let params = 1..node.node.inputs.len();
        if labels.axis != 1 || params.clone().any(|i| node.constant(i).is_none()) {
            return Flow::Freeze("a normalisation across channels or with computed parameters");
        }
        let operands = std::iter::once(Operand::Channels)
            .chain(params.map(|_| Operand::Param { axis: 0 }))
            .collect();
        same_axis(node, operands)
    }
}

impl OpRule for LocalResponse {
    fn ops(&self) -> &'static [&'static str] {
        &[
            "LRN",
            "LayerNormalization",
            "MeanVarianceNormalization",
            "GroupNormalization",
            "LpNormalization",
        ]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        vec![node.ty(0)]
    }

    fn flow(&self, _: &NodeView<'_>) -> Flow {
        Flow::Freeze("a normalisation over several channels")
    }
}

impl OpRule for Softmax {
    fn ops(&self) -> &'static [&'static str] {
        &["Softmax", "LogSoftmax", "Hardmax"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        vec![node.ty(0)]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axis = node.node.int("axis", -1);
        let rank = node.shape(0).map(|s| s.len());
        let axis = rank.and_then(|r| super::view::normal_axis(axis, r));
        match (node.labels(0), axis) {
            (Some(labels), Some(axis)) if axis != labels.axis => {
                same_axis(node, vec![Operand::Channels])
            }
            _ => Flow::Freeze("a softmax over channels"),
        }
    }
}
