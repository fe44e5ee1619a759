//! The flow of channels on two axes, such as those of attention heads, through nodes.

use super::heads::Kept;
use super::trace::Tracer;
use crate::ir::{Graph, NodeId, ValueId};
use crate::ops::{
    self, Expand, Flow, HeadProduct, Labels, LayerKind, NodeView, OpRule, Operand, Partwise,
    common_product, head_product,
};

impl Tracer<'_> {
    /// Whether a node reads channels on two axes.
    pub(super) fn reads_heads(&self, id: NodeId) -> bool {
        let labels = |value: &ValueId| self.labels[value.index()].as_ref();
        let read = self.graph.node(id).inputs.iter().flatten().filter_map(labels);
        read.into_iter().any(|labels| labels.within.is_some())
    }

    /// Whether a sub-graph of a node reads channels on two axes.
    pub(super) fn captures_heads(&self, id: NodeId) -> bool {
        let is_wide = |value: ValueId| {
            self.labels[value.index()].as_ref().is_some_and(|labels| labels.within.is_some())
        };
        self.graph.node(id).subgraphs().flat_map(Graph::captures).any(is_wide)
    }

    /// Marks the heads that a node reads as needed whole.
    pub(super) fn spoil(&mut self, id: NodeId) {
        let read: Vec<ValueId> = self.graph.node(id).reads().collect();
        for value in &read {
            let labels = self.labels[value.index()].as_ref().filter(|l| l.within.is_some());
            labels.into_iter().for_each(|labels| self.heads.spoil(labels));
        }
    }

    /// The flow through a node that reads channels on two axes. If the depths of a head cannot be
    /// followed, they keep their order, and only heads flow on.
    pub(super) fn head_flow(&mut self, id: NodeId, rule: &dyn OpRule) -> Flow {
        self.begin_scores(id);
        let view = NodeView::new(self.graph, id, &self.labels);
        if let Some(product) = head_product(&view) {
            return self.head_product(id, product);
        }
        if let Some(product) = common_product(&view)
            && let Some(flow) = self.common_product(id, product)
        {
            return flow;
        }
        let view = NodeView::new(self.graph, id, &self.labels);
        if let Some(params) = ops::group_norm(&view) {
            return self.group_norm(id, params);
        }
        if let Some(flow) = ops::head_flow(&view) {
            return flow;
        }
        if self.graph.node(id).is("Shape") || self.graph.node(id).is("Size") {
            return rule.flow(&NodeView::new(self.graph, id, &self.labels));
        }
        if let Some(flow) = self.on_both_axes(id, rule) {
            return flow;
        }
        let kept = Kept { order: true, leads: self.graph.node(id).is("MatMul"), ..Kept::default() };
        let (mut before, mut are_used) = (Vec::new(), false);
        for value in self.graph.node(id).inputs.iter().flatten() {
            let Some(labels) = self.labels[value.index()].clone() else { continue };
            if let Some(width) = self.depth(*value, &labels) {
                are_used |=
                    self.heads.are_used(&self.atoms, &labels, width) || self.meets_values(*value);
                let heads = self.heads.of(&mut self.atoms, id, &labels, width, kept);
                self.labels[value.index()] = Some(Labels::along(labels.axis, heads));
                before.push((*value, labels));
            }
        }
        let flow = rule.flow(&NodeView::new(self.graph, id, &self.labels));
        let flow = if are_used { self.each_head_alone(flow) } else { flow };
        // Depths have no order of their own in which they could be read whole.
        let goes_on = match &flow {
            Flow::Partwise(partwise) => {
                let inputs = self.graph.node(id).inputs.iter().zip(&partwise.operands);
                let plain = inputs.filter(|(_, role)| **role == Operand::Plain);
                let plain: Vec<ValueId> = plain.filter_map(|(value, _)| *value).collect();
                !before.iter().any(|(value, _)| plain.contains(value))
            }
            _ => false,
        };
        for (value, labels) in before {
            self.labels[value.index()] = Some(labels);
        }
        if !goes_on {
            self.spoil(id);
        }
        flow
    }

    /// Whether a value is a factor of a product of computed values, which may come later.
    pub(super) fn meets_values(&self, value: ValueId) -> bool {
        self.readers[value.index()].iter().map(|id| self.graph.node(*id)).any(|node| {
            let is_computed = |factor: &ValueId| self.graph.initializer(*factor).is_none();
            node.is("MatMul") && node.inputs.iter().flatten().all(is_computed)
        })
    }

    /// The flow of a product of the depths of each head with one matrix, as of queries with relative positions. It is
    /// no layer where heads must go on to be scores.
    fn each_head_alone(&self, flow: Flow) -> Flow {
        let Flow::Layer(layer) = &flow else { return flow };
        let heads = self.labels[layer.input.index()].as_ref();
        match heads.filter(|heads| layer.kind == LayerKind::MatMul && heads.axis < layer.in_axis) {
            Some(heads) => Flow::Partwise(Partwise {
                output: heads.clone(),
                operands: vec![Operand::Channels, Operand::Plain],
                coupled: Vec::new(),
                expand: Expand::NONE,
            }),
            None => flow,
        }
    }

    /// Number of channels per head of a value with channels on two axes.
    pub(super) fn depth(&self, value: ValueId, labels: &Labels) -> Option<usize> {
        self.graph.value(value).ty.as_ref()?.shape.as_ref()?.get(labels.within?)?.known()
    }

    /// The flow of a product of stacked matrices, one per head.
    fn head_product(&mut self, id: NodeId, product: HeadProduct) -> Flow {
        let node = self.graph.node(id);
        let labels = |slot: usize| self.labels[node.input(slot)?.index()].clone();
        let (Some(left), Some(right)) = (labels(0), labels(1)) else { return Flow::Untracked };
        let kept = Kept { leads: true, ..Kept::default() };
        let mut operands = vec![Operand::Channels; 2];
        let (output, coupled) = match product {
            HeadProduct::Scores { axis, heads } => {
                let width = left.atoms.len() / heads.max(1);
                let [a, b] = [&left, &right]
                    .map(|labels| self.heads.of(&mut self.atoms, id, labels, width, kept));
                let mut coupled = vec![(left.atoms, right.atoms), (a.clone(), b)];
                let output = match self.rows_behind(id, kept) {
                    Some((rows, own)) => {
                        operands = vec![Operand::Heads { count: heads }; 2];
                        coupled.push((a, own));
                        rows
                    }
                    None => Labels::along(axis, a),
                };
                (output, coupled)
            }
            HeadProduct::Mixed { values, scores } => {
                let width = values.atoms.len() / scores.len().max(1);
                let heads = self.heads.of(&mut self.atoms, id, &values, width, kept);
                (values, vec![(scores, heads)])
            }
            HeadProduct::Beside { operand, heads } => {
                let (own, other) = if operand == 0 { (left, right) } else { (right, left) };
                operands[1 - operand] = Operand::Heads { count: heads };
                let met = self.met_rows(id, operand, &other);
                let are_rows = operand == 1 && met.is_none() && self.begin_rows(id, &other);
                let order = met.is_none() && !are_rows;
                let [free, placed] = [(&own, kept), (&other, Kept { order, ..kept })];
                let [free, placed] = [free, placed].map(|(labels, kept)| {
                    let width = labels.atoms.len() / heads.max(1);
                    self.heads.of(&mut self.atoms, id, labels, width, kept)
                });
                let met = met.map(|rows| (other.atoms.clone(), rows));
                (own, std::iter::once((free, placed)).chain(met).collect())
            }
        };
        Flow::Partwise(Partwise { output, operands, coupled, expand: Expand::NONE })
    }

    /// The flow of a normalisation over the channels of each head, in any order. Heads are groups of
    /// channels here.
    fn group_norm(&mut self, id: NodeId, params: Vec<Operand>) -> Flow {
        let node = self.graph.node(id);
        let read = node.input(0).and_then(|v| Some((v, self.labels[v.index()].clone()?)));
        let Some((value, output)) = read else { return Flow::Untracked };
        let Some(width) = self.depth(value, &output) else { return Flow::Untracked };
        let kept = Kept { leads: true, ..Kept::default() };
        self.heads.of(&mut self.atoms, id, &output, width, kept);
        let operands = [vec![Operand::Channels], params].concat();
        Flow::Partwise(Partwise { output, operands, coupled: Vec::new(), expand: Expand::NONE })
    }

    /// Records a flow that puts channels on two axes. If the reshape is closed, blocks of channels in their
    /// order flow on, as they do where channels become positions.
    pub(super) fn opened(&mut self, id: NodeId, flow: Flow) -> Flow {
        let node = self.graph.node(id);
        let is_cut = node.is("Reshape") || node.is("DepthToSpace");
        if !is_cut || self.reads_heads(id) {
            return flow;
        }
        let is_closed = self.closed.on_two_axes.contains(&id);
        match &flow {
            Flow::Partwise(Partwise { output, .. }) if output.within.is_none() => flow,
            Flow::Partwise(Partwise { output, .. }) if !is_closed => {
                self.heads.enter(id, output);
                flow
            }
            Flow::Partwise(_) => self
                .in_blocks(id)
                .unwrap_or_else(|| Flow::whole("a reshape that splits the channel axis")),
            Flow::Whole(_) => self.in_blocks(id).unwrap_or(flow),
            _ => flow,
        }
    }

    /// The flow of a node that cuts channels into blocks, each of which is a channel behind it, unless that is
    /// closed, too.
    fn in_blocks(&mut self, id: NodeId) -> Option<Flow> {
        let view = NodeView::new(self.graph, id, &self.labels);
        let (axis, count) = ops::blocks(&view)?;
        let labels = view.labels(0).filter(|_| !self.closed.in_blocks.contains(&id))?.clone();
        self.heads.enter(id, &labels);
        let width = labels.atoms.len() / count;
        let kept = Kept { order: true, leads: true, ..Kept::default() };
        let output = Labels::along(axis, self.heads.of(&mut self.atoms, id, &labels, width, kept));
        let mut operands = vec![Operand::Channels, Operand::Shape { entry: axis, width: 1 }];
        operands.truncate(self.graph.node(id).inputs.len());
        let (coupled, expand) = (Vec::new(), Expand::NONE);
        Some(Flow::Partwise(Partwise { output, operands, coupled, expand }))
    }
}
