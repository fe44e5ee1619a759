//! Writing models: ir → protobuf messages.

mod attribute;
mod codes;
mod graph;
mod node_names;

use prost::Message;

pub(super) use self::graph::FIRST_IR_WITH_CONSTANTS;
use self::graph::GraphWriter;
use super::proto::{FunctionProto, ModelProto, OperatorSetIdProto, StringStringEntryProto};
use super::stream;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;

/// The largest message that protobuf implementations accept, in bytes.
pub(super) const PROTOBUF_LIMIT: u64 = i32::MAX as u64;

/// The model as the bytes of a file, all tensors inline. Initializers that nothing reads are left
/// out.
///
/// # Errors
/// [`ErrorKind::Format`] if the graph is not well formed, [`ErrorKind::Unsupported`] above 2 GB.
pub fn encode(model: &Model) -> Result<Vec<u8>> {
    let proto = to_proto(model)?;
    check_size(&proto, PROTOBUF_LIMIT).in_model(&model.name)?;
    written(proto).in_model(&model.name)
}

/// The bytes that a model takes in its file, without those of its metadata.
///
/// # Errors
/// [`ErrorKind::Format`] if the graph is not well formed.
pub fn encoded_bytes(model: &Model) -> Result<u64> {
    let proto = ModelProto { metadata_props: Vec::new(), ..to_proto(model)? };
    Ok(proto.encoded_len() as u64)
}

/// [`encode`] without its size limit, for readers without one.
///
/// # Errors
/// [`ErrorKind::Format`] if the graph is not well formed.
#[cfg(feature = "tract")]
pub(crate) fn encode_any(model: &Model) -> Result<Vec<u8>> {
    written(to_proto(model)?).in_model(&model.name)
}

/// The bytes of a message.
pub(super) fn written(proto: ModelProto) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(proto.encoded_len());
    stream::write_model(proto, &mut bytes)
        .map_err(|e| Error::new(ErrorKind::Io, "cannot encode the model").because(e))?;
    Ok(bytes)
}

/// Refuses a message of more than `limit` bytes.
pub(super) fn check_size(proto: &ModelProto, limit: u64) -> Result<()> {
    let size = proto.encoded_len() as u64;
    if size <= limit {
        return Ok(());
    }
    let message = format!("the model takes {size} bytes and one file holds {limit}");
    Err(Error::new(ErrorKind::Unsupported, message).hint("keep its tensors as external data"))
}

/// The model as a message. Tensors share their bytes with the model.
pub(super) fn to_proto(model: &Model) -> Result<ModelProto> {
    let mut graph = GraphWriter::new(model.ir_version).write(&model.graph).in_model(&model.name)?;
    node_names::make_unique(&mut graph);
    let functions = model.functions.iter().map(|encoded| {
        FunctionProto::decode(encoded.as_slice()).map_err(|e| {
            Error::new(ErrorKind::Format, "a local function cannot be read").because(e)
        })
    });
    let opset = |(domain, &version): (&String, &i64)| OperatorSetIdProto {
        domain: Some(domain.clone()),
        version: Some(version),
    };
    Ok(ModelProto {
        ir_version: Some(model.ir_version),
        opset_import: model.opsets.iter().map(opset).collect(),
        producer_name: (!model.producer.is_empty()).then(|| model.producer.clone()),
        graph: Some(graph),
        metadata_props: model.metadata.iter().map(|(key, value)| entry(key, value)).collect(),
        functions: functions.collect::<Result<_>>().in_model(&model.name)?,
        ..ModelProto::default()
    })
}

/// A key with its value.
pub(super) fn entry(key: &str, value: &str) -> StringStringEntryProto {
    StringStringEntryProto { key: Some(key.to_owned()), value: Some(value.to_owned()) }
}

#[cfg(test)]
mod tests;
