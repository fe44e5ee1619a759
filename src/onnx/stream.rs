//! Writing a model message as a stream.
//!
//! The encoder of the protobuf library wants the whole message in memory. Here the model is encoded
//! piece by piece and the bytes of tensors go straight to the writer, so saving needs no second copy
//! of the weights. Fields may stand in any order in a protobuf message.

use std::io::{self, Write};

use bytes::Bytes;
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint};

use super::proto::{GraphProto, ModelProto, TensorProto};

const MODEL_GRAPH: u32 = 7;
const GRAPH_NODE: u32 = 1;
const GRAPH_INITIALIZER: u32 = 5;
const TENSOR_RAW_DATA: u32 = 9;

/// Writes the message.
pub(super) fn write_model(mut model: ModelProto, out: &mut impl Write) -> io::Result<()> {
    let graph = model.graph.take().unwrap_or_default();
    out.write_all(&model.encode_to_vec())?;
    header(MODEL_GRAPH, graph.encoded_len(), out)?;
    write_graph(graph, out)
}

fn write_graph(mut graph: GraphProto, out: &mut impl Write) -> io::Result<()> {
    let nodes = std::mem::take(&mut graph.node);
    let initializers = std::mem::take(&mut graph.initializer);
    out.write_all(&graph.encode_to_vec())?;
    for node in nodes {
        header(GRAPH_NODE, node.encoded_len(), out)?;
        out.write_all(&node.encode_to_vec())?;
    }
    for tensor in initializers {
        header(GRAPH_INITIALIZER, tensor.encoded_len(), out)?;
        write_tensor(tensor, out)?;
    }
    Ok(())
}

fn write_tensor(mut tensor: TensorProto, out: &mut impl Write) -> io::Result<()> {
    let raw: Option<Bytes> = tensor.raw_data.take();
    out.write_all(&tensor.encode_to_vec())?;
    if let Some(raw) = raw {
        header(TENSOR_RAW_DATA, raw.len(), out)?;
        out.write_all(&raw)?;
    }
    Ok(())
}

/// Announces a field of `length` bytes.
fn header(field: u32, length: usize, out: &mut impl Write) -> io::Result<()> {
    let mut bytes = Vec::new();
    encode_key(field, WireType::LengthDelimited, &mut bytes);
    encode_varint(length as u64, &mut bytes);
    out.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::proto::{NodeProto, StringStringEntryProto};

    #[test]
    fn the_stream_is_the_encoded_message() {
        let tensor = |name: &str, raw: &'static [u8]| TensorProto {
            name: Some(name.into()),
            dims: vec![raw.len() as i64],
            raw_data: Some(Bytes::from_static(raw)),
            ..TensorProto::default()
        };
        let node = NodeProto { op_type: Some("Relu".into()), ..NodeProto::default() };
        let graph = GraphProto {
            name: Some("g".into()),
            node: vec![node.clone(), node],
            initializer: vec![tensor("a", &[1; 300]), tensor("empty", &[])],
            ..GraphProto::default()
        };
        let entry = StringStringEntryProto { key: Some("k".into()), value: Some("v".into()) };
        let model = ModelProto {
            ir_version: Some(8),
            graph: Some(graph),
            metadata_props: vec![entry],
            ..ModelProto::default()
        };
        let mut stream = Vec::new();
        write_model(model.clone(), &mut stream).unwrap();
        assert_eq!(stream.len(), model.encoded_len());
        assert_eq!(ModelProto::decode(stream.as_slice()).unwrap(), model);
    }
}
