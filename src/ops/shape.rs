//! Operators about shapes and types.

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

    fn flow(&self, _: &NodeView<'_>) -> Flow {
        // Channels may be permuted but not counted differently, which emission would do.
        Flow::whole("a computed shape")
    }
}

impl OpRule for Cast {
    fn ops(&self) -> &'static [&'static str] {
        &["Cast"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        same_axis(node, vec![Operand::Channels])
    }
}
