//! Normalisation.

use super::elementwise::{operand, same_axis, whole_alike};
use super::view::normal_axis;
use super::{Flow, NodeView, OpRule, Operand, Together};

/// Normalisation with statistics of one channel each.
pub struct PerChannelNorm;
/// Normalisation over neighbouring channels.
pub struct LocalResponse;
/// Normalisation over whole axes.
pub struct Norm;
/// Softmax, LogSoftmax, Hardmax.
pub struct Softmax;

impl OpRule for PerChannelNorm {
    fn ops(&self) -> &'static [&'static str] {
        &["BatchNormalization", "InstanceNormalization"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let Some(labels) = node.labels(0) else { return Flow::Untracked };
        let params = 1..node.node.inputs.len();
        let is_lone = node.node.outputs.iter().flatten().count() == 1;
        let is_constant = params.clone().all(|i| node.constant(i).is_some());
        let operands = |role: Operand| -> Vec<Operand> {
            std::iter::once(Operand::Channels).chain(params.clone().map(|_| role)).collect()
        };
        // Beside the channels, numbers belong to rows of another axis.
        let is_each = labels.axis == 0 || node.node.is("BatchNormalization");
        match labels.axis {
            1 if is_lone && is_constant => same_axis(node, operands(Operand::Param { axis: 0 })),
            axis if axis != 1 && is_lone && is_each => same_axis(node, operands(Operand::Plain)),
            axis if axis != 1 && is_lone => Flow::Together(Together {
                operands: operands(Operand::Plain),
                coupled: None,
                outputs: vec![Some(labels.clone())],
            }),
            _ => {
                let reason = "a normalisation across channels or with computed parameters";
                whole_alike(node, reason)
            }
        }
    }
}

impl OpRule for LocalResponse {
    fn ops(&self) -> &'static [&'static str] {
        &["LRN"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        match node.labels(0) {
            Some(labels) if labels.axis != 1 => same_axis(node, vec![Operand::Channels]),
            _ => whole_alike(node, "a normalisation over neighbouring channels"),
        }
    }
}

impl OpRule for Norm {
    fn ops(&self) -> &'static [&'static str] {
        &[
            "LayerNormalization",
            "RMSNormalization",
            "MeanVarianceNormalization",
            "GroupNormalization",
            "LpNormalization",
        ]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a normalisation over several channels";
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole(reason);
        };
        let Some(axes) = normalised(node, shape.len()) else { return whole_alike(node, reason) };
        let inputs = 1..node.node.inputs.len();
        let operands: Option<Vec<Operand>> = std::iter::once(Some(Operand::Channels))
            .chain(inputs.map(|i| operand(node, i, shape.len(), labels)))
            .collect();
        let lone_output = node.node.outputs.iter().flatten().count() == 1;
        match operands {
            None => whole_alike(node, reason),
            Some(operands) if !axes.contains(&labels.axis) && lone_output => {
                same_axis(node, operands)
            }
            Some(operands) if axes.contains(&labels.axis) => {
                let outputs = vec![Some(labels.clone())];
                Flow::Together(Together { operands, coupled: None, outputs })
            }
            Some(_) => whole_alike(node, reason),
        }
    }
}

/// The axes of the statistics; `None` if statistics do not run over whole axes.
fn normalised(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let axis = |default| normal_axis(node.node.int("axis", default), rank);
    match node.node.op.as_str() {
        "LayerNormalization" | "RMSNormalization" => axis(-1).map(|first| (first..rank).collect()),
        "LpNormalization" => axis(-1).map(|axis| vec![axis]),
        "MeanVarianceNormalization" => {
            let given = node.node.ints("axes").unwrap_or(&[0, 2, 3]);
            given.iter().map(|a| normal_axis(*a, rank)).collect()
        }
        _ => None,
    }
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
            (Some(labels), Some(_)) if !node.node.is("Hardmax") => Flow::Together(Together {
                operands: vec![Operand::Channels],
                coupled: None,
                outputs: vec![Some(labels.clone())],
            }),
            _ => whole_alike(node, "a maximum over channels"),
        }
    }
}
