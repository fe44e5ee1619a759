//! Attributes: [`Attribute`] → `AttributeProto`.

use prost::Message;

use super::graph::GraphWriter;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Attribute;
use crate::onnx::proto::AttributeProto;
use crate::onnx::proto::attribute_proto::AttributeType as Kind;
use crate::onnx::tensor;

impl GraphWriter<'_> {
    pub(super) fn attribute(&self, name: &str, attribute: &Attribute) -> Result<AttributeProto> {
        let mut proto = AttributeProto::default();
        let kind = match attribute {
            Attribute::Int(v) => {
                proto.i = Some(*v);
                Kind::Int
            }
            Attribute::Float(v) => {
                proto.f = Some(*v);
                Kind::Float
            }
            Attribute::Str(v) => {
                proto.s = Some(v.clone());
                Kind::String
            }
            Attribute::Tensor(v) => {
                proto.t = Some(tensor::encode("", v)?);
                Kind::Tensor
            }
            Attribute::Graph(v) => {
                proto.g = Some(self.write(v)?);
                Kind::Graph
            }
            Attribute::Ints(v) => {
                proto.ints.clone_from(v);
                Kind::Ints
            }
            Attribute::Floats(v) => {
                proto.floats.clone_from(v);
                Kind::Floats
            }
            Attribute::Strs(v) => {
                proto.strings.clone_from(v);
                Kind::Strings
            }
            Attribute::Encoded(v) => {
                proto = decode(name, v)?;
                proto.r#type()
            }
        };
        proto.name = Some(name.to_owned());
        proto.set_type(kind);
        Ok(proto)
    }
}

fn decode(name: &str, encoded: &[u8]) -> Result<AttributeProto> {
    AttributeProto::decode(encoded).map_err(|e| {
        Error::new(ErrorKind::Format, format!("attribute '{name}' cannot be read")).because(e)
    })
}
