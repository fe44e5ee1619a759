//! Channels that begin in constants.

use super::atoms::Mark;
use super::trace::Tracer;
use crate::ir::{Dim, Graph, NodeId, ValueId};
use crate::ops::{Expand, Flow, Labels, NodeView, Operand, Partwise};

impl Tracer<'_> {
    /// Channels of a constant that `Expand` repeats and a node joins with other channels, such as
    /// those of a class token.
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
        let Some((lead, lead_rank)) = lead.map(|(v, labels)| (labels.clone(), rank(v))) else {
            return;
        };
        let untold = node.inputs.iter().flatten().filter(|v| self.labels[v.index()].is_none());
        for value in untold.collect::<Vec<_>>() {
            let Some(expand) = self.graph.producer(*value) else { continue };
            let flow = expanded(self.graph, expand, &lead).filter(|_| rank(*value) == lead_rank);
            let Some(flow) = flow else { continue };
            self.makers.insert(expand.index() as u32, expand);
            let mark = Mark::Made(expand.index() as u32);
            let atoms = self.atoms.fresh(lead.atoms.len(), mark);
            let output = Labels::along(lead.axis, atoms);
            self.labels[value.index()] = Some(output.clone());
            self.flows.insert(expand, Flow::Partwise(Partwise { output, ..flow }));
        }
    }
}

/// The flow of an `Expand` of a constant that has an entry for each of the channels `lead` beside it.
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
