//! Writes quantised constants as integers with a scale, and those of half precision with a `Cast`. A `Flatten`, which
//! changes nothing, keeps apart what ONNX Runtime must not compute by operators of less precision.

use std::collections::BTreeMap;

use ndarray::Array1;

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Codes, DataType, Factors, Graph, Tensor, ValueId};
use crate::onnx::proto::attribute_proto::AttributeType;
use crate::onnx::proto::{AttributeProto, NodeProto, TensorProto};
use crate::onnx::tensor;

/// Elements from which half precision saves more than its `Cast` takes.
const FEWEST_HALVES: usize = 128;

/// A constant in few bits.
pub(super) struct Stored {
    /// The `DequantizeLinear` or `Cast` that computes its floats, and what keeps it apart from a product.
    pub(super) nodes: Vec<NodeProto>,
    /// The initializers that the node reads.
    pub(super) tensors: Vec<TensorProto>,
}

/// Those of `constants` that integers or half precision encode exactly. A constant that is an output stays as it is.
/// `claim` gives names for the initializers that replace a constant.
pub(super) fn stored(
    graph: &Graph,
    constants: &[(ValueId, String)],
    mut claim: impl FnMut(&str) -> String,
) -> Result<BTreeMap<ValueId, Stored>> {
    let (mut all, factors) = (BTreeMap::new(), Factors::of(graph));
    for (id, name) in constants.iter().filter(|(id, _)| !graph.outputs.contains(id)) {
        let (Some(tensor), Some(codes)) = (graph.initializer(*id), graph.codes(*id)) else {
            continue;
        };
        if let Some((numbers, codes)) = along(codes, tensor) {
            let names = ["codes", "scale", "zero"].map(|part| claim(&format!("{name}.{part}")));
            let placed = if codes.is_in_order() { None } else { codes.in_places(&numbers) };
            let is_apart = !codes.direct && factors.round_data(*id, tensor, &codes);
            let floats = (is_apart || placed.is_some()).then(|| claim(&format!("{name}.floats")));
            let output = floats.as_ref().unwrap_or(name);
            let whole = placed.as_ref().unwrap_or(&numbers);
            let mut stored = one(name, output, &names, (whole, &codes))?;
            let places = codes.places.as_ref().filter(|_| placed.is_some());
            if let (Some(floats), Some(places)) = (&floats, places) {
                let places_name = claim(&format!("{name}.places"));
                stored.tensors.push(numbered(&places_name, places)?);
                stored.nodes.push(in_order(name, [floats, &places_name], codes.axis));
            } else if let Some(floats) = &floats {
                stored.nodes.push(kept_apart(name, floats));
            }
            all.insert(*id, stored);
        }
    }
    Ok(all)
}

/// The numbers that encode a constant, and their codes along the axis of the constant.
fn along(codes: &Codes, tensor: &Tensor) -> Option<(Tensor, Codes)> {
    let is_small = codes.is_half() && tensor.len() < FEWEST_HALVES;
    if is_small || codes.scale.dims.len() > tensor.dims.len() {
        return None;
    }
    let (numbers, axis) = codes.encode(tensor)?;
    let codes = codes.along(axis)?;
    let is_placed = codes.is_in_order() || codes.in_places(&numbers).is_some();
    is_placed.then_some((numbers, codes))
}

fn attribute(name: &str, number: i64) -> AttributeProto {
    AttributeProto {
        name: Some(name.to_owned()),
        r#type: Some(AttributeType::Int as i32),
        i: Some(number),
        ..AttributeProto::default()
    }
}

/// `output` is the name of the floats.
fn one(
    name: &str,
    output: &str,
    names: &[String; 3],
    (numbers, codes): (&Tensor, &Codes),
) -> Result<Stored> {
    match codes.is_half() {
        true => widened(name, names, numbers, codes.scale.dtype),
        false => dequantised(name, output, names, (numbers, codes)),
    }
}

/// A node that picks entries of floats, which lie in other places.
fn in_order(name: &str, inputs: [&String; 2], axis: usize) -> NodeProto {
    NodeProto {
        name: Some(format!("{name}.apart")),
        op_type: Some("Gather".to_owned()),
        input: inputs.map(String::clone).to_vec(),
        output: vec![name.to_owned()],
        attribute: vec![attribute("axis", axis as i64)],
        ..NodeProto::default()
    }
}

/// Places as a constant of a file.
fn numbered(name: &str, places: &[usize]) -> Result<TensorProto> {
    let numbers: Array1<i64> = places.iter().map(|place| *place as i64).collect();
    let tensor = Tensor::from_ints(DataType::I32, &numbers.into_dyn()).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "a constant in few bits has too many entries")
            .hint("store it as floats")
    })?;
    tensor::encode(name, &tensor)
}

/// A node that returns a matrix as it is.
fn kept_apart(name: &str, floats: &str) -> NodeProto {
    NodeProto {
        name: Some(format!("{name}.apart")),
        op_type: Some("Flatten".to_owned()),
        input: vec![floats.to_owned()],
        output: vec![name.to_owned()],
        attribute: vec![attribute("axis", 1)],
        ..NodeProto::default()
    }
}

/// A constant of half precision behind a `Cast` to type `wide`.
fn widened(name: &str, names: &[String; 3], half: &Tensor, wide: DataType) -> Result<Stored> {
    let [codes, ..] = names;
    let node = NodeProto {
        name: Some(format!("{name}.floats")),
        op_type: Some("Cast".to_owned()),
        input: vec![codes.clone()],
        output: vec![name.to_owned()],
        attribute: vec![attribute("to", wide.code().into())],
        ..NodeProto::default()
    };
    Ok(Stored { nodes: vec![node], tensors: vec![tensor::encode(codes, half)?] })
}

fn dequantised(
    name: &str,
    output: &str,
    names: &[String; 3],
    (numbers, codes): (&Tensor, &Codes),
) -> Result<Stored> {
    let parts = [Some(numbers), Some(&codes.scale), codes.zero.as_ref()];
    let named: Vec<(&String, &Tensor)> =
        names.iter().zip(parts).filter_map(|(name, part)| Some((name, part?))).collect();
    let tensors = named.iter().map(|(name, tensor)| tensor::encode(name, tensor));
    let blocks = codes.scale.dims.get(codes.axis).filter(|_| codes.is_blocked());
    let size = blocks.and_then(|blocks| match codes.block {
        0 => numbers.dims.get(codes.axis)?.checked_div(*blocks),
        size => Some(size),
    });
    let axis = (!codes.is_uniform()).then(|| attribute("axis", codes.axis as i64));
    let size = size.map(|size| attribute("block_size", size as i64));
    let node = NodeProto {
        name: Some(format!("{name}.floats")),
        op_type: Some("DequantizeLinear".to_owned()),
        input: named.iter().map(|(name, _)| (*name).clone()).collect(),
        output: vec![output.to_owned()],
        attribute: axis.into_iter().chain(size).collect(),
        ..NodeProto::default()
    };
    Ok(Stored { nodes: vec![node], tensors: tensors.collect::<Result<_>>()? })
}
