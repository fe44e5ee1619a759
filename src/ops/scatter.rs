//! Operators that write into a copy of their first input.

use crate::ir::Dim;

use super::alike::mixed;
use super::{Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise, normal_axis};

/// `ScatterElements` and `ScatterND`, as where the rows of several levels of a pyramid become one tensor.
pub struct Scatter;

impl OpRule for Scatter {
    fn ops(&self) -> &'static [&'static str] {
        &["ScatterElements", "ScatterND"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let flow = if node.node.is("ScatterND") { at_places(node) } else { along_axis(node) };
        flow.unwrap_or_else(|| mixed(node))
    }
}

/// The flow of a node that writes along another axis than the channels'. Every channel has places and
/// updates of its own.
fn along_axis(node: &NodeView<'_>) -> Option<Flow> {
    let axis = normal_axis(node.node.int("axis", 0), node.shape(0)?.len())?;
    let lead = node.labels(0).or(node.labels(2)).filter(|labels| labels.axis != axis)?;
    let operand = |index| separate(node, index, lead.axis, lead.atoms.len());
    let operands = (0..3).map(operand).collect::<Option<Vec<Operand>>>()?;
    Some(written(node, lead.clone(), operands))
}

/// The flow of a node that writes at places along the first axes, which are before that of the channels.
fn at_places(node: &NodeView<'_>) -> Option<Flow> {
    let places = node.shape(1).filter(|_| node.labels(1).is_none())?;
    // A place has this many coordinates, and places are counted along so many axes of the updates.
    let (coordinates, counts) = (places.last().and_then(Dim::known)?, places.len() - 1);
    let lead = match (node.labels(0), node.labels(2)) {
        (Some(labels), _) => labels.clone(),
        (None, Some(labels)) => {
            let axis = labels.axis.checked_add(coordinates)?.checked_sub(counts)?;
            Labels::along(axis, labels.atoms.clone())
        }
        (None, None) => return None,
    };
    let behind = lead.axis.checked_sub(coordinates)?;
    let count = lead.atoms.len();
    let data = separate(node, 0, lead.axis, count)?;
    let updates = separate(node, 2, behind + counts, count)?;
    Some(written(node, lead, vec![data, Operand::Plain, updates]))
}

/// The role of an operand with one entry per channel along `axis`; `None` for others.
fn separate(node: &NodeView<'_>, index: usize, axis: usize, count: usize) -> Option<Operand> {
    if let Some(labels) = node.labels(index) {
        let fits = labels.axis == axis && labels.atoms.len() == count;
        return fits.then_some(Operand::Channels);
    }
    let extent = node.constant(index)?.dims.get(axis)?;
    (*extent == count).then_some(Operand::Param { axis })
}

fn written(node: &NodeView<'_>, output: Labels, operands: Vec<Operand>) -> Flow {
    let has_channels = |(index, operand): (usize, &Operand)| {
        let labels = node.labels(index).filter(|_| *operand == Operand::Channels)?;
        Some((output.atoms.clone(), labels.atoms.clone()))
    };
    let coupled = operands.iter().enumerate().filter_map(has_channels).collect();
    Flow::Partwise(Partwise { output, operands, coupled, expand: Expand::NONE })
}
