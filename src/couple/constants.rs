//! Channels that come from constants.

use super::atoms::Mark;
use super::trace::Tracer;
use crate::ir::{Dim, Graph, NodeId, ValueId};
use crate::ops::{Expand, Flow, Labels, NodeView, Operand, Partwise, aligned_axis, normal_axis};

impl Tracer<'_> {
    /// Follows channels of constants that a node combines with other channels, directly or after
    /// `Expand` or `Slice`: for example of a class token or of positions.
    pub(super) fn adopt(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        let is_joined = ["Concat", "Add", "Mul", "Sub"].iter().any(|op| node.is(op));
        let rank = |v: ValueId| Some(self.graph.value(v).ty.as_ref()?.shape.as_ref()?.len());
        let mut read = node
            .inputs
            .iter()
            .flatten()
            .filter_map(|v| Some((*v, self.labels[v.index()].as_ref()?)));
        let lead = read.find(|(_, labels)| labels.within.is_none()).filter(|_| is_joined);
        let Some((lead, Some(lead_rank))) = lead.map(|(v, labels)| (labels.clone(), rank(v)))
        else {
            return;
        };
        let untold = node.inputs.iter().flatten().filter(|v| self.labels[v.index()].is_none());
        for value in untold.collect::<Vec<_>>() {
            let Some(maker) = self.graph.producer(*value) else { continue };
            let axis = rank(*value).and_then(|rank| aligned_axis(lead.axis, lead_rank, rank));
            let Some(axis) = axis else { continue };
            let own = Labels::along(axis, lead.atoms.clone());
            let flow = expanded(self.graph, maker, &own);
            let Some(flow) = flow.or_else(|| sliced(self.graph, maker, &own)) else { continue };
            self.makers.insert(maker.index() as u32, maker);
            let mark = Mark::Made(maker.index() as u32);
            let output = Labels::along(axis, self.atoms.fresh(lead.atoms.len(), mark));
            self.labels[value.index()] = Some(output.clone());
            self.flows.insert(maker, Flow::Partwise(Partwise { output, ..flow }));
        }
    }
}

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
