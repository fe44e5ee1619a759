//! Limits of the sizes in a model.
//!
//! A file of a few bytes can demand more memory than there is: by extents, by windows and padding, or
//! by values that double from node to node. A node's attributes are checked before its types are
//! inferred, and its outputs before the next node.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Dim, Graph, Model, Node, NodeId, TensorType};
use crate::ops::REDUCTIONS;

use super::{demands, rounds, types};

/// Limit of elements of a computed value, over its fixed extents: 1 GiB of single precision.
pub(super) const MOST_ELEMENTS: usize = 1 << 28;

/// Limit of axes of a value.
const MOST_AXES: usize = 64;

/// Limit of sizes in attributes, other than those of windows.
const LARGEST_SIZE: i64 = i32::MAX as i64;

/// Limit of extents, strides and padding of windows.
const LARGEST_STEP: i64 = 1 << 24;

/// Limit of positions of a window.
const MOST_TAPS: i64 = 1 << 24;

/// Attributes that describe windows.
const WINDOW: &[&str] =
    &["dilations", "kernel_shape", "output_padding", "pads", "paddings", "strides"];

/// Attributes that hold sizes, counts or axes.
const SIZES: &[&str] = &[
    "axes",
    "axis",
    "block_size",
    "blocksize",
    "group",
    "hidden_size",
    "num_groups",
    "num_outputs",
    "output_shape",
    "perm",
    "shape",
    "size",
    "split",
];

/// Inputs with one or two entries per axis.
const PER_AXIS: &[(&[&str], &[usize])] = &[
    (&["ConstantOfShape"], &[0]),
    (&["CenterCropPad", "Expand", "Reshape", "Squeeze", "Tile", "Unsqueeze", "Upsample"], &[1]),
    (REDUCTIONS, &[1]),
    (&["Pad"], &[1, 3]),
    (&["Resize"], &[1, 2, 3]),
    (&["Slice"], &[1, 2, 3, 4]),
];

/// Checks that a model with its fixed sizes can be run in the memory of a usual machine.
///
/// # Errors
/// [`ErrorKind::Memory`] or [`ErrorKind::Format`] naming an input or a node.
pub fn check_sizes(model: &Model) -> Result<()> {
    let mut graph = model.graph.clone();
    check(&graph)?;
    for id in graph.topological_order()? {
        types::infer_node(&mut graph, id);
        returned(&graph, id)?;
    }
    together(&graph)
}

/// Checks what the nodes of a graph with known types demand together.
///
/// # Errors
/// As [`demands::check`] and [`rounds::check`].
pub(super) fn together(graph: &Graph) -> Result<()> {
    demands::check(graph)?;
    rounds::check(graph)
}

/// Checks the sizes of a graph's inputs, and the sizes in all attributes.
///
/// # Errors
/// As [`asked`]; [`ErrorKind::Memory`] naming an input.
pub(super) fn check(graph: &Graph) -> Result<()> {
    for input in &graph.inputs {
        let value = graph.value(*input);
        if let Some(fault) = value.ty.as_ref().and_then(excess) {
            return Err(too_large(format!("input '{}' {fault}", value.name)));
        }
    }
    for (id, node) in graph.nodes() {
        asked(graph, id)?;
        node.subgraphs().try_for_each(check).at_node(&node.name)?;
    }
    Ok(())
}

/// Checks the sizes in a node's attributes.
///
/// # Errors
/// [`ErrorKind::Format`] naming the node and the size.
pub(super) fn asked(graph: &Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    if !node.domain.is_empty() {
        return Ok(());
    }
    match too_much(graph, node) {
        Some(fault) => Err(Error::new(ErrorKind::Format, format!("{} {fault}", node.op))
            .at_node(&node.name)
            .hint("the model is damaged; export it again")),
        None => Ok(()),
    }
}

fn too_much(graph: &Graph, node: &Node) -> Option<String> {
    for (names, largest) in [(WINDOW, LARGEST_STEP), (SIZES, LARGEST_SIZE)] {
        for name in names {
            let one = [node.int(name, 0)];
            let all = node.ints(name).unwrap_or(&one);
            let beyond = |v: &&i64| v.unsigned_abs() > largest.unsigned_abs();
            if let Some(value) = all.iter().find(beyond) {
                return Some(format!("has {value} in '{name}', beyond {largest}"));
            }
            if all.len() > 2 * MOST_AXES && *name != "split" {
                return Some(format!("has {} entries in '{name}'", all.len()));
            }
        }
    }
    let kernel = node.ints("kernel_shape").unwrap_or_default();
    let taps = kernel.iter().try_fold(1i64, |n, k| n.checked_mul((*k).max(1)));
    if taps.is_none_or(|taps| taps > MOST_TAPS) {
        return Some(format!("has a window of {kernel:?}, beyond {MOST_TAPS} positions"));
    }
    let (_, slots) = PER_AXIS.iter().find(|(ops, _)| ops.contains(&node.op.as_str()))?;
    slots.iter().find_map(|slot| {
        let entries = graph.initializer(node.input(*slot)?)?.len();
        (entries > 2 * MOST_AXES).then(|| format!("reads {entries} entries as input {slot}"))
    })
}

/// Checks that a node's outputs fit into memory.
///
/// # Errors
/// [`ErrorKind::Memory`] naming the node.
pub(super) fn returned(graph: &Graph, id: NodeId) -> Result<()> {
    let node = graph.node(id);
    let types = node.outputs.iter().flatten().filter_map(|v| graph.value(*v).ty.as_ref());
    match types.filter_map(excess).next() {
        Some(fault) => {
            Err(too_large(format!("the result of {} {fault}", node.op)).at_node(&node.name))
        }
        None => Ok(()),
    }
}

/// The reason why a value of this type is too large.
fn excess(ty: &TensorType) -> Option<String> {
    let shape = ty.shape.as_ref()?;
    if shape.len() > MOST_AXES {
        return Some(format!("has {} axes, more than {MOST_AXES}", shape.len()));
    }
    let fixed: Vec<usize> = shape.iter().filter_map(Dim::known).filter(|n| *n > 0).collect();
    let elements = fixed.iter().try_fold(1usize, |n, extent| n.checked_mul(*extent));
    elements.is_none_or(|n| n > MOST_ELEMENTS).then(|| {
        let extents: Vec<String> = fixed.iter().map(usize::to_string).collect();
        format!("has {} elements, more than {MOST_ELEMENTS}", extents.join(" × "))
    })
}

fn too_large(message: String) -> Error {
    Error::new(ErrorKind::Memory, message).hint("check the sizes in the model")
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Model, Tensor};

    fn refusal(model: Model) -> String {
        canonicalise(model, &CanonOptions::default()).unwrap_err().to_string()
    }

    #[test]
    fn inputs_and_windows_of_impossible_sizes_are_refused() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,9223372036854775807");
        let y = b.op("Relu", "y", &[x], []);
        let error = refusal(b.build(&[y]));
        assert!(error.contains("input 'x' has 9223372036854775807 elements"), "{error}");

        for (name, value) in [("pads", [i64::MAX; 4]), ("kernel_shape", [1 << 20; 4])] {
            let mut b = GraphBuilder::new("net", 13);
            let x = b.input("x", "n,1,h,w");
            let y = b.op("MaxPool", "y", &[x], [(name, value.into())]);
            let error = refusal(b.build(&[y]));
            assert!(error.contains("node 'y': MaxPool has"), "{error}");
        }
    }

    #[test]
    fn values_that_double_from_node_to_node_are_refused() {
        let mut b = GraphBuilder::new("net", 13);
        let mut value = b.input("x", "n,4");
        for _ in 0..60 {
            value = b.op("Concat", "y", &[value, value], [("axis", 1.into())]);
        }
        let error = refusal(b.build(&[value]));
        assert!(error.contains("the result of Concat has 536870912 elements"), "{error}");
    }

    #[test]
    fn lists_with_more_entries_than_axes_can_have_are_refused() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,4");
        let target = b.constant("target", Tensor::from_i64(vec![1000], &[1; 1000]));
        let y = b.op("Reshape", "y", &[x, target], []);
        let error = refusal(b.build(&[y]));
        assert!(error.contains("reads 1000 entries as input 1"), "{error}");
    }
}
