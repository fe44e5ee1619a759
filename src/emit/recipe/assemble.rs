//! Assembles a task's net from the initializers of a joint model.

use std::collections::{BTreeMap, HashMap};

use ndarray::{ArrayD, IxDyn};

use super::damaged;
use super::format::{BlockRecipe, TaskRecipe};
use crate::canon::dequantise;
use crate::emit::names::short;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Codes, DataType, Dim, Graph, Model, Tensor, TensorType, ValueId, ValueKind};
use crate::mtz::joint::{Difference, added};
use crate::naming::shown;
use crate::onnx;

/// Weights that are sums, with their common parts and differences.
pub(super) type Sums = BTreeMap<ValueId, (Tensor, Difference)>;

/// Limit of the bytes of all assembled weights, and of all blocks that are copied into them, as a multiple of
/// the bytes of the initializers. A net may repeat a layer, whose weights are then stored once.
const MOST_COPIES: usize = 64;

/// The same limit for many tasks, per task: a weight may be the sum of two.
const COPIES_OF_TASK: usize = 2;

/// Limit of the bytes of the names of all blocks' weights. A weight's blocks are many, and its name may be long.
const MOST_NAMES: usize = 1 << 28;

/// Assembles the nets of tasks from the initializers of a joint graph.
pub(super) struct Assembly<'a> {
    joint: &'a Graph,
    lists: &'a [Vec<usize>],
    /// Initializers with their two axes swapped.
    swapped: HashMap<ValueId, Tensor>,
    /// Bytes that may still be assembled.
    room: usize,
    /// Bytes that may still be copied.
    work: usize,
    /// Bytes of names that may still be looked up.
    names: usize,
}

/// A weight, with its codes, and with its parts if it is a sum.
struct Assembled {
    tensor: Tensor,
    codes: Option<Codes>,
    sum: Option<(Tensor, Difference)>,
}

impl<'a> Assembly<'a> {
    /// For a joint model of this many tasks.
    pub(super) fn new(joint: &'a Graph, lists: &'a [Vec<usize>], tasks: usize) -> Self {
        let constants = joint.values().filter_map(|(v, _)| joint.initializer(v));
        let stored: usize = constants.map(|t| t.data.len()).sum();
        let copies = MOST_COPIES.max(COPIES_OF_TASK.saturating_mul(tasks));
        let room = stored.saturating_mul(copies);
        Assembly { joint, lists, swapped: HashMap::new(), room, work: room, names: MOST_NAMES }
    }

    /// The net of a task, with its weights, and the weights that are sums.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if the recipe does not fit the joint graph.
    pub(super) fn net(&mut self, recipe: &TaskRecipe) -> Result<(Model, Sums)> {
        let mut sums = Sums::new();
        let mut net = onnx::decode_net(&recipe.graph, &recipe.name)?;
        dequantise(&mut net.graph)?;
        let own = net.graph.inputs.len().checked_sub(recipe.weights.len()).ok_or_else(damaged)?;
        for (id, blocks) in net.graph.inputs.split_off(own).into_iter().zip(&recipe.weights) {
            let value = net.graph.value(id);
            let (ValueKind::Input, Some(ty)) = (&value.kind, &value.ty) else {
                return Err(damaged());
            };
            let Assembled { tensor, codes, sum } = self.weight(&short(&value.name), blocks, ty)?;
            codes.into_iter().for_each(|codes| net.graph.set_codes(id, codes));
            sums.extend(sum.map(|sum| (id, sum)));
            net.graph.set_initializer(id, tensor);
        }
        Ok((net, sums))
    }

    /// A weight of this shortened name and this type.
    fn weight(&mut self, name: &str, blocks: &[BlockRecipe], ty: &TensorType) -> Result<Assembled> {
        let shape = ty.shape.as_ref().ok_or_else(damaged)?;
        let dims: Option<Vec<usize>> = shape.iter().map(Dim::known).collect();
        let (dims, dtype) = (dims.ok_or_else(damaged)?, ty.dtype);
        if let Some((tensor, codes)) = self.unchanged(name, blocks, &dims, dtype) {
            return Ok(Assembled { tensor, codes, sum: None });
        }
        let mut whole = self.empty(dims, dtype).ok_or_else(damaged)?;
        let mut plus: Option<(Whole, Option<Codes>)> = None;
        let mut codes = None;
        for block in blocks {
            let from = self.stored_in(block, name)?;
            self.put(&mut whole, from, block).ok_or_else(damaged)?;
            if let Some(plus_name) = &block.plus {
                let from = self.initializer(plus_name)?;
                if plus.is_none() {
                    let empty = self.empty(whole.dims.clone(), dtype).ok_or_else(damaged)?;
                    plus = Some((empty, None));
                }
                let difference = plus.as_mut().ok_or_else(damaged)?;
                self.put_difference(difference, from, block).ok_or_else(damaged)?;
            }
            let is_whole = blocks.len() == 1 || block.parts.is_empty();
            if is_whole && let Some(own) = self.codes(from, block, &whole.dims) {
                codes = Some(own);
            }
        }
        let tensor = whole.tensor(dtype);
        let Some((plus, scales)) = plus else { return Ok(Assembled { tensor, codes, sum: None }) };
        let floats = plus.tensor(dtype);
        let sum = added(&tensor, &floats).ok_or_else(damaged)?;
        let parts = scales.map(|codes| (tensor, Difference { floats, codes }));
        Ok(Assembled { tensor: sum, codes, sum: parts })
    }

    /// The initializer that is a weight as it stands, with its codes. It may have any type, also one whose elements
    /// have no size in bytes.
    fn unchanged(
        &self,
        name: &str,
        blocks: &[BlockRecipe],
        dims: &[usize],
        dtype: DataType,
    ) -> Option<(Tensor, Option<Codes>)> {
        let [block] = blocks else { return None };
        let is_whole = block.parts.is_empty()
            && block.start == 0
            && !block.transposed
            && block.within.is_none();
        let from = self.joint.value_named(&block.initializer(name));
        let from = from.filter(|_| is_whole && block.plus.is_none())?;
        let tensor = self.joint.initializer(from)?;
        let fits = tensor.dims == dims && tensor.dtype == dtype;
        fits.then(|| (tensor.clone(), self.joint.codes(from).cloned()))
    }

    /// The initializer of a block of the weight `name`.
    fn stored_in(&mut self, block: &BlockRecipe, name: &str) -> Result<ValueId> {
        self.names = self.names.checked_sub(name.len()).ok_or_else(damaged)?;
        self.initializer(&block.initializer(name))
    }

    fn initializer(&self, name: &str) -> Result<ValueId> {
        let found = self.joint.value_named(name);
        found.filter(|v| self.joint.initializer(*v).is_some()).ok_or_else(|| {
            Error::new(ErrorKind::Format, format!("initializer '{}' is missing", shown(name)))
                .hint("another tool has changed the joint model; take the file as written")
        })
    }

    /// The codes of a weight of these extents that is one block, whose entries may have other places in it.
    fn codes(&self, from: ValueId, block: &BlockRecipe, dims: &[usize]) -> Option<Codes> {
        let own = self.stored_codes(from, block, dims)?;
        if block.parts.is_empty() {
            return Some(own);
        }
        let moved = |codes: Codes, (axis, list): &(usize, usize)| {
            let mut order: Vec<Option<usize>> = vec![None; *dims.get(*axis)?];
            for (place, index) in self.lists.get(*list)?.iter().enumerate() {
                *order.get_mut(*index)? = Some(place);
            }
            codes.select(*axis, &order.into_iter().collect::<Option<Vec<usize>>>()?)
        };
        let is_plain = !block.transposed && block.plus.is_none();
        if is_plain { block.parts.iter().try_fold(own, moved) } else { None }
    }

    /// The codes of what an initializer holds of a weight of these extents.
    fn stored_codes(&self, from: ValueId, block: &BlockRecipe, dims: &[usize]) -> Option<Codes> {
        let codes = self.joint.codes(from)?;
        if let Some((axis, list)) = block.within {
            return codes.select(axis, self.lists.get(list)?);
        }
        let listed = block.parts.iter().find(|(axis, _)| *axis == 0);
        let rows = match listed {
            Some((_, list)) => self.lists.get(*list)?.len(),
            None => dims.first().copied().unwrap_or(1),
        };
        let all = self.joint.initializer(from)?.dims.first().copied().unwrap_or(1);
        if block.transposed || rows == all {
            return Some(codes.clone());
        }
        codes.select(0, &(block.start..block.start.checked_add(rows)?).collect::<Vec<_>>())
    }

    /// Noughts of this shape; `None` if there is no room for them. Weights have elements.
    fn empty(&mut self, dims: Vec<usize>, dtype: DataType) -> Option<Whole> {
        let size = dtype.size()?;
        let count = dims.iter().try_fold(size, |n, d| n.checked_mul(*d)).filter(|n| *n > 0)?;
        self.room = self.room.checked_sub(count)?;
        Some(Whole { dims, size, data: vec![0; count] })
    }

    /// Copies a block of an initializer into a weight.
    fn put(&mut self, whole: &mut Whole, from: ValueId, block: &BlockRecipe) -> Option<()> {
        let stored = self.joint.initializer(from)?;
        let stored = match block.transposed {
            true if self.swapped.contains_key(&from) => self.swapped.get(&from)?,
            true => self.swapped.entry(from).or_insert(stored.transposed()?),
            false => stored,
        };
        let part = picked(stored, block, self.lists, &mut self.work)?;
        let copied = whole.put(&part, block.start, &block.parts, self.lists)?;
        self.work = self.work.checked_sub(copied)?;
        Some(())
    }

    /// Copies what a block adds into a difference, with its scales.
    fn put_difference(
        &mut self,
        (whole, codes): &mut (Whole, Option<Codes>),
        from: ValueId,
        block: &BlockRecipe,
    ) -> Option<()> {
        let stored = self.joint.initializer(from)?;
        let part = picked(stored, block, self.lists, &mut self.work)?;
        let copied = whole.put(&part, 0, &block.parts, self.lists)?;
        self.work = self.work.checked_sub(copied)?;
        if let Some(own) = self.joint.codes(from) {
            let own = match block.within {
                Some((axis, list)) => &own.select(axis, self.lists.get(list)?)?,
                None => own,
            };
            let all = codes.get_or_insert_with(|| own.clone());
            self.work =
                self.work.checked_sub(whole.dims.get(own.axis)?.checked_mul(size_of::<f32>())?)?;
            put_scales(all, own, &whole.dims, &block.parts, self.lists)?;
        }
        Some(())
    }
}

/// The entries of an initializer that a block has. `work` is the number of bytes that may still be copied.
fn picked(
    stored: &Tensor,
    block: &BlockRecipe,
    lists: &[Vec<usize>],
    work: &mut usize,
) -> Option<Tensor> {
    let Some((axis, list)) = block.within else { return Some(stored.clone()) };
    let places = lists.get(list)?;
    let each = stored.data.len().checked_div(*stored.dims.get(axis)?)?;
    let cost = each.checked_add(1)?.checked_mul(places.len())?;
    *work = work.checked_sub(cost)?;
    stored.select(axis, places)
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

/// A tensor under construction, with elements.
struct Whole {
    dims: Vec<usize>,
    size: usize,
    data: Vec<u8>,
}

impl Whole {
    fn tensor(self, dtype: DataType) -> Tensor {
        Tensor { dtype, dims: self.dims, data: self.data.into() }
    }

    /// Writes the block at row `start` of an initializer to its indices, and returns its bytes; `None` if it
    /// does not fit.
    fn put(
        &mut self,
        stored: &Tensor,
        start: usize,
        at: &[(usize, usize)],
        lists: &[Vec<usize>],
    ) -> Option<usize> {
        let rank = self.dims.len();
        let mut listed: Vec<Option<&[usize]>> = vec![None; rank];
        for (axis, list) in at {
            *listed.get_mut(*axis)? = Some(lists.get(*list)?);
        }
        let extents =
            listed.iter().zip(&self.dims).map(|(list, d)| list.map_or(*d, <[usize]>::len));
        let extents: Vec<usize> = extents.collect();
        let part = rows(stored, start, extents.first().copied())?;
        let inside = |(list, dim): (&Option<&[usize]>, &usize)| {
            list.is_none_or(|list| list.iter().all(|index| index < dim))
        };
        let fits = part.dtype.size() == Some(self.size)
            && part.dims == extents
            && listed.iter().zip(&self.dims).all(inside);
        if !fits || part.data.len() != part.len() * self.size {
            return None;
        }
        let mut counter = vec![0usize; rank];
        for element in part.data.chunks_exact(self.size) {
            let offset =
                counter.iter().zip(&listed).zip(&self.dims).fold(0, |offset, ((at, list), dim)| {
                    offset * dim + list.map_or(*at, |list| list[*at])
                });
            self.data[offset * self.size..(offset + 1) * self.size].copy_from_slice(element);
            for axis in (0..rank).rev() {
                counter[axis] += 1;
                if counter[axis] < part.dims[axis] {
                    break;
                }
                counter[axis] = 0;
            }
        }
        // Lists of a block without elements take time, too.
        Some(part.data.len().max(listed.iter().flatten().map(|list| list.len()).sum()))
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
