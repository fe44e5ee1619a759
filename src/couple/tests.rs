mod attention;
mod captured;
mod operators;

use super::*;
use crate::ir::{Attribute, DataType, Dim, Tensor, TensorType, ValueKind};
use crate::ops::{self, NodeView, Operand};

fn zeros(dims: &[usize]) -> Tensor {
    Tensor::from_f32(&ndarray::ArrayD::zeros(ndarray::IxDyn(dims)))
}

fn image(graph: &mut Graph, channels: usize) -> ValueId {
    let dims = [Dim::Symbol("n".into()), Dim::Known(channels), Dim::Known(8), Dim::Known(8)];
    graph.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.to_vec()) })
}

fn conv(graph: &mut Graph, name: &str, x: ValueId, dims: [usize; 4], group: i64) -> ValueId {
    let w = graph.add_initializer(&format!("{name}.w"), zeros(&dims));
    let pad = (dims[2] / 2) as i64;
    let attributes = [("pads", Attribute::Ints(vec![pad; 4])), ("group", Attribute::Int(group))];
    graph.add_op("Conv", name, &[x, w], attributes)
}

fn gemm(graph: &mut Graph, name: &str, x: ValueId, out: usize, inputs: usize) -> ValueId {
    let w = graph.add_initializer(&format!("{name}.w"), zeros(&[out, inputs]));
    graph.add_op("Gemm", name, &[x, w], [("transB", Attribute::Int(1))])
}

fn coupled(graph: &mut Graph) -> Coupling {
    for id in graph.topological_order().unwrap() {
        let types = ops::infer(&NodeView::new(graph, id, &[]));
        let outputs = graph.node(id).outputs.clone();
        for (output, ty) in outputs.into_iter().zip(types) {
            graph.set_type(output.unwrap(), ty);
        }
    }
    Coupling::of(graph).unwrap()
}

fn summary(c: &Coupling) -> Vec<(String, usize, usize, bool)> {
    c.groups
        .iter()
        .map(|g| (g.name.clone(), g.size, g.producers.len(), g.frozen.is_some()))
        .collect()
}

fn row(name: &str, size: usize, producers: usize, frozen: bool) -> (String, usize, usize, bool) {
    (name.to_owned(), size, producers, frozen)
}

#[test]
fn flatten_repeats_each_channel_over_its_pixels() {
    let mut g = Graph::new("lenet");
    let x = image(&mut g, 1);
    let c = conv(&mut g, "conv", x, [4, 1, 3, 3], 1);
    let f = g.add_op("Flatten", "flat", &[c], []);
    let y = gemm(&mut g, "fc", f, 10, 256);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(
        summary(&c),
        [row("x", 1, 0, true), row("conv", 4, 1, false), row("fc", 10, 1, true)]
    );
    let columns = c.layer(LayerId(1)).inputs.as_ref().unwrap();
    assert_eq!((columns[0].index, columns[63].index, columns[64].index), (0, 0, 1));
}

#[test]
fn features_in_blocks_are_channels_of_maps() {
    let mut g = Graph::new("decoder");
    let dims = [Dim::Symbol("n".into()), Dim::Known(5)];
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.to_vec()) });
    let features = gemm(&mut g, "fc", x, 36, 5);
    let sizes = g.add_initializer("sizes", Tensor::from_i64(vec![4], &[-1, 4, 3, 3]));
    let maps = g.add_op("Reshape", "maps", &[features, sizes], []);
    let y = conv(&mut g, "conv", maps, [2, 4, 3, 3], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    let found = summary(&c);
    assert!(found.contains(&row("fc", 36, 1, false)), "{found:?}");
    assert!(found.contains(&row("heads of fc", 4, 0, false)), "{found:?}");
    let [nest] = c.nests.as_slice() else { panic!("{:?}", c.nests) };
    assert!(nest.is_fixed);
    assert_eq!((nest.width(), nest.head_of[8], nest.head_of[9]), (9, 0, 1));
    assert_eq!(c.layer(LayerId(1)).inputs.as_ref().map(Vec::len), Some(4));
}

#[test]
fn an_addition_couples_its_producers() {
    let mut g = Graph::new("residual");
    let x = image(&mut g, 3);
    let stem = conv(&mut g, "stem", x, [8, 3, 3, 3], 1);
    let a = conv(&mut g, "a", stem, [6, 8, 3, 3], 1);
    let b = conv(&mut g, "b", a, [8, 6, 3, 3], 1);
    let sum = g.add_op("Add", "sum", &[stem, b], []);
    let p = g.add_op("GlobalAveragePool", "gap", &[sum], []);
    let f = g.add_op("Flatten", "flat", &[p], []);
    let y = gemm(&mut g, "fc", f, 10, 8);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(
        summary(&c),
        [
            row("x", 3, 0, true),
            row("stem", 8, 2, false),
            row("a", 6, 1, false),
            row("fc", 10, 1, true)
        ]
    );
    assert_eq!(c.groups[1].consumers, [LayerId(1), LayerId(3)]);
}

#[test]
fn depthwise_convolution_joins_the_group_it_reads() {
    let mut g = Graph::new("mobile");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "expand", x, [8, 3, 1, 1], 1);
    let d = conv(&mut g, "depthwise", a, [8, 1, 3, 3], 8);
    let y = conv(&mut g, "project", d, [4, 8, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(c.groups[1].producers, [LayerId(0), LayerId(1)]);
    assert!(c.layer(LayerId(1)).per_channel);
}

#[test]
fn depthwise_transposed_convolution_joins_the_group_it_reads() {
    let mut g = Graph::new("decoder");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "reduce", x, [6, 3, 1, 1], 1);
    let w = g.add_initializer("up.w", zeros(&[6, 1, 2, 2]));
    let attributes = [("group", Attribute::Int(6)), ("strides", Attribute::Ints(vec![2, 2]))];
    let d = g.add_op("ConvTranspose", "up", &[a, w], attributes);
    let y = conv(&mut g, "y", d, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(c.groups[1].producers, [LayerId(0), LayerId(1)]);
    let up = c.layer(LayerId(1));
    assert!(up.per_channel);
    assert_eq!(up.layer.sizes(&g).unwrap(), (6, 1, 4));
}

/// A mean over the channels of `x`, times one number for each of six channels.
fn mean_of_each(g: &mut Graph, x: ValueId) -> ValueId {
    let mean = g.add_op("ReduceMean", "mean", &[x], [("axes", Attribute::Ints(vec![1]))]);
    let root = g.add_op("Sqrt", "root", &[mean], []);
    let each = g.add_initializer("numbers", zeros(&[6, 1, 1]));
    g.add_op("Mul", "each", &[each, root], [])
}

#[test]
fn channels_begin_again_behind_a_sum_over_them() {
    let mut g = Graph::new("means");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
    let each = mean_of_each(&mut g, a);
    let y = conv(&mut g, "y", each, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    let made = [row("a", 6, 1, false), row("each", 6, 0, false)];
    assert_eq!(summary(&c)[1..3], made);
    assert_eq!(c.groups[2].consumers, [LayerId(1)]);
    let Some(Flow::Partwise(flow)) = c.flows.get(&g.producer(each).unwrap()) else { panic!() };
    assert_eq!(flow.operands, [Operand::Param { axis: 0 }, Operand::Plain]);
}

#[test]
fn channels_behind_a_sum_are_those_that_they_are_added_to() {
    let mut g = Graph::new("means");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [6, 3, 1, 1], 1);
    let each = mean_of_each(&mut g, a);
    let sum = g.add_op("Add", "sum", &[a, each], []);
    let y = conv(&mut g, "y", sum, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c)[1..], [row("a", 6, 1, false), row("y", 4, 1, true)]);
}

#[test]
fn a_sum_over_channels_of_an_input_stays_like_an_input() {
    let mut g = Graph::new("means");
    let x = image(&mut g, 3);
    let each = mean_of_each(&mut g, x);
    let y = conv(&mut g, "y", each, [4, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c)[1], row("each", 6, 0, true));
}

#[test]
fn concatenation_and_split_are_bookkeeping() {
    let mut g = Graph::new("join");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [4, 3, 1, 1], 1);
    let b = conv(&mut g, "b", x, [2, 3, 1, 1], 1);
    let j = g.add_op("Concat", "join", &[b, a], [("axis", Attribute::Int(1))]);
    let y = conv(&mut g, "y", j, [5, 6, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    let columns = c.layer(LayerId(2)).inputs.as_ref().unwrap();
    assert_eq!(columns[0], Channel { group: c.layer(LayerId(1)).outputs[0].group, index: 0 });
    assert_eq!(columns[2], Channel { group: c.layer(LayerId(0)).outputs[0].group, index: 0 });
}

#[test]
fn whole_channels_are_passed_on() {
    let mut g = Graph::new("lrn");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [4, 3, 1, 1], 1);
    let n = g.add_op("LRN", "lrn", &[a], [("size", Attribute::Int(3))]);
    let y = conv(&mut g, "y", n, [2, 4, 1, 1], 1);
    let s = g.add_op("Softmax", "softmax", &[y], [("axis", Attribute::Int(1))]);
    g.outputs.push(s);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 3, 0, true), row("a", 4, 1, false), row("y", 2, 1, true)]);
    assert_eq!(c.groups[1].consumers, [LayerId(1)]);
}

#[test]
fn rows_that_are_split_are_a_layer_each() {
    let mut g = Graph::new("split");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [5, 3, 1, 1], 1);
    let order = g.add_initializer("order", Tensor::from_i64(vec![5], &[4, 0, 2, 1, 3]));
    let axis = [("axis", Attribute::Int(1))];
    let shuffled = g.add_op("Gather", "shuffle", &[a, order], axis.clone());
    let sizes = g.add_initializer("sizes", Tensor::from_i64(vec![2], &[2, 3]));
    let left = g.add_op("Split", "split", &[shuffled, sizes], axis);
    let right = g.add_value("right", crate::ir::ValueKind::Detached, None);
    let split = g.producer(left).unwrap();
    g.edit_node(split, |node| node.outputs.push(Some(right)));
    let b = conv(&mut g, "b", left, [4, 2, 1, 1], 1);
    let c = conv(&mut g, "c", right, [4, 3, 1, 1], 1);
    g.outputs.extend([b, c]);
    let coupled = coupled(&mut g);
    let rows = |i: usize| coupled.layers[i].layer.rows.clone();
    assert_eq!([rows(0), rows(1), rows(2)], [Some(vec![0, 4]), Some(vec![1, 2, 3]), None]);
    let makes = coupled.layers[1].outputs[0].group;
    assert_eq!(coupled.group(makes).producers, [LayerId(1)]);
    assert_eq!(coupled.group(makes).consumers, [LayerId(3)]);
}

#[test]
fn gates_make_the_same_channels_and_read_them_again() {
    let mut g = Graph::new("rows");
    let mut shape = ["steps", "n"].map(|s| Dim::Symbol(s.into())).to_vec();
    shape.push(Dim::Known(3));
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(shape) });
    let weights = [("w", vec![1, 20, 3]), ("r", vec![1, 20, 5]), ("b", vec![1, 40])]
        .map(|(name, dims)| g.add_initializer(name, zeros(&dims)));
    let steps = g.add_op("LSTM", "lstm", &[&[x], &weights[..]].concat(), []);
    let axis = g.add_initializer("axis", Tensor::from_i64(vec![1], &[1]));
    let flat = g.add_op("Squeeze", "flat", &[steps, axis], []);
    let w = g.add_initializer("fc.w", zeros(&[5, 2]));
    let y = g.add_op("MatMul", "fc", &[flat, w], []);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(
        summary(&c),
        [row("x", 3, 0, true), row("lstm", 5, 4, false), row("fc", 2, 1, true)]
    );
    let names: Vec<&str> = c.layers.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(names, ["lstm.i", "lstm.o", "lstm.f", "lstm.c", "fc"]);
    let columns = c.layer(LayerId(2)).inputs.as_ref().unwrap();
    assert_eq!(columns[3..], c.layer(LayerId(2)).outputs);
    assert_eq!(c.groups[1].consumers.len(), 5);
}

#[test]
fn answers_are_frozen_through_unknown_operators() {
    let mut g = Graph::new("odd");
    let x = image(&mut g, 3);
    let a = conv(&mut g, "a", x, [4, 3, 1, 1], 1);
    let odd = g.add_op("NonMaxSuppression", "odd", &[a], []);
    g.outputs.push(odd);
    let c = coupled(&mut g);
    let frozen = c.groups[1].frozen.as_ref().unwrap();
    assert_eq!((frozen.reason.as_str(), frozen.end), ("a model output", Some(End::Output)));
}

#[test]
fn a_reshape_that_moves_axes_of_extent_1_takes_channels_along() {
    let mut g = Graph::new("channels last");
    let dims = [Dim::Symbol("n".into()), Dim::Known(8), Dim::Known(6), Dim::Known(1)];
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.to_vec()) });
    let reshape = |g: &mut Graph, name: &str, x: ValueId, target: [i64; 4]| {
        let target = g.add_initializer(name, Tensor::from_i64(vec![4], &target));
        g.add_op("Reshape", name, &[x, target], [])
    };
    let first = reshape(&mut g, "first", x, [-1, 1, 8, 6]);
    let a = conv(&mut g, "a", first, [1, 1, 3, 3], 1);
    let last = reshape(&mut g, "last", a, [0, 8, 6, 1]);
    let back = reshape(&mut g, "back", last, [-1, 1, 8, 6]);
    let y = conv(&mut g, "y", back, [2, 1, 1, 1], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 1, 0, true), row("a", 1, 1, false), row("y", 2, 1, true)]);
    assert_eq!([x, first, last, back].map(|v| c.axis(v).unwrap().axis), [3, 1, 3, 1]);
    assert!(c.layers.iter().all(|layer| layer.inputs.is_some()));
}

#[test]
fn an_axis_that_is_added_to_an_input_is_its_only_channel() {
    let mut g = Graph::new("sound");
    let dims = vec![Dim::Symbol("n".into()), Dim::Known(40)];
    let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims) });
    let mean = g.add_initializer("mean", Tensor::from_f32(&ndarray::arr0(0.5).into_dyn()));
    let x = g.add_op("Sub", "centred", &[x, mean], []);
    let axis = g.add_initializer("axis", Tensor::from_i64(vec![1], &[1]));
    let x = g.add_op("Unsqueeze", "added", &[x, axis], []);
    let w = g.add_initializer("w", zeros(&[4, 1, 3]));
    let a = g.add_op("Conv", "a", &[x, w], []);
    let w = g.add_initializer("w", zeros(&[2, 4, 3]));
    let y = g.add_op("Conv", "y", &[a, w], []);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(summary(&c), [row("x", 1, 0, true), row("a", 4, 1, false), row("y", 2, 1, true)]);
    assert!(c.groups[0].end() == Some(End::Input));
    assert_eq!(c.layer(LayerId(0)).inputs.as_deref(), Some(&c.axis(x).unwrap().channels[..]));
}

#[test]
fn an_output_before_a_further_layer_is_hidden() {
    let mut g = Graph::new("features");
    let x = image(&mut g, 3);
    let features = conv(&mut g, "features", x, [4, 3, 3, 3], 1);
    let y = conv(&mut g, "y", features, [2, 4, 3, 3], 1);
    g.outputs = vec![features, y];
    let c = coupled(&mut g);
    let wanted = [row("x", 3, 0, true), row("features", 4, 1, false), row("y", 2, 1, true)];
    assert_eq!(summary(&c), wanted);
}

#[test]
fn halves_that_are_combined_are_rows_of_two_parts() {
    let mut g = Graph::new("gated");
    let x = image(&mut g, 3);
    let double = conv(&mut g, "double", x, [4, 3, 3, 3], 1);
    let halves =
        ["values", "gates"].map(|name| g.add_value(name, crate::ir::ValueKind::Detached, None));
    g.add_node(crate::ir::Node {
        name: "split".to_owned(),
        op: "Split".to_owned(),
        inputs: vec![Some(double)],
        outputs: halves.map(Some).to_vec(),
        attributes: [("axis".to_owned(), Attribute::Int(1))].into(),
        ..Default::default()
    });
    let product = g.add_op("Mul", "gated", &halves, []);
    let y = conv(&mut g, "y", product, [2, 2, 3, 3], 1);
    g.outputs.push(y);
    let c = coupled(&mut g);
    assert_eq!(c.tied.len(), 1);
    assert_eq!(c.tied[0].rows, [vec![0, 1], vec![2, 3]]);
    assert!(c.group(c.axis(product).unwrap().channels[0].group).frozen.is_some());
}

#[test]
fn a_convolution_beside_channels_leaves_them_apart_unless_they_are_few() {
    let layers = |rows: usize, kernel: [usize; 2]| {
        let mut g = Graph::new("exchanged");
        let dims = [Dim::Symbol("n".into()), Dim::Known(3), Dim::Known(rows), Dim::Known(8)];
        let x = g.add_input("x", TensorType { dtype: DataType::F32, shape: Some(dims.to_vec()) });
        let a = conv(&mut g, "a", x, [4, 3, 1, 1], 1);
        let exchanged = |g: &mut Graph, x| {
            g.add_op("Transpose", "turn", &[x], [("perm", Attribute::Ints(vec![0, 2, 1, 3]))])
        };
        let turned = exchanged(&mut g, a);
        let mixed = conv(&mut g, "mixed", turned, [rows, rows, kernel[0], kernel[1]], 1);
        let back = exchanged(&mut g, mixed);
        let y = conv(&mut g, "y", back, [2, 4, 3, 3], 1);
        g.outputs.push(y);
        let c = coupled(&mut g);
        c.layers
            .iter()
            .map(|layer| (layer.name.clone(), layer.inputs.is_some()))
            .collect::<Vec<_>>()
    };
    let named = |names: &[(&str, bool)]| -> Vec<(String, bool)> {
        names.iter().map(|(name, follows)| ((*name).to_owned(), *follows)).collect()
    };
    assert_eq!(layers(4, [1, 1]), named(&[("a", true), ("y", true)]));
    let apart = named(&[("a", true), ("mixed", false), ("y", false)]);
    assert_eq!(layers(8, [1, 1]), apart);
    assert_eq!(layers(4, [3, 3]), apart);
}
