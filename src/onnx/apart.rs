//! A model as a message and its large tensors beside it, for a reader in the same process.

use super::data_file::move_out;
use super::write::{FIRST_IR_WITH_CONSTANTS, PROTOBUF_LIMIT, check_size, to_proto, written};
use crate::error::{Context, Result};
use crate::ir::{DataType, Model, Tensor};

/// Bytes from which on a tensor is worth a place of its own.
const LARGE: usize = 1 << 16;

/// What the file of tensors beside a message is called, which nobody looks for.
const BESIDE: &str = "weights";

/// A model as bytes without its large tensors, which share their bytes with the model.
pub(crate) struct Apart {
    /// The message; it names the tensors as external data.
    pub(crate) message: Vec<u8>,
    /// The tensors by name.
    pub(crate) tensors: Vec<(String, Tensor)>,
}

/// Large tensors of types that `is_apart` names stand beside the message; those of sub-graphs stay in it.
///
/// # Errors
/// As [`super::encode`].
pub(crate) fn encode_apart(model: &Model, is_apart: impl Fn(DataType) -> bool) -> Result<Apart> {
    let mut proto = to_proto(model)?;
    let mut tensors = Vec::new();
    // Before this version, initializers are inputs, which may be fed.
    let initializers = proto.graph.iter_mut().flat_map(|graph| &mut graph.initializer);
    for tensor in initializers.filter(|_| model.ir_version >= FIRST_IR_WITH_CONSTANTS) {
        let dtype = DataType::from_code(tensor.data_type());
        let is_large = tensor.raw_data.as_ref().is_some_and(|raw| raw.len() >= LARGE);
        if !is_large || !is_apart(dtype) {
            continue;
        }
        let dims = tensor.dims.iter().map(|d| usize::try_from(*d).unwrap_or(0)).collect();
        let data = move_out(tensor, BESIDE, 0);
        tensors.push((tensor.name().to_owned(), Tensor { dtype, dims, data }));
    }
    check_size(&proto, PROTOBUF_LIMIT).in_model(&model.name)?;
    Ok(Apart { message: written(proto).in_model(&model.name)?, tensors })
}
