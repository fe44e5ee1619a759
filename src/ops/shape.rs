//! Operators about shapes and types.

use super::elementwise::same_axis;
use super::{Flow, NodeView, OpRule, Operand, Together};

/// `Shape`.
pub struct Shape;
/// `Cast`.
pub struct Cast;

impl OpRule for Shape {
    fn ops(&self) -> &'static [&'static str] {
        &["Shape", "Size"]
    }

    fn flow(&self, _: &NodeView<'_>) -> Flow {
        // Pieces have fewer channels, but all of them together have the shape in any order.
        Flow::Together(Together {
            operands: vec![Operand::Channels],
            coupled: None,
            outputs: Vec::new(),
        })
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
