//! Channels that come from constants.

use super::atoms::Mark;
use super::trace::Tracer;
use crate::ir::{Dim, Graph, NodeId, ValueId};
use crate::ops::{
    Atom, Expand, Flow, Labels, NodeView, Operand, Partwise, aligned_axis, normal_axis,
};

impl Tracer<'_> {
    /// Follows channels of constants that a node combines with other channels, directly or after
    /// `Expand` or `Slice`: for example of a class token or of positions.
    pub(super) fn adopt(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        if node.is("ScatterElements") || node.is("ScatterND") {
            return self.adopt_written(id);
        }
        if node.is("LayerNormalization") || node.is("RMSNormalization") {
            self.adopt_normalised(id);
        }
        let is_joined = ["Concat", "Add", "Mul", "Sub"].iter().any(|op| node.is(op));
        let mut read = node.inputs.iter().flatten().filter(|_| is_joined);
        if let Some(lead) = read.find_map(|value| self.lead(*value)) {
            let all = node.inputs.iter().flatten().copied().collect();
            self.begin_at(all, &lead, &[expanded, sliced]);
        }
    }

    /// Begins channels at a repeated constant, as of learned queries, that a node normalises over them.
    fn adopt_normalised(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let Some(value) = node.input(0).filter(|v| self.labels[v.index()].is_none()) else {
            return;
        };
        let Some(rank) = self.rank(value).filter(|rank| *rank > 1) else { return };
        let is_last = normal_axis(node.int("axis", -1), rank) == Some(rank - 1);
        let count = self.extent(value, rank - 1).filter(|count| is_last && *count <= self.room);
        count.into_iter().for_each(|count| {
            self.begin_queries(value, rank - 1, count);
        });
    }

    /// Follows channels of the tensor that a node writes into, as of zeros, and of the places where it writes,
    /// if they are the same for all channels.
    fn adopt_written(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let Some(lead) = [0, 2].into_iter().find_map(|slot| self.lead(node.input(slot)?)) else {
            return;
        };
        // The places of the other operator have no channels.
        let slots = if node.is("ScatterND") { &[0, 2][..] } else { &[0, 1, 2] };
        let read = slots.iter().filter_map(|slot| node.input(*slot)).collect();
        self.begin_at(read, &lead, &[filled, repeated]);
    }

    /// The channels of a value on one axis, and the number of its axes.
    fn lead(&self, value: ValueId) -> Option<(Labels, usize)> {
        let labels = self.labels[value.index()].as_ref().filter(|l| l.within.is_none())?;
        Some((labels.clone(), self.rank(value)?))
    }

    /// Begins channels at those of some values that have none yet and are made in one of the ways `made`.
    /// Their last axes are those of a value of rank `lead_rank` with the channels `lead`.
    fn begin_at(
        &mut self,
        values: Vec<ValueId>,
        (lead, lead_rank): &(Labels, usize),
        made: &[Beginning],
    ) {
        for value in values {
            if self.labels[value.index()].is_some() {
                continue;
            }
            let Some(maker) = self.graph.producer(value) else { continue };
            let axis = self.rank(value).and_then(|rank| aligned_axis(lead.axis, *lead_rank, rank));
            let Some(axis) = axis else { continue };
            self.begin_from(value, maker, &Labels::along(axis, lead.atoms.clone()), made);
        }
    }

    /// Begins as many channels as `like` has at a value that `maker` makes in one of the ways `made`. Returns whether it
    /// does.
    fn begin_from(
        &mut self,
        value: ValueId,
        maker: NodeId,
        like: &Labels,
        made: &[Beginning],
    ) -> bool {
        let Some(flow) = made.iter().find_map(|made| made(self.graph, maker, like)) else {
            return false;
        };
        self.makers.insert(maker.index() as u32, maker);
        let mark = Mark::Made(maker.index() as u32);
        let output = Labels::along(like.axis, self.atoms.fresh(like.atoms.len(), mark));
        self.labels[value.index()] = Some(output.clone());
        self.flows.insert(maker, Flow::Partwise(Partwise { output, ..flow }));
        true
    }

    /// Begins channels at a constant that is repeated for all samples in front of a layer, as learned queries are. Unlike
    /// those of an input, they have any order.
    pub(super) fn begin_queries(&mut self, value: ValueId, axis: usize, count: usize) -> bool {
        let Some(maker) = self.graph.producer(value) else { return false };
        let like = Labels::along(axis, vec![Atom::NEW; count]);
        self.begin_from(value, maker, &like, &[expanded])
    }
}

/// The flow of a node that makes channels like `lead` without any; `None` for other nodes.
type Beginning = fn(&Graph, NodeId, &Labels) -> Option<Partwise>;

/// The flow of a `Slice` of a constant along other axes than that of the channels `lead`, for example
/// to the positions of all tokens.
fn sliced(graph: &Graph, id: NodeId, lead: &Labels) -> Option<Partwise> {
    let node = graph.node(id);
    let tensor = graph.initializer(node.input(0)?).filter(|t| t.dtype.is_float())?;
    let view = NodeView::new(graph, id, &[]);
    let axes = view.ints(3).filter(|_| node.is("Slice"))?;
    let axes: Option<Vec<usize>> =
        axes.iter().map(|axis| normal_axis(*axis, tensor.dims.len())).collect();
    let fits = tensor.dims.get(lead.axis) == Some(&lead.atoms.len()) && lead.atoms.len() > 1;
    let plain = vec![Operand::Plain; node.inputs.len().saturating_sub(1)];
    (fits && !axes?.contains(&lead.axis)).then(|| Partwise {
        output: lead.clone(),
        operands: [vec![Operand::Param { axis: lead.axis }], plain].concat(),
        coupled: Vec::new(),
        expand: Expand::NONE,
    })
}

/// The flow of an `Expand` of a constant with one entry per channel of `lead`.
fn expanded(graph: &Graph, id: NodeId, lead: &Labels) -> Option<Partwise> {
    let node = graph.node(id);
    let tensor = graph.initializer(node.input(0)?).filter(|t| t.dtype.is_float())?;
    let shape = graph.value(node.output(0)?).ty.as_ref()?.shape.as_ref()?;
    let target = NodeView::new(graph, id, &[]).shape(1)?;
    let axis = (lead.axis + tensor.dims.len()).checked_sub(shape.len())?;
    let count = lead.atoms.len();
    let fits = tensor.dims.get(axis) == Some(&count)
        && count > 1
        && shape.get(lead.axis)?.known() == Some(count)
        && target.as_slice() == [Dim::Known(shape.len())];
    let counted = Operand::Shape { entry: lead.axis, width: 1 };
    (node.is("Expand") && fits).then(|| Partwise {
        output: lead.clone(),
        operands: vec![Operand::Param { axis }, counted],
        coupled: Vec::new(),
        expand: Expand::NONE,
    })
}

/// The flow of a `ConstantOfShape`.
fn filled(graph: &Graph, id: NodeId, lead: &Labels) -> Option<Partwise> {
    let fits = graph.node(id).is("ConstantOfShape") && has_extent(graph, id, lead);
    fits.then(|| Partwise {
        output: lead.clone(),
        operands: vec![Operand::Shape { entry: lead.axis, width: 1 }],
        coupled: Vec::new(),
        expand: Expand::NONE,
    })
}

/// The flow of an `Expand` of a value that is the same for all channels.
fn repeated(graph: &Graph, id: NodeId, lead: &Labels) -> Option<Partwise> {
    let node = graph.node(id);
    let view = NodeView::new(graph, id, &[]);
    let (from, to, target) = (view.shape(0)?, view.output_shape(0)?, view.shape(1)?);
    let axis = (lead.axis + from.len()).checked_sub(to.len());
    let is_same = axis.is_none_or(|axis| from.get(axis).and_then(Dim::known) == Some(1));
    let is_whole = target.as_slice() == [Dim::Known(to.len())];
    (node.is("Expand") && is_same && is_whole && has_extent(graph, id, lead)).then(|| Partwise {
        output: lead.clone(),
        operands: vec![Operand::Plain, Operand::Shape { entry: lead.axis, width: 1 }],
        coupled: Vec::new(),
        expand: Expand::NONE,
    })
}

/// Whether a node's output has one index for each of several channels.
fn has_extent(graph: &Graph, id: NodeId, lead: &Labels) -> bool {
    let shape = NodeView::new(graph, id, &[]).output_shape(0);
    let extent = shape.and_then(|shape| shape.get(lead.axis)?.known());
    extent == Some(lead.atoms.len()) && lead.atoms.len() > 1
}
