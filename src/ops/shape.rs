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
        // Needs all channels, since a piece has fewer of them; their order does not matter.
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
