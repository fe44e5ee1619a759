//! Heads of values whose scores carry no channels, since queries and keys could not be followed.
//!
//! Such scores are computed whole, in the order of the net's own heads. Cut by heads, they leave values and
//! the layer behind these free: heads move as blocks, and depths inside of them.

use super::trace::Tracer;
use crate::ir::{Dim, NodeId, ValueId};
use crate::ops::{Atom, Flow, Labels, Whole};

impl Tracer<'_> {
    /// Begins channels, one per head, at scores that a product combines with values on two axes.
    pub(super) fn begin_scores(&mut self, id: NodeId) {
        let Some((scores, axis, heads)) = self.bare_scores(id) else { return };
        let made = self.graph.producer(scores);
        let Some(maker) = made.filter(|id| self.graph.node(*id).output(0) == Some(scores)) else {
            return;
        };
        let reason = match self.flows.get(&maker) {
            None => "scores of heads that are not followed",
            Some(Flow::Whole(whole)) if whole.outputs.iter().all(Option::is_none) => whole.reason,
            Some(_) => return,
        };
        let new = Labels::along(axis, vec![Atom::NEW; heads]);
        let labels = self.with_new_atoms(maker, &new);
        self.labels[scores.index()] = Some(labels.clone());
        let whole = Whole { reason, outputs: vec![Some(labels)], ..Whole::default() };
        self.flows.insert(maker, Flow::Whole(whole));
    }

    /// The scores without channels that a product of stacked matrices combines with values on two axes, on
    /// either side, with the axis and number of heads.
    fn bare_scores(&self, id: NodeId) -> Option<(ValueId, usize, usize)> {
        let node = self.graph.node(id);
        let shape = |value: ValueId| self.graph.value(value).ty.as_ref()?.shape.as_ref();
        [(1, 0, 1), (0, 1, 2)].into_iter().find_map(|(values, other, behind)| {
            let (values, scores) = (node.input(values)?, node.input(other)?);
            let (own, shown) = (shape(values)?, shape(scores)?);
            let labels = self.labels[values.index()].as_ref()?;
            let heads = own.get(labels.axis)?.known()?;
            let fits = node.is("MatMul")
                && own.len() == shown.len()
                && labels.within? + behind == own.len()
                && labels.axis + 2 < own.len()
                && shown.get(labels.axis).and_then(Dim::known) == Some(heads)
                && self.labels[scores.index()].is_none();
            (fits && heads > 1).then_some((scores, labels.axis, heads))
        })
    }
}
