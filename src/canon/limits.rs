//! Limits of the sizes in a model.
//!
//! A file of a few bytes can demand more memory than there is: by extents, by windows and padding, or
//! by values that double from node to node. A node's attributes are checked before its types are
//! inferred, and its outputs before the next node.

use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Dim, Graph, Model, Node, NodeId, TensorType};
use crate::ops::REDUCTIONS;

use super::{alive, demands, operands, rounds, types};

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

/// Attributes that hold sizes or counts.
const SIZES: &[&str] = &[
    "block_size",
    "blocksize",
    "group",
    "hidden_size",
    "max_gram_length",
    "num_groups",
    "num_outputs",
    "num_scan_inputs",
    "output_shape",
    "sample_size",
    "shape",
    "size",
    "split",
];

/// Attributes that name axes or count them.
const AXES: &[&str] = &[
    "axes",
    "axis",
    "batch_axis",
    "batch_dims",
    "perm",
    "scan_input_axes",
    "scan_output_axes",
    "time_axis",
];

/// Limit of outputs of a node. Runtimes take time like the square of their number.
const MOST_OUTPUTS: usize = 1 << 14;

/// Inputs with one or two entries per axis.
const PER_AXIS: &[(&[&str], &[usize])] = &[
    (&["ConstantOfShape"], &[0]),
    (&["CenterCropPad", "Expand", "Reshape", "Squeeze", "Tile", "Unsqueeze", "Upsample"], &[1]),
    (REDUCTIONS, &[1]),
    (&["Pad"], &[1, 3]),
    (&["Resize"], &[1, 2, 3]),
    (&["Slice"], &[1, 2, 3, 4]),
];

/// Inputs with extents, widths or repeats.
const EXTENTS: &[(&[&str], &[usize])] = &[
    (&["ConstantOfShape"], &[0]),
    (&["CenterCropPad", "Expand", "Pad", "Reshape", "Tile"], &[1]),
    (&["Resize"], &[3]),
];

/// Checks that a model with its fixed sizes can be run in the memory of a usual machine, and has no node
/// that a runtime does not survive.
///
/// # Errors
/// [`ErrorKind::Memory`] or [`ErrorKind::Format`] naming an input or a node.
pub fn check_sizes(model: &Model) -> Result<()> {
    let mut graph = model.graph.clone();
    check(&graph)?;
    for id in graph.topological_order()? {
        operands::check_any_version(&graph, id)?;
        types::infer_node(&mut graph, id);
        returned(&graph, id)?;
    }
    graph.nodes().flat_map(|(_, node)| node.subgraphs()).try_for_each(bodies)?;
    together(&graph)
}

/// Checks the nodes of a sub-graph by the types that the file gives.
fn bodies(graph: &Graph) -> Result<()> {
    for (id, node) in graph.nodes() {
        operands::check_any_version(graph, id)?;
        node.subgraphs().try_for_each(bodies)?;
    }
    Ok(())
}

/// Checks what the nodes of a graph with known types demand together.
///
/// # Errors
/// As [`demands::check`], [`alive::check`] and [`rounds::check`].
pub(super) fn together(graph: &Graph) -> Result<()> {
    demands::check(graph)?;
    alive::check(graph)?;
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
    if node.outputs.len() > MOST_OUTPUTS {
        return Some(format!("has {} outputs, more than {MOST_OUTPUTS}", node.outputs.len()));
    }
    let limits = [(WINDOW, LARGEST_STEP), (SIZES, LARGEST_SIZE), (AXES, MOST_AXES as i64)];
    for (names, largest) in limits {
        for name in names {
            let one = [node.int(name, 0)];
            let all = node.ints(name).unwrap_or(&one);
            if let Some(value) = beyond(all, largest) {
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
    too_much_read(graph, node)
}

/// The reason why a constant that a node reads is too long, or holds too large a number.
fn too_much_read(graph: &Graph, node: &Node) -> Option<String> {
    let slots = |table: &'static [(&[&str], &'static [usize])]| {
        let row = table.iter().find(|(ops, _)| ops.contains(&node.op.as_str()));
        row.map_or(&[][..], |(_, slots)| slots)
    };
    let constant = |slot: &usize| graph.initializer(node.input(*slot)?);
    let long = slots(PER_AXIS).iter().find_map(|slot| {
        let entries = constant(slot)?.len();
        (entries > 2 * MOST_AXES).then(|| format!("reads {entries} entries as input {slot}"))
    });
    long.or_else(|| {
        slots(EXTENTS).iter().find_map(|slot| {
            let value = beyond(&constant(slot)?.to_i64()?, LARGEST_SIZE)?;
            Some(format!("reads {value} as input {slot}, beyond {LARGEST_SIZE}"))
        })
    })
}

/// The first number whose magnitude is above `largest`.
fn beyond(all: &[i64], largest: i64) -> Option<i64> {
    all.iter().copied().find(|n| n.unsigned_abs() > largest.unsigned_abs())
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
    #[test]
    fn widths_whose_sum_overflows_are_refused() {
        for op in ["Pad", "Tile", "Expand"] {
            let mut b = GraphBuilder::new("net", 13);
            let x = b.input("x", "n,4");
            let w = b.weights("w", &[4, 4]);
            let r = b.op("MatMul", "r", &[x, w], []);
            let sizes = [0, i64::MAX, 0, i64::MAX];
            let sizes = b.ints("sizes", if op == "Pad" { &sizes } else { &sizes[..2] });
            let y = b.op(op, "y", &[r, sizes], []);
            let error = refusal(b.build(&[y]));
            assert!(
                error.contains(&format!("node 'y': {op} reads 9223372036854775807")),
                "{error}"
            );
        }
    }

    #[test]
    fn axes_that_no_value_has_are_refused() {
        for (op, name) in [("GatherND", "batch_dims"), ("ReverseSequence", "time_axis")] {
            for axis in [i64::MIN, i64::from(i32::MIN), 1000, i64::MAX] {
                let mut b = GraphBuilder::new("net", 13);
                let x = b.input("x", "n,4");
                let at = b.constant("at", Tensor::from_i64(vec![1, 1], &[0]));
                let y = b.op(op, "y", &[x, at], [(name, axis.into())]);
                let error = refusal(b.build(&[y]));
                assert!(error.contains(&format!("has {axis} in '{name}', beyond 64")), "{error}");
            }
        }
    }
}
