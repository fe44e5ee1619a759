//! Views of a graph in which channels begin at some nodes, whatever their rules say.
//!
//! A mixer's product runs over tokens, beside the channels: its hidden units lie on an axis of their own. Several
//! filters of one channel each make several channels of it, which the channel structure counts as one. A view follows
//! these, so that they can be put into another order.

use super::trace::Tracer;
use crate::ir::NodeId;
use crate::ops::{self, Flow, NodeView};

impl Tracer<'_> {
    /// Whether channels begin at the nodes of a view only.
    pub(super) fn is_alone(&self) -> bool {
        self.view.is_some_and(|view| view.alone)
    }

    /// Whether nothing begins at a node, and nothing reaches it.
    pub(super) fn is_out_of_view(&self, id: NodeId) -> bool {
        let Some(view) = self.view.filter(|view| view.alone) else { return false };
        let mut reads = self.graph.node(id).reads();
        !view.nodes.contains(&id) && !reads.any(|value| self.labels[value.index()].is_some())
    }

    /// The layer that a node is at which channels begin: one of filters of one channel each. Others are layers by
    /// their rules, since no other channels are followed.
    pub(super) fn viewed(&self, id: NodeId) -> Option<Flow> {
        self.view?.nodes.get(&id)?;
        ops::filters_of_channels(&NodeView::new(self.graph, id, &[])).map(Flow::Layer)
    }
}
