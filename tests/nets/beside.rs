//! Laws on parameters beside those of layers: filters of one channel, products over tokens, and tables.

use std::collections::BTreeSet;

use onnx_zip::align::TaskId;
use onnx_zip::emit::{self, EmitOptions};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, DataType, Model, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::mtz::plan::{common_tables, file_bytes, predict_sharing};
use onnx_zip::zipper::{self, Input};

use crate::exact::{batch, check, run, samples};
use crate::support;

/// The tables of [`tables`].
const TABLES: [&str; 4] = ["scale", "shift", "places", "slopes"];

/// Parameters of the last layer of each net, which stays its task's own.
const HEAD: usize = 5 * 6 + 5;

/// Merges two nets with this part of their neurons, and with tables in common if that is all of them.
fn merge(nets: [Model; 2], share: f64) -> JointModel {
    let budget = Budget::uniform(Share::Fraction(share));
    let options = MergeOptions { budget, common_tables: true, ..MergeOptions::default() };
    let nets = nets.map(|net| {
        let data = samples(&net);
        (net, data)
    });
    support::merge_in(nets, &options, 6).0
}

/// A drawn constant with its entries in another order along some axes.
fn put(b: &mut GraphBuilder, name: &str, dims: &[usize], orders: &[(usize, &[usize])]) -> ValueId {
    let drawn = b.weights(&format!("{name}.drawn"), dims);
    let tensor = b.graph().initializer(drawn).unwrap().clone();
    let moved = orders.iter().fold(tensor, |t, (axis, order)| t.select(*axis, order).unwrap());
    b.constant(name, moved)
}

/// A builder whose random numbers follow from the seed.
fn builder(seed: usize) -> GraphBuilder {
    let mut b = GraphBuilder::new("net", 20);
    b.weights("unused", &[seed]);
    b
}

/// Five scores of six channels on axis 1 of a map, or of the last axis of tokens.
fn scores(b: &mut GraphBuilder, x: ValueId, tokens: bool) -> ValueId {
    let x = match tokens {
        true => {
            let axes = b.ints("tokens", &[1]);
            b.op("ReduceMean", "pool", &[x, axes], [("keepdims", 0.into())])
        }
        false => {
            let x = b.op("GlobalAveragePool", "pool", &[x], []);
            b.op("Flatten", "flat", &[x], [])
        }
    };
    let (w, bias) = (b.weights("head.w", &[5, 6]), b.weights("head.b", &[5]));
    b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())])
}

fn conv(b: &mut GraphBuilder, x: ValueId, name: &str, dims: [usize; 2]) -> ValueId {
    let w = b.weights(&format!("{name}.w"), &[dims[0], dims[1], 3, 3]);
    let bias = b.weights(&format!("{name}.b"), &[dims[0]]);
    b.op("Conv", name, &[x, w, bias], [("pads", [1, 1, 1, 1].into())])
}

/// A convolution with two filters for each of four channels, in an order of their own.
fn multiplied(seed: usize, order: &[usize]) -> Model {
    let mut b = builder(seed);
    let x = b.input("x", "n,3,8,8");
    let x = conv(&mut b, x, "first", [4, 3]);
    let x = b.op("Relu", "relu", &[x], []);
    let w = put(&mut b, "each.w", &[8, 1, 3, 3], &[(0, order)]);
    let bias = put(&mut b, "each.b", &[8], &[(0, order)]);
    let attributes = [("group", 4.into()), ("pads", [1, 1, 1, 1].into())];
    let x = b.op("Conv", "each", &[x, w, bias], attributes);
    let x = b.op("Relu", "relu", &[x], []);
    let w = put(&mut b, "point.w", &[6, 8, 1, 1], &[(1, order)]);
    let bias = b.weights("point.b", &[6]);
    let x = b.op("Conv", "point", &[x, w, bias], []);
    let x = b.op("Relu", "relu", &[x], []);
    let y = scores(&mut b, x, false);
    b.build(&[y])
}

fn swapped(b: &mut GraphBuilder, x: ValueId) -> ValueId {
    b.op("Transpose", "swapped", &[x], [("perm", Attribute::Ints(vec![0, 2, 1]))])
}

/// A mixer of so many tokens with six channels and seven hidden units, in an order of their own.
fn mixer(seed: usize, tokens: usize, order: &[usize]) -> Model {
    let mut b = builder(seed);
    let x = b.input("x", &format!("n,{tokens},4"));
    let (w, bias) = (b.weights("embed.w", &[4, 6]), b.weights("embed.b", &[6]));
    let x = b.op("MatMul", "embed", &[x, w], []);
    let x = b.op("Add", "embedded", &[x, bias], []);
    let y = swapped(&mut b, x);
    let w = put(&mut b, "up.w", &[tokens, 7], &[(1, order)]);
    let bias = put(&mut b, "up.b", &[7], &[(0, order)]);
    let y = b.op("MatMul", "up", &[y, w], []);
    let y = b.op("Add", "upped", &[y, bias], []);
    let y = b.op("Gelu", "gelu", &[y], []);
    let w = put(&mut b, "down.w", &[7, tokens], &[(0, order)]);
    let bias = b.weights("down.b", &[tokens]);
    let y = b.op("MatMul", "down", &[y, w], []);
    let y = b.op("Add", "downed", &[y, bias], []);
    let y = swapped(&mut b, y);
    let x = b.op("Add", "sum", &[x, y], []);
    let (w, bias) = (b.weights("mix.w", &[6, 6]), b.weights("mix.b", &[6]));
    let y = b.op("MatMul", "mix", &[x, w], []);
    let y = b.op("Add", "mixed", &[y, bias], []);
    let y = b.op("Relu", "relu", &[y], []);
    let y = scores(&mut b, y, true);
    b.build(&[y])
}

/// A normalisation over maps, learned positions and slopes of each pixel.
fn tables(seed: usize) -> Model {
    let mut b = builder(seed);
    let x = b.input("x", "n,3,4,4");
    let x = conv(&mut b, x, "first", [6, 3]);
    let (scale, shift) = (b.positive("scale", &[6, 4, 4]), b.weights("shift", &[6, 4, 4]));
    let x = b.op("LayerNormalization", "norm", &[x, scale, shift], [("axis", 1.into())]);
    let places = b.weights("places", &[1, 6, 4, 4]);
    let x = b.op("Add", "placed", &[x, places], []);
    let slopes = b.weights("slopes", &[6, 4, 4]);
    let x = b.op("PRelu", "slope", &[x, slopes], []);
    let x = conv(&mut b, x, "second", [6, 6]);
    let x = b.op("Relu", "relu", &[x], []);
    let y = scores(&mut b, x, false);
    b.build(&[y])
}

/// Numbers of the float constants that the nodes of a model read.
fn parameters(model: &Model) -> usize {
    let readers = model.graph.consumers();
    let values = model.graph.values().filter(|(id, _)| !readers[id.index()].is_empty());
    let floats = values.filter_map(|(id, _)| model.graph.initializer(id));
    floats.filter(|tensor| tensor.dtype == DataType::F32).map(|tensor| tensor.len()).sum()
}

/// Checks that a joint model stores little more than one net.
fn is_half(joint: &JointModel, net: &Model, more: usize, name: &str) {
    let stored = parameters(&emit::emit(joint, &EmitOptions::default()).unwrap());
    let most = parameters(net) + more;
    assert!(stored <= most, "{name}: {stored} parameters are stored, and {most} are allowed");
}

/// Checks that a net and its copy are merged to one net without any loss.
fn recovers(a: Model, copy: Model, name: &str) {
    let batch = batch(&a);
    let wanted = run(&a, &batch);
    let joint = merge([a.clone(), copy], 1.0);
    check(&joint, &batch, &[wanted.clone(), wanted], name);
    is_half(&joint, &a, HEAD, name);
}

#[test]
fn filters_of_a_channel_are_paired_whatever_their_order() {
    let (all, other) = ([0, 1, 2, 3, 4, 5, 6, 7], [1, 0, 2, 3, 5, 4, 7, 6]);
    recovers(multiplied(1, &all), multiplied(1, &other), "two filters per channel");
}

#[test]
fn hidden_units_of_products_over_tokens_are_paired() {
    let (all, other) = ([0, 1, 2, 3, 4, 5, 6], [3, 1, 6, 0, 2, 5, 4]);
    for tokens in [5, 9] {
        let name = format!("a mixer of {tokens} tokens");
        recovers(mixer(1, tokens, &all), mixer(1, tokens, &other), &name);
    }
}

/// The net with noise of a fifth of each constant's mean magnitude.
fn moved(net: &Model) -> Model {
    let mut net = net.clone();
    let floats: Vec<_> = net
        .graph
        .values()
        .filter_map(|(id, _)| Some((id, net.graph.initializer(id)?)))
        .filter(|(_, tensor)| tensor.dtype == DataType::F32)
        .map(|(id, tensor)| (id, tensor.to_f32().unwrap()))
        .collect();
    for (nth, (id, mut numbers)) in floats.into_iter().enumerate() {
        let mean = numbers.iter().map(|v| v.abs()).sum::<f32>() / numbers.len().max(1) as f32;
        let noise = |at: usize| ((at * 37 + nth * 11) % 19) as f32 / 9.0 - 1.0;
        numbers.iter_mut().enumerate().for_each(|(at, v)| *v += 0.2 * mean * noise(at));
        net.graph.set_initializer(id, Tensor::from_f32(&numbers));
    }
    net
}

#[test]
fn close_nets_have_tables_and_products_in_common_where_all_is_shared() {
    let order = [0, 1, 2, 3, 4, 5, 6];
    for tokens in [5, 9] {
        let net = mixer(1, tokens, &order);
        is_half(&merge([net.clone(), moved(&net)], 1.0), &net, HEAD, "a mixer");
    }
    let net = tables(1);
    is_half(&merge([net.clone(), moved(&net)], 1.0), &net, HEAD, "tables");
}

/// A constant of each task of a joint model.
fn stored(joint: &JointModel, name: &str) -> Vec<Tensor> {
    let of_task = |task: &onnx_zip::mtz::joint::Task| {
        let value = task.graph().value_named(name).unwrap();
        task.graph().initializer(value).unwrap().clone()
    };
    joint.tasks().iter().map(of_task).collect()
}

#[test]
fn tables_that_have_nothing_in_common_stay() {
    let nets = [1, 2].map(tables);
    let joint = merge(nets, 1.0);
    let (places, shift) = (stored(&joint, "places"), stored(&joint, "shift"));
    assert!(places[0] != places[1] && shift[0] != shift[1]);
    let energy = |tensor: &Tensor| tensor.to_f64().unwrap().iter().map(|v| v * v).sum::<f64>();
    let scale = stored(&joint, "scale");
    assert!((energy(&scale[0]) / energy(&scale[1]) - 1.0).abs() < 1e-6);
}

/// Names of the second net's tables that a plan expects to be stored with those of the first.
fn planned(nets: [Model; 2]) -> BTreeSet<String> {
    let inputs = nets.into_iter().zip(["a", "b"]);
    let inputs = inputs.map(|(model, name)| Input { name: name.to_owned(), model }).collect();
    let prepared = zipper::prepare(inputs).unwrap();
    let budget = Budget::uniform(Share::Fraction(1.0));
    let (joint, alignment) = (&prepared.joint, &prepared.alignment);
    let (prediction, shared) = predict_sharing(joint, alignment, &budget, true).unwrap();
    let common = common_tables(&shared, alignment).unwrap();
    let file = |tables| file_bytes(joint, alignment, &prediction.sizes, tables).unwrap();
    let graph = joint.task(TaskId(1)).graph();
    let bytes = |(_, table): &(TaskId, _)| graph.initializer(*table).unwrap().data.len() as u64;
    assert_eq!(file(&BTreeSet::new()) - file(&common), common.iter().map(bytes).sum::<u64>());
    assert!(common.iter().all(|(task, _)| *task == TaskId(1)));
    common.into_iter().map(|(_, table)| graph.value(table).name.clone()).collect()
}

/// The same of a merge: tables with the same numbers, in whatever order.
fn merged(nets: [Model; 2]) -> BTreeSet<String> {
    let joint = merge(nets, 1.0);
    let sorted = |tensor: &Tensor| {
        let mut numbers: Vec<f64> = tensor.to_f64().unwrap().into_iter().collect();
        numbers.sort_by(f64::total_cmp);
        numbers
    };
    let is_common = |name: &str| {
        let both = stored(&joint, name);
        sorted(&both[0]) == sorted(&both[1])
    };
    TABLES.into_iter().filter(|name| is_common(name)).map(str::to_owned).collect()
}

#[test]
fn a_plan_knows_which_tables_are_stored_once() {
    let net = tables(1);
    let (close, far) = ([net.clone(), moved(&net)], [1, 2].map(tables));
    assert_eq!(planned(close.clone()), TABLES.map(str::to_owned).into());
    assert_eq!(merged(close), TABLES.map(str::to_owned).into());
    assert_eq!(planned(far.clone()), merged(far));
}

#[test]
fn a_part_of_the_neurons_leaves_tables_to_the_tasks() {
    let nets = [1, 2].map(tables);
    let joint = merge(nets, 0.5);
    let batch = batch(joint.task(TaskId(0)).model());
    let wanted: Vec<_> = joint.tasks().iter().map(|task| run(task.model(), &batch)).collect();
    check(&joint, &batch, &wanted, "tables");
    let places = stored(&joint, "places");
    assert_ne!(places[0], places[1]);
}
