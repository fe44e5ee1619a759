//! Writes a view of channels as parts side by side as a stack of these parts.
//!
//! Selective kernels and split attention make the weights of several branches in one layer, view them as [branches,
//! channels], and add up the branches. The n-th channels of all branches belong together, which a stack shows.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Dim, Graph, Model, Node, NodeId, ValueId, ValueKind};

use super::CanonOptions;
use super::reach::is_reduced;
use super::rewire::{bypass, ints};
use super::types::shape;

/// Limit of parts; views of more of them stay.
const MOST_PARTS: usize = 16;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        let Some(view) = View::at(graph, &readers, id) else { continue };
        if view.rewrite(graph, id).is_some() {
            modified = true;
            readers = graph.consumers();
        }
    }
    Ok(modified)
}

/// A reshape of channels, on the second axis, to parts and channels of each.
struct View {
    parts: usize,
    channels: usize,
    /// The axis of parts behind the reshape.
    axis: usize,
    /// The sizes of one part behind the reshape.
    sizes: Vec<i64>,
}

impl View {
    /// The view that node `id` is, if the parts are added up behind it.
    fn at(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<View> {
        let node = graph.node(id);
        let (data, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
        let (from, to) = (shape(graph, data)?, shape(graph, output)?);
        let (axis, parts) = split(&from, &to)?;
        let channels = from.get(1)?.known()? / parts;
        let sizes = sizes(&to, axis)?;
        is_reduced(graph, readers, output, axis).then_some(View { parts, channels, axis, sizes })
    }

    fn rewrite(self, graph: &mut Graph, id: NodeId) -> Option<()> {
        let node = graph.node(id);
        let (data, output, name) = (node.input(0)?, node.output(0)?, node.name.clone());
        let lengths = vec![self.channels as i64; self.parts];
        let lengths = ints(graph, &format!("{name}.lengths"), &lengths);
        let part = |graph: &mut Graph, number: usize| {
            graph.add_value(&format!("{name}.part.{number}"), ValueKind::Detached, None)
        };
        let parts: Vec<ValueId> = (0..self.parts).map(|number| part(graph, number)).collect();
        graph.add_node(Node {
            name: format!("{name}.split"),
            op: "Split".to_owned(),
            inputs: vec![Some(data), Some(lengths)],
            outputs: parts.iter().copied().map(Some).collect(),
            attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
            ..Node::default()
        });
        let sizes = ints(graph, &format!("{name}.sizes"), &self.sizes);
        let views: Vec<ValueId> = parts
            .into_iter()
            .map(|part| graph.add_op("Reshape", &format!("{name}.view"), &[part, sizes], []))
            .collect();
        let axis = [("axis", Attribute::Int(self.axis as i64))];
        let stack = graph.add_op("Concat", &format!("{name}.stack"), &views, axis);
        bypass(graph, output, stack).then_some(())
    }
}

/// The axis and number of parts, if a reshape cuts the second axis of `from` in two and moves nothing else but axes of
/// extent 1.
fn split(from: &[Dim], to: &[Dim]) -> Option<(usize, usize)> {
    let wide = |dims: &[Dim]| -> Vec<usize> {
        (1..dims.len()).filter(|axis| dims[*axis] != Dim::Known(1)).collect()
    };
    let (before, behind) = (wide(from), wide(to));
    let ([1, rest @ ..], [first, second, others @ ..]) = (before.as_slice(), behind.as_slice())
    else {
        return None;
    };
    let (parts, channels) = (to[*first].known()?, to[*second].known()?);
    let is_cut = channels > 1
        && (2..=MOST_PARTS).contains(&parts)
        && from[1].known() == parts.checked_mul(channels);
    let keeps = from.first()?.is_surely(to.first()?)
        && rest.len() == others.len()
        && rest.iter().zip(others).all(|(a, b)| from[*a].is_surely(&to[*b]));
    (is_cut && keeps).then_some((*first, parts))
}

/// The sizes that a reshape of one part is told; `None` if several of them are open.
fn sizes(to: &[Dim], axis: usize) -> Option<Vec<i64>> {
    let told = |(at, dim): (usize, &Dim)| match (at, dim.known()) {
        (0, _) => Some(0),
        (at, _) if at == axis => Some(1),
        (_, Some(extent)) => i64::try_from(extent).ok().filter(|extent| *extent > 0),
        (_, None) => Some(-1),
    };
    let told: Vec<i64> = to.iter().enumerate().map(told).collect::<Option<_>>()?;
    (told.iter().filter(|size| **size < 0).count() < 2).then_some(told)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::canonicalise;
    use crate::ir::builder::GraphBuilder;

    fn dims(spec: &[i64]) -> Vec<Dim> {
        let dim = |d: &i64| usize::try_from(*d).map_or(Dim::Symbol("n".into()), Dim::Known);
        spec.iter().map(dim).collect()
    }

    #[test]
    fn views_of_parts() {
        let split = |from: &[i64], to: &[i64]| split(&dims(from), &dims(to));
        assert_eq!(split(&[-1, 12, 8, 8], &[-1, 2, 6, 8, 8]), Some((1, 2)));
        assert_eq!(split(&[-1, 12, 1, 1], &[-1, 1, 2, 6]), Some((2, 2)));
        assert_eq!(split(&[-1, 12], &[-1, 2, 6, 1, 1]), Some((1, 2)));
        // Other extents, one channel each, too many parts.
        assert_eq!(split(&[-1, 12, 8, 8], &[-1, 2, 6, 64]), None);
        assert_eq!(split(&[-1, 12], &[-1, 12, 1]), None);
        assert_eq!(split(&[-1, 64], &[-1, 32, 2]), None);
        assert_eq!(sizes(&dims(&[-1, 2, 6, 1]), 1), Some(vec![0, 1, 6, 1]));
    }

    /// The operators of a net that views 12 channels as two parts, with a softmax over parts.
    fn ops(is_summed: bool) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let (x, z) = (b.input("x", "n,3"), b.input("z", "n,2,6,4"));
        let (w, sizes, axis) =
            (b.weights("w", &[12, 3]), b.ints("to", &[-1, 2, 6, 1]), b.ints("axis", &[1]));
        let x = b.op("Gemm", "layer", &[x, w], [("transB", 1.into())]);
        let x = b.op("Reshape", "view", &[x, sizes], []);
        let x = b.op("Softmax", "shares", &[x], [("axis", 1.into())]);
        let mut y = b.op("Mul", "weighted", &[z, x], []);
        if is_summed {
            y = b.op("ReduceSum", "sum", &[y, axis], [("keepdims", 0.into())]);
        }
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.into_iter().map(|id| model.graph.node(id).op.clone()).collect()
    }

    #[test]
    fn parts_that_are_added_up_are_stacked() {
        // A layer whose outputs are split is several layers.
        let stack = ["Gemm", "Reshape", "Gemm", "Reshape", "Concat", "Softmax", "Mul", "ReduceSum"];
        assert_eq!(ops(true), stack);
        assert_eq!(ops(false), ["Gemm", "Reshape", "Softmax", "Mul"]);
    }
}
