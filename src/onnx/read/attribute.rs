//! Attributes: `AttributeProto` → [`Attribute`].

use prost::Message;

use super::graph::GraphReader;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::Attribute;
use crate::onnx::proto::AttributeProto;
use crate::onnx::proto::attribute_proto::AttributeType as Kind;
use crate::onnx::tensor;

impl GraphReader<'_> {
    pub(super) fn attribute(&mut self, mut proto: AttributeProto) -> Result<Attribute> {
        let name = proto.name().to_owned();
        let empty = || Error::new(ErrorKind::Format, format!("attribute '{name}' has no value"));
        Ok(match kind(&proto) {
            Kind::Float => Attribute::Float(proto.f()),
            Kind::Int => Attribute::Int(proto.i()),
            Kind::String => Attribute::Str(proto.s.unwrap_or_default()),
            Kind::Tensor => {
                Attribute::Tensor(tensor::decode(proto.t.ok_or_else(empty)?, self.external)?)
            }
            Kind::Graph => Attribute::Graph(Box::new(self.read(proto.g.ok_or_else(empty)?)?)),
            Kind::Floats => Attribute::Floats(proto.floats),
            Kind::Ints => Attribute::Ints(proto.ints),
            Kind::Strings => Attribute::Strs(proto.strings),
            // Encoded graphs would hide which outer values they read.
            Kind::Graphs => {
                let message = format!("attribute '{name}' is a list of graphs");
                return Err(Error::new(ErrorKind::Unsupported, message));
            }
            _ => {
                self.external.inline_attribute(&mut proto)?;
                Attribute::Encoded(proto.encode_to_vec())
            }
        })
    }
}

/// The kind of an attribute. The first version of the format has no field for it, so the kind follows
/// from the value. A reference to a function's attribute has a kind but no value.
fn kind(proto: &AttributeProto) -> Kind {
    if proto.ref_attr_name.as_ref().is_some_and(|name| !name.is_empty()) {
        return Kind::Undefined;
    }
    match proto.r#type() {
        Kind::Undefined => kind_of_value(proto),
        known => known,
    }
}

fn kind_of_value(proto: &AttributeProto) -> Kind {
    [
        (proto.f.is_some(), Kind::Float),
        (proto.i.is_some(), Kind::Int),
        (proto.s.is_some(), Kind::String),
        (proto.t.is_some(), Kind::Tensor),
        (proto.g.is_some(), Kind::Graph),
        (!proto.floats.is_empty(), Kind::Floats),
        (!proto.ints.is_empty(), Kind::Ints),
        (!proto.strings.is_empty(), Kind::Strings),
        (!proto.graphs.is_empty(), Kind::Graphs),
    ]
    .into_iter()
    .find_map(|(present, kind)| present.then_some(kind))
    .unwrap_or(Kind::Undefined)
}
