//! Puts channels in front of their positions where a reshape cuts features into maps with channels last.
//!
//! Decoders reshape features to [batch, rows, columns, channels]. The features of a channel are no neighbours
//! there, so they do not move as one block. In this pass the layer computes them in the order of [batch, channels,
//! rows, columns], and a transpose behind the reshape restores the layout that its readers expect. Most of them
//! transpose it back, so that both transposes vanish.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Dim, Graph, Model, NodeId};

use super::CanonOptions;
use super::features::{Features, by_channel};
use super::reach::is_contracted;
use super::rewire::{added, bypass, ints};
use super::types::shape;

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
    parts: Parts,
    features: Features,
}

impl Cut {
    /// The reshape `id`, if a layer behind it reads the last axis as its channels, and none reads another one of
    /// those that it cuts.
    fn at(graph: &Graph, readers: &Consumers, order: &[NodeId], id: NodeId) -> Option<Cut> {
        let node = graph.node(id);
        let (flat, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
        let parts = Parts::of(&shape(graph, flat)?, &shape(graph, output)?)?;
        let features = Features::before(graph, readers, order, (id, parts.axis))?;
        let (first, last) = (parts.front.len(), parts.front.len() + parts.positions.len());
        let is_read = |axis| is_contracted(graph, readers, output, axis);
        let fits = is_read(last) && !(first..last).any(is_read);
        fits.then_some(Cut { reshape: id, parts, features })
    }

    fn rewrite(&self, graph: &mut Graph, readers: &Consumers) -> Option<()> {
        let positions = self.parts.positions.iter().product();
        let moved = self.features.moved(graph, &by_channel(positions, self.parts.channels))?;
        let node = graph.node(self.reshape);
        let (flat, output, name) = (node.input(0)?, node.output(0)?, node.name.clone());
        let target = [self.parts.front.clone(), self.parts.extents()].concat();
        let target = ints(graph, &format!("{name}.maps"), &target);
        let maps = added(graph, "Reshape", &format!("{name}.maps"), &[flat, target], []);
        let perm = [("perm", Attribute::Ints(self.parts.back()))];
        let last = added(graph, "Transpose", &format!("{name}.last"), &[maps], perm);
        if !bypass(graph, output, last) {
            return None;
        }
        moved.into_iter().for_each(|constant| constant.store(graph, readers, &name));
        Some(())
    }
}

/// The axes into which features are cut.
#[derive(Debug, PartialEq)]
struct Parts {
    /// The axis of the features.
    axis: usize,
    /// The sizes that a reshape is told for the axes in front of positions and channels.
    front: Vec<i64>,
    /// The extents of positions.
    positions: Vec<usize>,
    channels: usize,
}

impl Parts {
    /// The axes into which a reshape cuts the last axis of `from` of more than one index, if those behind hold
    /// positions and channels in this order.
    fn of(from: &[Dim], to: &[Dim]) -> Option<Parts> {
        let axis = from.iter().rposition(|dim| *dim != Dim::Known(1)).filter(|axis| *axis > 0)?;
        let features = from[axis].known()?;
        let holds_all = |first: &usize| {
            to.get(*first..).is_some_and(|tail| Dim::product(tail).known() == Some(features))
        };
        let first = std::iter::once(axis).chain((1..to.len()).rev()).find(holds_all)?;
        let extents: Option<Vec<usize>> = to[first..].iter().map(Dim::known).collect();
        let mut positions = extents?;
        let channels = positions.pop().filter(|count| *count > 1 && *count < features)?;
        let front = front(from, (axis, first), to)?;
        Some(Parts { axis, front, positions, channels })
    }

    /// The extents of channels and positions.
    fn extents(&self) -> Vec<i64> {
        let all = std::iter::once(&self.channels).chain(&self.positions);
        all.map(|extent| *extent as i64).collect()
    }

    /// The transposition that puts channels last.
    fn back(&self) -> Vec<i64> {
        let first = self.front.len() as i64;
        let last = first + self.positions.len() as i64;
        (0..first).chain(first + 1..=last).chain([first]).collect()
    }
}

/// The sizes that a reshape is told for the axes of `to` in front of axis `first`, which hold those of `from` in
/// front of `axis`; `None` if several of them are open.
fn front(from: &[Dim], (axis, first): (usize, usize), to: &[Dim]) -> Option<Vec<i64>> {
    let stays = axis == 1 || from[..axis].iter().zip(to).all(|(a, b)| a.is_surely(b));
    if axis == first && stays {
        return Some(vec![0; axis]);
    }
    let told = |dim: &Dim| dim.known().map_or(Some(-1), |n| i64::try_from(n).ok());
    let told: Vec<i64> = to[..first].iter().map(told).collect::<Option<_>>()?;
    let is_clear = told.iter().filter(|size| **size < 0).count() < 2 && !told.contains(&0);
    is_clear.then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::canonicalise;
    use crate::ir::ValueId;
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
        let cut = |from: &[i64], to: &[i64]| {
            let parts = Parts::of(&dims(from), &dims(to))?;
            Some((parts.axis, parts.front, [parts.positions, vec![parts.channels]].concat()))
        };
        assert_eq!(cut(&[-1, 24], &[-1, 2, 3, 4]), Some((1, vec![0], vec![2, 3, 4])));
        assert_eq!(cut(&[-1, 24, 1, 1], &[-1, 2, 3, 4]), Some((1, vec![0], vec![2, 3, 4])));
        assert_eq!(cut(&[-1, 5, 24], &[-1, 5, 6, 4]), Some((2, vec![0, 0], vec![6, 4])));
        // Axes in front are cut, too, as where tokens become rows and columns.
        let tokens = cut(&[-1, 10, 24], &[-1, 5, 2, 2, 3, 4]);
        assert_eq!(tokens, Some((2, vec![-1, 5, 2], vec![2, 3, 4])));
        assert_eq!(cut(&[-1, 5, 24], &[5, -1, 6, 4]), Some((2, vec![5, -1], vec![6, 4])));
        // One channel or position, and reshapes of other axes.
        assert_eq!(cut(&[-1, 24], &[-1, 24, 1]), None);
        assert_eq!(cut(&[-1, 24], &[-1, 1, 24]), None);
        assert_eq!(cut(&[5, 24], &[10, 3, 4]), None);
    }
}
