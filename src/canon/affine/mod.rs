//! Folds scales and shifts per channel into the layer before them.
//!
//! `BatchNormalization` in inference mode is `y = k·x + s` per channel, and so are additions of a bias
//! and factors that converters leave. After folding, a layer has one weight and one bias to merge.
//! Folding is exact up to rounding, which happens once, from `f64`. Weights that several nodes apply stay equal: what
//! follows one of the nodes is folded only if the same follows all of them.

mod term;
mod uses;

use std::collections::BTreeSet;

use ndarray::{ArrayD, ArrayViewMutD};

use crate::error::Result;
use crate::ir::{Consumers, Graph, Model, NodeId, Tensor, ValueId};

use super::{BatchNorm, CanonOptions, check, rewire, tokenwise, types};
use term::Term;
pub(super) use term::normalisation;
use uses::Uses;

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, options: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let (readers, uses) = (graph.consumers(), Uses::of(graph));
    let mut modified = false;
    let mut visited = BTreeSet::new();
    for id in graph.topological_order()? {
        let keep =
            graph.node(id).is("BatchNormalization") && options.batchnorm == BatchNorm::PerTask;
        let Some(fold) = Fold::at(graph, &readers, id).filter(|_| !keep) else { continue };
        let all = match uses.set(fold.layer.node) {
            None => vec![fold],
            // Either what follows is the same behind all nodes of the set, or nothing is folded.
            Some(set) if visited.insert(set) => {
                uses.folds(graph, &readers, (set, &fold)).unwrap_or_default()
            }
            Some(_) => continue,
        };
        for fold in all {
            modified |= fold.apply(graph, &readers).is_some();
        }
    }
    Ok(modified)
}

/// A node that can be folded into the layer before it.
struct Fold {
    node: NodeId,
    /// The layer's output.
    data: ValueId,
    layer: Foldable,
    term: Term,
}

impl Fold {
    /// Node `id` with the layer before it, if both are of the right kind.
    fn at(graph: &Graph, readers: &Consumers, id: NodeId) -> Option<Fold> {
        let node = graph.node(id);
        node.output(0)?;
        [node.input(0)?, node.input(1)?].into_iter().find_map(|data| {
            let layer = Foldable::at(graph, data)?;
            let is_only = rewire::only_reader(graph, readers, data) == Some(id);
            let term = term::read(graph, id, data, &layer).filter(|_| is_only)?;
            Some(Fold { node: id, data, layer, term })
        })
    }

    fn apply(&self, graph: &mut Graph, readers: &Consumers) -> Option<()> {
        let Fold { node, data, layer, term } = self;
        let output = graph.node(*node).output(0)?;
        let (weight, bias) = layer.folded(graph, term)?;
        if !rewire::bypass(graph, output, *data) {
            return None;
        }
        let bias_name = format!("{}.bias", graph.node(layer.node).name);
        rewire::store(graph, readers, layer.node, 1, "weight", weight);
        let (adds, slot) = layer.bias;
        rewire::store(graph, readers, adds, slot, &bias_name, bias);
        Some(())
    }
}

/// A layer that can take a factor and a shift per output channel. A remaining normalisation, for
/// example before a layer, takes them in its own scale and shift.
struct Foldable {
    node: NodeId,
    /// The node and input that hold the bias.
    bias: (NodeId, usize),
    /// The axis of the output that runs over channels.
    axis: usize,
    /// Rank of the output.
    rank: usize,
    /// Output channels.
    channels: usize,
    /// For a layer whose weight is `[in, out/groups, …]`: the number of groups.
    transposed: Option<usize>,
}

impl Foldable {
    /// The layer that computes `output`, if its weight and bias are constant.
    fn at(graph: &Graph, output: ValueId) -> Option<Self> {
        let id = graph.producer(output)?;
        let node = graph.node(id);
        if node.is("Add") {
            return Self::tokenwise(graph, id);
        }
        let weight = graph.initializer(node.input(1)?).filter(|t| t.dtype.is_float())?;
        let first = *weight.dims.first()?;
        let groups = usize::try_from(node.int("group", 1)).ok().filter(|g| *g > 0)?;
        let (channels, transposed) = match node.op.as_str() {
            _ if !node.domain.is_empty() => return None,
            "Conv" | "BatchNormalization" => (first, None),
            "ConvTranspose" if first % groups == 0 => (weight.dims.get(1)? * groups, Some(groups)),
            "Gemm" if is_plain(graph, id) => (first, None),
            _ => return None,
        };
        let rank = match weight.dims.len() {
            1 => types::shape(graph, output)?.len(),
            rank => rank,
        };
        let fits = node.input(2).is_none_or(|b| {
            graph.initializer(b).is_some_and(|t| t.dtype == weight.dtype && t.dims == [channels])
        });
        fits.then_some(Foldable { node: id, bias: (id, 2), axis: 1, rank, channels, transposed })
    }

    /// The product whose bias node `id` adds.
    fn tokenwise(graph: &Graph, id: NodeId) -> Option<Self> {
        let operands = graph.node(id).reads().filter_map(|value| graph.producer(value));
        let product = operands.filter_map(|node| tokenwise::product(graph, node)).next()?;
        let addition = product.bias(graph).filter(|addition| addition.node == id)?;
        Some(Foldable {
            node: product.node,
            bias: (id, addition.slot),
            axis: product.rank - 1,
            rank: product.rank,
            channels: product.columns,
            transposed: Some(1),
        })
    }

    /// The layer's weight and bias with `term` folded in; `None` if a number is not finite in
    /// the layer's precision.
    fn folded(&self, graph: &Graph, term: &Term) -> Option<(Tensor, Tensor)> {
        let node = graph.node(self.node);
        let tensor = graph.initializer(node.input(1)?)?;
        let mut weight = tensor.to_f64().ok()?;
        for (i, mut slab) in weight.outer_iter_mut().enumerate() {
            self.scale(i, &mut slab, tensor.dims[0], &term.scale)?;
        }
        let (adds, slot) = self.bias;
        let old = graph.node(adds).input(slot).and_then(|b| graph.initializer(b)?.to_f64().ok());
        let bias: Vec<f64> = (0..self.channels)
            .map(|c| {
                let old = old.as_ref().map_or(0.0, |b| b[[c].as_slice()]);
                old * term.scale[c] + term.shift[c]
            })
            .collect();
        let bias = ArrayD::from_shape_vec(vec![self.channels], bias).ok()?;
        let encode = |array| Tensor::from_f64(tensor.dtype, array).ok().filter(check::is_finite);
        Some((encode(&weight)?, encode(&bias)?))
    }

    /// Scales entry `i` of the weight's first axis.
    fn scale(
        &self,
        i: usize,
        slab: &mut ArrayViewMutD<f64>,
        first: usize,
        scale: &[f64],
    ) -> Option<()> {
        let Some(groups) = self.transposed else {
            *slab *= *scale.get(i)?;
            return Some(());
        };
        let group = i / (first / groups).max(1);
        for (j, mut filter) in slab.outer_iter_mut().enumerate() {
            filter *= *scale.get(group * (self.channels / groups) + j)?;
        }
        Some(())
    }
}

/// Whether a `Gemm` is in canonical form.
fn is_plain(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let (a, b) = (node.int("transA", 0), node.int("transB", 0));
    let factors = (node.float("alpha", 1.0), node.float("beta", 1.0));
    a == 0 && b == 1 && factors == (1.0, 1.0)
}

#[cfg(test)]
mod tests;
