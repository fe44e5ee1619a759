//! Normalisation.

use super::elementwise::{same_axis, whole_alike};
use super::view::normal_axis;
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

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let Some(labels) = node.labels(0) else { return Flow::Untracked };
        let params = 1..node.node.inputs.len();
        if labels.axis != 1 || params.clone().any(|i| node.constant(i).is_none()) {
            let reason = "a normalisation across channels or with computed parameters";
            return whole_alike(node, reason);
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

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let lone_output = node.node.outputs.iter().flatten().count() == 1;
        match (node.labels(0), node.shape(0)) {
            (Some(labels), Some(shape))
                if lone_output && !normalised(node, shape.len()).contains(&labels.axis) =>
            {
                let mut operands = vec![Operand::Plain; node.node.inputs.len()];
                operands[0] = Operand::Channels;
                same_axis(node, operands)
            }
            _ => whole_alike(node, "a normalisation over several channels"),
        }
    }
}

/// The axes over which statistics are taken, as far as they can be told; else all.
fn normalised(node: &NodeView<'_>, rank: usize) -> Vec<usize> {
    let axis = |default| normal_axis(node.node.int("axis", default), rank);
    match node.node.op.as_str() {
        "LayerNormalization" => axis(-1).map(|first| (first..rank).collect()),
        "LpNormalization" => axis(-1).map(|axis| vec![axis]),
        "MeanVarianceNormalization" => {
            let given = node.node.ints("axes").unwrap_or(&[0, 2, 3]);
            given.iter().map(|a| normal_axis(*a, rank)).collect()
        }
        _ => None,
    }
    .unwrap_or_else(|| (0..rank).collect())
}

impl OpRule for Softmax {
    fn ops(&self) -> &'static [&'static str] {
        &["Softmax", "LogSoftmax", "Hardmax"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axis = node.node.int("axis", -1);
        let rank = node.shape(0).map(|s| s.len());
        let axis = rank.and_then(|r| normal_axis(axis, r));
        match (node.labels(0), axis) {
            (Some(labels), Some(axis)) if axis != labels.axis => {
                same_axis(node, vec![Operand::Channels])
            }
            _ => whole_alike(node, "a softmax over channels"),
        }
    }
}
