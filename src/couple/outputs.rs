//! Freezes channels that lead to outputs of the model.

use std::collections::{BTreeMap, HashSet};

use super::End;
use super::trace::Tracer;
use crate::error::Result;
use crate::ir::{Node, NodeId, ValueId};
use crate::ops::Flow;

impl Tracer<'_> {
    /// Freezes channels that reach an answer without passing another layer, since the answers of a model
    /// belong to its task. An output is not an answer if a later layer depends on it or on another output
    /// of its layer, or if it is computed from hidden channels without another layer. Layers inside
    /// sub-graphs do not count, so the reason names the node with sub-graphs on the way.
    pub(super) fn freeze_outputs(&mut self) -> Result<()> {
        // An output is read whole: channels on two axes have no such order.
        for output in &self.graph.outputs {
            if let Some(labels) =
                self.labels[output.index()].as_ref().filter(|l| l.within.is_some())
            {
                self.heads.spoil(labels);
            }
        }
        self.answered = vec![false; self.atoms.len()];
        let hidden = self.before_layers();
        let mut reasons: BTreeMap<Option<NodeId>, u32> = BTreeMap::new();
        let mut seen = HashSet::new();
        let mut stack: Vec<(ValueId, Option<NodeId>)> =
            self.answers(&hidden)?.into_iter().map(|value| (value, None)).collect();
        let mut behind = Vec::new();
        while let Some((value, ender)) = stack.pop().or_else(|| behind.pop()) {
            if hidden.contains(&value) || !seen.insert(value) {
                continue;
            }
            if let Some(labels) = self.labels[value.index()].clone() {
                let reason = match reasons.get(&ender) {
                    Some(reason) => *reason,
                    None => self.output_reason(ender),
                };
                reasons.insert(ender, reason);
                self.atoms.freeze(&labels.atoms, reason);
                for atom in &labels.atoms {
                    self.answered[self.atoms.root(*atom).0 as usize] = true;
                }
            }
            let made = self.graph.producer(value);
            let Some(id) = made.filter(|id| !self.ends(*id) && !self.sums_up(*id)) else {
                continue;
            };
            let node = self.graph.node(id);
            match node.subgraphs().next() {
                Some(_) => behind.extend(node.reads().map(|read| (read, Some(id)))),
                None => stack.extend(node.reads().map(|read| (read, ender))),
            }
        }
        Ok(())
    }

    /// The reason to freeze channels that reach an output, through the sub-graphs of a node if there is
    /// one.
    fn output_reason(&mut self, through: Option<NodeId>) -> u32 {
        let reason = match through {
            Some(id) => format!("an output behind the sub-graphs of {}", self.graph.node(id).op),
            None => "a model output".to_owned(),
        };
        self.reason(&reason, through, Some(End::Output))
    }

    /// Whether no channel goes through a node.
    fn ends(&self, id: NodeId) -> bool {
        let node = self.graph.node(id);
        node.is("Shape") || node.is("Size") || self.is_layer(id)
    }

    /// Whether a node sums over all channels, so that an output behind it does not depend on their order.
    fn sums_up(&self, id: NodeId) -> bool {
        match self.flows.get(&id) {
            Some(Flow::Together(together)) => together.outputs.iter().all(Option::is_none),
            _ => false,
        }
    }

    fn is_layer(&self, id: NodeId) -> bool {
        matches!(self.flows.get(&id), Some(Flow::Layer(_) | Flow::Recurrent(_)))
    }

    /// The outputs, except hidden ones and those that are computed from hidden channels without a layer.
    fn answers(&self, hidden: &HashSet<ValueId>) -> Result<Vec<ValueId>> {
        let is_tracked = |value: &&ValueId| self.labels[value.index()].is_some();
        let mut shown: HashSet<ValueId> = hidden.iter().filter(is_tracked).copied().collect();
        let mut answers = HashSet::new();
        for id in self.graph.topological_order()? {
            let node = self.graph.node(id);
            let reads =
                |set: &HashSet<ValueId>| !self.ends(id) && node.reads().any(|v| set.contains(&v));
            // The last state of a recurrent layer has the channels of its other steps.
            let mut made = node.outputs.iter().flatten();
            let goes_on = self.is_layer(id) && made.any(|output| shown.contains(output));
            let is_answer = self.is_layer(id) && !goes_on || reads(&answers);
            let shows = goes_on || reads(&shown);
            let outputs = node.outputs.iter().flatten().filter(|output| !hidden.contains(output));
            for output in outputs {
                if is_answer {
                    answers.insert(*output);
                }
                if shows {
                    shown.insert(*output);
                }
            }
        }
        let outputs = self.graph.outputs.iter();
        Ok(outputs.filter(|v| answers.contains(v) || !shown.contains(v)).copied().collect())
    }

    /// All values that some layer depends on.
    fn before_layers(&self) -> HashSet<ValueId> {
        let layers = self.layers.iter().map(|(layer, _)| layer.node);
        let mut stack: Vec<ValueId> = layers.flat_map(|id| self.graph.node(id).reads()).collect();
        let mut seen = HashSet::new();
        while let Some(value) = stack.pop() {
            if seen.insert(value) {
                let producer = self.graph.producer(value).map(|id| self.graph.node(id));
                stack.extend(producer.into_iter().flat_map(Node::reads));
            }
        }
        seen
    }
}
