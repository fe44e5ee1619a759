//! Puts channels in front of their positions where a reshape cuts features into maps with channels last.
//!
//! Decoders reshape features to [batch, rows, columns, channels]. The features of a channel are no neighbours
//! there, so they do not move as one block. In this pass the layer computes them in the order of [batch, channels,
//! rows, columns], and a transpose behind the reshape restores the layout that its readers expect. Most of them
//! transpose it back, so that both transposes vanish.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Dim, Graph, Model, NodeId, ValueId};
use crate::ops::{Flow, Labels, Layer, LayerKind, Operand};

use super::CanonOptions;
use super::reach::{atoms, flow, is_contracted, is_each_alone};
use super::rewire::{added, bypass, ints, store};
use super::types::shape;

/// Limit of nodes between a layer and a reshape.
const LONGEST_WAY: usize = 64;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let order = graph.topological_order()?;
    let mut readers = graph.consumers();
    let mut modified = false;
    for id in &order {
        let Some(cut) = Cut::at(graph, &readers, &order, *id) else { continue };
        if cut.rewrite(graph, &readers).is_some() {
            modified = true;
            readers = graph.consumers();
        }
    }
    Ok(modified)
}

/// A reshape [.., features] → [.., positions, channels], whose features a layer computes.
struct Cut {
    reshape: NodeId,
    /// The axis of the features, and of the first extent of positions.
    axis: usize,
    /// The extents of positions.
    positions: Vec<usize>,
    channels: usize,
    /// Constants with one entry per feature, or row of the layer.
    constants: Vec<Constant>,
}

/// A constant operand with one entry per feature along an axis.
struct Constant {
    node: NodeId,
    slot: usize,
    axis: usize,
}

impl Cut {
    /// The reshape `id`, if a layer behind it reads the last axis as its channels, and none reads another one of
    /// those that it cuts.
    fn at(graph: &Graph, readers: &Consumers, order: &[NodeId], id: NodeId) -> Option<Cut> {
        let node = graph.node(id);
        let (flat, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
        let (axis, mut positions) = cut(&shape(graph, flat)?, &shape(graph, output)?)?;
        let layer = layer_before(graph, flat)?;
        let constants = constants(graph, readers, order, &layer, (id, axis))?;
        let channels = positions.pop()?;
        let last = axis + positions.len();
        let is_read = |axis| is_contracted(graph, readers, output, axis);
        let fits = is_read(last) && !(axis..last).any(is_read);
        fits.then_some(Cut { reshape: id, axis, positions, channels, constants })
    }

    fn rewrite(&self, graph: &mut Graph, readers: &Consumers) -> Option<()> {
        let order = self.order();
        let moved = |own: &Constant| {
            let value = graph.node(own.node).input(own.slot)?;
            let codes = match graph.codes(value) {
                Some(codes) => Some(codes.select(own.axis, &order)?),
                None => None,
            };
            Some((graph.initializer(value)?.select(own.axis, &order)?, codes))
        };
        let moved: Vec<_> = self.constants.iter().map(moved).collect::<Option<_>>()?;
        let node = graph.node(self.reshape);
        let (flat, output, name) = (node.input(0)?, node.output(0)?, node.name.clone());
        let before = vec![0; self.axis];
        let target = ints(graph, &format!("{name}.maps"), &[before, self.extents()].concat());
        let maps = added(graph, "Reshape", &format!("{name}.maps"), &[flat, target], []);
        let perm = [("perm", Attribute::Ints(self.back()))];
        let last = added(graph, "Transpose", &format!("{name}.last"), &[maps], perm);
        if !bypass(graph, output, last) {
            return None;
        }
        for (Constant { node, slot, .. }, (tensor, codes)) in self.constants.iter().zip(moved) {
            store(graph, readers, *node, *slot, &name, tensor);
            if let (Some(codes), Some(value)) = (codes, graph.node(*node).input(*slot)) {
                graph.set_codes(value, codes);
            }
        }
        Some(())
    }

    /// The old place of each feature.
    fn order(&self) -> Vec<usize> {
        let positions: usize = self.positions.iter().product();
        let of_channel = |channel| (0..positions).map(move |at| at * self.channels + channel);
        (0..self.channels).flat_map(of_channel).collect()
    }

    /// The extents of channels and positions.
    fn extents(&self) -> Vec<i64> {
        let all = std::iter::once(&self.channels).chain(&self.positions);
        all.map(|extent| *extent as i64).collect()
    }

    /// The transposition that puts channels last.
    fn back(&self) -> Vec<i64> {
        let (axis, last) = (self.axis as i64, (self.axis + self.positions.len()) as i64);
        (0..axis).chain(axis + 1..=last).chain([axis]).collect()
    }
}

/// The last axis of `from` of more than one index, and the extents of several axes that a reshape to `to` cuts it
/// into; `None` for other reshapes.
fn cut(from: &[Dim], to: &[Dim]) -> Option<(usize, Vec<usize>)> {
    let axis = from.iter().rposition(|dim| *dim != Dim::Known(1)).filter(|axis| *axis > 0)?;
    let features = from[axis].known()?;
    let parts = to.get(axis..)?;
    // The number of samples stays the same if that of features does.
    let keeps_front = axis == 1 || from[..axis].iter().zip(to).all(|(a, b)| a.is_surely(b));
    let is_cut = keeps_front && Dim::product(parts).known() == Some(features);
    let extents: Vec<usize> = parts.iter().map(Dim::known).collect::<Option<_>>()?;
    let channels = *extents.last().filter(|_| is_cut)?;
    (channels > 1 && channels < features).then_some((axis, extents))
}

/// The layer from which nodes with one computed operand lead to `value`. If a node has several operands, the
/// first one counts.
fn layer_before(graph: &Graph, mut value: ValueId) -> Option<Layer> {
    for _ in 0..LONGEST_WAY {
        let id = graph.producer(value)?;
        let node = graph.node(id);
        if let Flow::Layer(layer) = flow(graph, id, &[])? {
            return is_free(graph, &layer).then_some(layer);
        }
        value = node.reads().find(|read| graph.initializer(*read).is_none())?;
    }
    None
}

/// Whether no other node has the weights of a layer. Nodes with equal weights keep them equal.
fn is_free(graph: &Graph, layer: &Layer) -> bool {
    let Some(weight) = graph.initializer(layer.weight) else { return false };
    let is_equal = |id: ValueId| {
        let other = graph.initializer(id).filter(|_| id != layer.weight);
        other.is_some_and(|other| other.dims == weight.dims && other.data == weight.data)
    };
    !matches!(layer.kind, LayerKind::Gate(_))
        && graph.only_use(layer.weight).is_some()
        && !graph.values().any(|(id, _)| is_equal(id) && graph.is_used(id))
}

/// The constants with one entry per feature between a layer and a reshape, and those of the layer; `None` if the
/// features go elsewhere, or their order matters to a node between.
fn constants(
    graph: &Graph,
    readers: &Consumers,
    order: &[NodeId],
    layer: &Layer,
    (reshape, axis): (NodeId, usize),
) -> Option<Vec<Constant>> {
    let (rows, ..) = layer.sizes(graph).ok()?;
    let features = atoms(rows);
    let mut found = of_layer(graph, layer)?;
    let mut labels: Vec<Option<Labels>> = vec![None; graph.value_count()];
    labels[layer.output.index()] = Some(Labels::along(layer.out_axis, features.clone()));
    let mut left = uses(graph, readers, layer.output)?;
    let start = order.iter().position(|id| *id == layer.last_node())?;
    for id in order.get(start + 1..)? {
        let node = graph.node(*id);
        let read: BTreeSet<ValueId> =
            node.reads().filter(|value| labels[value.index()].is_some()).collect();
        if read.is_empty() {
            continue;
        }
        left = left.checked_sub(read.len())?;
        if *id == reshape {
            let flat = labels[node.input(0)?.index()].as_ref()?;
            return (left == 0 && flat.axis == axis).then_some(found);
        }
        let [Some(output)] = node.outputs[..] else { return None };
        let (operands, own) = in_any_order(flow(graph, *id, &labels)?)?;
        if own.atoms != features {
            return None;
        }
        for (slot, operand) in operands.into_iter().enumerate() {
            if let Operand::Param { axis } = operand {
                found.push(Constant { node: *id, slot, axis });
            }
        }
        left += uses(graph, readers, output)?;
        labels[output.index()] = Some(own);
    }
    None
}

/// The operands and the labels of a node that computes the same for features in any order, each by itself or all of
/// them together.
fn in_any_order(flow: Flow) -> Option<(Vec<Operand>, Labels)> {
    match flow {
        Flow::Partwise(own) if is_each_alone(&own) => Some((own.operands, own.output)),
        Flow::Together(own) if own.coupled.is_none() => {
            Some((own.operands, own.outputs.into_iter().next()??))
        }
        _ => None,
    }
}

/// The weight of a layer, and its bias if it has one.
fn of_layer(graph: &Graph, layer: &Layer) -> Option<Vec<Constant>> {
    let constant = |node: NodeId, value: ValueId, axis: usize| {
        let slot = graph.node(node).inputs.iter().position(|read| *read == Some(value))?;
        Some(Constant { node, slot, axis })
    };
    let weight = constant(layer.node, layer.weight, usize::from(layer.in_first()));
    let bias = layer.bias.map(|bias| constant(layer.last_node(), bias, 0));
    std::iter::once(weight).chain(bias).collect()
}

/// The number of nodes that read a value; `None` for outputs.
fn uses(graph: &Graph, readers: &Consumers, value: ValueId) -> Option<usize> {
    let all = readers.get(value.index()).filter(|_| !graph.outputs.contains(&value))?;
    Some(all.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::canonicalise;
    use crate::ir::builder::GraphBuilder;

    type Rest = fn(&mut GraphBuilder, ValueId) -> ValueId;

    /// The operators of a net in canonical form that cuts 24 features to these sizes, the first of which is the
    /// number of samples, and goes on with `rest`.
    fn ops(sizes: &[i64], rest: Rest) -> Vec<String> {
        let [told, computed] = [false, true].map(|is_computed| cut_by(sizes, is_computed, rest));
        assert_eq!(told, computed);
        told
    }

    fn cut_by(sizes: &[i64], is_computed: bool, rest: Rest) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let x = b.input("x", "n,5");
        let (w, bias, slope) =
            (b.weights("w", &[24, 5]), b.weights("b", &[24]), b.weights("slope", &[24]));
        let x = b.op("Gemm", "features", &[x, w, bias], [("transB", 1.into())]);
        let x = b.op("PRelu", "bent", &[x, slope], []);
        let mut target = b.ints("target", sizes);
        if is_computed {
            let shape = b.op("Shape", "shape", &[x], []);
            let (start, end) = (b.ints("start", &[0]), b.ints("end", &[1]));
            let samples = b.op("Slice", "samples", &[shape, start, end], []);
            let parts = b.ints("parts", &sizes[1..]);
            target = b.op("Concat", "computed", &[samples, parts], [("axis", 0.into())]);
        }
        let x = b.op("Reshape", "maps", &[x, target], []);
        let y = rest(&mut b, x);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.into_iter().map(|id| model.graph.node(id).op.clone()).collect()
    }

    fn conv(b: &mut GraphBuilder, x: ValueId, dims: &[usize]) -> ValueId {
        let (w, bias) = (b.weights("conv.w", dims), b.weights("conv.b", &dims[..1]));
        b.op("Conv", "conv", &[x, w, bias], [])
    }

    #[test]
    fn maps_with_channels_last_need_no_transpose() {
        let pictures = |b: &mut GraphBuilder, x| {
            let x = b.op("Transpose", "turned", &[x], [("perm", [0, 3, 1, 2].into())]);
            conv(b, x, &[2, 4, 2, 2])
        };
        assert_eq!(ops(&[-1, 2, 3, 4], pictures), ["Gemm", "PRelu", "Reshape", "Conv"]);
        let sequences = |b: &mut GraphBuilder, x| {
            let x = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1].into())]);
            conv(b, x, &[2, 4, 3])
        };
        assert_eq!(ops(&[-1, 6, 4], sequences), ["Gemm", "PRelu", "Reshape", "Conv"]);
    }

    #[test]
    fn tokens_get_their_channels_back_in_the_last_place() {
        let tokens = |b: &mut GraphBuilder, x| {
            let (w, bias) = (b.weights("dense.w", &[4, 7]), b.weights("dense.b", &[7]));
            let x = b.op("MatMul", "dense", &[x, w], []);
            b.op("Add", "shifted", &[x, bias], [])
        };
        let all = ["Gemm", "PRelu", "Reshape", "Transpose", "MatMul", "Add"];
        assert_eq!(ops(&[0, 6, 4], tokens), all);
    }

    #[test]
    fn maps_with_channels_first_and_heads_stay() {
        let first = |b: &mut GraphBuilder, x| conv(b, x, &[2, 4, 2, 2]);
        assert_eq!(ops(&[-1, 4, 2, 3], first), ["Gemm", "PRelu", "Reshape", "Conv"]);
        let heads = |b: &mut GraphBuilder, x| {
            let turned = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1].into())]);
            b.op("MatMul", "scores", &[x, turned], [])
        };
        let all = ["Gemm", "PRelu", "Reshape", "Transpose", "MatMul"];
        assert_eq!(ops(&[-1, 6, 4], heads), all);
    }

    #[test]
    fn reshapes_that_cut_features() {
        let dims = |spec: &[i64]| -> Vec<Dim> {
            let dim = |d: &i64| usize::try_from(*d).map_or(Dim::Symbol("n".into()), Dim::Known);
            spec.iter().map(dim).collect()
        };
        let cut = |from: &[i64], to: &[i64]| cut(&dims(from), &dims(to));
        assert_eq!(cut(&[-1, 24], &[-1, 2, 3, 4]), Some((1, vec![2, 3, 4])));
        assert_eq!(cut(&[-1, 24, 1, 1], &[-1, 2, 3, 4]), Some((1, vec![2, 3, 4])));
        assert_eq!(cut(&[-1, 5, 24], &[-1, 5, 6, 4]), Some((2, vec![6, 4])));
        // One channel or position, and reshapes of other axes.
        assert_eq!(cut(&[-1, 24], &[-1, 24, 1]), None);
        assert_eq!(cut(&[-1, 24], &[-1, 1, 24]), None);
        assert_eq!(cut(&[5, 24], &[10, 3, 4]), None);
        assert_eq!(cut(&[-1, 5, 24], &[5, -1, 6, 4]), None);
    }
}
