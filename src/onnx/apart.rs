//! Encodes a model apart from its large tensors, for a reader in the same process.

use super::data_file::move_out;
use super::write::{FIRST_IR_WITH_CONSTANTS, PROTOBUF_LIMIT, check_size, to_proto, written};
use crate::error::{Context, Result};
use crate::ir::{DataType, Model, Tensor};

/// Tensors of at least this size in bytes are kept apart.
const LARGE: usize = 1 << 16;

/// Name of the external data file in the message. The file does not exist.
const BESIDE: &str = "weights";

/// An encoded model and its large tensors. The tensors share their bytes with the model.
pub(crate) struct Apart {
    /// The message; it names the tensors as external data.
    pub(crate) message: Vec<u8>,
    /// The tensors by name.
    pub(crate) tensors: Vec<(String, Tensor)>,
}

/// Encodes a model, and keeps its large tensors apart if `is_apart` accepts their type. Tensors of
/// sub-graphs stay in the message.
///
/// # Errors
/// As [`super::encode`].
pub(crate) fn encode_apart(model: &Model, is_apart: impl Fn(DataType) -> bool) -> Result<Apart> {
    let mut proto = to_proto(model)?;
    let mut tensors = Vec::new();
    // In older versions initializers are also inputs, so a caller may feed other values.
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
