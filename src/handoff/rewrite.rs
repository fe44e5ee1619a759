//! Rewrites nodes without a correct gradient in ONNX Runtime training in operators that have one.
//!
//! Every rewrite computes the same function, up to rounding. A node that cannot be rewritten stays,
//! and the following check refuses it.

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{Attribute, Dim, Graph, Node, NodeId, Tensor, ValueId};
use crate::ops::{self, NodeView};

/// Writes a replacement of a node's output; `None` if that is not possible.
type Rewrite = fn(&mut Graph, &Node, &[Dim]) -> Option<ValueId>;

const REWRITES: &[(&str, Rewrite)] = &[
    ("AveragePool", average_pool),
    ("BatchNormalization", batch_normalization),
    ("HardSigmoid", hard_sigmoid),
    ("HardSwish", hard_swish),
];

/// Rewrites the graph.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(graph: &mut Graph) -> Result<()> {
    let shapes = shapes(graph)?;
    for (id, shape) in shapes {
        let node = graph.node(id).clone();
        let Some((_, rewrite)) = REWRITES.iter().find(|(op, _)| node.is(op)) else { continue };
        let (Some(output), Some(new)) = (node.output(0), rewrite(graph, &node, &shape)) else {
            continue;
        };
        graph.replace_uses(output, new);
        graph.remove_node(id);
        // Callers know outputs by their names.
        let name = graph.value(output).name.clone();
        let ty = graph.value(output).ty.clone();
        graph.rename_value(output, &format!("{name}.replaced"));
        graph.rename_value(new, &name);
        graph.set_type(new, ty);
    }
    graph.remove_dead_nodes();
    Ok(())
}

/// Every node with the shape of its first input, if it is known.
fn shapes(graph: &Graph) -> Result<Vec<(NodeId, Vec<Dim>)>> {
    let mut typed = graph.clone();
    let mut shapes = Vec::new();
    for id in graph.topological_order()? {
        let view = NodeView::new(&typed, id, &[]);
        if let Some(shape) = view.shape(0) {
            shapes.push((id, shape));
        }
        let types = ops::infer(&NodeView::new(&typed, id, &[]));
        for (output, ty) in graph.node(id).outputs.iter().zip(types) {
            if let Some(output) = output.filter(|_| ty.is_some()) {
                typed.set_type(output, ty);
            }
        }
    }
    Ok(shapes)
}

/// y = scale · (x − mean) / √(variance + ε) + shift, in which scale and shift remain weights.
fn batch_normalization(graph: &mut Graph, node: &Node, shape: &[Dim]) -> Option<ValueId> {
    let [x, scale, shift, mean, variance] =
        *(0..5).map(|i| node.input(i)).collect::<Option<Vec<_>>>()?
    else {
        return None;
    };
    let epsilon = f64::from(node.float("epsilon", 1e-5));
    let mean = graph.initializer(mean)?.to_f64().ok()?;
    let variance = graph.initializer(variance)?.to_f64().ok()?;
    let behind: Vec<i64> = (1..shape.len() as i64 - 1).collect();
    let per_channel = |graph: &mut Graph, values: ArrayD<f64>, what: &str| {
        let dims: Vec<usize> = [values.len()].into_iter().chain(behind.iter().map(|_| 1)).collect();
        let values = values.mapv(|v| v as f32).into_shape_with_order(IxDyn(&dims)).ok()?;
        Some(graph.add_initializer(&format!("{}.{what}", node.name), Tensor::from_f32(&values)))
    };
    let mean = per_channel(graph, mean, "mean")?;
    let deviation = per_channel(graph, variance.mapv(|v| (v + epsilon).sqrt()), "deviation")?;
    let weight = |graph: &mut Graph, value: ValueId| match behind.is_empty() {
        true => value,
        false => {
            let axes = Tensor::from_i64(vec![behind.len()], &behind);
            let axes = graph.add_initializer(&format!("{}.axes", node.name), axes);
            add(graph, node, "Unsqueeze", &[value, axes])
        }
    };
    let centred = add(graph, node, "Sub", &[x, mean]);
    let normal = add(graph, node, "Div", &[centred, deviation]);
    let scale = weight(graph, scale);
    let scaled = add(graph, node, "Mul", &[normal, scale]);
    let shift = weight(graph, shift);
    Some(add(graph, node, "Add", &[scaled, shift]))
}

/// A mean over windows is a depthwise convolution with equal weights.
fn average_pool(graph: &mut Graph, node: &Node, shape: &[Dim]) -> Option<ValueId> {
    let channels = shape.get(1)?.known()?;
    let kernel = node.ints("kernel_shape")?;
    let padded = node.ints("pads").is_some_and(|pads| pads.iter().any(|p| *p != 0));
    let counts_padding = !padded || node.int("count_include_pad", 0) == 1;
    let automatic = node.str("auto_pad").is_some_and(|p| !matches!(p, "NOTSET" | "VALID"));
    if !counts_padding || automatic || node.int("ceil_mode", 0) == 1 {
        return None;
    }
    let window: Vec<usize> =
        kernel.iter().map(|k| usize::try_from(*k).ok()).collect::<Option<_>>()?;
    let dims: Vec<usize> = [channels, 1].into_iter().chain(window.iter().copied()).collect();
    let part = 1.0 / window.iter().product::<usize>() as f32;
    let weight = Tensor::from_f32(&ArrayD::from_elem(IxDyn(&dims), part));
    let weight = graph.add_initializer(&format!("{}.window", node.name), weight);
    let mut attributes = vec![("group", Attribute::Int(channels as i64))];
    for name in ["kernel_shape", "strides", "pads", "dilations"] {
        attributes.extend(node.attributes.get(name).map(|value| (name, value.clone())));
    }
    Some(graph.add_op(
        "Conv",
        &format!("{}.mean", node.name),
        &[node.input(0)?, weight],
        attributes,
    ))
}

/// clip(α·x + β, 0, 1)
fn hard_sigmoid(graph: &mut Graph, node: &Node, _: &[Dim]) -> Option<ValueId> {
    let (alpha, beta) = (node.float("alpha", 0.2), node.float("beta", 0.5));
    Some(ramp(graph, node, alpha, beta, node.input(0)?))
}

/// x · clip(x/6 + ½, 0, 1)
fn hard_swish(graph: &mut Graph, node: &Node, _: &[Dim]) -> Option<ValueId> {
    let x = node.input(0)?;
    let gate = ramp(graph, node, 1.0 / 6.0, 0.5, x);
    Some(add(graph, node, "Mul", &[x, gate]))
}

fn ramp(graph: &mut Graph, node: &Node, alpha: f32, beta: f32, x: ValueId) -> ValueId {
    let scalar = |graph: &mut Graph, value: f32| {
        let tensor = Tensor::from_f32(&ndarray::arr0(value).into_dyn());
        graph.add_initializer(&format!("{}.constant", node.name), tensor)
    };
    let [alpha, beta, zero, one] = [alpha, beta, 0.0, 1.0].map(|v| scalar(graph, v));
    let scaled = add(graph, node, "Mul", &[x, alpha]);
    let shifted = add(graph, node, "Add", &[scaled, beta]);
    add(graph, node, "Clip", &[shifted, zero, one])
}

fn add(graph: &mut Graph, node: &Node, op: &str, inputs: &[ValueId]) -> ValueId {
    graph.add_op(op, &format!("{}.{}", node.name, op.to_lowercase()), inputs, [])
}
