//! Names of nodes and values.

/// Names a node of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub(super) u32);

/// Names a value of one graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub(super) u32);

impl NodeId {
    /// Position in per-node tables.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

impl ValueId {
    /// Position in per-value tables of length [`super::Graph::value_count`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}
