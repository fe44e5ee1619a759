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
        if let Some((numbers, codes)) = along(codes, tensor) {
            let names = ["codes", "scale", "zero"].map(|part| claim(&format!("{name}.{part}")));
            all.insert(*id, one(name, &names, &numbers, &codes)?);
        }
    }
    Ok(all)
}

/// The numbers that stand for a constant, and their codes along the axis of the constant.
fn along(codes: &Codes, tensor: &Tensor) -> Option<(Tensor, Codes)> {
    let (numbers, axis) = codes.encode(tensor)?;
    Some((numbers, codes.along(axis)?))
}

fn attribute(name: &str, number: usize) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(number as i64),
        ..AttributeProto::default()
    }
}

fn one(name: &str, names: &[String; 3], numbers: &Tensor, codes: &Codes) -> Result<Stored> {
    let parts = [Some(numbers), Some(&codes.scale), codes.zero.as_ref()];
    let named: Vec<(&String, &Tensor)> =
        names.iter().zip(parts).filter_map(|(name, part)| Some((name, part?))).collect();
    let tensors = named.iter().map(|(name, tensor)| tensor::encode(name, tensor));
    let blocks = codes.scale.dims.get(codes.axis).filter(|_| codes.is_blocked());
    let size = blocks.and_then(|blocks| numbers.dims.get(codes.axis)?.checked_div(*blocks));
    let axis = (!codes.is_uniform()).then(|| attribute("axis", codes.axis));
    let size = size.map(|size| attribute("block_size", size));
    let node = NodeProto {
        name: Some(format!("{name}.floats")),
        op_type: Some("DequantizeLinear".to_owned()),
        input: named.iter().map(|(name, _)| (*name).clone()).collect(),
        output: vec![name.to_owned()],
        attribute: axis.into_iter().chain(size).collect(),
        ..NodeProto::default()
    };
    Ok(Stored { node, tensors: tensors.collect::<Result<_>>()? })
}
