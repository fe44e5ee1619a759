//! Layers whose rows are several times the channels of a group are one node of the joint model each.

use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Model, ValueId};
use onnx_zip::mtz::options::{Biases, Method};

use crate::grouped::{is_right_in_every_form, merged, nodes};

/// Channels of the stream, of which each third has a path of its own.
const WIDTH: usize = 12;

fn conv(b: &mut GraphBuilder, name: &str, x: ValueId, dims: [usize; 4], groups: i64) -> ValueId {
    let weight = b.weights(&format!("{name}.weight"), &dims);
    let bias = b.weights(&format!("{name}.bias"), &[dims[0]]);
    let pad = i64::from(dims[2] == 3);
    let attributes = [("group", groups.into()), ("pads", [pad; 4].into())];
    b.op("Conv", name, &[x, weight, bias], attributes)
}

fn dense(b: &mut GraphBuilder, name: &str, x: ValueId, dims: [usize; 2]) -> ValueId {
    let weight = b.weights(&format!("{name}.weight"), &dims);
    let bias = b.weights(&format!("{name}.bias"), &[dims[1]]);
    let y = b.op("MatMul", name, &[x, weight], []);
    b.op("Add", &format!("{name}.add"), &[y, bias], [])
}

/// A residual stream whose thirds are filtered one after the other and added up, so that channels of two
/// thirds correspond.
fn net(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    for skipped in 0..seed {
        b.weights(&format!("skipped{skipped}"), &[1]);
    }
    let x = b.input("x", "n,3,7,7");
    let stem = conv(&mut b, "stem", x, [WIDTH, 3, 3, 3], 1);
    let deep = conv(&mut b, "deep", stem, [WIDTH, 1, 3, 3], WIDTH as i64);
    let sum = b.op("Add", "stream", &[stem, deep], []);
    let axis = b.ints("channels", &[1]);
    let split = [0, 4, 8].map(|start| {
        let (start, end) = (b.ints("start", &[start]), b.ints("end", &[start + 4]));
        b.op("Slice", "third", &[sum, start, end, axis], [])
    });
    let first = conv(&mut b, "first", split[0], [4, 1, 3, 3], 4);
    let second = b.op("Add", "second.sum", &[first, split[1]], []);
    let second = conv(&mut b, "second", second, [4, 1, 3, 3], 4);
    let all = b.op("Concat", "all", &[first, second, split[2]], [("axis", 1.into())]);
    let last = b.op("Transpose", "last", &[all], [("perm", [0, 2, 3, 1].into())]);
    let wide = dense(&mut b, "wide", last, [WIDTH, 2 * WIDTH]);
    let wide = b.op("Relu", "relu", &[wide], []);
    let back = dense(&mut b, "narrow", wide, [2 * WIDTH, WIDTH]);
    let back = b.op("Transpose", "back", &[back], [("perm", [0, 3, 1, 2].into())]);
    let sum = b.op("Add", "sum", &[sum, back], []);
    let sum = b.op("Relu", "relu.last", &[sum], []);
    let head = conv(&mut b, "head", sum, [5, WIDTH, 1, 1], 1);
    b.build(&[head])
}

/// Gated units, whose values and gates are rows of one layer with a depthwise layer behind it.
fn gated(seed: usize) -> Model {
    let mut b = GraphBuilder::new("net", 17);
    for skipped in 0..seed {
        b.weights(&format!("skipped{skipped}"), &[1]);
    }
    let x = b.input("x", "n,3,7,7");
    let double = conv(&mut b, "double", x, [2 * WIDTH, 3, 1, 1], 1);
    let each = conv(&mut b, "each", double, [2 * WIDTH, 1, 3, 3], 2 * WIDTH as i64);
    let axis = b.ints("channels", &[1]);
    let [values, gates] = [0, WIDTH as i64].map(|start| {
        let (start, end) = (b.ints("start", &[start]), b.ints("end", &[start + WIDTH as i64]));
        b.op("Slice", "half", &[each, start, end, axis], [])
    });
    let gates = b.op("Sigmoid", "gates", &[gates], []);
    let all = b.op("Mul", "gated", &[values, gates], []);
    let head = conv(&mut b, "head", all, [5, WIDTH, 1, 1], 1);
    b.build(&[head])
}

#[test]
fn gated_units_are_one_node_each() {
    let all = gated(0).graph.nodes().count();
    for (share, copies) in [(0.0, 2), (1.0, 1)] {
        let joint = merged([gated(0), gated(1)], share, Method::Refit, Biases::Shared);
        is_right_in_every_form(&joint);
        let nodes = nodes(&emit::emit(&joint, &EmitOptions::default()).unwrap());
        assert_eq!((nodes["Conv 24"], nodes.get("Concat")), (copies, None), "{nodes:?}");
        assert!(nodes.values().sum::<usize>() <= copies * all + 4, "{nodes:?}");
    }
}

#[test]
fn products_with_biases_are_one_node_each() {
    for (share, copies) in [(0.0, 2), (1.0, 1)] {
        let joint = merged([net(0), net(1)], share, Method::Refit, Biases::Shared);
        is_right_in_every_form(&joint);
        let nodes = nodes(&emit::emit(&joint, &EmitOptions::default()).unwrap());
        assert_eq!(nodes["MatMul"], 2 * copies, "{nodes:?}");
    }
}

#[test]
fn split_models_have_the_nodes_of_extracted_ones() {
    for (own, biases) in [(gated as fn(usize) -> Model, Biases::Shared), (net, Biases::PerTask)] {
        let joint = merged([own(0), own(1)], 1.0, Method::Refit, biases);
        for (task, split) in emit::emit_tasks(&joint).unwrap().iter().enumerate() {
            assert_eq!(nodes(split), nodes(&emit::plain_task(&joint, task)));
        }
    }
}

#[test]
fn a_task_alone_has_its_layers_whole() {
    let joint = merged([net(0), net(1)], 1.0, Method::Refit, Biases::Shared);
    for task in 0..2 {
        let nodes = nodes(&emit::plain_task(&joint, task));
        assert_eq!((nodes["Conv 12"], nodes["MatMul"], nodes.get("Gather")), (1, 2, None));
    }
}
