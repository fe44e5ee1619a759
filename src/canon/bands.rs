//! Keeps channels on one axis where a normalisation has numbers of its own for bands of another axis.
//!
//! Nets over spectra reshape [batch, channels, frequencies, …] to [batch, channels·bands, frequencies of
//! a band, …], normalise every channel of every band, and reshape back. Channels cannot be followed through
//! the merged axis. A factor and a shift of [channels, bands] do the same on [batch, channels, bands,
//! frequencies of a band, …].

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{Dim, Graph, Model, Node, NodeId, Tensor};

use super::affine::normalisation;
use super::rewire::{added, bypass};
use super::types::{same_shape, shape};
use super::{CanonOptions, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= split(graph, id).is_some();
    }
    Ok(modified)
}

/// Rewrites a `BatchNormalization` between two reshapes.
fn split(graph: &mut Graph, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let (merged, output) = (node.input(0)?, node.output(0)?);
    let before = graph.node(graph.producer(merged)?);
    let after = graph.node(graph.only_use(output)?);
    let is_between = node.is("BatchNormalization")
        && before.is("Reshape")
        && after.is("Reshape")
        && after.input(0) == Some(output);
    let (source, end) = (before.input(0).filter(|_| is_between)?, after.output(0)?);
    let (from, to) = (shape(graph, source)?, shape(graph, merged)?);
    let target = apart(&from, &to).filter(|_| same_shape(graph, source, end))?;
    let [batch, channels, bands, part, ref rest @ ..] = target[..] else { return None };
    // The target of the reshape back may copy extents by their places.
    let back = [&[batch, channels, bands * part], rest].concat();
    let (name, terms) = (node.name.clone(), terms(graph, node, &target)?);
    let [target, back] = [target, back].map(|sizes| {
        let sizes = Tensor::from_i64(vec![sizes.len()], &sizes);
        graph.add_initializer(&format!("{name}.target"), sizes)
    });
    let mut x = added(graph, "Reshape", &format!("{name}.bands"), &[source, target], []);
    for ((op, what), term) in [("Mul", "scale"), ("Add", "shift")].into_iter().zip(terms) {
        let term = graph.add_initializer(&format!("{name}.{what}"), term);
        x = added(graph, op, &format!("{name}.{what}"), &[x, term], []);
    }
    let x = added(graph, "Reshape", &format!("{name}.whole"), &[x, back], []);
    bypass(graph, end, x).then_some(())
}

/// The factors and the shifts of a normalisation, for values of the shape `target`: [batch, channels, bands,
/// …].
fn terms(graph: &Graph, node: &Node, target: &[i64]) -> Option<[Tensor; 2]> {
    let [_, channels, bands, rest @ ..] = target else { return None };
    let counts = [channels, bands].map(|count| usize::try_from(*count).ok());
    let [channels, bands] = [counts[0]?, counts[1]?];
    let dims: Vec<usize> = [channels, bands].into_iter().chain(rest.iter().map(|_| 1)).collect();
    let dtype = types::of(graph, node.input(1)?)?.dtype;
    let (scale, shift) = normalisation(graph, node, channels * bands)?;
    let tensor = |values| {
        let values = ArrayD::from_shape_vec(IxDyn(&dims), values).ok()?;
        Tensor::from_f64(dtype, &values).ok()
    };
    Some([tensor(scale)?, tensor(shift)?])
}

/// The target of a reshape of `from` that puts the bands of a reshape to `to` on an axis of their own;
/// `None` if `to` does not join channels and bands.
fn apart(from: &[Dim], to: &[Dim]) -> Option<Vec<i64>> {
    let ([batch, channels, whole, rest @ ..], [same, merged, part, last @ ..]) = (from, to) else {
        return None;
    };
    let (channels, merged) = (channels.known().filter(|n| *n > 0)?, merged.known()?);
    let bands = merged / channels;
    let is_cut = bands > 1
        && merged % channels == 0
        && whole.known() == part.known().and_then(|part| part.checked_mul(bands))
        && batch.is_surely(same);
    let alike = rest.len() == last.len() && rest.iter().zip(last).all(|(a, b)| a.is_surely(b));
    let open = rest.iter().filter(|dim| dim.known().is_none()).count();
    let part = part.known().filter(|_| is_cut && alike && open < 2)?;
    let behind = rest.iter().map(|dim| dim.known().map_or(-1, |n| n as i64));
    let front = [0, channels as i64, bands as i64, part as i64];
    Some(front.into_iter().chain(behind).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bands_get_an_axis() {
        let dims = |spec: &[i64]| -> Vec<Dim> {
            let dim =
                |d: &i64| usize::try_from(*d).map_or(Dim::Symbol(format!("n{d}")), Dim::Known);
            spec.iter().map(dim).collect()
        };
        let apart = |from: &[i64], to: &[i64]| apart(&dims(from), &dims(to));
        assert_eq!(apart(&[-1, 8, 20, 9], &[-1, 40, 4, 9]), Some(vec![0, 8, 5, 4, 9]));
        assert_eq!(apart(&[-1, 8, 20, -2], &[-1, 40, 4, -2]), Some(vec![0, 8, 5, 4, -1]));
        assert_eq!(apart(&[-1, 8, 20], &[-1, 40, 4]), Some(vec![0, 8, 5, 4]));
        // Nothing is cut, channels are split, or elements go elsewhere.
        assert_eq!(apart(&[-1, 8, 20, 9], &[-1, 8, 20, 9]), None);
        assert_eq!(apart(&[-1, 8, 20, 9], &[-1, 4, 40, 9]), None);
        assert_eq!(apart(&[-1, 8, 20, 9], &[-1, 40, 9, 4]), None);
        assert_eq!(apart(&[-1, 8, 20, -2, -3], &[-1, 40, 4, -2, -3]), None);
    }
}
