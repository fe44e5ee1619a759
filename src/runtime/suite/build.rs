//! Small ONNX files, written out for the tests.

use prost::Message;
use tract_onnx::pb;

use crate::ir::{DataType, Dim};

/// A graph under construction.
#[derive(Default)]
pub(super) struct Onnx(pb::GraphProto);

impl Onnx {
    pub(super) fn input(mut self, name: &str, dtype: DataType, dims: &[Dim]) -> Self {
        self.0.input.push(value(name, dtype, Some(dims)));
        self
    }

    /// An output with a name, but without type and shape.
    pub(super) fn output(mut self, name: &str) -> Self {
        self.0.output.push(pb::ValueInfoProto { name: name.into(), ..Default::default() });
        self
    }

    pub(super) fn typed_output(mut self, name: &str, dtype: DataType, dims: &[Dim]) -> Self {
        self.0.output.push(value(name, dtype, Some(dims)));
        self
    }

    pub(super) fn value_info(mut self, name: &str, dims: &[Dim]) -> Self {
        self.0.value_info.push(value(name, DataType::F32, Some(dims)));
        self
    }

    pub(super) fn unranked_input(mut self, name: &str) -> Self {
        self.0.input.push(value(name, DataType::F32, None));
        self
    }

    pub(super) fn floats(mut self, name: &str, dims: &[i64], values: &[f32]) -> Self {
        self.0.initializer.push(pb::TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: DataType::F32.code(),
            float_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    pub(super) fn ints(mut self, name: &str, values: &[i64]) -> Self {
        self.0.initializer.push(pb::TensorProto {
            name: name.into(),
            dims: vec![values.len() as i64],
            data_type: DataType::I64.code(),
            int64_data: values.to_vec(),
            ..Default::default()
        });
        self
    }

    /// Floats that lie in another file.
    pub(super) fn external(mut self, name: &str, dims: &[i64], location: &str) -> Self {
        let location =
            pb::StringStringEntryProto { key: "location".into(), value: location.into() };
        self.0.initializer.push(pb::TensorProto {
            name: name.into(),
            dims: dims.to_vec(),
            data_type: DataType::F32.code(),
            data_location: Some(pb::tensor_proto::DataLocation::External as i32),
            external_data: vec![location],
            ..Default::default()
        });
        self
    }

    /// A node named like its first output, with integer attributes.
    pub(super) fn node(
        mut self,
        op: &str,
        inputs: &[&str],
        outputs: &[&str],
        attributes: &[(&str, &[i64])],
    ) -> Self {
        let attribute = |(name, ints): &(&str, &[i64])| {
            use pb::attribute_proto::AttributeType;
            let single = matches!(*name, "transB" | "axis" | "group" | "to");
            pb::AttributeProto {
                name: name.to_string(),
                r#type: if single { AttributeType::Int } else { AttributeType::Ints } as i32,
                i: if single { ints[0] } else { 0 },
                ints: if single { vec![] } else { ints.to_vec() },
                ..Default::default()
            }
        };
        self.0.node.push(pb::NodeProto {
            name: outputs[0].into(),
            op_type: op.into(),
            input: inputs.iter().map(|name| name.to_string()).collect(),
            output: outputs.iter().map(|name| name.to_string()).collect(),
            attribute: attributes.iter().map(attribute).collect(),
            ..Default::default()
        });
        self
    }

    pub(super) fn bytes(mut self) -> Vec<u8> {
        self.0.name = "test".into();
        let opset = pb::OperatorSetIdProto { domain: String::new(), version: 13 };
        let model = pb::ModelProto {
            ir_version: 7,
            opset_import: vec![opset],
            graph: Some(self.0),
            ..Default::default()
        };
        model.encode_to_vec()
    }
}

fn value(name: &str, dtype: DataType, dims: Option<&[Dim]>) -> pb::ValueInfoProto {
    use pb::tensor_shape_proto::{Dimension, dimension::Value};
    let dim = |dim: &Dim| Dimension {
        value: match dim {
            Dim::Known(size) => Some(Value::DimValue(*size as i64)),
            Dim::Symbol(name) => Some(Value::DimParam(name.clone())),
            Dim::Formula(_) | Dim::Unknown => None,
        },
        ..Default::default()
    };
    let tensor = pb::type_proto::Tensor {
        elem_type: dtype.code(),
        shape: dims.map(|dims| pb::TensorShapeProto { dim: dims.iter().map(dim).collect() }),
    };
    pb::ValueInfoProto {
        name: name.into(),
        r#type: Some(pb::TypeProto {
            value: Some(pb::type_proto::Value::TensorType(tensor)),
            ..Default::default()
        }),
        ..Default::default()
    }
}
