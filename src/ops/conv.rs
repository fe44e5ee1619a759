//! Convolutions.

use super::elementwise::same_axis;
use super::window::leaves_alone;
use super::{ConvGeometry, Flow, Layer, LayerKind, NodeView, OpRule, Operand, Pads};

/// `Conv`.
pub struct Conv;
/// `ConvTranspose`.
pub struct ConvTranspose;

impl OpRule for Conv {
    fn ops(&self) -> &'static [&'static str] {
        &["Conv"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let Some(layer) = conv_layer(node) else {
            return Flow::whole("a convolution with computed weights");
        };
        let LayerKind::Conv(geometry) = &layer.kind else { return Flow::Untracked };
        match geometry.groups {
            _ if is_beside_channels(node, &layer) => beside(node),
            1 => Flow::Layer(layer),
            groups => depthwise(node, &layer, groups)
                .unwrap_or_else(|| Flow::whole("a grouped convolution")),
        }
    }
}

impl OpRule for ConvTranspose {
    fn ops(&self) -> &'static [&'static str] {
        &["ConvTranspose"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if node.node.ints("output_shape").is_some_and(|sizes| !sizes.is_empty()) {
            return Flow::whole("a transposed convolution that is told its output's shape");
        }
        let Some(layer) = conv_layer(node) else {
            return Flow::whole("a transposed convolution with computed weights or padding");
        };
        match &layer.kind {
            _ if is_beside_channels(node, &layer) => beside(node),
            LayerKind::ConvTranspose(geometry) if geometry.groups > 1 => {
                depthwise(node, &layer, geometry.groups)
                    .unwrap_or_else(|| Flow::whole("a grouped transposed convolution"))
            }
            _ => Flow::Layer(layer),
        }
    }
}

/// Whether a convolution runs along other axes than that of the channels, as over rows that changed places
/// with them, and has no more inputs than there are channels. It leaves the channels apart.
fn is_beside_channels(node: &NodeView<'_>, layer: &Layer) -> bool {
    let inputs = layer.sizes(node.graph).map_or(0, |(_, inputs, _)| inputs);
    stands_beside(node, layer) && node.labels(0).is_some_and(|labels| labels.atoms.len() >= inputs)
}

/// Whether a convolution runs along other axes than that of the channels.
fn stands_beside(node: &NodeView<'_>, layer: &Layer) -> bool {
    let (LayerKind::Conv(window) | LayerKind::ConvTranspose(window)) = &layer.kind else {
        return false;
    };
    node.labels(0).is_some_and(|labels| leaves_alone(node, labels, &window.kernel))
}

/// The flow of a convolution that runs along other axes than that of the channels, however many inputs it has.
pub(super) fn mixing(node: &NodeView<'_>) -> Option<Flow> {
    let layer = conv_layer(node).filter(|layer| stands_beside(node, layer))?;
    matches!(&layer.kind, LayerKind::Conv(window) if window.groups == 1).then(|| beside(node))
}

/// The flow of a convolution beside the channels.
fn beside(node: &NodeView<'_>) -> Flow {
    same_axis(node, vec![Operand::Channels, Operand::Plain, Operand::Plain])
}

/// One filter per input channel: a layer whose rows are permuted with its columns.
fn depthwise(node: &NodeView<'_>, layer: &Layer, groups: usize) -> Option<Flow> {
    let per_channel =
        layer.sizes(node.graph).is_ok_and(|(out, inputs, _)| inputs == 1 && out == groups);
    let labels = node.labels(0).filter(|labels| labels.axis == 1 && per_channel)?;
    (labels.atoms.len() == groups).then(|| Flow::PerChannel(layer.clone()))
}

/// A convolution, transposed or not, with one filter for each of its input channels, as a layer.
pub fn filters_of_channels(node: &NodeView<'_>) -> Option<Layer> {
    let is_conv = node.node.is("Conv") || node.node.is("ConvTranspose");
    let layer = conv_layer(node).filter(|_| is_conv)?;
    let groups = usize::try_from(node.node.int("group", 1)).ok().filter(|groups| *groups > 1)?;
    let (out, inputs, _) = layer.sizes(node.graph).ok()?;
    (inputs == 1 && out == groups).then_some(layer)
}

fn conv_layer(node: &NodeView<'_>) -> Option<Layer> {
    let weight = node.node.input(1)?;
    let tensor = node.graph.initializer(weight)?;
    if tensor.dims.len() < 3 || !tensor.dtype.is_float() {
        return None;
    }
    let bias = node.node.input(2);
    if bias.is_some_and(|b| node.graph.initializer(b).is_none()) {
        return None;
    }
    let geometry = geometry(node, &tensor.dims[2..])?;
    Some(Layer {
        node: node.id,
        kind: if node.node.op == "Conv" {
            LayerKind::Conv(geometry)
        } else {
            LayerKind::ConvTranspose(geometry)
        },
        input: node.node.input(0)?,
        in_axis: 1,
        output: node.node.output(0)?,
        out_axis: 1,
        weight,
        bias,
        addition: None,
        rows: None,
    })
}

/// Reads the window's attributes.
fn geometry(node: &NodeView<'_>, kernel: &[usize]) -> Option<ConvGeometry> {
    let n = kernel.len();
    let list = |name: &str, default: usize| -> Option<Vec<usize>> {
        match node.node.ints(name) {
            Some(v) if v.len() == n => v.iter().map(|x| usize::try_from(*x).ok()).collect(),
            Some(_) => None,
            None => Some(vec![default; n]),
        }
    };
    let strides = list("strides", 1)?;
    let dilations = list("dilations", 1)?;
    let output_padding = list("output_padding", 0)?;
    let fixed = |pads: &[i64]| -> Option<Pads> {
        let size = |pad: &i64| usize::try_from(*pad).ok();
        let (before, behind) = pads.split_at_checked(n).filter(|(_, behind)| behind.len() == n)?;
        let pairs = before.iter().zip(behind).map(|(a, b)| Some((size(a)?, size(b)?)));
        pairs.collect::<Option<_>>().map(Pads::Fixed)
    };
    let pads = match node.node.str("auto_pad").unwrap_or("NOTSET") {
        "NOTSET" | "" => match node.node.ints("pads") {
            Some(pads) => fixed(pads)?,
            None => Pads::Fixed(vec![(0, 0); n]),
        },
        "VALID" => Pads::Fixed(vec![(0, 0); n]),
        mode if node.node.op == "ConvTranspose" => {
            let lower = mode == "SAME_LOWER";
            let axes = (0..n).map(|i| {
                let reach = kernel[i].checked_sub(1)?.checked_mul(dilations[i])?.checked_add(1)?;
                // The output has a stride of positions for each one of the input.
                let total = reach.checked_add(output_padding[i])?.checked_sub(strides[i])?;
                Some(divided_pads(total, lower))
            });
            Pads::Fixed(axes.collect::<Option<_>>()?)
        }
        mode => Pads::Same { lower: mode == "SAME_LOWER" },
    };
    let groups = usize::try_from(node.node.int("group", 1)).ok().filter(|g| *g > 0)?;
    let kernel = kernel.to_vec();
    Some(ConvGeometry { kernel, strides, pads, dilations, groups, output_padding })
}

/// Padding before and after one axis by `auto_pad` of `SAME_UPPER`, or `SAME_LOWER` if `lower`: windows
/// of `span` positions, `stride` apart, then give one output per `stride` positions.
///
/// With stride 1, the extent need not be known.
pub fn same_pads(
    extent: Option<usize>,
    span: usize,
    stride: usize,
    lower: bool,
) -> Option<(usize, usize)> {
    let total = match extent {
        _ if stride == 1 => span.checked_sub(1)?,
        Some(extent) => {
            let windows = extent.checked_add(stride)?.checked_sub(1)?.checked_div(stride)?;
            let reach = windows.checked_sub(1)?.checked_mul(stride)?.checked_add(span)?;
            reach.saturating_sub(extent)
        }
        None => return None,
    };
    Some(divided_pads(total, lower))
}

/// So many positions of padding, before and after an axis; an odd one is before it if `lower`.
pub fn divided_pads(total: usize, lower: bool) -> (usize, usize) {
    let (small, large) = (total / 2, total - total / 2);
    if lower { (large, small) } else { (small, large) }
}
