//! Encodes a model apart from its large tensors, for a reader in the same process.

use std::collections::BTreeSet;

use bytes::Bytes;

use super::data_file::move_out;
use super::proto::{GraphProto, TensorProto, ValueInfoProto};
use super::types;
use super::write::{FIRST_IR_WITH_CONSTANTS, PROTOBUF_LIMIT, check_size, to_proto, written};
use crate::error::{Context, Result};
use crate::ir::{DataType, Model, Tensor};

/// Tensors of at least this size in bytes are kept apart.
const LARGE: usize = 1 << 16;

/// Name of the external data file in the message. The file does not exist.
const BESIDE: &str = "weights";

/// An encoded model and its large tensors. The tensors share their bytes with the model.
pub(crate) struct Apart {
    /// The message; it names `tensors` as external data, and `fed` as its last inputs.
    pub(crate) message: Vec<u8>,
    /// Tensors that the reader holds, by name.
    pub(crate) tensors: Vec<(String, Tensor)>,
    /// Tensors that are fed with every run, in the order of the inputs.
    pub(crate) fed: Vec<(String, Tensor)>,
}

/// Encodes a model, and keeps its large tensors apart if `is_apart` accepts their type. Tensors of
/// sub-graphs stay in the message. If large tensors have at least `heavy` bytes together, those that are
/// only factors of products become inputs: products need not know their factors beforehand.
///
/// # Errors
/// As [`super::encode`].
pub(crate) fn encode_apart(
    model: &Model,
    is_apart: impl Fn(DataType) -> bool,
    heavy: usize,
) -> Result<Apart> {
    let mut proto = to_proto(model)?;
    let (mut tensors, mut fed) = (Vec::new(), Vec::new());
    // In older versions initializers are also inputs, so a caller may feed other values.
    let graph = proto.graph.as_mut().filter(|_| model.ir_version >= FIRST_IR_WITH_CONSTANTS);
    if let Some(graph) = graph {
        let size = |tensor: &TensorProto| tensor.raw_data.as_ref().map_or(0, Bytes::len);
        let is_large = |tensor: &TensorProto| {
            size(tensor) >= LARGE && is_apart(DataType::from_code(tensor.data_type()))
        };
        let all: usize = graph.initializer.iter().filter(|t| is_large(t)).map(size).sum();
        let factors = if all >= heavy { factors(graph) } else { BTreeSet::new() };
        for mut tensor in std::mem::take(&mut graph.initializer) {
            let name = tensor.name().to_owned();
            match (is_large(&tensor), factors.contains(&name)) {
                (true, true) => {
                    let taken = taken(&mut tensor);
                    let ty = Some(types::encode(&taken.ty()));
                    let name = Some(name);
                    graph.input.push(ValueInfoProto { name, r#type: ty, ..Default::default() });
                    fed.push((tensor.name().to_owned(), taken));
                }
                (true, false) => {
                    tensors.push((name, taken(&mut tensor)));
                    graph.initializer.push(tensor);
                }
                (false, _) => graph.initializer.push(tensor),
            }
        }
    }
    check_size(&proto, PROTOBUF_LIMIT).in_model(&model.name)?;
    Ok(Apart { message: written(proto).in_model(&model.name)?, tensors, fed })
}

/// Takes the elements out of a message, which then refers to them.
fn taken(tensor: &mut TensorProto) -> Tensor {
    let dtype = DataType::from_code(tensor.data_type());
    let dims = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
    Tensor { dtype, dims, data: move_out(tensor, BESIDE, 0) }
}

/// Operators whose second input is a factor like their first.
const PRODUCTS: [&str; 2] = ["Gemm", "MatMul"];

/// Values that nodes read as second factors of products only.
fn factors(graph: &GraphProto) -> BTreeSet<String> {
    let (mut factors, mut others) = (BTreeSet::new(), BTreeSet::new());
    for node in &graph.node {
        let is_product = node.domain().is_empty() && PRODUCTS.contains(&node.op_type());
        for (place, name) in node.input.iter().enumerate() {
            let to = if is_product && place == 1 { &mut factors } else { &mut others };
            to.insert(name.clone());
        }
    }
    others.extend(graph.output.iter().map(|output| output.name().to_owned()));
    factors.retain(|name| !others.contains(name));
    factors
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn only_factors_of_heavy_models_become_inputs() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,200");
        let factor = b.weights("factor", &[200, 200]);
        let small = b.weights("small", &[200, 3]);
        let both = b.weights("both", &[200, 200]);
        let mut y = b.op("MatMul", "first", &[x, factor], []);
        y = b.op("MatMul", "second", &[y, both], []);
        let moved = b.op("Relu", "relu", &[both], []);
        y = b.op("MatMul", "third", &[y, moved], []);
        y = b.op("MatMul", "last", &[y, small], []);
        let model = b.build(&[y]);
        let names = |tensors: &[(String, Tensor)]| -> Vec<String> {
            tensors.iter().map(|(name, _)| name.clone()).collect()
        };
        let heavy = encode_apart(&model, |_| true, 2 * 160_000).unwrap();
        assert_eq!(
            (names(&heavy.fed), names(&heavy.tensors)),
            (vec!["factor".into()], vec!["both".into()])
        );
        let light = encode_apart(&model, |_| true, 2 * 160_000 + 1).unwrap();
        assert_eq!(names(&light.tensors), ["factor", "both"]);
        assert!(light.fed.is_empty());
    }
}
