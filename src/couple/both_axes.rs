//! The flow of channels on two axes through nodes that treat heads alone, and depths alone or in any order.
//!
//! The rule of an operator knows one axis. It is asked twice: for heads, and for depths.

use super::heads::Kept;
use super::trace::Tracer;
use crate::ir::{NodeId, Tensor, ValueId};
use crate::ops::{Atom, Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise};

/// An operand with channels.
struct Read {
    slot: usize,
    value: ValueId,
    labels: Labels,
}

impl Read {
    /// Whether it has one index per head, and the same for all depths.
    fn is_of_heads(&self) -> bool {
        self.labels.within.is_none()
    }
}

/// What happens along the axis of depths.
struct AlongDepths {
    operands: Vec<Operand>,
    /// The axis behind the node; `None` if all depths of a head become one number.
    axis: Option<usize>,
    /// Whether depths are read all at once.
    meet: bool,
}

impl Tracer<'_> {
    /// The flow of a node that treats heads alone, and depths alone or in any order; `None` for others.
    pub(super) fn on_both_axes(&mut self, id: NodeId, rule: &dyn OpRule) -> Option<Flow> {
        if self.graph.node(id).is("MatMul") {
            return None;
        }
        let mut reads = self.operands_with_channels(id);
        let lead = reads.iter().find(|read| !read.is_of_heads())?;
        let width = self.depth(lead.value, &lead.labels).filter(|width| *width > 0)?;
        if self.graph.node(id).is("Add") {
            let (whole, within) = (lead.labels.clone(), lead.labels.within?);
            let rank = self.rank(lead.value);
            let is_wide = |read: &&Read| {
                let own = self.extent(read.value, within);
                read.is_of_heads() && self.rank(read.value) == rank && own == Some(width)
            };
            let wide: Vec<ValueId> = reads.iter().filter(is_wide).map(|read| read.value).collect();
            wide.into_iter().for_each(|value| self.begin_columns(id, value, &whole, width));
            reads = self.operands_with_channels(id);
        }
        let lead = reads.iter().find(|read| !read.is_of_heads())?;
        let (all, heads) = (lead.labels.atoms.len(), lead.labels.atoms.len() / width);
        let fits = |read: &Read| match read.is_of_heads() {
            true => read.labels.atoms.len() == heads,
            false => {
                let own = self.depth(read.value, &read.labels);
                read.labels.atoms.len() == all && own == Some(width)
            }
        };
        if !reads.iter().all(fits) {
            return None;
        }
        let by_heads = self.along_heads(id, rule, &reads, heads)?;
        let by_depths = self.along_depths(id, rule, &reads, width)?;
        let operands =
            self.both_roles(id, &reads, width, [&by_heads.operands, &by_depths.operands])?;
        let lead = lead.labels.clone();
        let others = reads.iter().filter(|read| !read.is_of_heads());
        let mut coupled: Vec<(Vec<Atom>, Vec<Atom>)> =
            others.map(|read| (lead.atoms.clone(), read.labels.atoms.clone())).collect();
        let mut of_heads = reads.iter().filter(|read| read.is_of_heads()).peekable();
        let mut atoms = Vec::new();
        let common = operands.iter().any(|role| matches!(role, Operand::Depths { .. }));
        if by_depths.meet || common || of_heads.peek().is_some() {
            let kept = Kept { order: false, common, leads: by_depths.meet };
            atoms = self.heads.of(&mut self.atoms, id, &lead, width, kept);
            coupled.extend(of_heads.map(|read| (atoms.clone(), read.labels.atoms.clone())));
        }
        let axis = by_heads.output.axis;
        let output = match by_depths.axis {
            Some(within) => Labels { axis, within: Some(within), ..lead },
            None => Labels::along(axis, atoms),
        };
        Some(Flow::Partwise(Partwise { output, operands, coupled, expand: Expand::NONE }))
    }

    fn operands_with_channels(&self, id: NodeId) -> Vec<Read> {
        let read = |(slot, value): (usize, &Option<ValueId>)| {
            let value = (*value)?;
            Some(Read { slot, value, labels: self.labels[value.index()].clone()? })
        };
        self.graph.node(id).inputs.iter().enumerate().filter_map(read).collect()
    }

    /// The flow of heads alone.
    fn along_heads(
        &mut self,
        id: NodeId,
        rule: &dyn OpRule,
        reads: &[Read],
        heads: usize,
    ) -> Option<Partwise> {
        let atoms: Vec<Atom> = (0..).map(Atom).take(heads).collect();
        let along = |read: &Read| Some(Labels::along(read.labels.axis, atoms.clone()));
        match self.tried(id, rule, reads, along) {
            Flow::Partwise(own) if is_plain(&own, heads) => Some(own),
            _ => None,
        }
    }

    /// The flow of depths alone, or in any order.
    fn along_depths(
        &mut self,
        id: NodeId,
        rule: &dyn OpRule,
        reads: &[Read],
        width: usize,
    ) -> Option<AlongDepths> {
        let atoms: Vec<Atom> = (0..).map(Atom).take(width).collect();
        let along = |read: &Read| Some(Labels::along(read.labels.within?, atoms.clone()));
        match self.tried(id, rule, reads, along) {
            Flow::Partwise(own) if is_plain(&own, width) => {
                let axis = Some(own.output.axis);
                Some(AlongDepths { operands: own.operands, axis, meet: false })
            }
            Flow::Together(own) if own.coupled.is_none() => {
                let axis = own.outputs.first().and_then(Option::as_ref).map(|labels| labels.axis);
                Some(AlongDepths { operands: own.operands, axis, meet: true })
            }
            _ => None,
        }
    }

    /// The flow of a node whose operands have the labels that `along` gives.
    fn tried(
        &mut self,
        id: NodeId,
        rule: &dyn OpRule,
        reads: &[Read],
        along: impl Fn(&Read) -> Option<Labels>,
    ) -> Flow {
        reads.iter().for_each(|read| self.labels[read.value.index()] = along(read));
        let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        for read in reads {
            self.labels[read.value.index()] = Some(read.labels.clone());
        }
        flow
    }

    /// The roles of all operands, if those along both axes agree.
    fn both_roles(
        &self,
        id: NodeId,
        reads: &[Read],
        width: usize,
        [heads, depths]: [&[Operand]; 2],
    ) -> Option<Vec<Operand>> {
        let inputs = &self.graph.node(id).inputs;
        let role = |(slot, input): (usize, &Option<ValueId>)| {
            let read = reads.iter().find(|read| read.slot == slot);
            match (read.map(Read::is_of_heads), heads.get(slot)?, depths.get(slot)?) {
                (Some(false), Operand::Channels, Operand::Channels)
                | (Some(true), Operand::Channels, Operand::Plain) => Some(Operand::Channels),
                (None, own @ (Operand::Plain | Operand::Param { .. }), Operand::Plain) => {
                    Some(*own)
                }
                (None, Operand::Param { axis: heads }, Operand::Param { axis: depths }) => {
                    self.graph.initializer((*input)?)?;
                    Some(Operand::Entries { heads: *heads, depths: *depths })
                }
                // The number of depths of each head stays.
                (None, Operand::Shape { entry, .. }, Operand::Shape { .. }) => {
                    Some(Operand::Shape { entry: *entry, width })
                }
                (None, Operand::Plain, Operand::Param { axis }) => {
                    match is_uniform(self.graph.initializer((*input)?)?) {
                        true => Some(Operand::Plain),
                        false => Some(Operand::Depths { axis: *axis }),
                    }
                }
                _ => None,
            }
        };
        inputs.iter().enumerate().map(role).collect()
    }
}

/// Whether a node has one index behind it for each of `count` before it.
fn is_plain(flow: &Partwise, count: usize) -> bool {
    flow.expand == Expand::NONE && flow.output.atoms.len() == count
}

/// Whether all elements are the same, so that their order does not matter.
fn is_uniform(tensor: &Tensor) -> bool {
    tensor.to_f64().is_ok_and(|all| all.iter().all(|element| all.first() == Some(element)))
}
