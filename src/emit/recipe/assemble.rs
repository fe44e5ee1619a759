//! Assembles a task's net from the initializers of a joint model.

use std::collections::BTreeMap;

use ndarray::{ArrayD, IxDyn};

use super::damaged;
use super::format::{TaskRecipe, WeightRecipe};
use crate::canon::dequantise;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Codes, DataType, Graph, Model, Tensor, ValueId, ValueKind};
use crate::mtz::joint::{Difference, added};
use crate::onnx;

/// Weights that are sums, with their common parts and differences.
pub(super) type Sums = BTreeMap<ValueId, (Tensor, Difference)>;

/// The net of a task, with weights assembled from the initializers of the joint graph, and the weights
/// that are sums.
///
/// # Errors
/// [`ErrorKind::Format`] if the recipe does not fit the joint graph.
pub(super) fn net(
    joint: &Graph,
    recipe: &TaskRecipe,
    lists: &[Vec<usize>],
) -> Result<(Model, Sums)> {
    let mut sums = Sums::new();
    let mut net = onnx::decode_net(recipe.graph.clone().into(), &recipe.name)?;
    dequantise(&mut net.graph)?;
    let stored: usize =
        joint.values().filter_map(|(v, _)| joint.initializer(v)).map(|t| t.data.len()).sum();
    for weight in &recipe.weights {
        let id = net.graph.value_named(&weight.name).ok_or_else(damaged)?;
        let value = net.graph.value(id);
        let (ValueKind::Input, Some(ty)) = (&value.kind, &value.ty) else { return Err(damaged()) };
        let dims: Option<Vec<usize>> =
            ty.shape.as_ref().and_then(|s| s.iter().map(crate::ir::Dim::known).collect());
        let dtype = ty.dtype;
        let dims = dims.ok_or_else(damaged)?;
        if let Some((whole, codes)) = unchanged(joint, weight, &dims, dtype) {
            codes.into_iter().for_each(|codes| net.graph.set_codes(id, codes));
            net.graph.inputs.retain(|v| *v != id);
            net.graph.set_initializer(id, whole);
            continue;
        }
        let size = dtype.size().ok_or_else(damaged)?;
        let count = dims.iter().try_fold(size, |n, d| n.checked_mul(*d)).ok_or_else(damaged)?;
        if count > stored.saturating_mul(2) {
            return Err(damaged());
        }
        let mut tensor = Whole { dims, size, data: vec![0; count] };
        let mut plus: Option<Whole> = None;
        let mut codes: Option<Codes> = None;
        for block in &weight.blocks {
            let from = joint.value_named(&block.from);
            let part = from.and_then(|v| joint.initializer(v)).ok_or_else(|| {
                Error::new(ErrorKind::Format, format!("initializer '{}' is missing", block.from))
                    .hint("another tool has changed the joint model; take the file as written")
            })?;
            let swapped = block.transposed.then(|| part.transposed()).flatten();
            let part = if block.transposed { swapped.as_ref() } else { Some(part) };
            let part = part.ok_or_else(damaged)?;
            tensor.put(part, block.start, &block.parts, lists).ok_or_else(damaged)?;
            if let Some(name) = &block.plus {
                let from = joint.value_named(name).ok_or_else(damaged)?;
                let part = joint.initializer(from).ok_or_else(damaged)?;
                plus.get_or_insert_with(|| tensor.empty())
                    .put(part, 0, &block.parts, lists)
                    .ok_or_else(damaged)?;
                if let Some(own) = joint.codes(from) {
                    let whole = codes.get_or_insert_with(|| own.clone());
                    put_scales(whole, own, &tensor.dims, &block.parts, lists)
                        .ok_or_else(damaged)?;
                }
            }
            if let (Some(codes), []) = (from.and_then(|v| joint.codes(v)), block.parts.as_slice()) {
                net.graph.set_codes(id, codes.clone());
            }
        }
        net.graph.inputs.retain(|v| *v != id);
        let mut whole = tensor.tensor(dtype);
        if let Some(plus) = plus {
            let (base, floats) = (whole, plus.tensor(dtype));
            whole = added(&base, &floats).ok_or_else(damaged)?;
            sums.extend(codes.map(|codes| (id, (base, Difference { floats, codes }))));
        }
        net.graph.set_initializer(id, whole);
    }
    Ok((net, sums))
}

/// The initializer that is a weight as it stands, with its codes. It may have any type, also one whose elements
/// have no size in bytes.
fn unchanged(
    joint: &Graph,
    weight: &WeightRecipe,
    dims: &[usize],
    dtype: DataType,
) -> Option<(Tensor, Option<Codes>)> {
    let [block] = weight.blocks.as_slice() else { return None };
    let is_whole = block.parts.is_empty() && block.start == 0 && !block.transposed;
    let from = joint.value_named(&block.from).filter(|_| is_whole && block.plus.is_none())?;
    let tensor = joint.initializer(from)?;
    let fits = tensor.dims == dims && tensor.dtype == dtype;
    fits.then(|| (tensor.clone(), joint.codes(from).cloned()))
}

/// Writes the scales of a difference's block to the rows of the whole that it holds.
fn put_scales(
    whole: &mut Codes,
    own: &Codes,
    dims: &[usize],
    parts: &[(usize, usize)],
    lists: &[Vec<usize>],
) -> Option<()> {
    let count = *dims.get(own.axis)?;
    let rows: Vec<usize> = match parts.iter().find(|(axis, _)| *axis == own.axis) {
        Some((_, list)) => lists.get(*list)?.clone(),
        None => (0..count).collect(),
    };
    let scales = own.scale.to_f32().ok()?;
    let before = whole.scale.to_f32().ok()?;
    let mut all = ArrayD::ones(IxDyn(&[count]));
    if before.len() == count {
        all.iter_mut().zip(&before).for_each(|(to, from)| *to = *from);
    }
    (scales.len() == rows.len()).then_some(())?;
    for (row, scale) in rows.iter().zip(&scales) {
        *all.get_mut(*row)? = *scale;
    }
    whole.scale = Tensor::from_f32(&all);
    Some(())
}

/// A tensor under construction.
struct Whole {
    dims: Vec<usize>,
    size: usize,
    data: Vec<u8>,
}

impl Whole {
    /// Noughts of the same shape.
    fn empty(&self) -> Whole {
        Whole { dims: self.dims.clone(), size: self.size, data: vec![0; self.data.len()] }
    }

    fn tensor(self, dtype: DataType) -> Tensor {
        Tensor { dtype, dims: self.dims, data: self.data.into() }
    }

    /// Writes the block at row `start` of an initializer to its indices; `None` if it does not fit.
    fn put(
        &mut self,
        stored: &Tensor,
        start: usize,
        at: &[(usize, usize)],
        lists: &[Vec<usize>],
    ) -> Option<()> {
        let rank = self.dims.len();
        let mut indices: Vec<Vec<usize>> = self.dims.iter().map(|d| (0..*d).collect()).collect();
        for (axis, list) in at {
            *indices.get_mut(*axis)? = lists.get(*list)?.clone();
        }
        let part = rows(stored, start, indices.first().map(Vec::len))?;
        let fits = part.dtype.size() == Some(self.size)
            && part.dims.len() == rank
            && part.dims.iter().zip(&indices).all(|(d, i)| *d == i.len())
            && indices.iter().zip(&self.dims).all(|(i, d)| i.iter().all(|i| i < d));
        if !fits || part.data.len() != part.len() * self.size {
            return None;
        }
        let mut counter = vec![0usize; rank];
        for element in part.data.chunks_exact(self.size) {
            let offset = counter
                .iter()
                .zip(&indices)
                .zip(&self.dims)
                .fold(0, |offset, ((at, list), dim)| offset * dim + list[*at]);
            self.data[offset * self.size..(offset + 1) * self.size].copy_from_slice(element);
            for axis in (0..rank).rev() {
                counter[axis] += 1;
                if counter[axis] < part.dims[axis] {
                    break;
                }
                counter[axis] = 0;
            }
        }
        Some(())
    }
}

/// `count` rows of a tensor from `start` on, or the whole tensor; a scalar has no rows.
fn rows(tensor: &Tensor, start: usize, count: Option<usize>) -> Option<Tensor> {
    let (Some(all), Some(count)) = (tensor.dims.first(), count) else {
        return Some(tensor.clone());
    };
    if (start, count) == (0, *all) {
        return Some(tensor.clone());
    }
    let each = tensor.data.len().checked_div(*all)?;
    let end = start.checked_add(count).filter(|end| end <= all)?;
    let dims = [&[count], &tensor.dims[1..]].concat();
    Some(Tensor { dtype: tensor.dtype, dims, data: tensor.data.slice(start * each..end * each) })
}
