//! Values as pieces: one tensor per block of channels.

use crate::couple::ChannelAxis;
use crate::emit::builder::Builder;
use crate::emit::task::TaskEmitter;
use crate::emit::value::partition::Part;
use crate::ir::{Attribute, Node, Tensor, ValueId};
use crate::mtz::joint::Owner;

/// A tensor that holds some indices of a tracked axis.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    /// The tensor in the joint graph.
    pub(crate) value: ValueId,
    /// The owner of the channels.
    pub(crate) owner: Owner,
    /// The indices of the whole axis that the tensor holds, in its order.
    pub(crate) positions: Vec<usize>,
}

/// A value of a task's net inside the joint graph.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    /// One tensor.
    Whole(ValueId),
    /// Pieces along `axis` of extent `len`.
    Pieces { axis: usize, len: usize, pieces: Vec<Piece> },
}

impl Held {
    /// The value as one tensor in its original order.
    pub(crate) fn whole(&self, builder: &mut Builder, name: &str) -> ValueId {
        match self {
            Held::Whole(value) => *value,
            Held::Pieces { axis, len, pieces } => {
                let (joined, positions) = join(builder, *axis, pieces, name);
                let mut place = vec![0i64; *len];
                for (at, position) in positions.iter().enumerate() {
                    place[*position] = at as i64;
                }
                pick(builder, *axis, joined, &place, positions.len(), name)
            }
        }
    }
}

impl TaskEmitter<'_> {
    /// Cuts a whole value into the pieces of its channels.
    pub(crate) fn cut(&mut self, axis: &ChannelAxis, value: ValueId, name: &str) -> Held {
        let len = axis.channels.len();
        let pieces = self.parts(&axis.channels).into_iter().map(|part| {
            let place: Vec<i64> = part.positions.iter().map(|p| *p as i64).collect();
            let name = self.name(&part.owner, name);
            let value = pick(self.builder, axis.axis, value, &place, len, &name);
            Piece { value, owner: part.owner, positions: part.positions }
        });
        Held::Pieces { axis: axis.axis, len, pieces: pieces.collect() }
    }
}

/// Concatenates pieces; returns the value and its indices.
pub(crate) fn join(
    builder: &mut Builder,
    axis: usize,
    pieces: &[Piece],
    name: &str,
) -> (ValueId, Vec<usize>) {
    let positions = pieces.iter().flat_map(|p| p.positions.iter().copied()).collect();
    let values: Vec<ValueId> = pieces.iter().map(|p| p.value).collect();
    (concat(builder, axis, &values, &format!("{name}.join")), positions)
}

/// Concatenates values along `axis`; a single value stays the same.
pub(crate) fn concat(
    builder: &mut Builder,
    axis: usize,
    values: &[ValueId],
    name: &str,
) -> ValueId {
    match values {
        [only] => *only,
        several => {
            let attributes = [("axis", Attribute::Int(axis as i64))];
            builder.op("Concat", name, several, attributes)
        }
    }
}

/// Indices `place` of `value` along `axis` of extent `extent`: a `Gather`, a `Slice` if they are neighbours
/// in order, or no node if they are all.
pub(crate) fn pick(
    builder: &mut Builder,
    axis: usize,
    value: ValueId,
    place: &[i64],
    extent: usize,
    name: &str,
) -> ValueId {
    if place.len() == extent && place.iter().enumerate().all(|(i, p)| i as i64 == *p) {
        return value;
    }
    if let Some(start) = place.first().filter(|start| (**start..).zip(place).all(|(i, p)| i == *p))
    {
        let bounds =
            [("start", *start), ("end", start + place.len() as i64), ("axis", axis as i64)];
        let [start, end, axis] = bounds.map(|(what, bound)| {
            builder.constant(&format!("{name}.{what}"), Tensor::from_i64(vec![1], &[bound]))
        });
        return builder.op("Slice", &format!("{name}.cut"), &[value, start, end, axis], []);
    }
    let indices =
        builder.constant(&format!("{name}.order"), Tensor::from_i64(vec![place.len()], place));
    let attributes = [("axis", Attribute::Int(axis as i64))];
    builder.op("Gather", &format!("{name}.ordered"), &[value, indices], attributes)
}

/// Splits a value that holds the parts of an axis in order into pieces.
pub(crate) fn pieces_of(
    builder: &mut Builder,
    axis: usize,
    value: ValueId,
    parts: Vec<Part>,
    name: &str,
) -> Vec<Piece> {
    let sizes: Vec<usize> = parts.iter().map(|part| part.positions.len()).collect();
    let values = split(builder, axis, value, &sizes, name);
    let piece = |(value, Part { owner, positions, .. })| Piece { value, owner, positions };
    values.into_iter().zip(parts).map(piece).collect()
}

/// Splits `value` along `axis` into parts of these sizes; a single part needs no node.
pub(crate) fn split(
    builder: &mut Builder,
    axis: usize,
    value: ValueId,
    sizes: &[usize],
    name: &str,
) -> Vec<ValueId> {
    if sizes.len() < 2 {
        return vec![value];
    }
    let name = format!("{name}.split");
    let stored: Vec<i64> = sizes.iter().map(|size| *size as i64).collect();
    let stored = Tensor::from_i64(vec![stored.len()], &stored);
    let stored = builder.constant(&format!("{name}.sizes"), stored);
    let node = Node {
        name,
        op: "Split".to_owned(),
        inputs: vec![Some(value), Some(stored)],
        attributes: [("axis".to_owned(), Attribute::Int(axis as i64))].into(),
        ..Node::default()
    };
    builder.node(node, &vec![true; sizes.len()]).into_iter().flatten().collect()
}
