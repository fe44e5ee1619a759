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
        // Permuted channels would do, but pieces have fewer channels, so the shape would change.
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
