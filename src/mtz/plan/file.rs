//! The size of a joint model's file, as far as it follows from structure.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::align::{Alignment, TaskId};
use crate::canon::filled;
use crate::couple::{CoupledLayer, Coupling, LayerId};
use crate::error::Result;
use crate::ir::{DataType, Graph, ValueId};
use crate::mtz::joint::JointModel;
use crate::onnx::encoded_bytes;
use crate::ops::LayerKind;

use super::sizes::Sizes;

/// Predicts the bytes of the file of a joint model from its nets and the predicted `sizes`. The `tables` are stored with
/// those of another task.
///
/// Weights that change are stored in as few bits as those that they replace. Nodes count once per task, as they
/// are written: the models' files may hold notes about them. The recipe does not count.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a net is not well formed.
pub fn file_bytes(
    joint: &JointModel,
    alignment: &Alignment,
    sizes: &Sizes,
    tables: &BTreeSet<(TaskId, ValueId)>,
) -> Result<u64> {
    let (mut total, mut equal) = (Parts::default(), 0);
    let mut known = HashSet::new();
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        let graph = net.graph();
        let (owners, copies) = (owners(net.coupling()), copies(net.coupling()));
        let readers = graph.consumers();
        let is_written =
            |id: ValueId| !readers[id.index()].is_empty() || graph.outputs.contains(&id);
        let computed: HashSet<ValueId> = filled(graph).into_iter().map(|(id, _)| id).collect();
        let mut stored = 0;
        let constants = graph.values().filter_map(|(id, _)| Some((id, graph.initializer(id)?)));
        for (value, tensor) in constants.filter(|(id, _)| is_written(*id)) {
            let own = stored_bytes(graph, value);
            stored += own;
            let is_common = tables.contains(&(task, value));
            if is_common || copies.contains(&value) || computed.contains(&value) {
                continue;
            }
            let Some(layer) = owners.get(&value) else {
                let is_new = known.insert((tensor.dtype, &tensor.dims, &tensor.data));
                total.kept += if is_new { own } else { 0 };
                continue;
            };
            match alignment.duplicates.get(&task.layer(*layer)).and_then(|all| all.first()) {
                Some(first) if *first == task => total.kept += own,
                Some(_) => equal += tensor.len() as u64,
                None => {
                    total.stored += own;
                    total.elements += tensor.len() as u64;
                }
            }
        }
        total.kept += encoded_bytes(net.model())?.saturating_sub(stored);
    }
    let saved = sizes.separate().saturating_sub(sizes.joint()).saturating_sub(equal);
    Ok(total.bytes(saved))
}

/// Bytes of all nets, apart from what is stored once.
#[derive(Default)]
struct Parts {
    /// Of nodes, of constants outside layers, and of layers that stay as they are.
    kept: u64,
    /// Of other layers, as the nets' files store them.
    stored: u64,
    /// Number of their parameters.
    elements: u64,
}

impl Parts {
    /// The bytes of the file if so many parameters are saved.
    fn bytes(&self, saved: u64) -> u64 {
        let left = self.elements.saturating_sub(saved) as f64 / self.elements.max(1) as f64;
        self.kept + (self.stored as f64 * left) as u64
    }
}

/// The layer that each parameter of a net belongs to: the first one, if it is applied several times.
fn owners(coupling: &Coupling) -> BTreeMap<ValueId, LayerId> {
    let layers = coupling.layers.iter().zip((0..).map(LayerId));
    let first = layers.filter(|(layer, _)| layer.repeats().is_none());
    first.flat_map(|(layer, id)| parameters(layer).map(move |value| (value, id))).collect()
}

/// Weights that are copies of an earlier layer's: those of an output layer that is an embedding, transposed.
fn copies(coupling: &Coupling) -> HashSet<ValueId> {
    let weight = |layer: &CoupledLayer| layer.layer.weight;
    let is_copy = |layer: &&CoupledLayer| {
        layer.weights_of.is_some_and(|first| weight(coupling.layer(first)) != weight(layer))
    };
    coupling.layers.iter().filter(is_copy).map(weight).collect()
}

/// The constants that hold a layer's parameters.
fn parameters(layer: &CoupledLayer) -> impl Iterator<Item = ValueId> {
    let layer = &layer.layer;
    let gate = match &layer.kind {
        LayerKind::Gate(gate) => [Some(gate.recurrence), gate.initial],
        _ => [None, None],
    };
    [Some(layer.weight), layer.bias].into_iter().chain(gate).flatten()
}

/// Bytes of a constant in its net's file.
fn stored_bytes(graph: &Graph, value: ValueId) -> u64 {
    let Some(tensor) = graph.initializer(value) else { return 0 };
    let Some(codes) = graph.codes(value) else { return tensor.data.len() as u64 };
    let numbers = tensor.len() as u64;
    let numbers = match codes.dtype {
        DataType::I4 | DataType::U4 => numbers.div_ceil(2),
        dtype => numbers * dtype.size().unwrap_or(1) as u64,
    };
    if codes.is_half() {
        return numbers;
    }
    let zeros = codes.zero.as_ref().map_or(0, |zero| zero.data.len());
    numbers + (codes.scale.data.len() + zeros) as u64
}
