//! Operators of the domain `ai.onnx.ml` that keep the shape of their operand.

use crate::ir::{DataType, TensorType};

use super::super::NodeView;
use super::{Rows, alike, one};

pub(super) const RULES: Rows = &[
    (&["Scaler", "Normalizer"], floats),
    (&["Imputer", "Binarizer"], alike),
    (&["LabelEncoder", "CategoryMapper"], labels),
];

fn floats(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    one(DataType::F32, node.shape(0))
}

/// The attribute with the values of a table gives their type. Without one, names become numbers, or numbers
/// become names.
fn labels(node: &NodeView<'_>) -> Vec<Option<TensorType>> {
    let has = |name: &str| node.node.attributes.contains_key(name);
    let tables = [
        ("values_int64s", DataType::I64),
        ("values_floats", DataType::F32),
        ("values_strings", DataType::STRING),
    ];
    let named = tables.iter().find(|(name, _)| has(name)).map(|(_, dtype)| *dtype);
    let of_names = node.ty(0).map(|ty| ty.dtype == DataType::STRING);
    let dtype = match (named, of_names) {
        (Some(dtype), _) => dtype,
        (None, _) if has("values_tensor") => return vec![None],
        (None, Some(true)) => DataType::I64,
        (None, Some(false)) => DataType::STRING,
        (None, None) => return vec![None],
    };
    one(dtype, node.shape(0))
}
