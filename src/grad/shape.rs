//! Gradients of operators that move, pad or repeat elements.

use crate::ir::{Attribute, DataType, Node, NodeId, ValueId};
use crate::ops::{NodeView, pad_widths};

use super::pool::channels;
use super::{Grads, Tape, unsupported};

impl Tape {
    /// Every element `scales` times along each axis.
    pub(super) fn repeated(&mut self, value: ValueId, scales: &[f32]) -> ValueId {
        let name = self.name("Resize");
        let scales = match self.floats(&[scales.len()], scales.to_vec()) {
            Ok(scales) => scales,
            Err(_) => unreachable!("a vector fills its own length"),
        };
        let attributes = [
            ("mode", "nearest"),
            ("coordinate_transformation_mode", "asymmetric"),
            ("nearest_mode", "floor"),
        ];
        let attributes = attributes.map(|(k, v)| (k, Attribute::Str(v.as_bytes().to_vec())));
        let output = self.graph.add_op("Resize", &name, &[value, scales], attributes);
        if let Some(node) = self.graph.producer(output) {
            // The second input, a region, is left out.
            self.graph.edit_node(node, |node| node.inputs.insert(1, None));
        }
        output
    }
}

pub(super) fn identity(_: &mut Tape, _: NodeId, _: &Node, dy: ValueId) -> Grads {
    Ok(vec![Some(dy)])
}

pub(super) fn cast(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let constant = tape.graph.initializer(x).map(|t| t.dtype);
    match constant.or(tape.graph.value(x).ty.as_ref().map(|t| t.dtype)) {
        Some(dtype) if dtype.is_float() => {
            let to = Attribute::Int(i64::from(dtype.code()));
            Ok(vec![Some(tape.op_with("Cast", &[dy], [("to", to)]))])
        }
        _ => Ok(vec![None]),
    }
}

pub(super) fn reshape(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    Ok(vec![Some(tape.shaped_like(dy, x))])
}

pub(super) fn expand(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    Ok(vec![tape.reduced(node, 0, |_| dy)?])
}

/// The sum over all copies.
pub(super) fn tile(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let shape = tape.shape(tape.input(node, 0)?)?;
    let repeats = NodeView::new(&tape.graph, id, &[])
        .ints(1)
        .filter(|repeats| repeats.len() == shape.len() && repeats.iter().all(|n| *n > 0))
        .ok_or_else(|| unsupported("copies whose number is computed"))?;
    let extents: Vec<i64> =
        shape.iter().map(|dim| dim.known().map_or(-1, |extent| extent as i64)).collect();
    if extents.iter().filter(|extent| **extent < 0).count() > 1 {
        return Err(unsupported("copies along extents known only at run time"));
    }
    // An axis of copies before each axis.
    let apart: Vec<i64> = repeats.iter().zip(&extents).flat_map(|(n, e)| [*n, *e]).collect();
    let apart = tape.reshaped(dy, &apart);
    let copies: Vec<usize> = (0..extents.len()).map(|axis| 2 * axis).collect();
    Ok(vec![Some(tape.summed(apart, &copies, false))])
}

pub(super) fn space_to_depth(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let side = ("blocksize", Attribute::Int(node.int("blocksize", 0)));
    Ok(vec![Some(tape.op_with("DepthToSpace", &[dy], [side]))])
}

pub(super) fn depth_to_space(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (x, side) = (tape.input(node, 0)?, node.int("blocksize", 0));
    if node.str("mode") != Some("CRD") {
        let side = ("blocksize", Attribute::Int(side));
        return Ok(vec![Some(tape.op_with("SpaceToDepth", &[dy], [side]))]);
    }
    let sizes: Vec<i64> = tape.sizes(x, 1)?.iter().map(|size| *size as i64).collect();
    let channels = sizes.first().and_then(|depth| depth.checked_div(side)?.checked_div(side));
    let (Some(channels), [_, height, width]) = (channels, sizes.as_slice()) else {
        return Err(unsupported("blocks of unknown size"));
    };
    let blocks = tape.reshaped(dy, &[-1, channels, *height, side, *width, side]);
    let perm = Attribute::Ints(vec![0, 1, 3, 5, 2, 4]);
    let blocks = tape.op_with("Transpose", &[blocks], [("perm", perm)]);
    Ok(vec![Some(tape.shaped_like(blocks, x))])
}

pub(super) fn transpose(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let rank = tape.shape(tape.input(node, 0)?)?.len();
    let perm = node.ints("perm").map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
    let mut inverse = vec![0; perm.len()];
    for (to, from) in perm.iter().enumerate() {
        if let Some(slot) = usize::try_from(*from).ok().and_then(|f| inverse.get_mut(f)) {
            *slot = to as i64;
        }
    }
    Ok(vec![Some(tape.op_with("Transpose", &[dy], [("perm", Attribute::Ints(inverse))]))])
}

pub(super) fn pad(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let rank = tape.shape(x)?.len();
    let widths = pad_widths(&NodeView::new(&tape.graph, id, &[]), rank)
        .filter(|w| w.iter().all(|(a, b)| *a >= 0 && *b >= 0))
        .filter(|_| matches!(node.str("mode"), None | Some("constant")));
    let Some(widths) = widths else {
        return Err(unsupported("padding other than by constants, or by computed widths"));
    };
    let padded: Vec<(usize, (i64, i64))> =
        widths.into_iter().enumerate().filter(|(_, (a, b))| a + b > 0).collect();
    let starts: Vec<i64> = padded.iter().map(|(_, (before, _))| *before).collect();
    let ends: Vec<i64> = padded
        .iter()
        .map(|(_, (_, behind))| if *behind == 0 { i64::MAX } else { -behind })
        .collect();
    let axes: Vec<i64> = padded.iter().map(|(axis, _)| *axis as i64).collect();
    let (starts, ends, axes) = (tape.ints(&starts), tape.ints(&ends), tape.ints(&axes));
    Ok(vec![Some(tape.op("Slice", &[dy, starts, ends, axes]))])
}

/// Nearest neighbours at whole scales: the sum over each element's copies.
pub(super) fn resize(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let scales = node.input(2).and_then(|s| tape.graph.initializer(s));
    let scales: Option<Vec<f32>> = scales
        .filter(|t| t.dtype == DataType::F32)
        .and_then(|t| Some(t.to_f32().ok()?.into_iter().collect()));
    let Some(factors) = scales.as_deref().and_then(|s| whole_factors(node, s)) else {
        return Err(unsupported("resizing other than by nearest neighbours at whole scales"));
    };
    let c = channels(tape, x)?;
    let dims: Vec<usize> = [c, 1].into_iter().chain(factors.iter().copied()).collect();
    let ones = tape.floats(&dims, vec![1.0; dims.iter().product()])?;
    let strides = Attribute::Ints(factors.iter().map(|f| *f as i64).collect());
    let attributes = [("strides", strides), ("group", Attribute::Int(c as i64))];
    Ok(vec![Some(tape.op_with("Conv", &[dy, ones], attributes))])
}

/// How often each spatial element is repeated; `None` where it is not repeated as a block.
fn whole_factors(node: &Node, scales: &[f32]) -> Option<Vec<usize>> {
    let (outer, spatial) = scales.split_at_checked(2)?;
    let whole = spatial.iter().all(|s| *s >= 1.0 && s.fract() == 0.0);
    if outer != [1.0, 1.0] || !whole || !matches!(node.str("mode"), None | Some("nearest")) {
        return None;
    }
    let rounding = node.str("nearest_mode").unwrap_or("round_prefer_floor");
    let in_blocks = match node.str("coordinate_transformation_mode").unwrap_or("half_pixel") {
        "half_pixel" | "pytorch_half_pixel" => rounding.starts_with("round"),
        "asymmetric" => {
            rounding == "floor"
                || (rounding == "round_prefer_floor" && spatial.iter().all(|s| *s <= 2.0))
        }
        _ => false,
    };
    in_blocks.then(|| spatial.iter().map(|s| *s as usize).collect())
}
