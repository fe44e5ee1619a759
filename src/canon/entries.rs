//! Moves constants with one entry per feature in front of the reshape that cuts the features.
//!
//! Attention adds biases of shape [heads, depths] to queries, keys and values (Keras, relative positions). Behind the
//! reshape they have numbers of their own for each depth of each head. In front of it they are one vector, which is a
//! part of the layer or goes with its channels.

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Model, Node, NodeId, Tensor, ValueId};

use super::CanonOptions;
use super::rewire::{added, bypass};
use super::types::shape;

/// Operators that combine a value and a constant element by element.
const PAIRWISE: [&str; 4] = ["Add", "Div", "Mul", "Sub"];

/// Limit of nodes before a reader, up to a reshape and from there to a layer.
const LONGEST_WAY: usize = 8;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(entries) = Entries::at(graph, id) else { continue };
        modified |= entries.rewrite(graph, id).is_some();
    }
    Ok(modified)
}

/// A constant that a node combines with cut features.
struct Entries {
    /// The slot of the constant.
    slot: usize,
    /// The constant, with one entry per feature along its last axis.
    flat: Tensor,
    cut: Cut,
}

/// A reshape that cuts the last axis of a value, and the transpositions behind it.
struct Cut {
    reshape: NodeId,
    perms: Vec<Vec<i64>>,
}

impl Entries {
    /// The constant that node `id` reads, if it has several entries along at least two of the axes of features.
    fn at(graph: &Graph, id: NodeId) -> Option<Entries> {
        let node = graph.node(id);
        let is_pair = node.inputs.len() == 2 && PAIRWISE.iter().any(|op| node.is(op));
        let value = |slot: usize| node.input(slot).filter(|_| is_pair);
        let slot = [1, 0].into_iter().find(|slot| constant(graph, value(*slot)).is_some())?;
        let (tensor, data) = (constant(graph, value(slot))?, value(1 - slot)?);
        let cut = Cut::before(graph, data)?;
        let view = graph.node(cut.reshape);
        let (from, to) = (shape(graph, view.input(0)?)?, shape(graph, view.output(0)?)?);
        let first = tail(&from, &to)?;
        let own = cut.in_place(tensor, &shape(graph, data)?)?;
        let flat = flattened(own, &to, first, same_front(&from, &to, first))?;
        let flat = Tensor::from_f64(tensor.dtype, &flat).ok()?;
        Some(Entries { slot, flat, cut })
    }

    fn rewrite(self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let Entries { slot, flat, cut } = self;
        let node = graph.node(id);
        let (op, name, output) = (node.op.clone(), node.name.clone(), node.output(0)?);
        let constant = graph.value(node.input(slot)?).name.clone();
        let view: Node = graph.node(cut.reshape).clone();
        let (features, target) = (view.input(0)?, view.input(1)?);
        let flat = graph.add_initializer(&constant, flat);
        let operands = if slot == 0 { [flat, features] } else { [features, flat] };
        let whole = added(graph, &op, &format!("{name}.whole"), &operands, []);
        let mut last = added(graph, "Reshape", &format!("{name}.cut"), &[whole, target], []);
        let reshape = graph.producer(last)?;
        graph.edit_node(reshape, |node| node.attributes.clone_from(&view.attributes));
        for perm in cut.perms {
            let perm = [("perm", Attribute::Ints(perm))];
            last = added(graph, "Transpose", &format!("{name}.moved"), &[last], perm);
        }
        bypass(graph, output, last).then_some(())
    }
}

/// A constant operand of floats with several entries.
fn constant(graph: &Graph, value: Option<ValueId>) -> Option<&Tensor> {
    let tensor = graph.initializer(value?).filter(|_| value.and_then(|v| graph.codes(v)).is_none());
    tensor.filter(|tensor| tensor.dtype.is_float() && tensor.len() > 1)
}

impl Cut {
    /// The reshape before `value`.
    fn before(graph: &Graph, mut value: ValueId) -> Option<Cut> {
        let mut perms = Vec::new();
        for _ in 0..LONGEST_WAY {
            let id = graph.producer(value)?;
            let node = graph.node(id);
            if node.is("Reshape") {
                perms.reverse();
                return is_of_layer(graph, node.input(0)?).then_some(Cut { reshape: id, perms });
            }
            perms.push(node.ints("perm").filter(|_| node.is("Transpose"))?.to_vec());
            value = node.input(0)?;
        }
        None
    }

    /// A constant that is combined with a value of this shape, with the axes of the reshape; `None` if it has other
    /// extents.
    fn in_place(&self, tensor: &Tensor, shape: &[Dim]) -> Option<ArrayD<f64>> {
        let missing = shape.len().checked_sub(tensor.dims.len())?;
        let dims = [vec![1; missing], tensor.dims.clone()].concat();
        let fits = dims.iter().zip(shape).all(|(own, all)| *own == 1 || all.known() == Some(*own));
        let mut places: Vec<usize> = (0..shape.len()).collect();
        for perm in &self.perms {
            let moved = perm.iter().map(|p| places.get(usize::try_from(*p).ok()?).copied());
            places = moved.collect::<Option<_>>()?;
        }
        let mut back = vec![0; places.len()];
        for (at, place) in places.iter().enumerate() {
            *back.get_mut(*place)? = at;
        }
        let all = tensor.to_f64().ok().filter(|_| fits && back.len() == shape.len())?;
        let all = all.into_shape_with_order(IxDyn(&dims)).ok()?;
        Some(all.permuted_axes(IxDyn(&back)))
    }
}

/// Whether a product with constant weights computes a value, perhaps with constants behind it.
fn is_of_layer(graph: &Graph, mut value: ValueId) -> bool {
    for _ in 0..LONGEST_WAY {
        let Some(node) = graph.producer(value).map(|id| graph.node(id)) else { return false };
        let is_constant =
            |slot: usize| node.input(slot).is_some_and(|v| graph.initializer(v).is_some());
        if node.is("MatMul") || node.is("Gemm") {
            return is_constant(1);
        }
        let is_pair = PAIRWISE.iter().any(|op| node.is(op));
        let computed = [(0, 1), (1, 0)].into_iter().find(|(_, other)| is_constant(*other));
        let Some(next) = computed.and_then(|(slot, _)| node.input(slot)).filter(|_| is_pair) else {
            return false;
        };
        value = next;
    }
    false
}

/// The first of at least two axes of `to` into which a reshape cuts the last axis of `from`.
fn tail(from: &[Dim], to: &[Dim]) -> Option<usize> {
    let features = from.last()?.known().filter(|count| *count > 1)?;
    let first = (0..to.len()).rev().find(|first| {
        let wide = to[*first] != Dim::Known(1);
        wide && Dim::product(&to[*first..]).known() == Some(features)
    })?;
    (from.len() > 1 && first + 1 < to.len()).then_some(first)
}

/// Whether the axes in front of the features are the same before and behind a reshape.
fn same_front(from: &[Dim], to: &[Dim], first: usize) -> bool {
    first + 1 == from.len() && from.iter().zip(&to[..first]).all(|(a, b)| a.is_surely(b))
}

/// A constant with the axes `to`, with one entry per feature on its last axis. Axes from `first` on are those of
/// features; other axes may have several entries only if they stay.
fn flattened(own: ArrayD<f64>, to: &[Dim], first: usize, stays: bool) -> Option<ArrayD<f64>> {
    let (front, tail) = own.shape().split_at_checked(first)?;
    let are_several = tail.iter().filter(|extent| **extent > 1).count() > 1;
    if !are_several || !(stays || front.iter().all(|extent| *extent == 1)) {
        return None;
    }
    let extents: Option<Vec<usize>> = to.get(first..)?.iter().map(Dim::known).collect();
    let extents = extents?;
    let kept: Vec<usize> = front.iter().copied().skip_while(|extent| *extent == 1).collect();
    let features: usize = extents.iter().product();
    let whole = [front, extents.as_slice()].concat();
    let all: Vec<f64> = own.broadcast(IxDyn(&whole))?.iter().copied().collect();
    ArrayD::from_shape_vec(IxDyn(&[kept, vec![features]].concat()), all).ok()
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    /// The operators of a net that adds a constant of these dims to 6 features in 2 heads, with heads in front of
    /// tokens if they are `moved`.
    fn ops(dims: &[usize], moved: bool) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,5,4");
        let (w, c) = (b.weights("w", &[4, 6]), b.weights("c", dims));
        let parts = b.ints("parts", &[0, 5, 2, 3]);
        let x = b.op("MatMul", "layer", &[x, w], []);
        let mut x = b.op("Reshape", "heads", &[x, parts], []);
        if moved {
            x = b.op("Transpose", "moved", &[x], [("perm", [0, 2, 1, 3].into())]);
        }
        let x = b.op("Add", "biased", &[x, c], []);
        let y = b.op("Relu", "y", &[x], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.into_iter().map(|id| model.graph.node(id).op.clone()).collect()
    }

    #[test]
    fn biases_of_depths_of_heads_become_those_of_the_layer() {
        assert_eq!(ops(&[2, 3], false), ["MatMul", "Add", "Reshape", "Relu"]);
        assert_eq!(ops(&[2, 1, 3], true), ["MatMul", "Add", "Reshape", "Transpose", "Relu"]);
        // Positions have numbers of their own, which are no bias.
        assert_eq!(ops(&[5, 2, 3], false), ["MatMul", "Add", "Add", "Reshape", "Relu"]);
    }

    #[test]
    fn what_no_layer_computes_stays() {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,5,6");
        let (c, parts) = (b.weights("c", &[2, 3]), b.ints("parts", &[0, 5, 2, 3]));
        let x = b.op("Softmax", "shares", &[x], []);
        let x = b.op("Reshape", "heads", &[x, parts], []);
        let y = b.op("Add", "y", &[x, c], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        let ops: Vec<&str> = order.iter().map(|id| model.graph.node(*id).op.as_str()).collect();
        assert_eq!(ops, ["Softmax", "Reshape", "Add"]);
    }

    #[test]
    fn numbers_of_heads_and_numbers_of_depths_stay() {
        for dims in [&[2, 1][..], &[3]] {
            assert_eq!(ops(dims, false), ["MatMul", "Add", "Reshape", "Add", "Relu"]);
        }
    }
}
