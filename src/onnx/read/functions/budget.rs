//! The budget of inlining local functions: a short call may stand for a large body, and bodies hold further calls.

use prost::Message;

use crate::error::{Error, ErrorKind, Result};
use crate::onnx::proto::{FunctionProto, ModelProto, NodeProto};

/// Limit of nodes. Nested calls can expand to any number.
const MOST_NODES: usize = 250_000;

/// Nodes, calls included, that any model may have, and for each node of its file. Functions that call each other in
/// turn expand by more, while later work takes longer than in proportion to nodes.
const FREE_NODES: usize = 10_000;
const NODES_PER_NODE: usize = 64;

/// Limit of bytes of memory by which bodies may exceed the functions' own: enough for as many nodes as are
/// allowed, but not for weights that every call repeats.
const GROWTH: usize = 1 << 30;

/// Bytes of an entry in a list of names, and of the note that a part of a name is taken.
const ENTRY: usize = 32;

/// The remaining budget of one model.
pub(super) struct Budget {
    nodes: usize,
    most_nodes: usize,
    bytes: usize,
    most: usize,
}

impl Budget {
    /// The budget for a model. Each of its functions may be inlined once whatever its size is.
    pub(super) fn of(model: &ModelProto) -> Self {
        let stored: usize = model.functions.iter().map(Message::encoded_len).sum();
        let own = model.graph.as_ref().map_or(0, |graph| count(&graph.node));
        let body = |function: &FunctionProto| count(&function.node);
        let nodes = model.functions.iter().map(body).fold(own, usize::saturating_add);
        let most = FREE_NODES.saturating_add(nodes.saturating_mul(NODES_PER_NODE));
        let most = most.min(MOST_NODES);
        let bytes = GROWTH.saturating_add(stored.saturating_mul(2));
        Budget { nodes: most, most_nodes: most, ..Self::within(bytes) }
    }

    /// A budget of this many bytes.
    pub(super) fn within(bytes: usize) -> Self {
        Budget { nodes: MOST_NODES, most_nodes: MOST_NODES, bytes, most: bytes }
    }

    /// Spends one node.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if there were too many.
    pub(super) fn node(&mut self) -> Result<()> {
        let left = self.nodes.checked_sub(1);
        self.nodes = left.ok_or_else(|| too_much(format!("{} nodes", self.most_nodes)))?;
        Ok(())
    }

    /// Spends memory.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if nothing is left of it.
    pub(super) fn bytes(&mut self, count: usize) -> Result<()> {
        let left = self.bytes.checked_sub(count);
        self.bytes = left.ok_or_else(|| too_much(format!("{} bytes", self.most)))?;
        Ok(())
    }

    /// Spends the memory of a name, and of the notes of its beginnings.
    ///
    /// # Errors
    /// As [`Budget::bytes`].
    pub(super) fn name(&mut self, name: &str) -> Result<()> {
        let parts = 1 + name.matches('/').count();
        self.bytes(name.len().saturating_add(parts.saturating_mul(ENTRY)))
    }
}

/// Number of nodes, those of sub-graphs included.
fn count(nodes: &[NodeProto]) -> usize {
    let subgraphs = nodes.iter().flat_map(|node| &node.attribute).filter_map(|a| a.g.as_ref());
    subgraphs.map(|sub| count(&sub.node)).fold(nodes.len(), usize::saturating_add)
}

fn too_much(what: String) -> Error {
    Error::new(ErrorKind::Format, format!("local functions expand to more than {what}"))
        .hint("export the model without local functions, or with weights outside them")
}
