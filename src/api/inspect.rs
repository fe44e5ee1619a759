//! Shows the layers of one model and its shareable channels.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};

use super::TOOL;
use super::models::{self, ModelInput};
use crate::align::only_group;
use crate::canon::{CanonOptions, canonicalise};
use crate::couple::{ChannelGroup, CoupledLayer, Coupling, End, Frozen, LayerId, outside};
use crate::error::Result;
use crate::ir::{Graph, TensorType, Value, ValueId};
use crate::mtz::joint::coupled;
use crate::onnx;
use crate::ops::{Layer, LayerKind};
use crate::report::{
    GroupRecord, LayerRecord, ModelReport, OutsideRecord, PortRecord, SCHEMA, Shareable, decidable,
};
use crate::runtime::Port;

/// Shows the layers of one model as a merge sees them, and the channels that can be shared.
///
/// ```
/// let report = onnx_zip::inspect(&"fixtures/models/lenet300_fashion.onnx".into())?;
/// assert_eq!(report.layers.len(), 3);
/// # Ok::<(), onnx_zip::Error>(())
/// ```
///
/// # Errors
/// Those of reading the model.
pub fn inspect(model: &ModelInput) -> Result<ModelReport> {
    let loaded = models::load_one(model, String::new())?;
    let (producer, opset) = (loaded.model.producer.clone(), loaded.model.opset());
    let graph = &loaded.model.graph;
    let inputs = loaded.ports.iter().map(record).collect();
    let outputs = graph.outputs.iter().map(|output| output_record(graph.value(*output))).collect();
    let given = constants(graph);
    let (model, coupling) = coupled(canonicalise(loaded.model, &CanonOptions::default())?)?;
    let biases: Vec<bool> =
        coupling.layers.iter().map(|layer| has_bias(&model.graph, &layer.layer, &given)).collect();
    let mut layers = coupling
        .layers
        .iter()
        .zip(&biases)
        .map(|(layer, has_bias)| layer_record(&model.graph, &coupling, layer, *has_bias))
        .collect::<Result<Vec<_>>>()?;
    let parameters = stored_once(&model.graph, &coupling, &biases, &mut layers);
    let outside = OutsideRecord::by_reason(outside(&model.graph, &coupling));
    Ok(ModelReport {
        schema: SCHEMA,
        tool: TOOL.to_owned(),
        path: loaded.path.display().to_string(),
        sha256: loaded.sha256,
        bytes: loaded.bytes,
        producer,
        opset,
        inputs,
        outputs,
        parameters,
        layers,
        groups: groups(&coupling),
        notes: loaded.note.into_iter().chain(decidable(&outside)).collect(),
        outside,
    })
}

fn record(port: &Port) -> PortRecord {
    let (dtype, shape) = (format!("{:?}", port.dtype), port.shape_text());
    PortRecord { name: port.name.clone(), dtype, shape }
}

/// An output, which may be no tensor.
fn output_record(value: &Value) -> PortRecord {
    let name = value.name.clone();
    match &value.ty {
        Some(TensorType { dtype, shape }) => {
            record(&Port { name, dtype: *dtype, shape: shape.clone() })
        }
        None => PortRecord { name, dtype: onnx::kind(value).to_owned(), shape: String::new() },
    }
}

/// Names of a graph's constants.
fn constants(graph: &Graph) -> HashSet<String> {
    let constants = graph.values().filter(|(id, _)| graph.initializer(*id).is_some());
    constants.map(|(_, value)| value.name.clone()).collect()
}

/// Whether a layer has a bias that is not one of the zeros which canonical form adds; `given` are the constants of
/// the file.
fn has_bias(graph: &Graph, layer: &Layer, given: &HashSet<String>) -> bool {
    let is_zero = |bias: ValueId| {
        graph.initializer(bias).is_some_and(|tensor| tensor.data.iter().all(|byte| *byte == 0))
    };
    layer.bias.is_some_and(|bias| given.contains(&graph.value(bias).name) || !is_zero(bias))
}

fn layer_record(
    graph: &Graph,
    coupling: &Coupling,
    layer: &CoupledLayer,
    has_bias: bool,
) -> Result<LayerRecord> {
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    let bias = if has_bias { out } else { 0 };
    let group = only_group(&layer.outputs).map(|id| coupling.group(id).name.clone());
    Ok(LayerRecord {
        name: layer.name.clone(),
        kind: kind(layer),
        neurons: out,
        inputs,
        parameters: (out * inputs * taps + bias) as u64,
        group: group.unwrap_or_default(),
        same_as: None,
    })
}

/// The parameters of all layers. Weights of several nodes count once: shared layers of a joint model,
/// identical layers, and tied tables. Records that a layer has all its parameters from an earlier one.
fn stored_once(
    graph: &Graph,
    coupling: &Coupling,
    with_bias: &[bool],
    records: &mut [LayerRecord],
) -> u64 {
    let mut seen: HashMap<_, String> = HashMap::new();
    let tensor = |value: ValueId| {
        graph.initializer(value).map(|tensor| (tensor.dims.as_slice(), tensor.data.as_ref()))
    };
    let mut sum = 0;
    for ((layer, has_bias), record) in coupling.layers.iter().zip(with_bias).zip(records) {
        let Layer { weight, rows, bias, .. } = &layer.layer;
        let biases = if *has_bias { record.neurons as u64 } else { 0 };
        // All gates of a node read the same constants.
        let gate = match &layer.layer.kind {
            LayerKind::Gate(gate) => Some((gate.name, tensor(gate.recurrence))),
            _ => None,
        };
        let mut same = layer.weights_of.map(|first| coupling.layer(first).name.clone());
        let weights = Some(*weight).filter(|_| same.is_none());
        let weights = weights.map(|weight| (Some(weight), record.parameters - biases));
        let parts = weights.into_iter().chain([(bias.filter(|_| *has_bias), biases)]);
        let mut own = 0;
        for (value, parameters) in parts {
            match value.and_then(tensor).map(|tensor| seen.entry((tensor, rows, gate))) {
                Some(Entry::Occupied(first)) => same = same.or(Some(first.get().clone())),
                Some(Entry::Vacant(place)) => {
                    place.insert(record.name.clone());
                    own += parameters;
                }
                None => own += parameters,
            }
        }
        sum += own;
        record.same_as = same.filter(|_| own == 0);
    }
    sum
}

/// Kind and window of a layer, e.g. `Conv 3×3/2`.
fn kind(layer: &CoupledLayer) -> String {
    let (op, geometry) = match &layer.layer.kind {
        LayerKind::Gemm => return "Gemm".to_owned(),
        LayerKind::MatMul => return "MatMul".to_owned(),
        LayerKind::Table { .. } => return "table".to_owned(),
        LayerKind::Gate(gate) => return format!("{} gate", gate.op),
        LayerKind::Conv(geometry) => ("Conv", geometry),
        LayerKind::ConvTranspose(geometry) => ("ConvTranspose", geometry),
    };
    let by = |sizes: &[usize]| sizes.iter().map(usize::to_string).collect::<Vec<_>>().join("×");
    let mut text = format!("{op} {}", by(&geometry.kernel));
    if geometry.strides.iter().any(|s| *s != 1) {
        text += &format!(" stride {}", by(&geometry.strides));
    }
    if layer.per_channel {
        text += " depthwise";
    }
    text
}

fn groups(coupling: &Coupling) -> Vec<GroupRecord> {
    let names = |layers: &[LayerId]| -> Vec<String> {
        layers.iter().map(|id| coupling.layer(*id).name.clone()).collect()
    };
    let shareable = |group: &ChannelGroup| match (&group.frozen, group.end()) {
        (None, _) => Shareable::Yes,
        (_, Some(End::Input)) => Shareable::InOrder,
        (_, Some(End::Output)) if group.consumers.is_empty() => Shareable::OnRequest,
        (_, Some(End::Output)) => Shareable::ByIndex,
        (Some(_), None) => Shareable::No,
    };
    let record = |group: &ChannelGroup| GroupRecord {
        name: group.name.clone(),
        channels: group.size,
        producers: names(&group.producers),
        consumers: names(&group.consumers),
        frozen: group.frozen.as_ref().map(Frozen::to_string),
        shareable: shareable(group),
    };
    coupling.groups.iter().map(record).collect()
}
