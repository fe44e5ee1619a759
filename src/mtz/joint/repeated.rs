//! Lets layers that a net applies several times read the same constants again.
//!
//! Canonical form gives every node constants of its own, so that it can rewrite each by itself. Weights that are equal
//! in the end are one parameter: siamese branches, heads on several levels, layers of an unrolled recurrence. Joined,
//! they get one refit and one common weight from the statistics of all uses, and are stored once.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use crate::couple::{CoupledLayer, Coupling};
use crate::ir::{Graph, NodeId, Tensor, ValueId};
use crate::ops::{Layer, LayerKind};

/// The constants of the first node with some weights.
struct First {
    weights: Vec<ValueId>,
    bias: Option<ValueId>,
}

/// Nodes whose weights are equal: their operator, whether they are depthwise, and the weights.
type Key<'g> = (&'g str, bool, Vec<&'g Tensor>);

/// A constant to be read in place of another one.
type Change = (NodeId, ValueId, ValueId);

/// Points nodes with equal weights at the constants of the first of them. Returns whether there are any.
pub(super) fn join(graph: &mut Graph, coupling: &Coupling) -> bool {
    let changes = changes(graph, coupling);
    for (node, old, new) in &changes {
        graph.edit_node(*node, |node| node.redirect(|v| if v == *old { *new } else { v }));
    }
    let readers = graph.consumers();
    for (_, old, _) in &changes {
        if readers[old.index()].is_empty() && !graph.outputs.contains(old) {
            graph.drop_initializer(*old);
        }
    }
    !changes.is_empty()
}

fn changes(graph: &Graph, coupling: &Coupling) -> Vec<Change> {
    let mut known: HashMap<Key<'_>, First> = HashMap::new();
    let mut changes = Vec::new();
    let mut before: Option<NodeId> = None;
    // Layers of one node stand one after the other.
    for layer in &coupling.layers {
        if before.replace(layer.layer.node) == Some(layer.layer.node) {
            continue;
        }
        let (weights, bias) = (weights(&layer.layer), layer.layer.bias);
        let Some(key) = key(graph, layer, &weights) else { continue };
        let first = match known.entry(key) {
            Entry::Vacant(place) => {
                place.insert(First { weights, bias });
                continue;
            }
            Entry::Occupied(first) => first.into_mut(),
        };
        let pairs = || first.weights.iter().copied().zip(weights.iter().copied());
        if pairs().any(|(theirs, own)| graph.codes(theirs) != graph.codes(own)) {
            continue;
        }
        let changed = pairs().filter(|(theirs, own)| theirs != own);
        changes.extend(changed.map(|(theirs, own)| (layer.layer.node, own, theirs)));
        if let Some((theirs, own)) = first.bias.zip(bias).filter(|(theirs, own)| theirs != own)
            && graph.initializer(theirs) == graph.initializer(own)
        {
            changes.push((layer.layer.last_node(), own, theirs));
        }
    }
    changes
}

/// The constants with a node's weights.
fn weights(layer: &Layer) -> Vec<ValueId> {
    let recurrence = match &layer.kind {
        LayerKind::Gate(gate) => Some(gate.recurrence),
        _ => None,
    };
    [Some(layer.weight), recurrence].into_iter().flatten().collect()
}

/// What nodes with the same weights have in common; `None` for weights that are not learned, as those of a filter
/// that blurs.
fn key<'g>(graph: &'g Graph, layer: &CoupledLayer, weights: &[ValueId]) -> Option<Key<'g>> {
    let tensors: Option<Vec<&Tensor>> =
        weights.iter().map(|weight| graph.initializer(*weight)).collect();
    let tensors = tensors.filter(|all| all.iter().any(|tensor| tensor.rows_differ()))?;
    Some((graph.node(layer.layer.node).op.as_str(), layer.per_channel, tensors))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::{CanonOptions, canonicalise};
    use crate::couple::LayerId;
    use crate::ir::builder::GraphBuilder;
    use crate::mtz::joint::{JointModel, Task};
    use crate::mtz::plan::sizes;

    /// A layer of six neurons for each of two inputs, and a layer for the difference of both.
    fn twins(constants: fn(&mut GraphBuilder) -> [[ValueId; 2]; 2]) -> Task {
        let mut b = GraphBuilder::new("net", 17);
        let inputs = ["x", "z"].map(|name| b.input(name, "n,4"));
        let constants = constants(&mut b);
        let mut branches = inputs.into_iter().zip(constants).map(|(x, [w, bias])| {
            let x = b.op("Gemm", "branch", &[x, w, bias], [("transB", 1.into())]);
            b.op("Relu", "relu", &[x], [])
        });
        let both = [branches.next().unwrap(), branches.next().unwrap()];
        drop(branches);
        let x = b.op("Sub", "difference", &both, []);
        let (w, bias) = (b.weights("head.w", &[3, 6]), b.weights("head.b", &[3]));
        let y = b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())]);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        Task::fresh("twins", model).unwrap()
    }

    /// The first layers of the task, and its number of constants.
    fn first_layers(task: &Task) -> ([&CoupledLayer; 2], usize) {
        let graph = task.graph();
        let constants = graph.values().filter(|(id, _)| graph.initializer(*id).is_some()).count();
        ([0, 1].map(|at| task.layer(LayerId(at))), constants)
    }

    fn parameters(task: &Task) -> u64 {
        sizes(&JointModel::new(vec![task.clone()])).unwrap().originals[0]
    }

    #[test]
    fn a_layer_that_is_applied_twice_is_one_layer_with_two_uses() {
        let task = twins(|b| [[b.weights("w", &[6, 4]), b.weights("b", &[6])]; 2]);
        let ([first, second], constants) = first_layers(&task);
        assert_eq!((first.repeats(), second.repeats()), (None, Some(LayerId(0))));
        assert!(first.is_repeated && !second.is_repeated);
        assert_eq!((&first.inputs, &first.outputs), (&second.inputs, &second.outputs));
        assert_eq!(
            (first.layer.weight, first.layer.bias),
            (second.layer.weight, second.layer.bias)
        );
        assert_eq!(constants, 4);
        assert_eq!(parameters(&task), 6 * 5 + 3 * 7);
    }

    #[test]
    fn weights_with_several_biases_stay_as_they_are_and_count_once() {
        let task = twins(|b| {
            let w = b.weights("w", &[6, 4]);
            [[w, b.weights("b", &[6])], [w, b.weights("c", &[6])]]
        });
        let ([first, second], constants) = first_layers(&task);
        assert!(first.tied.is_some() && second.tied.is_some());
        assert_eq!((second.weights_of, second.repeats()), (Some(LayerId(0)), None));
        assert_eq!(constants, 5);
        assert_eq!(parameters(&task), 6 * 6 + 3 * 7);
    }

    #[test]
    fn equal_weights_of_two_constants_are_two_layers() {
        let task = twins(|b| {
            let w = b.weights("w", &[6, 4]);
            let bias = b.weights("b", &[6]);
            let copies = [w, bias].map(|value| {
                let tensor = b.graph().initializer(value).unwrap().clone();
                b.constant("copy", tensor)
            });
            [[w, bias], copies]
        });
        let ([first, second], constants) = first_layers(&task);
        assert_eq!((first.tied, second.weights_of, constants), (None, None, 6));
        assert_eq!(parameters(&task), 2 * 6 * 5 + 3 * 7);
    }

    #[test]
    fn filters_that_are_not_learned_are_not_one_layer() {
        let task = twins(|b| {
            let ones = Tensor::from_f32(&ndarray::ArrayD::ones(ndarray::IxDyn(&[6, 4])));
            [[b.constant("w", ones), b.weights("b", &[6])]; 2]
        });
        let ([_, second], _) = first_layers(&task);
        assert_eq!(second.weights_of, None);
    }

    #[test]
    fn an_embedding_that_is_an_output_layer_counts_once() {
        let mut b = GraphBuilder::new("net", 17);
        let ids = b.typed_input("ids", crate::ir::DataType::I64, "n,t");
        let table = b.weights("table", &[80, 16]);
        let x = b.op("Gather", "x", &[table, ids], []);
        let matrix = b.op("Transpose", "matrix", &[table], [("perm", [1, 0].into())]);
        let y = b.op("MatMul", "y", &[x, matrix], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let task = Task::fresh("net", model).unwrap();
        let output = task.layer(LayerId(1));
        assert_eq!((output.weights_of, output.repeats()), (Some(LayerId(0)), None));
        // Canonical form gives the output layer a bias.
        assert_eq!(parameters(&task), 80 * 16 + 80);
    }
}
