//! The size of a joint model's file, as far as it follows from structure.

use std::collections::{BTreeMap, HashSet};

use crate::align::Alignment;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::Result;
use crate::ir::{DataType, Graph, ValueId};
use crate::mtz::joint::JointModel;
use crate::onnx::encoded_bytes;
use crate::ops::LayerKind;

use super::sizes::Sizes;

/// Predicts the bytes of the file of a joint model from its nets and the predicted `sizes`.
///
/// Weights that change are floats, although their file may hold integers. Nodes count once per task, as they
/// are written: the models' files may hold notes about them. The recipe does not count.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if a net is not well formed.
pub fn file_bytes(joint: &JointModel, alignment: &Alignment, sizes: &Sizes) -> Result<u64> {
    let (mut total, mut equal) = (Parts::default(), 0);
    let mut known = HashSet::new();
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        let graph = net.graph();
        let readers = graph.consumers();
        let is_written =
            |id: ValueId| !readers[id.index()].is_empty() || graph.outputs.contains(&id);
        let layers = &net.coupling().layers;
        let owners: BTreeMap<ValueId, LayerId> = layers
            .iter()
            .zip((0..).map(LayerId))
            .flat_map(|(layer, id)| parameters(layer).map(move |value| (value, id)))
            .collect();
        let mut stored = 0;
        let written = graph.values().map(|(id, _)| id).filter(|id| is_written(*id));
        for (value, tensor) in written.filter_map(|id| Some((id, graph.initializer(id)?))) {
            let (own, floats) = (stored_bytes(graph, value), tensor.data.len() as u64);
            stored += own;
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
                    total.floats += floats;
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
    /// Of the same layers as floats.
    floats: u64,
    /// Number of their parameters.
    elements: u64,
}

impl Parts {
    /// The bytes of the file if so many parameters are saved.
    fn bytes(&self, saved: u64) -> u64 {
        if saved == 0 {
            return self.kept + self.stored;
        }
        let left = self.elements.saturating_sub(saved) as f64 / self.elements.max(1) as f64;
        self.kept + (self.floats as f64 * left) as u64
    }
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
    let zeros = codes.zero.as_ref().map_or(0, |zero| zero.data.len());
    numbers + (codes.scale.data.len() + zeros) as u64
}
