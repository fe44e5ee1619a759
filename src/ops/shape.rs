//! Operators about shapes and types.

use crate::ir::{DataType, Dim, TensorType};

use super::elementwise::same_axis;
use super::{Flow, NodeView, OpRule, Operand};

/// `Shape`.
pub struct Shape;
/// `Cast`.
pub struct Cast;

impl OpRule for Shape {
    fn ops(&self) -> &'static [&'static str] {
        &["Shape"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let whole = node.node.int("start", 0) == 0 && !node.node.attributes.contains_key("end");
        let shape = node.shape(0).filter(|_| whole).map(|s| vec![Dim::Known(s.len())]);
        vec![Some(TensorType { dtype: DataType::I64, shape })]
    }

    fn flow(&self, _: &NodeView<'_>) -> Flow {
        // Permuted channels would do, but pieces have fewer channels, so the shape would change.
        Flow::whole("a computed shape")
    }
}

impl OpRule for Cast {
    fn ops(&self) -> &'static [&'static str] {
        &["Cast"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let to = i32::try_from(node.node.int("to", 0)).map(DataType::from_code);
        let cast = node.ty(0).and_then(|t| Some(TensorType { dtype: to.ok()?, shape: t.shape }));
        vec![cast]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        same_axis(node, vec![Operand::Channels])
    }
}
