//! Rotary embeddings in one node.

use std::collections::BTreeMap;

use crate::ir::{Attribute, ValueId};

use super::attention::ints;
use super::{Site, types};

/// Cosines and sines of [batch, tokens, angles].
pub(super) struct Angles {
    cos: ValueId,
    sin: ValueId,
    /// Number of angles per token.
    count: Option<usize>,
}

impl Angles {
    /// Picks rows of tables.
    pub(super) fn picked(site: &mut Site<'_>, cos: ValueId, sin: ValueId, at: ValueId) -> Angles {
        let count = last(site, cos);
        let [cos, sin] = [cos, sin].map(|table| site.op("Gather", &[table, at]));
        Angles { cos, sin, count }
    }

    /// Takes the first rows of tables, one per token of `data`, [batch, tokens, …].
    pub(super) fn first(site: &mut Site<'_>, cos: ValueId, sin: ValueId, data: ValueId) -> Angles {
        let count = last(site, cos);
        let shape = site.op("Shape", &[data]);
        let bounds = [1, 2].map(|bound| ints(site, &[bound]));
        let tokens = site.op("Slice", &[shape, bounds[0], bounds[1]]);
        let [cos, sin] = [cos, sin].map(|table| {
            let zero = ints(site, &[0]);
            let rows = site.op("Slice", &[table, zero, tokens, zero]);
            site.op("Unsqueeze", &[rows, zero])
        });
        Angles { cos, sin, count }
    }
}

fn last(site: &Site<'_>, value: ValueId) -> Option<usize> {
    types::shape(site.graph, value)?.last()?.known()
}

/// The rotation of heads of `depth` channels.
pub(super) struct Rotation {
    pub(super) depth: usize,
    /// The axis of heads, of [batch, heads, tokens, depth] or [batch, tokens, heads, depth].
    pub(super) axis: i64,
    /// Whether neighbouring channels are rotated together, instead of both halves.
    pub(super) is_interleaved: bool,
}

impl Rotation {
    /// Rotates a value of four axes.
    pub(super) fn of(
        &self,
        site: &mut Site<'_>,
        value: ValueId,
        angles: &Angles,
    ) -> Option<ValueId> {
        let half = angles.count? as i64;
        if 2 * half > self.depth as i64 {
            return None;
        }
        let [cos, sin] = [angles.cos, angles.sin].map(|own| {
            let axis = ints(site, &[self.axis]);
            site.op("Unsqueeze", &[own, axis])
        });
        let [a, b] = match self.is_interleaved {
            true => [(0, 2 * half, 2), (1, 2 * half, 2)],
            false => [(0, half, 1), (half, 2 * half, 1)],
        }
        .map(|bounds| sliced(site, value, bounds));
        let product = |site: &mut Site<'_>, x, y| site.op("Mul", &[x, y]);
        let (ac, bs) = (product(site, a, cos), product(site, b, sin));
        let (as_, bc) = (product(site, a, sin), product(site, b, cos));
        let real = site.op("Sub", &[ac, bs]);
        let imaginary = site.op("Add", &[as_, bc]);
        let mut parts = vec![real, imaginary];
        if self.is_interleaved {
            let wide = parts.iter().map(|part| {
                let axis = ints(site, &[4]);
                site.op("Unsqueeze", &[*part, axis])
            });
            let wide: Vec<ValueId> = wide.collect();
            let pairs = joined(site, &wide, 4);
            let target = ints(site, &[0, 0, 0, 2 * half]);
            parts = vec![site.op("Reshape", &[pairs, target])];
        }
        if 2 * half < self.depth as i64 {
            parts.push(sliced(site, value, (2 * half, self.depth as i64, 1)));
        }
        Some(match parts.as_slice() {
            [only] => *only,
            parts => joined(site, parts, 3),
        })
    }
}

fn sliced(site: &mut Site<'_>, value: ValueId, (start, end, step): (i64, i64, i64)) -> ValueId {
    let [start, end, axis, step] = [start, end, 3, step].map(|own| ints(site, &[own]));
    site.op("Slice", &[value, start, end, axis, step])
}

fn joined(site: &mut Site<'_>, parts: &[ValueId], axis: i64) -> ValueId {
    let parts: Vec<Option<ValueId>> = parts.iter().copied().map(Some).collect();
    site.add("Concat", &parts, BTreeMap::from([("axis".to_owned(), Attribute::Int(axis))]))
}

/// Inputs: data, cosines, sines, positions.
pub(super) fn standard(site: &mut Site<'_>) -> Option<ValueId> {
    let (cos, sin) = (site.input(1)?, site.input(2)?);
    let angles = match site.input(3) {
        Some(positions) => Angles::picked(site, cos, sin, positions),
        None => Angles { cos, sin, count: last(site, cos) },
    };
    turned(site, &angles)
}

/// Inputs: data, positions, cosines, sines.
pub(super) fn contrib(site: &mut Site<'_>) -> Option<ValueId> {
    let (positions, cos, sin) = (site.input(1)?, site.input(2)?, site.input(3)?);
    // A single number is the position of the first token.
    let is_each = types::shape(site.graph, positions)?.len() == 2;
    let is_plain =
        site.node().float("scale", 1.0) == 1.0 && site.node().int("is_packed_batching", 0) == 0;
    if !is_each || !is_plain {
        return None;
    }
    let angles = Angles::picked(site, cos, sin, positions);
    turned(site, &angles)
}

fn turned(site: &mut Site<'_>, angles: &Angles) -> Option<ValueId> {
    let data = site.input(0)?;
    let is_interleaved = site.node().int("interleaved", 0) != 0;
    let shape = types::shape(site.graph, data)?;
    let width = shape.last()?.known()?;
    if shape.len() == 4 {
        return Rotation { depth: width, axis: 1, is_interleaved }.of(site, data, angles);
    }
    let heads = match usize::try_from(site.node().int("num_heads", 0)).ok()? {
        0 => width / (2 * angles.count?).max(1),
        heads => heads,
    };
    let depth = width.checked_div(heads).filter(|depth| depth * heads == width)?;
    let target = ints(site, &[0, 0, heads as i64, depth as i64]);
    let split = site.op("Reshape", &[data, target]);
    let turned = Rotation { depth, axis: 2, is_interleaved }.of(site, split, angles)?;
    let target = ints(site, &[0, 0, width as i64]);
    (shape.len() == 3).then(|| site.op("Reshape", &[turned, target]))
}
