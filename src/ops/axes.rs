//! Operators that move axes.

use crate::ir::Dim;

use super::elementwise::on_axis;
use super::reshape::counted;
use super::types::{permutation, squeezed_axes, unsqueezed_axes};
use super::{Flow, NodeView, OpRule, Operand};

/// `Squeeze`.
pub struct Squeeze;
/// `Unsqueeze`.
pub struct Unsqueeze;
/// `Transpose`.
pub struct Transpose;

/// `Expand`.
pub struct Repeat;

impl OpRule for Squeeze {
    fn ops(&self) -> &'static [&'static str] {
        &["Squeeze"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axes = node.shape(0).and_then(|s| squeezed_axes(node, &s));
        moved(node, |axis| {
            let axes = axes.as_ref()?;
            (!axes.contains(&axis)).then(|| axis - axes.iter().filter(|a| **a < axis).count())
        })
    }
}

impl OpRule for Unsqueeze {
    fn ops(&self) -> &'static [&'static str] {
        &["Unsqueeze"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axes = node.shape(0).and_then(|s| {
            let axes = unsqueezed_axes(node, s.len())?;
            Some((0..s.len() + axes.len()).filter(|i| !axes.contains(i)).collect::<Vec<_>>())
        });
        moved(node, |axis| axes.as_ref()?.get(axis).copied())
    }
}

impl OpRule for Transpose {
    fn ops(&self) -> &'static [&'static str] {
        &["Transpose"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let perm = node.shape(0).and_then(|s| permutation(node, s.len()));
        moved(node, |axis| perm.as_ref()?.iter().position(|p| *p == axis))
    }
}

impl OpRule for Repeat {
    fn ops(&self) -> &'static [&'static str] {
        &["Expand"]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let reason = "channels that are repeated";
        let (Some(from), Some(to)) = (node.shape(0), node.output_shape(0)) else {
            return Flow::whole(reason);
        };
        match node.labels(0) {
            Some(labels) => {
                let axis = labels.axis + to.len() - from.len();
                let kept = to.get(axis).and_then(Dim::known) == Some(labels.atoms.len());
                match kept {
                    true => on_axis(node, axis, vec![Operand::Channels, counted(axis, 1)]),
                    false => Flow::whole(reason),
                }
            }
            None => Flow::whole(reason),
        }
    }
}

/// A node that moves the tracked axis of its first input by `place`.
fn moved(node: &NodeView<'_>, place: impl Fn(usize) -> Option<usize>) -> Flow {
    let Some(axis) = node.labels(0).and_then(|l| place(l.axis)) else {
        return Flow::whole("a rearrangement of unknown axes");
    };
    on_axis(node, axis, vec![Operand::Channels, Operand::Plain])
}
