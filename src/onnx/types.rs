//! Types of values: `TypeProto` ⇄ [`TensorType`].

use prost::Message;

use super::proto::tensor_shape_proto::{Dimension, dimension};
use super::proto::{TensorShapeProto, TypeProto, type_proto};
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{DataType, Dim, Graph, TensorType, Value, ValueId};

/// Limit of the length of a size's name: names are copied from value to value.
const LONGEST_NAME: usize = 256;

/// Gives a value the type that a file declares for it.
pub(super) fn declare(graph: &mut Graph, id: ValueId, declared: Option<TypeProto>) {
    let Some(declared) = declared else { return };
    match &declared.value {
        Some(type_proto::Value::TensorType(tensor)) => graph.set_type(id, Some(decode(tensor))),
        Some(_) => {
            graph.set_foreign_type(id, declared.encode_to_vec());
            if let Some(element) = element(&declared) {
                graph.set_element(id, element);
            }
        }
        None => {}
    }
}

/// The type of the tensors in a sequence or an optional value.
fn element(declared: &TypeProto) -> Option<TensorType> {
    let inner = match declared.value.as_ref()? {
        type_proto::Value::SequenceType(sequence) => sequence.elem_type.as_deref()?,
        type_proto::Value::OptionalType(optional) => optional.elem_type.as_deref()?,
        _ => return None,
    };
    match inner.value.as_ref()? {
        type_proto::Value::TensorType(tensor) => Some(decode(tensor)),
        _ => None,
    }
}

/// What a value without a tensor type is, e.g. a `sequence of maps`.
pub fn kind(value: &Value) -> &'static str {
    let Some(encoded) = &value.foreign_type else { return "unknown" };
    let Ok(TypeProto { value: Some(kind), .. }) = TypeProto::decode(encoded.as_slice()) else {
        return "unknown";
    };
    match kind {
        type_proto::Value::TensorType(_) => "tensor",
        type_proto::Value::SparseTensorType(_) => "sparse tensor",
        type_proto::Value::OptionalType(_) => "optional",
        type_proto::Value::MapType(_) => "map",
        type_proto::Value::OpaqueType(_) => "opaque",
        type_proto::Value::SequenceType(sequence) => {
            let element = sequence.elem_type.and_then(|element| element.value);
            match element {
                Some(type_proto::Value::MapType(_)) => "sequence of maps",
                Some(type_proto::Value::TensorType(_)) => "sequence of tensors",
                _ => "sequence",
            }
        }
    }
}

/// The type to write for a value, where one is known.
pub(super) fn declared(value: &Value) -> Result<Option<TypeProto>> {
    match (&value.ty, &value.foreign_type) {
        (Some(ty), _) => Ok(Some(encode(ty))),
        (None, Some(encoded)) => TypeProto::decode(encoded.as_slice()).map(Some).map_err(|e| {
            let message = format!("value '{}' has a type that cannot be read", value.name);
            Error::new(ErrorKind::Format, message).because(e)
        }),
        (None, None) => Ok(None),
    }
}

/// A dense tensor's type. Exporters write sizes of zero and below where they mean "not known".
fn decode(proto: &type_proto::Tensor) -> TensorType {
    let dim = |d: &Dimension| match &d.value {
        Some(dimension::Value::DimValue(size @ 1..)) => {
            usize::try_from(*size).map_or(Dim::Unknown, Dim::Known)
        }
        Some(dimension::Value::DimParam(name))
            if !is_placeholder(name) && name.len() <= LONGEST_NAME =>
        {
            Dim::Symbol(name.clone())
        }
        _ => Dim::Unknown,
    };
    TensorType {
        dtype: DataType::from_code(proto.elem_type()),
        shape: proto.shape.as_ref().map(|shape| shape.dim.iter().map(dim).collect()),
    }
}

/// A dense tensor's type.
pub(super) fn encode(ty: &TensorType) -> TypeProto {
    let dim = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Known(size) => Some(dimension::Value::DimValue(*size as i64)),
            Dim::Symbol(name) => Some(dimension::Value::DimParam(name.clone())),
            // Readers would take a formula for a name.
            Dim::Formula(_) | Dim::Unknown => None,
        },
        denotation: None,
    };
    let tensor = type_proto::Tensor {
        elem_type: Some(ty.dtype.code()),
        shape: ty
            .shape
            .as_ref()
            .map(|shape| TensorShapeProto { dim: shape.iter().map(dim).collect() }),
    };
    TypeProto { value: Some(type_proto::Value::TensorType(tensor)), denotation: None }
}

/// Whether an exporter wrote this for an unknown size. It must not count as a name, since extents with
/// equal names are equal.
fn is_placeholder(name: &str) -> bool {
    matches!(name.trim(), "" | "?" | "-1" | "*") || name.trim().eq_ignore_ascii_case("none")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(proto: &TypeProto) -> &type_proto::Tensor {
        match &proto.value {
            Some(type_proto::Value::TensorType(tensor)) => tensor,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn tensor_types_round_trip() {
        let dims = vec![Dim::Known(3), Dim::Symbol("batch".into()), Dim::Unknown];
        for shape in [Some(dims), Some(Vec::new()), None] {
            for dtype in [DataType::F32, DataType::Bool, DataType::Other(8)] {
                let ty = TensorType { dtype, shape: shape.clone() };
                assert_eq!(decode(tensor(&encode(&ty))), ty);
            }
        }
    }

    #[test]
    fn sizes_below_one_and_placeholders_are_unknown() {
        for value in [
            dimension::Value::DimValue(0),
            dimension::Value::DimValue(-1),
            dimension::Value::DimParam(String::new()),
            dimension::Value::DimParam("?".to_owned()),
            dimension::Value::DimParam("None".to_owned()),
        ] {
            let dim = Dimension { value: Some(value), denotation: None };
            let shape = Some(TensorShapeProto { dim: vec![dim] });
            let ty = decode(&type_proto::Tensor { elem_type: Some(1), shape });
            assert_eq!(ty.shape, Some(vec![Dim::Unknown]));
        }
    }

    #[test]
    fn a_sequence_type_is_carried_as_it_is() {
        let sequence = type_proto::Sequence {
            elem_type: Some(Box::new(encode(&TensorType { dtype: DataType::F32, shape: None }))),
        };
        let proto = TypeProto {
            value: Some(type_proto::Value::SequenceType(Box::new(sequence))),
            denotation: None,
        };
        let mut graph = Graph::new("g");
        let id = graph.add_value("s", crate::ir::ValueKind::Input, None);
        declare(&mut graph, id, Some(proto.clone()));
        assert_eq!(graph.value(id).ty, None);
        assert_eq!(graph.value(id).element.as_ref().map(|t| t.dtype), Some(DataType::F32));
        assert_eq!(declared(graph.value(id)).unwrap(), Some(proto));
    }
}
