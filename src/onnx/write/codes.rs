//! Writes quantised constants as integers with a scale.

use std::collections::BTreeMap;

use crate::error::Result;
use crate::ir::{Codes, Graph, Tensor, ValueId};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::tensor;

/// A quantised constant.
pub(super) struct Stored {
    /// The `DequantizeLinear` that computes its floats.
    pub(super) node: NodeProto,
    /// The initializers that the node reads.
    pub(super) tensors: Vec<TensorProto>,
}

/// Those of `constants` that integers encode exactly. A constant that is an output stays as it is.
/// `claim` gives names for the initializers that replace a constant.
pub(super) fn stored(
    graph: &Graph,
    constants: &[(ValueId, String)],
    mut claim: impl FnMut(&str) -> String,
) -> Result<BTreeMap<ValueId, Stored>> {
    let mut all = BTreeMap::new();
    for (id, name) in constants.iter().filter(|(id, _)| !graph.outputs.contains(id)) {
        let (Some(tensor), Some(codes)) = (graph.initializer(*id), graph.codes(*id)) else {
            continue;
        };
        if let Some((numbers, axis)) = codes.encode(tensor) {
            let names = ["codes", "scale", "zero"].map(|part| claim(&format!("{name}.{part}")));
            all.insert(*id, one(name, &names, &numbers, axis, codes)?);
        }
    }
    Ok(all)
}

fn one(
    name: &str,
    names: &[String; 3],
    numbers: &Tensor,
    axis: usize,
    codes: &Codes,
) -> Result<Stored> {
    let parts = [Some(numbers), Some(&codes.scale), codes.zero.as_ref()];
    let named: Vec<(&String, &Tensor)> =
        names.iter().zip(parts).filter_map(|(name, part)| Some((name, part?))).collect();
    let tensors = named.iter().map(|(name, tensor)| tensor::encode(name, tensor));
    let axis = AttributeProto {
        name: Some("axis".to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(axis as i64),
        ..AttributeProto::default()
    };
    let node = NodeProto {
        name: Some(format!("{name}.floats")),
        op_type: Some("DequantizeLinear".to_owned()),
        input: named.iter().map(|(name, _)| (*name).clone()).collect(),
        output: vec![name.to_owned()],
        attribute: if codes.is_uniform() { Vec::new() } else { vec![axis] },
        ..NodeProto::default()
    };
    Ok(Stored { node, tensors: tensors.collect::<Result<_>>()? })
}
