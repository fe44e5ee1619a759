//! Operators that compare the elements along an axis, or pick by the places of such elements.

use super::elementwise::{on_axis, operand, same_axis};
use super::view::normal_axis;
use super::{Expand, Flow, Labels, NodeView, OpRule, Operand, Partwise, Together};

/// `TopK`, `ArgMax` and `ArgMin`.
pub struct Ranked;
/// `GatherElements`.
pub struct PickEach;
/// `GatherND`.
pub struct PickPlaces;

impl OpRule for Ranked {
    fn ops(&self) -> &'static [&'static str] {
        &["TopK", "ArgMax", "ArgMin"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "a comparison of channels";
        let counts = node.node.is("TopK");
        let axis = node.node.int("axis", if counts { -1 } else { 0 });
        let axis = node.shape(0).and_then(|shape| normal_axis(axis, shape.len()));
        let (Some(labels), Some(axis)) = (node.labels(0), axis) else { return Flow::whole(reason) };
        if axis == labels.axis {
            return match counts && !tells_places(node) {
                true => values_in_order(node),
                false => Flow::whole(reason),
            };
        }
        match same_axis(node, vec![Operand::Channels, Operand::Plain]) {
            Flow::Partwise(mut partwise) => {
                let drops = !counts && node.node.int("keepdims", 1) == 0;
                partwise.output.axis -= usize::from(drops && axis < labels.axis);
                Flow::Partwise(partwise)
            }
            other => other,
        }
    }
}

/// Whether something depends on the places of the largest elements, or on an order that is left to the
/// runtime.
fn tells_places(node: &NodeView<'_>) -> bool {
    let places = node.node.output(1);
    node.node.int("sorted", 1) == 0 || places.is_some_and(|places| node.graph.is_used(places))
}

/// The flow of the largest channels in the order of their size.
fn values_in_order(node: &NodeView<'_>) -> Flow {
    let mut operands = vec![Operand::Plain; node.node.inputs.len()];
    operands[0] = Operand::Channels;
    Flow::Together(Together { operands, coupled: None, outputs: Vec::new() })
}

impl OpRule for PickEach {
    fn ops(&self) -> &'static [&'static str] {
        &["GatherElements"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        picks(node).unwrap_or(Flow::whole("a gather of channels with computed indices"))
    }
}

/// The flow of a gather along another axis than that of the channels, by indices of each channel.
fn picks(node: &NodeView<'_>) -> Option<Flow> {
    let (labels, rank) = (node.labels(0)?, node.shape(0)?.len());
    let axis = normal_axis(node.node.int("axis", 0), rank)?;
    let places = operand(node, 1, rank, labels).filter(|_| axis != labels.axis)?;
    let own = |index: usize| Some((labels.atoms.clone(), node.labels(index)?.atoms.clone()));
    let coupled = match places {
        Operand::Channels => own(1).into_iter().collect(),
        Operand::Param { .. } => Vec::new(),
        _ => return None,
    };
    Some(Flow::Partwise(Partwise {
        output: Labels::along(labels.axis, labels.atoms.clone()),
        operands: vec![Operand::Channels, places],
        coupled,
        expand: Expand::NONE,
    }))
}

impl OpRule for PickPlaces {
    fn ops(&self) -> &'static [&'static str] {
        &["GatherND"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let Some(axis) = behind_places(node) else {
            return Flow::whole("a gather of channels with computed indices");
        };
        on_axis(node, axis, vec![Operand::Channels, Operand::Plain])
    }
}

/// The axis of the channels behind a gather by places along the axes before them.
fn behind_places(node: &NodeView<'_>) -> Option<usize> {
    let (labels, places) = (node.labels(0).filter(|own| own.within.is_none())?, node.shape(1)?);
    let (coordinates, leading) = places.split_last()?;
    let same = usize::try_from(node.node.int("batch_dims", 0)).ok()?;
    let behind = labels.axis.checked_sub(same.checked_add(coordinates.known()?)?)?;
    leading.len().checked_add(behind)
}
