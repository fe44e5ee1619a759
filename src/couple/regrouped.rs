//! Channels behind a normalisation of groups that cannot be paired.
//!
//! Groups of two sizes meet where maps of an encoder are joined with those of a decoder, as in networks that generate
//! pictures. No channel moves with its groups then. The normalisation gets its channels whole, and the same channels
//! go on behind it.

use super::trace::Tracer;
use crate::ir::{Dim, NodeId, ValueId};
use crate::ops::Flow;

impl Tracer<'_> {
    /// The flow of a reshape that joins the groups of a normalisation again, if nothing has followed them.
    pub(super) fn regrouped(&self, id: NodeId) -> Option<Flow> {
        let before = |value: ValueId, op: &str| {
            let node = self.graph.node(self.graph.producer(value)?);
            node.input(0).filter(|_| node.is(op))
        };
        let node = self.graph.node(id);
        let (groups, output) = (node.input(0).filter(|_| node.is("Reshape"))?, node.output(0)?);
        let cut = before(groups, "InstanceNormalization")?;
        let data = before(cut, "Reshape").filter(|_| self.labels[groups.index()].is_none())?;
        let labels = self.labels[data.index()].as_ref().filter(|own| own.within.is_none())?;
        let shape = |value| self.graph.value(value).ty.as_ref()?.shape.as_ref();
        let (from, to) = (shape(data)?, shape(output)?);
        Dim::are_surely(from, to)
            .then(|| Flow::whole_with("a normalisation over several channels", labels.clone()))
    }
}
