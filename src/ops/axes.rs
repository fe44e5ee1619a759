//! Operators that move axes.

use crate::ir::{Dim, TensorType};

use super::elementwise::on_axis;
use super::view::normal_axis;
use super::{Flow, NodeView, OpRule, Operand};

/// `Squeeze`.
pub struct Squeeze;
/// `Unsqueeze`.
pub struct Unsqueeze;
/// `Transpose`.
pub struct Transpose;

impl OpRule for Squeeze {
    fn ops(&self) -> &'static [&'static str] {
        &["Squeeze"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let squeezed = node.ty(0).map(|t| {
            let shape = t.shape.and_then(|s| {
                let axes = squeezed_axes(node, &s)?;
                let kept = s.into_iter().enumerate().filter(|(i, _)| !axes.contains(i));
                Some(kept.map(|(_, d)| d).collect())
            });
            TensorType { dtype: t.dtype, shape }
        });
        vec![squeezed]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axes = node.shape(0).and_then(|s| squeezed_axes(node, &s));
        moved(node, |axis| {
            let axes = axes.as_ref()?;
            (!axes.contains(&axis)).then(|| axis - axes.iter().filter(|a| **a < axis).count())
        })
    }
}

fn squeezed_axes(node: &NodeView<'_>, shape: &[Dim]) -> Option<Vec<usize>> {
    if node.node.input(1).is_none() && node.node.ints("axes").is_none() {
        let all_known = shape.iter().skip(1).all(|d| d.known().is_some());
        return all_known
            .then(|| (0..shape.len()).filter(|i| shape[*i] == Dim::Known(1)).collect());
    }
    node.axes(1, shape.len())
}

impl OpRule for Unsqueeze {
    fn ops(&self) -> &'static [&'static str] {
        &["Unsqueeze"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let unsqueezed = node.ty(0).map(|t| {
            let shape = t.shape.and_then(|s| {
                let axes = unsqueezed_axes(node, s.len())?;
                let mut rest = s.into_iter();
                let rank = rest.len() + axes.len();
                (0..rank)
                    .map(|i| if axes.contains(&i) { Some(Dim::Known(1)) } else { rest.next() })
                    .collect()
            });
            TensorType { dtype: t.dtype, shape }
        });
        vec![unsqueezed]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let axes = node.shape(0).and_then(|s| {
            let axes = unsqueezed_axes(node, s.len())?;
            Some((0..s.len() + axes.len()).filter(|i| !axes.contains(i)).collect::<Vec<_>>())
        });
        moved(node, |axis| axes.as_ref()?.get(axis).copied())
    }
}

fn unsqueezed_axes(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    let count = node.node.ints("axes").map(<[i64]>::len).or_else(|| Some(node.ints(1)?.len()))?;
    node.axes(1, rank + count)
}

impl OpRule for Transpose {
    fn ops(&self) -> &'static [&'static str] {
        &["Transpose"]
    }

    fn infer(&self, node: &NodeView<'_>) -> Vec<Option<TensorType>> {
        let transposed = node.ty(0).map(|t| {
            let shape = t.shape.and_then(|s| {
                permutation(node, s.len())?.iter().map(|i| s.get(*i).cloned()).collect()
            });
            TensorType { dtype: t.dtype, shape }
        });
        vec![transposed]
    }

    fn flow(&self, node: &NodeView<'_>) -> Flow {
        let perm = node.shape(0).and_then(|s| permutation(node, s.len()));
        moved(node, |axis| perm.as_ref()?.iter().position(|p| *p == axis))
    }
}

fn permutation(node: &NodeView<'_>, rank: usize) -> Option<Vec<usize>> {
    match node.node.ints("perm") {
        Some(perm) if perm.len() == rank => perm.iter().map(|p| normal_axis(*p, rank)).collect(),
        Some(_) => None,
        None => Some((0..rank).rev().collect()),
    }
}

/// A node that moves the tracked axis of its first input by `place`.
fn moved(node: &NodeView<'_>, place: impl Fn(usize) -> Option<usize>) -> Flow {
    let Some(axis) = node.labels(0).and_then(|l| place(l.axis)) else {
        return Flow::whole("a rearrangement of unknown axes");
    };
    on_axis(node, axis, vec![Operand::Channels, Operand::Plain])
}
