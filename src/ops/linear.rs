//! Fully connected layers.

use super::elementwise::{operand, same_axis};
use super::{
    Expand, Flow, Labels, Layer, LayerKind, NodeView, OpRule, Operand, Partwise, Together,
};

/// `Gemm` in canonical form (`alpha = beta = transB = 1`, `transA = 0`).
pub struct Gemm;
/// `MatMul` with a constant right-hand matrix.
pub struct MatMul;

impl OpRule for Gemm {
    fn ops(&self) -> &'static [&'static str] {
        &["Gemm"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let canonical = node.node.int("transB", 0) == 1
            && node.node.int("transA", 0) == 0
            && node.node.float("alpha", 1.0) == 1.0
            && node.node.float("beta", 1.0) == 1.0;
        match layer(node, LayerKind::Gemm) {
            Some(layer) if canonical && is_beside_channels(node, &layer) => {
                same_axis(node, vec![Operand::Channels, Operand::Plain, Operand::Plain])
            }
            Some(layer) if canonical => Flow::Layer(layer),
            _ => Flow::whole("a matrix product of computed values"),
        }
    }
}

impl OpRule for MatMul {
    fn ops(&self) -> &'static [&'static str] {
        &["MatMul"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        match layer(node, LayerKind::MatMul) {
            Some(layer) if !is_beside_channels(node, &layer) => {
                Flow::Layer(with_addition(node, layer))
            }
            _ => mixed_rows(node),
        }
    }
}

/// The flow of a product or convolution with constant weights along another axis than that of the channels, which it
/// leaves apart, however many inputs it has. Layers have this form as long as nothing says that the channels go on.
pub fn beside_channels(node: &NodeView<'_>) -> Option<Flow> {
    let flow = match node.node.op.as_str() {
        _ if !node.node.domain.is_empty() => return None,
        "Conv" => return super::conv::mixing(node),
        "MatMul" => {
            layer(node, LayerKind::MatMul).filter(|layer| stands_beside(node, layer))?;
            mixed_rows(node)
        }
        _ => return None,
    };
    matches!(flow, Flow::Partwise(_)).then_some(flow)
}

/// Whether a product with constant weights runs along another axis than that of the channels, as over
/// tokens, and has no more inputs than there are channels. It leaves the channels apart.
fn is_beside_channels(node: &NodeView<'_>, layer: &Layer) -> bool {
    let inputs = layer.sizes(node.graph).map_or(0, |(_, inputs, _)| inputs);
    stands_beside(node, layer) && node.labels(0).is_some_and(|labels| labels.atoms.len() >= inputs)
}

/// Whether a product runs along another axis than that of the channels.
fn stands_beside(node: &NodeView<'_>, layer: &Layer) -> bool {
    node.labels(0).is_some_and(|labels| labels.within.is_none() && labels.axis != layer.in_axis)
}

/// The flow of a product that sums over rows of its right operand, as attention does over tokens. Columns
/// stay separate. So do rows of the left operand.
fn mixed_rows(node: &NodeView<'_>) -> Flow {
    let ranks = node.shape(0).zip(node.shape(1)).map(|(a, b)| (a.len(), b.len()));
    // A mask of one channel is the same for all channels.
    let many = |i: usize| node.labels(i).filter(|labels| labels.atoms.len() > 1);
    let one = |i: usize| node.labels(i).filter(|_| many(1 - i).is_none());
    let separate = |labels: &Labels, axis: usize, operands: [Operand; 2]| {
        Flow::Partwise(Partwise {
            output: Labels::along(axis, labels.atoms.clone()),
            operands: operands.to_vec(),
            coupled: Vec::new(),
            expand: Expand::NONE,
        })
    };
    match (many(0).or(one(0)), many(1).or(one(1)), ranks) {
        (None, Some(labels), Some((a, b))) if a > 1 && b > 1 && labels.axis == b - 1 => {
            separate(labels, a.max(b) - 1, [Operand::Plain, Operand::Channels])
        }
        (Some(labels), None, Some((a, b))) if a > 1 && b > 1 && labels.axis == a - 2 => {
            separate(labels, a.max(b) - 2, [Operand::Channels, Operand::Plain])
        }
        (Some(left), Some(right), Some((a, b)))
            if a > 1 && b > 1 && left.axis == a - 1 && right.axis == b - 2 =>
        {
            scalar_products(left, right)
        }
        _ => stacked(node)
            .or_else(|| outer(node))
            .unwrap_or(Flow::whole("a matrix product of computed values")),
    }
}

/// The flow of a product whose rows or columns are channels: those of the other operand are read whole. If
/// both are, the larger number of channels goes on.
fn outer(node: &NodeView<'_>) -> Option<Flow> {
    let ranks = [node.shape(0)?.len(), node.shape(1)?.len()];
    let rank = ranks[0].max(ranks[1]);
    let kept = [2, 1].into_iter().enumerate().filter_map(|(i, behind)| {
        let labels = node.labels(i)?;
        (ranks[i] > 1 && labels.axis + behind == ranks[i]).then_some((i, behind, labels))
    });
    let (first, behind, labels) = kept.rev().max_by_key(|(.., labels)| labels.atoms.len())?;
    let mut operands = vec![Operand::Plain; 2];
    *operands.get_mut(first)? = Operand::Channels;
    Some(Flow::Partwise(Partwise {
        output: Labels::along(rank - behind, labels.atoms.clone()),
        operands,
        coupled: Vec::new(),
        expand: Expand::NONE,
    }))
}

/// The flow of a product of stacked matrices, one per channel, as in attention heads.
fn stacked(node: &NodeView<'_>) -> Option<Flow> {
    let ranks = [node.shape(0)?.len(), node.shape(1)?.len()];
    let rank = ranks[0].max(ranks[1]);
    let on_stacks = (0..2).filter_map(|i| {
        let labels = node.labels(i)?;
        let axis = labels.axis + rank - ranks[i];
        (axis + 2 < rank).then(|| Labels::along(axis, labels.atoms.clone()))
    });
    let lead = on_stacks.max_by_key(|labels| labels.atoms.len())?;
    let operands = [0, 1].map(|i| operand(node, i, rank, &lead));
    let operands = operands.into_iter().collect::<Option<Vec<Operand>>>()?;
    let own = (0..2).filter(|i| operands[*i] == Operand::Channels).filter_map(|i| node.labels(i));
    let coupled = own.map(|own| (lead.atoms.clone(), own.atoms.clone())).collect();
    Some(Flow::Partwise(Partwise { output: lead, operands, coupled, expand: Expand::NONE }))
}

/// The flow of a product that sums over channels of both operands: it multiplies the n-th channels of
/// both.
fn scalar_products(left: &Labels, right: &Labels) -> Flow {
    if left.atoms.len() != right.atoms.len() {
        return Flow::whole("a matrix product of unlike values");
    }
    Flow::Together(Together {
        operands: vec![Operand::Channels; 2],
        coupled: Some((left.atoms.clone(), right.atoms.clone())),
        outputs: Vec::new(),
    })
}

/// Includes the bias that the layer's only consumer adds.
fn with_addition(node: &NodeView<'_>, layer: Layer) -> Layer {
    let added = || {
        let id = node.graph.only_use(layer.output)?;
        let addition = node.graph.node(id);
        let slot = usize::from(addition.input(0) == Some(layer.output));
        let bias = addition.input(slot).filter(|_| addition.is("Add"))?;
        let (vector, matrix) = (node.graph.initializer(bias)?, node.constant(1)?);
        let fits = vector.dims.first() == matrix.dims.get(1) && vector.dims.len() == 1;
        (fits && vector.dtype == matrix.dtype).then_some((id, bias, addition.output(0)?))
    };
    match added() {
        Some((id, bias, output)) => Layer { bias: Some(bias), addition: Some(id), output, ..layer },
        None => layer,
    }
}

fn layer(node: &NodeView<'_>, kind: LayerKind) -> Option<Layer> {
    let weight = node.node.input(1)?;
    let tensor = node.graph.initializer(weight)?;
    let rank = node.shape(0)?.len();
    let bias = node.node.input(2);
    let bias_fits = bias.is_none_or(|b| {
        node.graph
            .initializer(b)
            .is_some_and(|t| t.dims.len() == 1 && t.dims.first() == tensor.dims.first())
    });
    if tensor.dims.len() != 2 || !tensor.dtype.is_float() || !bias_fits || rank < 2 {
        return None;
    }
    Some(Layer {
        node: node.id,
        kind,
        input: node.node.input(0)?,
        in_axis: rank - 1,
        output: node.node.output(0)?,
        out_axis: rank - 1,
        weight,
        bias,
        addition: None,
        rows: None,
    })
}
