//! Folds reductions over given axes, such as in the norm of a weight.

use ndarray::{ArrayD, Axis};

use crate::ir::{Graph, NodeId, Tensor};
use crate::ops::{NodeView, reduced_axes};

/// The operators of this file.
pub(super) const OPS: &[&str] =
    &["ReduceSum", "ReduceL2", "ReduceSumSquare", "ReduceMean", "ReduceMax", "ReduceMin"];

/// The result of a reduction of floats, if the node is one.
pub(super) fn value(graph: &Graph, id: NodeId, inputs: &[&Tensor]) -> Option<Tensor> {
    let view = NodeView::new(graph, id, &[]);
    let reduce: fn(&ArrayD<f64>, Axis) -> Option<ArrayD<f64>> = match view.node.op.as_str() {
        "ReduceSum" | "ReduceL2" | "ReduceSumSquare" => |a, axis| Some(a.sum_axis(axis)),
        "ReduceMean" => |a, axis| a.mean_axis(axis),
        "ReduceMax" => |a, axis| Some(a.fold_axis(axis, f64::NEG_INFINITY, |m, v| m.max(*v))),
        "ReduceMin" => |a, axis| Some(a.fold_axis(axis, f64::INFINITY, |m, v| m.min(*v))),
        _ => return None,
    };
    let data = inputs.first()?;
    let squares = matches!(view.node.op.as_str(), "ReduceL2" | "ReduceSumSquare");
    let mut array = data.to_f64().ok()?;
    if squares {
        array.mapv_inplace(|v| v * v);
    }
    let axes = reduced_axes(&view, array.ndim())?;
    for axis in &axes {
        array = reduce(&array, Axis(*axis))?.insert_axis(Axis(*axis));
    }
    if view.node.op == "ReduceL2" {
        array.mapv_inplace(f64::sqrt);
    }
    if view.node.int("keepdims", 1) == 0 {
        let kept = (0..array.ndim()).filter(|a| !axes.contains(a));
        let kept: Vec<usize> = kept.map(|a| array.len_of(Axis(a))).collect();
        array = array.into_shape_with_order(kept).ok()?;
    }
    Tensor::from_f64(data.dtype, &array).ok()
}
