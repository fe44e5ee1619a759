//! Images: padding, resampling, cropping, decoding.

use crate::ir::{DataType, Dim, Size, TensorType};

use super::super::pool::pad_widths;
use super::super::{NodeView, normal_axis};
use super::{Rows, of_input, one, open};

pub(super) const RULES: Rows = &[
    (&["Pad"], pad),
    (&["Resize", "Upsample"], resize),
    (&["CenterCropPad"], crop),
    (&["GridSample"], grid_sample),
    (&["AffineGrid"], affine_grid),
    (&["ImageDecoder"], image_decoder),
];

fn pad(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let padded = node.shape(0).map(|shape| match pad_widths(node, shape.len()) {
        Some(widths) => {
            let grown =
                |(dim, (before, behind)): (&Dim, &(i64, i64))| match before.checked_add(*behind) {
                    Some(0) => dim.clone(),
                    Some(more) => dim.plus(more),
                    None => Dim::Unknown,
                };
            shape.iter().zip(&widths).map(grown).collect()
        }
        None => padded_by_formulas(node, &shape),
    });
    of_input(node, 0, padded)
}

/// Padding with partly known widths.
fn padded_by_formulas(node: &NodeView<'_>, shape: &[Dim]) -> Vec<Dim> {
    let widths = node.elements(1).filter(|widths| {
        node.node.input(3).is_none() && widths.len() == shape.len().saturating_mul(2)
    });
    let Some(widths) = widths else { return open(shape.len()) };
    let (before, behind) = widths.split_at(shape.len());
    let grown = |((dim, before), behind): ((&Dim, &Option<Size>), &Option<Size>)| {
        let more = before.as_ref()?.plus(behind.as_ref()?)?;
        Some(dim.computed(|size| size.plus(&more)))
    };
    shape.iter().zip(before).zip(behind).map(|own| grown(own).unwrap_or(Dim::Unknown)).collect()
}

fn resize(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    of_input(
        node,
        0,
        node.shape(0).map(|shape| resized(node, &shape).unwrap_or_else(|| open(shape.len()))),
    )
}

fn resized(node: &NodeView<'_>, shape: &[Dim]) -> Option<Vec<Dim>> {
    let axes: Vec<usize> = match node.node.ints("axes") {
        Some(axes) => {
            axes.iter().map(|axis| normal_axis(*axis, shape.len())).collect::<Option<_>>()?
        }
        None => (0..shape.len()).collect(),
    };
    let stretches = node.node.str("keep_aspect_ratio_policy").is_none_or(|p| p == "stretch");
    let extents: Vec<Dim> = if node.node.op == "Resize" && node.node.input(3).is_some() {
        let sizes = node.elements(3)?;
        match stretches {
            true => sizes.into_iter().map(|size| size.map_or(Dim::Unknown, Size::dim)).collect(),
            false => fitted(node, shape, &axes, &sizes)?,
        }
    } else {
        let scales = scales(node)?;
        let own = axes.iter().map(|axis| shape.get(*axis));
        own.zip(&scales).map(|(dim, scale)| Some(scaled(dim?, *scale))).collect::<Option<_>>()?
    };
    if extents.len() != axes.len() {
        return None;
    }
    let mut out = shape.to_vec();
    for (axis, extent) in axes.iter().zip(extents) {
        *out.get_mut(*axis)? = extent;
    }
    Some(out)
}

/// The constant scales of a `Resize` or `Upsample`: an input, or an attribute before operator set 9.
pub(in crate::ops) fn scales(node: &NodeView<'_>) -> Option<Vec<f32>> {
    if let Some(crate::ir::Attribute::Floats(scales)) = node.node.attributes.get("scales") {
        return Some(scales.clone());
    }
    let at = if node.node.op == "Upsample" || node.node.inputs.len() == 2 { 1 } else { 2 };
    Some(node.constant(at)?.to_f32().ok()?.into_iter().collect())
}

fn scaled(dim: &Dim, scale: f32) -> Dim {
    let whole = scale.fract() == 0.0 && scale.abs() < 65536.0;
    match dim.known() {
        // Runtimes compute this in single precision.
        Some(n) => {
            let scaled = (n as f32 * scale).floor();
            let fits = (0.0..1e15).contains(&scaled);
            if fits { Dim::Known(scaled as usize) } else { Dim::Unknown }
        }
        None if whole => dim.times(scale as i64),
        None if (1.0 / scale).fract() == 0.0 && scale > 1e-4 => dim.over((1.0 / scale) as i64),
        None => Dim::Unknown,
    }
}

/// The size with the same aspect ratio: the largest that fits into the sizes, or the smallest that covers
/// them.
fn fitted(
    node: &NodeView<'_>,
    shape: &[Dim],
    axes: &[usize],
    sizes: &[Option<Size>],
) -> Option<Vec<Dim>> {
    let own = axes.iter().map(|axis| shape.get(*axis)?.known());
    let own: Vec<f32> = own.map(|n| n.map(|n| n as f32)).collect::<Option<_>>()?;
    let wanted = sizes.iter().map(|size| size.as_ref()?.value().map(|n| n as f32));
    let ratios: Vec<f32> =
        wanted.zip(&own).map(|(to, from)| to.map(|to| to / from)).collect::<Option<_>>()?;
    let scale = match node.node.str("keep_aspect_ratio_policy")? {
        "not_larger" => ratios.iter().copied().reduce(f32::min)?,
        _ => ratios.iter().copied().reduce(f32::max)?,
    };
    let rounded = |n: &f32| (scale * n).round();
    own.iter()
        .map(|n| Some(Dim::Known((rounded(n) >= 0.0).then(|| rounded(n) as usize)?)))
        .collect()
}

fn crop(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let cropped = node.shape(0).map(|shape| {
        let place = || {
            let axes: Vec<usize> = match node.node.ints("axes") {
                Some(axes) => {
                    axes.iter().map(|a| normal_axis(*a, shape.len())).collect::<Option<_>>()?
                }
                None => (0..shape.len()).collect(),
            };
            let mut out = shape.clone();
            let sizes = node.elements(1).unwrap_or_else(|| vec![None; axes.len()]);
            for (axis, size) in axes.into_iter().zip(sizes) {
                *out.get_mut(axis)? = size.map_or(Dim::Unknown, Size::dim);
            }
            Some(out)
        };
        place().unwrap_or_else(|| open(shape.len()))
    });
    of_input(node, 0, cropped)
}

/// Batch and channels of the image, spatial extents of the grid.
fn grid_sample(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let (image, grid) = (node.shape(0), node.shape(1));
    let rank = image.as_ref().or(grid.as_ref()).map(Vec::len);
    let shape = rank.map(|rank| {
        let image = image.unwrap_or_else(|| open(rank));
        let grid = grid.unwrap_or_else(|| open(rank));
        let places = grid.iter().skip(1).take(rank.saturating_sub(2));
        image.iter().take(2).chain(places).cloned().collect()
    });
    of_input(node, 0, shape)
}

fn affine_grid(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let shape = node.elements(1).map(|size| {
        let dim = |size: &Option<Size>| size.clone().map_or(Dim::Unknown, Size::dim);
        let sides = size.len().saturating_sub(2);
        let places = size.iter().take(1).chain(size.iter().skip(2)).map(dim);
        places.chain([Dim::Known(sides)]).collect()
    });
    of_input(node, 0, shape)
}

fn image_decoder(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let grey = node.node.str("pixel_format") == Some("Grayscale");
    let channels = Dim::Known(if grey { 1 } else { 3 });
    one(DataType::U8, Some(vec![Dim::Unknown, Dim::Unknown, channels]))
}
