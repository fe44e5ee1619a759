//! Nets with open sizes, as exporters write them: every product with a constant is a layer, and every
//! parameter outside layers has a reason.

use std::path::Path;

use ndarray::ArrayD;

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::{DataOptions, Dataset};
use onnx_zip::canon::{CanonOptions, canonicalise};
use onnx_zip::couple::{Coupling, outside};
use onnx_zip::emit::{self, EmitOptions, Form};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Graph, Model, Tensor, ValueId, ValueKind};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions};
use onnx_zip::mtz::plan::sizes;
use onnx_zip::onnx::load;
use onnx_zip::runtime::{HostArray, Port};

use crate::exact::{check, run};
use crate::permute::permuted;
use crate::support;

/// Number of a net's layers, and the reasons why parameters belong to no layer.
fn seen(name: &str) -> (usize, Vec<String>) {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/open");
    let model = load(&folder.join(format!("{name}.onnx"))).unwrap();
    let model = canonicalise(model, &CanonOptions::default()).unwrap();
    let coupling = Coupling::of(&model.graph).unwrap();
    let reasons = outside(&model.graph, &coupling).into_iter().map(|o| o.reason);
    (coupling.layers.len(), reasons.collect())
}

#[test]
fn products_are_layers_whatever_is_open() {
    // Each block has four projections of attention and two layers of the perceptron.
    for (name, layers) in [
        // Encoders also have tables of tokens and positions.
        ("encoder_14", 2 + 2 * 6 + 1),
        ("encoder_17", 2 + 2 * 6 + 1),
        ("vision_14", 1 + 2 * 6 + 1),
        ("vision_17", 1 + 2 * 6 + 1),
        // One product computes queries, keys and values, which count as three layers.
        ("recogniser_14", 3 + 2 * (2 + 2) + 1),
        ("stem_13", 3),
    ] {
        let (found, reasons) = seen(name);
        assert_eq!(found, layers, "{name}: {reasons:#?}");
        let products: Vec<&String> = reasons
            .iter()
            .filter(|reason| reason.contains("MatMul") || reason.contains("Conv"))
            .collect();
        assert!(products.is_empty(), "{name}: {products:#?}");
    }
}

#[test]
fn normalisations_have_their_reasons_and_tables_are_layers() {
    let (_, reasons) = seen("encoder_17");
    assert!(!reasons.iter().any(|reason| reason.contains("Gather")), "{reasons:#?}");
    assert!(reasons.iter().any(|reason| reason.contains("LayerNormalization")), "{reasons:#?}");
}

/// A net that halves a picture of any size twice, and enlarges the result to the size of the picture.
fn segmenter(seed: usize, padding: (&'static str, Attribute)) -> Model {
    let mut b = GraphBuilder::new("segmenter", 13);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let x = b.input("x", "n,3,h,w");
    let conv = |b: &mut GraphBuilder, name: &str, x, dims: [usize; 2], stride: i64| {
        let w = b.weights(&format!("{name}.w"), &[dims[0], dims[1], 3, 3]);
        let bias = b.weights(&format!("{name}.b"), &dims[..1]);
        let strides = ("strides", Attribute::Ints(vec![stride; 2]));
        b.op("Conv", name, &[x, w, bias], [strides, padding.clone()])
    };
    let relu = |b: &mut GraphBuilder, x| b.op("Relu", "relu", &[x], []);
    let y = conv(&mut b, "first", x, [6, 3], 2);
    let small = relu(&mut b, y);
    let y = conv(&mut b, "second", small, [8, 6], 2);
    let y = relu(&mut b, y);
    let y = conv(&mut b, "third", y, [6, 8], 1);
    let y = relu(&mut b, y);
    let y = enlarged(&mut b, "up", y, small);
    let y = b.op("Add", "sum", &[y, small], []);
    let y = conv(&mut b, "last", y, [4, 6], 1);
    let y = enlarged(&mut b, "mask", y, x);
    b.build(&[y])
}

/// Resizes `y` to height and width of `like`.
fn enlarged(b: &mut GraphBuilder, name: &str, y: ValueId, like: ValueId) -> ValueId {
    let [zero, two, four] = [0, 2, 4].map(|number| b.ints(&format!("{name}.{number}"), &[number]));
    let part = |b: &mut GraphBuilder, of, from, to| {
        let shape = b.op("Shape", &format!("{name}.shape"), &[of], []);
        b.op("Slice", &format!("{name}.part"), &[shape, from, to, zero], [])
    };
    let (front, back) = (part(b, y, zero, two), part(b, like, two, four));
    let sizes = b.op("Concat", &format!("{name}.sizes"), &[front, back], [("axis", 0.into())]);
    let resized = b.op("Resize", name, &[y, sizes], [("mode", "nearest".into())]);
    let graph = b.graph();
    let node = graph.producer(resized).unwrap();
    graph.edit_node(node, |node| node.inputs = vec![Some(y), None, None, Some(sizes)]);
    resized
}

/// Two nets merged on samples with these open sizes, with their outputs for a batch of other sizes checked.
fn merged(
    nets: [Model; 2],
    dims: &[(&str, usize)],
    batch: ArrayD<f32>,
    share: f64,
    what: &str,
) -> JointModel {
    let dims = dims.iter().map(|(name, extent)| ((*name).to_owned(), *extent)).collect();
    let options = DataOptions { dims, ..DataOptions::default() };
    let nets = nets.map(|net| {
        let input = net.graph.value(net.graph.inputs[0]);
        let ty = input.ty.clone().unwrap();
        let port = Port { name: input.name.clone(), dtype: ty.dtype, shape: ty.shape };
        (net, Dataset::synthetic(&[port], 24, 1, &options).unwrap())
    });
    let budget = Budget::uniform(Share::Fraction(share));
    let options = MergeOptions { budget, ..MergeOptions::default() };
    let (joint, _) = support::merge_in(nets, &options, 6);
    let batch = [HostArray::from(batch)];
    let wanted: Vec<_> = joint.tasks().iter().map(|task| run(task.model(), &batch)).collect();
    check(&joint, &batch, &wanted, what);
    joint
}

/// Two segmenters merged on pictures of 12 × 16, and run on others, with one side odd.
fn segmenters(padding: (&'static str, Attribute), share: f64) -> JointModel {
    let nets = [1, 2].map(|seed| segmenter(seed, padding.clone()));
    let picture = |at: ndarray::IxDyn| ((at[1] * 7 + at[2] * 3 + at[3]) % 11) as f32 / 11.0;
    let batch = ArrayD::from_shape_fn(vec![2, 3, 9, 20], picture);
    merged(nets, &[("h", 12), ("w", 16)], batch, share, &format!("{padding:?}"))
}

#[test]
fn channels_are_followed_through_automatic_padding_of_open_sizes() {
    for mode in ["SAME_UPPER", "SAME_LOWER"] {
        let joint = segmenters(("auto_pad", mode.into()), 1.0);
        for task in joint.tasks() {
            assert_eq!(task.coupling().layers.len(), 4, "{mode}");
        }
        let shared: usize = joint.sharing(TaskId(0)).iter().flatten().flatten().count();
        // What the third layer makes is resized and added to what the first one makes.
        assert_eq!(shared, 6 + 8, "{mode}");
    }
}

/// Constants and sizes that a graph's branches take from outside.
fn taken(graph: &Graph) -> Vec<String> {
    let is_size = |value: ValueId| match graph.producer(value).map(|id| graph.node(id)) {
        Some(node) => ["Shape", "Slice", "Concat"].iter().any(|op| node.is(op)),
        None => graph.initializer(value).is_some_and(|tensor| !tensor.dtype.is_float()),
    };
    let branches = graph.nodes().flat_map(|(_, node)| node.subgraphs());
    let captured = branches.flat_map(Graph::captures).filter(|value| is_size(*value));
    captured.map(|value| graph.value(value).name.clone()).collect()
}

#[test]
fn branches_of_the_switch_form_compute_their_sizes_themselves() {
    for share in [1.0, 0.5] {
        let joint = segmenters(("pads", [1, 1, 1, 1].into()), share);
        let options = EmitOptions { form: Form::Switch, ..EmitOptions::default() };
        let model = emit::emit(&joint, &options).unwrap();
        let graph = &model.graph;
        assert!(graph.nodes().any(|(_, node)| node.is("If")));
        let orders = |name: &String| !name.ends_with(".order");
        let taken: Vec<String> = taken(graph).into_iter().filter(orders).collect();
        assert!(taken.is_empty(), "{taken:?}");
        // What both tasks need is resized outside of the branches.
        assert_eq!(graph.nodes().any(|(_, node)| node.is("Shape")), share == 1.0);
    }
}

/// Attention of two heads over any number of tokens. Their positions are the first ones of a table of 12,
/// as encoders of texts pick them.
fn reader(seed: usize) -> Model {
    let mut b = GraphBuilder::new("reader", 17);
    // An unused draw changes the random weights that follow.
    b.weights("unused", &[seed + 1]);
    let x = b.input("x", "n,t,6");
    let dense = |b: &mut GraphBuilder, name: &str, x, dims: [usize; 2]| {
        let (w, bias) = (b.weights(&format!("{name}.w"), &dims), b.weights("bias", &dims[1..]));
        let y = b.op("MatMul", name, &[x, w], []);
        b.op("Add", "biased", &[y, bias], [])
    };
    let turn = |b: &mut GraphBuilder, x, perm: [i64; 4]| {
        b.op("Transpose", "turned", &[x], [("perm", perm.into())])
    };
    let shape = b.op("Shape", "shape", &[x], []);
    let [zero, one, two] = [0, 1, 2].map(|number| b.ints("number", &[number]));
    let tokens = b.op("Slice", "tokens", &[shape, one, two, zero], []);
    let all = b.constant("all", Tensor::from_i64(vec![1, 12], &(0..12).collect::<Vec<i64>>()));
    let first = b.op("Slice", "first", &[all, zero, tokens, one], []);
    let table = b.weights("table", &[12, 8]);
    let positions = b.op("Gather", "positions", &[table, first], []);
    let x = dense(&mut b, "in", x, [6, 8]);
    let x = b.op("Add", "placed", &[x, positions], []);
    let shape = b.op("Shape", "shape", &[x], []);
    let open = b.op("Slice", "open", &[shape, zero, two, zero], []);
    let (heads, whole) = (b.ints("heads", &[2, 4]), b.ints("whole", &[8]));
    let [split, joined] =
        [heads, whole].map(|sizes| b.op("Concat", "target", &[open, sizes], [("axis", 0.into())]));
    let [q, k, v] = ["q", "k", "v"].map(|name| {
        let y = dense(&mut b, name, x, [8, 8]);
        b.op("Reshape", "heads", &[y, split], [])
    });
    let (q, v) = (turn(&mut b, q, [0, 2, 1, 3]), turn(&mut b, v, [0, 2, 1, 3]));
    let k = turn(&mut b, k, [0, 2, 3, 1]);
    let scores = b.op("MatMul", "scores", &[q, k], []);
    let scores = b.op("Softmax", "attention", &[scores], [("axis", (-1).into())]);
    let mixed = b.op("MatMul", "mixed", &[scores, v], []);
    let mixed = turn(&mut b, mixed, [0, 2, 1, 3]);
    let mixed = b.op("Reshape", "joined", &[mixed, joined], []);
    let y = dense(&mut b, "out", mixed, [8, 8]);
    let y = b.op("Relu", "relu", &[y], []);
    let y = dense(&mut b, "head", y, [8, 5]);
    b.build(&[y])
}

#[test]
fn heads_are_followed_where_positions_are_cut_to_the_number_of_tokens() {
    let token = |at: ndarray::IxDyn| ((at[0] * 5 + at[1] * 7 + at[2] * 3) % 11) as f32 / 11.0;
    let batch = ArrayD::from_shape_fn(vec![2, 10, 6], token);
    let joint = merged([1, 2].map(reader), &[("t", 7)], batch, 1.0, "reader");
    for (task, sharing) in joint.tasks().iter().zip([0, 1].map(|t| joint.sharing(TaskId(t)))) {
        let layers = &task.coupling().layers;
        let behind = layers.iter().find(|layer| layer.name == "out").unwrap();
        let inputs = behind.inputs.as_deref().expect("channels of the heads are followed");
        assert!(inputs.iter().all(|c| sharing[c.group.0][c.index].is_some()));
        assert_eq!(inputs.len(), 8);
    }
}

/// Two layers that make one frame of a short sound, whose axis TorchScript takes away in a branch, and two layers
/// that read it.
fn listener() -> Model {
    let mut b = GraphBuilder::new("listener", 17);
    let x = b.input("x", "n,1,t");
    let conv = |b: &mut GraphBuilder, name: &str, x, dims: [usize; 3], stride: i64| {
        let w = b.weights(&format!("{name}.w"), &dims);
        let bias = b.weights(&format!("{name}.b"), &dims[..1]);
        let y = b.op("Conv", name, &[x, w, bias], [("strides", [stride].into())]);
        b.op("Relu", "relu", &[y], [])
    };
    let x = conv(&mut b, "first", x, [8, 1, 4], 2);
    let x = conv(&mut b, "second", x, [6, 8, 3], 1);
    let shape = b.op("Shape", "shape", &[x], []);
    let (last, one) = (b.ints("last", &[-1]), b.ints("one", &[1]));
    let frames = b.op("Gather", "frames", &[shape, last], []);
    let is_one = b.op("Equal", "is_one", &[frames, one], []);
    let branches = [("then_branch", "Squeeze"), ("else_branch", "Identity")].map(|(name, op)| {
        let mut branch = Graph::new(name);
        let x = branch.add_value("inner", ValueKind::Captured(x), None);
        let axes = branch.add_initializer("axes", Tensor::from_i64(vec![1], &[-1]));
        let operands = [x, axes];
        let operands = if op == "Squeeze" { &operands[..] } else { &operands[..1] };
        branch.outputs = vec![branch.add_op(op, &format!("{op}.result"), operands, [])];
        (name, Attribute::Graph(Box::new(branch)))
    });
    let x = b.op("If", "squeezed", &[is_one], branches);
    let (w, bias) = (b.weights("third.w", &[7, 6]), b.weights("third.b", &[7]));
    let x = b.op("Gemm", "third", &[x, w, bias], [("transB", 1.into())]);
    let x = b.op("Relu", "relu", &[x], []);
    let (w, bias) = (b.weights("head.w", &[5, 7]), b.weights("head.b", &[5]));
    let y = b.op("Gemm", "head", &[x, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

#[test]
fn channels_are_followed_where_an_axis_of_open_extent_goes_in_a_branch() {
    let sound = |at: ndarray::IxDyn| ((at[0] * 5 + at[2] * 7) % 11) as f32 / 11.0;
    let batch = ArrayD::from_shape_fn(vec![2, 1, 8], sound);
    let nets = [listener(), permuted(&listener(), 7)];
    let joint = merged(nets, &[("t", 8)], batch, 1.0, "listener");
    for task in joint.tasks() {
        assert_eq!(task.coupling().layers.len(), 4);
        assert!(!task.graph().nodes().any(|(_, node)| node.is("If")));
    }
    let sizes = sizes(&joint).unwrap();
    // The output layers stay the tasks' own.
    let twice = sizes.joint() - sizes.originals[0];
    assert!(twice <= 5 * 7 + 5, "{twice} parameters are stored twice");
}
