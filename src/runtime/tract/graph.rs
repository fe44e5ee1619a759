//! Reads a file into ports and a graph in tract's form.

use std::collections::HashSet;
use std::path::Path;

use tract_core::prelude::*;
use tract_onnx::Onnx;
use tract_onnx::pb;
use tract_onnx::prelude::InferenceModel;

use super::super::port::named_dim;
use super::super::{ModelSource, Port};
use super::failure::failed;
use super::{formulas, magnitude};
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::{DataType, Dim};
use crate::onnx::encode_any;
use crate::ops::SEQUENCE_LENGTHS;

/// A model that was read.
pub(super) struct Parsed {
    pub(super) inputs: Vec<Port>,
    /// Its outputs as far as they are declared.
    pub(super) outputs: Vec<Port>,
    /// Number of elements of its constants.
    pub(super) elements: usize,
    /// Whether it has formulas of sizes that take too long to plan with.
    pub(super) long_formulas: bool,
    /// Its graph.
    pub(super) model: InferenceModel,
}

/// Reads a model.
pub(super) fn parse(source: ModelSource<'_>) -> Result<Parsed> {
    source.check_readable()?;
    // Declared shapes of intermediate values may contradict those of a plan.
    let onnx = tract_onnx::onnx().with_ignore_value_info(true);
    let (proto, dir) = match source {
        ModelSource::Bytes(mut bytes) => (onnx.proto_model_for_read(&mut bytes), None),
        ModelSource::File(path) => {
            (onnx.proto_model_for_path(path), path.parent().and_then(Path::to_str))
        }
        ModelSource::Graph(model) => {
            (onnx.proto_model_for_read(&mut encode_any(model)?.as_slice()), None)
        }
    };
    let proto = proto.map_err(failed)?;
    let graph = proto.graph.as_ref().ok_or_else(|| {
        Error::new(ErrorKind::Backend, "tract: these bytes hold no ONNX graph")
            .hint("give the binary .onnx file")
    })?;
    if let Some(node) = unknown_operator(&onnx, graph) {
        // Nodes may be nameless; outputs are not.
        let name = Some(&node.name).filter(|name| !name.is_empty()).or(node.output.first());
        let message = format!("tract has no operator '{}'", node.op_type);
        return Err(Error::new(ErrorKind::Backend, message)
            .hint(Hint::from("use ").option_as("runtime", "ort"))
            .at_node(name.map_or("", String::as_str)));
    }
    if let Some((name, what)) = graph.node.iter().find_map(ignored) {
        let message = format!("tract computes {what} of '{name}' as if it had its default");
        return Err(Error::new(ErrorKind::Unsupported, message)
            .hint(Hint::from("use ").option_as("runtime", "ort")));
    }
    let nothing_computes = |name: &str| {
        Error::new(ErrorKind::Backend, format!("tract: nothing computes '{name}'"))
            .hint("export the model again, and check it with onnx.checker")
    };
    if let Some(name) = output_from_nowhere(graph) {
        return Err(nothing_computes(name));
    }
    let inputs = graph.input.iter().filter(|value| is_fed(graph, value)).map(port).collect();
    let outputs = graph.output.iter().map(port).collect();
    let elements = graph.initializer.iter().map(elements).fold(0, usize::saturating_add);
    let long_formulas = formulas::are_long(graph);
    if long_formulas && magnitude::overflow(graph) {
        let message = "tract: the model computes sizes that may exceed 64 bits";
        return Err(Error::new(ErrorKind::Backend, message)
            .hint(Hint::from("use ").option_as("runtime", "ort")));
    }
    let parsed = onnx.parse(&with_own_names(proto), dir).map_err(failed)?;
    if let Some(name) = parsed.unresolved_inputs.first() {
        return Err(nothing_computes(name));
    }
    Ok(Parsed { inputs, outputs, elements, long_formulas, model: parsed.model })
}

fn elements(tensor: &pb::TensorProto) -> usize {
    let extents = tensor.dims.iter().map(|extent| usize::try_from(*extent).unwrap_or(usize::MAX));
    extents.fold(1, usize::saturating_mul)
}

fn is_fed(graph: &pb::GraphProto, value: &pb::ValueInfoProto) -> bool {
    graph.initializer.iter().all(|constant| constant.name != value.name)
}

/// Renames nodes so that no name is a prefix of another. tract derives names from a node's name, such
/// as 'conv.bias' from 'conv', and fails if a value has that name already.
fn with_own_names(mut proto: pb::ModelProto) -> pb::ModelProto {
    let nodes = proto.graph.iter_mut().flat_map(|graph| &mut graph.node);
    nodes.enumerate().for_each(|(place, node)| node.name += &format!(" #{place}"));
    proto
}

fn unknown_operator<'g>(onnx: &Onnx, graph: &'g pb::GraphProto) -> Option<&'g pb::NodeProto> {
    graph.node.iter().find_map(|node| {
        if !onnx.op_register.0.contains_key(&node.op_type) {
            return Some(node);
        }
        let bodies = node.attribute.iter().filter_map(|attribute| attribute.g.as_ref());
        bodies.into_iter().find_map(|body| unknown_operator(onnx, body))
    })
}

/// A recurrent node of which tract ignores something: its first output, and what it ignores.
fn ignored(node: &pb::NodeProto) -> Option<(&str, &'static str)> {
    let usual: &[&[u8]] = match node.op_type.as_str() {
        "LSTM" => &[b"Sigmoid", b"Tanh", b"Tanh"],
        "GRU" => &[b"Sigmoid", b"Tanh"],
        "RNN" => &[b"Tanh"],
        _ => return None,
    };
    let name = node.output.iter().find(|name| !name.is_empty())?;
    if node.input.get(SEQUENCE_LENGTHS).is_some_and(|lengths| !lengths.is_empty()) {
        return Some((name, "the sequence lengths"));
    }
    let attribute = |name: &str| node.attribute.iter().find(|attribute| attribute.name == name);
    let is_unusual = |activations: &pb::AttributeProto| {
        !activations.strings.chunks(usual.len()).all(|direction| {
            direction.iter().zip(usual).all(|(found, usual)| found.eq_ignore_ascii_case(usual))
        })
    };
    if attribute("activations").is_some_and(is_unusual) {
        return Some((name, "the activations"));
    }
    if attribute("clip").is_some() {
        return Some((name, "the clip"));
    }
    attribute("input_forget")
        .filter(|coupled| coupled.i != 0)
        .map(|_| (&**name, "the input_forget"))
}

fn output_from_nowhere(graph: &pb::GraphProto) -> Option<&str> {
    let computed = graph.node.iter().flat_map(|node| &node.output);
    let fed = graph.input.iter().map(|value| &value.name);
    let constant = graph.initializer.iter().map(|tensor| &tensor.name);
    let known: HashSet<&String> = computed.chain(fed).chain(constant).collect();
    graph.output.iter().map(|value| &value.name).find(|name| !known.contains(name)).map(|n| &**n)
}

fn port(value: &pb::ValueInfoProto) -> Port {
    use pb::tensor_shape_proto::dimension::Value;
    let tensor = value.r#type.as_ref().and_then(|ty| ty.value.as_ref());
    let Some(pb::type_proto::Value::TensorType(tensor)) = tensor else {
        return Port { name: value.name.clone(), dtype: DataType::Other(0), shape: None };
    };
    let dim = |dim: &pb::tensor_shape_proto::Dimension| match &dim.value {
        Some(Value::DimValue(size)) => usize::try_from(*size).map_or(Dim::Unknown, Dim::Known),
        Some(Value::DimParam(name)) => named_dim(name),
        None => Dim::Unknown,
    };
    Port {
        name: value.name.clone(),
        dtype: DataType::from_code(tensor.elem_type),
        shape: tensor.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

/// Whether the file tells an output's type.
pub(super) fn is_complete(port: &Port) -> bool {
    port.dtype != DataType::Other(0)
}

/// Gives an output with only a name in the file the type and rank of a plan.
pub(super) fn complete(port: &mut Port, fact: &TypedFact) {
    if is_complete(port) {
        return;
    }
    let size = |dim: &TDim| usize::try_from(dim.to_i64().ok()?).ok();
    let dims = fact.shape.iter().map(|dim| size(dim).map_or(Dim::Unknown, Dim::Known));
    port.dtype = data_type(fact.datum_type);
    port.shape = Some(dims.collect());
}

const DATUM_TYPES: [(DatumType, DataType); 14] = [
    (DatumType::F32, DataType::F32),
    (DatumType::F64, DataType::F64),
    (DatumType::F16, DataType::F16),
    (DatumType::I64, DataType::I64),
    (DatumType::TDim, DataType::I64),
    (DatumType::I32, DataType::I32),
    (DatumType::I16, DataType::I16),
    (DatumType::I8, DataType::I8),
    (DatumType::U64, DataType::U64),
    (DatumType::U32, DataType::U32),
    (DatumType::U16, DataType::U16),
    (DatumType::U8, DataType::U8),
    (DatumType::Bool, DataType::Bool),
    (DatumType::String, DataType::STRING),
];

fn data_type(datum: DatumType) -> DataType {
    let known = DATUM_TYPES.iter().find(|(from, _)| *from == datum);
    known.map_or(DataType::Other(0), |(_, to)| *to)
}

pub(super) fn datum_type(port: &Port) -> Result<DatumType> {
    let known = DATUM_TYPES.iter().find(|(_, from)| *from == port.dtype);
    known.map(|(to, _)| *to).ok_or_else(|| {
        Error::new(
            ErrorKind::Unsupported,
            format!("input '{}' is {:?}, which is not handled", port.name, port.dtype),
        )
    })
}
