//! Operators over space: pooling, reductions, padding, resizing.

use crate::ir::{Dim, TensorType};

use super::elementwise::{same_axis, whole_alike};
use super::{Atom, Flow, Labels, NodeView, OpRule, Operand};

/// Pooling windows.
pub struct Window;
/// Global pooling.
pub struct Global;
/// Reductions over given axes.
pub struct Reduce;
/// Resampling of spatial axes.
pub struct Resize;
/// Padding of spatial axes.
pub struct Pad;

impl OpRule for Window {
    fn ops(&self) -> &'static [&'static str] {
        &["MaxPool", "AveragePool", "LpPool"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let pooled = node.ty(0).map(|t| TensorType {
            dtype: t.dtype,
            shape: t.shape.and_then(|s| pooled_shape(node, &s)),
        });
        vec![pooled]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        if node.node.output(1).is_some() {
            return Flow::whole("pooling that returns indices");
        }
        per_image(node)
    }
}

fn pooled_shape(node: &NodeView<'_>, shape: &[Dim]) -> Option<Vec<Dim>> {
    let kernel = node.node.ints("kernel_shape")?;
    let at = |name: &str, i: usize, default: i64| {
        node.node.ints(name).and_then(|v| v.get(i).copied()).unwrap_or(default)
    };
    let auto = node.node.str("auto_pad").unwrap_or("NOTSET");
    let ceil = node.node.int("ceil_mode", 0) != 0;
    let mut out = shape.get(..2)?.to_vec();
    for (i, extent) in shape[2..].iter().enumerate() {
        let stride = at("strides", i, 1).max(1);
        let span = (kernel.get(i)? - 1) * at("dilations", i, 1) + 1;
        let pads = at("pads", i, 0) + at("pads", kernel.len() + i, 0);
        out.push(match extent.known() {
            None => Dim::Unknown,
            Some(n) => {
                let n = n as i64;
                let size = match auto {
                    "SAME_UPPER" | "SAME_LOWER" => (n + stride - 1) / stride,
                    "VALID" => (n - span) / stride + 1,
                    _ if ceil => ceil_size(n, pads, at("pads", i, 0), span, stride),
                    _ => (n + pads - span) / stride + 1,
                };
                usize::try_from(size).map_or(Dim::Unknown, Dim::Known)
            }
        });
    }
    Some(out)
}

/// With `ceil_mode`, a last window that would start in the padding behind the data is dropped.
fn ceil_size(n: i64, pads: i64, before: i64, span: i64, stride: i64) -> i64 {
    let size = (n + pads - span + stride - 1) / stride + 1;
    if (size - 1) * stride >= n + before { size - 1 } else { size }
}

/// A node that keeps batch (axis 0) and channels (axis 1) and works on the axes behind.
fn per_image(node: &NodeView<'_>) -> Flow {
    match node.labels(0) {
        Some(labels) if labels.axis == 1 => {
            let mut operands = vec![Operand::Plain; node.node.inputs.len()];
            operands[0] = Operand::Channels;
            same_axis(node, operands)
        }
        _ => Flow::whole("a spatial operator across the channel axis"),
    }
}

impl OpRule for Global {
    fn ops(&self) -> &'static [&'static str] {
        &["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let pooled = node.ty(0).map(|t| TensorType {
            dtype: t.dtype,
            shape: t.shape.map(|mut s| {
                s.iter_mut().skip(2).for_each(|d| *d = Dim::Known(1));
                s
            }),
        });
        vec![pooled]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        per_image(node)
    }
}

impl OpRule for Reduce {
    fn ops(&self) -> &'static [&'static str] {
        &["ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceL1", "ReduceProd"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let reduced = node.ty(0).map(|t| {
            let shape = t.shape.and_then(|s| {
                let axes = reduced_axes(node, s.len())?;
                let keep = node.node.int("keepdims", 1) != 0;
                Some(
                    s.into_iter()
                        .enumerate()
                        .filter(|(i, _)| keep || !axes.contains(i))
                        .map(|(i, d)| if axes.contains(&i) { Dim::Known(1) } else { d })
                        .collect(),
                )
            });
            TensorType { dtype: t.dtype, shape }
        });
        vec![reduced]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let (Some(labels), Some(shape)) = (node.labels(0), node.shape(0)) else {
            return Flow::whole("a reduction of unknown rank");
        };
        let Some(axes) = reduced_axes(node, shape.len()) else {
            return Flow::whole("a reduction over computed axes");
        };
        if axes.contains(&labels.axis) {
            return Flow::whole("a reduction over the channel axis");
        }
        let Flow::Partwise(mut partwise) = same_axis(node, vec![Operand::Channels, Operand::Plain])
        else {
            return Flow::whole("a reduction of fixed channels");
        };
        if node.node.int("keepdims", 1) == 0 {
            partwise.output.axis -= axes.iter().filter(|a| **a < labels.axis).count();
        }
        Flow::Partwise(partwise)
    }
}

/// The axes that a reduction of an operand of rank `rank` runs over; `None` where they are computed.
pub fn reduced_axes(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let given = node.node.input(1).is_some() || node.node.ints("axes").is_some();
    let axes = if given { node.axes(1, rank)? } else { Vec::new() };
    let all = axes.is_empty() && node.node.int("noop_with_empty_axes", 0) == 0;
    Some(if all { (0..rank).collect() } else { axes })
}

impl OpRule for Resize {
    fn ops(&self) -> &'static [&'static str] {
        &["Resize", "Upsample"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let resized = node.ty(0).map(|t| TensorType {
            dtype: t.dtype,
            shape: t.shape.map(|s| resized_shape(node, &s)),
        });
        vec![resized]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let last = node.node.inputs.len().saturating_sub(1);
        // The last input is `scales` or, in newer operator sets, `sizes`; sizes name the channels.
        let keeps_channels = node
            .constant(last)
            .and_then(|t| t.to_f32().ok())
            .is_some_and(|s| s.len() >= 2 && s.iter().take(2).all(|v| *v == 1.0));
        if keeps_channels {
            return per_image(node);
        }
        let reason = "resizing of the channel axis or to computed sizes";
        let sizes = node.ints(last).filter(|_| node.node.input(3).is_some());
        let same = node.labels(0).zip(sizes).is_some_and(|(labels, sizes)| {
            sizes.get(labels.axis).is_some_and(|n| *n == labels.atoms.len() as i64)
        });
        if same { whole_alike(node, reason) } else { Flow::whole(reason) }
    }
}

/// Spatial extents are known where they are fixed and the scales constant.
fn resized_shape(node: &NodeView<'_>, shape: &[Dim]) -> Vec<Dim> {
    let at = if node.node.op == "Upsample" { 1 } else { 2 };
    let scales = node.constant(at).and_then(|t| t.to_f32().ok());
    let scales = scales.filter(|s| s.len() == shape.len());
    let resized = shape.iter().enumerate().map(|(axis, extent)| {
        let scale = scales.as_ref().and_then(|s| s.iter().nth(axis));
        match (extent.known(), scale) {
            _ if axis < 2 => extent.clone(),
            // Rounding in another way than the runtime must not matter.
            (Some(n), Some(scale)) if (n as f32 * scale).fract() == 0.0 => {
                Dim::Known((n as f32 * scale) as usize)
            }
            _ => Dim::Unknown,
        }
    });
    resized.collect()
}

impl OpRule for Pad {
    fn ops(&self) -> &'static [&'static str] {
        &["Pad"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let padded = node.ty(0).map(|t| {
            let shape = t.shape.and_then(|s| {
                let pads = pad_widths(node, s.len())?;
                let grown = s.iter().zip(&pads).map(|(d, (a, b))| match (d, a + b) {
                    (d, 0) => d.clone(),
                    (Dim::Known(n), more) => {
                        usize::try_from(*n as i64 + more).map_or(Dim::Unknown, Dim::Known)
                    }
                    _ => Dim::Unknown,
                });
                Some(grown.collect())
            });
            TensorType { dtype: t.dtype, shape }
        });
        vec![padded]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let pads = node.shape(0).and_then(|s| pad_widths(node, s.len()));
        match (node.labels(0), pads) {
            (Some(labels), Some(pads)) if pads.get(labels.axis) == Some(&(0, 0)) => {
                let mut operands = vec![Operand::Plain; node.node.inputs.len()];
                operands[0] = Operand::Channels;
                same_axis(node, operands)
            }
            (Some(labels), Some(pads)) => widened(labels, &pads),
            _ => Flow::whole("padding by computed widths"),
        }
    }
}

/// Channels with new ones before and behind them.
fn widened(labels: &Labels, pads: &[(i64, i64)]) -> Flow {
    let reason = "padding of the channel axis";
    let widths = pads.get(labels.axis).map(|(a, b)| (usize::try_from(*a), usize::try_from(*b)));
    let Some((Ok(before), Ok(behind))) = widths else { return Flow::whole(reason) };
    let new = |n| vec![Atom::NEW; n];
    let atoms = [new(before), labels.atoms.clone(), new(behind)].concat();
    Flow::whole_with(reason, Labels { axis: labels.axis, atoms })
}

/// Widths of a `Pad` before and behind each of `rank` axes; `None` where they are computed.
pub fn pad_widths(node: &NodeView<'_>, rank: usize) -> Option<Vec<(i64, i64)>> {
    let pads = match node.node.ints("pads") {
        Some(pads) => pads.to_vec(),
        None => node.ints(1)?,
    };
    let axes: Vec<usize> = match node.node.input(3) {
        Some(_) => node
            .ints(3)?
            .iter()
            .map(|a| super::view::normal_axis(*a, rank))
            .collect::<Option<_>>()?,
        None => (0..rank).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return None;
    }
    let mut widths = vec![(0, 0); rank];
    for (i, axis) in axes.iter().enumerate() {
        widths[*axis] = (pads[i], pads[axes.len() + i]);
    }
    Some(widths)
}
