//! Laws of merges of nets fine-tuned from one backbone.

use ndarray::ArrayD;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use onnx_zip::align::TaskId;
use onnx_zip::calib::data::Dataset;
use onnx_zip::canon::BatchNorm;
use onnx_zip::couple::{Channel, GroupId, LayerId};
use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Model, Tensor, ValueId};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Biases, Bits, Budget, MergeOptions, Ranks};
use onnx_zip::mtz::plan::predict;
use onnx_zip::mtz::site::SiteRecord;
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::zipper::{
    self, Calibration, Goal, Input, Job, Matching, Outcome, Part, PrepareOptions, Prepared,
    merge_for, prepare_parts,
};

use crate::permute::permuted;
use crate::support::{
    FEW_ROWS, backend, canonical, check_forms, check_size, deviation, images, joint_outputs,
    merge_with, model, outputs, run,
};
use crate::transformers::{lost, samples};

/// The net in canonical form, with noise of this relative size added to its weights.
fn moved(model: &Model, noise: f32, seed: u64) -> Model {
    let mut model = canonical(model, BatchNorm::Fold);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let weights: Vec<_> = model
        .graph
        .values()
        .filter_map(|(id, _)| Some((id, model.graph.initializer(id)?.to_f32().ok()?)))
        .collect();
    for (id, mut weight) in weights {
        let scale =
            noise * (weight.iter().map(|w| w * w).sum::<f32>() / weight.len() as f32).sqrt();
        weight.mapv_inplace(|w| w + scale * rng.random_range(-1.0..1.0));
        model.graph.set_initializer(id, Tensor::from_f32(&weight));
    }
    model
}

fn parts(nets: &[Model]) -> Vec<Part> {
    let input = |(nth, model): (usize, &Model)| {
        let name = ["a", "b", "c"][nth].to_owned();
        Part::Net(Box::new(Input { name, model: model.clone() }))
    };
    nets.iter().enumerate().map(input).collect()
}

fn prepared(nets: &[Model]) -> Prepared {
    prepare_parts(parts(nets), PrepareOptions::default()).unwrap()
}

fn merged(nets: &[Model], share: f64) -> (JointModel, Outcome) {
    let data = images(&nets[0], "mnist_train", 400);
    let budget = Budget::uniform(Share::Fraction(share));
    let options = MergeOptions { budget, max_rows: FEW_ROWS, ..MergeOptions::default() };
    let all = nets.iter().map(|_| data.clone()).collect();
    merge_with(parts(nets), all, &options, PrepareOptions::default())
}

/// Whether every channel is shared with channels of the same index only.
fn keeps_indices(joint: &JointModel) -> bool {
    let groups = joint.sharing(TaskId(0)).iter().enumerate();
    let mut shared = groups.flat_map(|(group, channels)| {
        let own = channels.iter().enumerate();
        own.map(move |(index, n)| (*n, Channel { group: GroupId(group), index }))
            .filter(|(n, _)| n.is_some())
    });
    shared.all(|(neuron, channel)| {
        let mut others =
            joint.sharing(TaskId(1)).iter().flat_map(|channels| channels.iter().enumerate());
        others.any(|(index, other)| *other == neuron && index == channel.index)
    })
}

fn count(model: &Model, op: &str) -> usize {
    model.graph.nodes().filter(|(_, node)| node.is(op)).count()
}

/// A net with an operator without a rule between its layers, and one that needs its channels whole.
fn with_unknown_operators() -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("image", "batch,1,28,28");
    let axis = b.constant("axis", Tensor::from_i64(vec![], &[1]));
    let conv = |b: &mut GraphBuilder, name: &str, x, dims: &[usize]| {
        let (w, bias) =
            (b.weights(&format!("{name}.w"), dims), b.weights(&format!("{name}.b"), &dims[..1]));
        b.op("Conv", name, &[x, w, bias], [("strides", [2, 2].into())])
    };
    let y = conv(&mut b, "first", x, &[8, 1, 3, 3]);
    let y = b.op("CumSum", "sums", &[y, axis], []);
    let y = conv(&mut b, "second", y, &[6, 8, 3, 3]);
    let y = b.op("LRN", "lrn", &[y], [("size", 3.into())]);
    let y = b.op("Relu", "relu", &[y], []);
    let y = conv(&mut b, "third", y, &[6, 6, 3, 3]);
    let y = b.op("GlobalAveragePool", "pool", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let (w, bias) = (b.weights("fc.w", &[10, 6]), b.weights("fc.b", &[10]));
    let y = b.op("Gemm", "fc", &[y, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

#[test]
fn a_moved_copy_is_paired_by_index_and_nothing_is_gathered() {
    for name in ["zoo/resnet_mnist", "zoo/mobilenet_mnist", "zoo/gru_mnist", "lenet5_mnist_a"] {
        let nets = [canonical(&model(name), BatchNorm::Fold), moved(&model(name), 1e-4, 1)];
        let lineages = prepared(&nets).alignment.lineages;
        assert_eq!(lineages.len(), 1, "{name}");
        assert!(lineages[0].distance < 1e-3, "{name}: {}", lineages[0].distance);
        let (joint, outcome) = merged(&nets, 1.0);
        assert!(keeps_indices(&joint), "{name}");
        let part = outcome.sizes.joint() as f64 / outcome.sizes.separate() as f64;
        assert!(part < 0.56, "{name}: {part}");
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        assert!(count(&written, "Gather") <= 2 * count(&nets[0], "Gather"), "{name}");
        for (net, joined) in nets.iter().zip(joint_outputs(&joint, Form::Heads)) {
            assert!(deviation(&joined, &outputs(net, &[])[0]) < 1e-2, "{name}");
        }
    }
}

#[test]
fn channels_correspond_by_index_through_operators_of_every_kind() {
    let net = with_unknown_operators();
    let nets = [canonical(&net, BatchNorm::Fold), moved(&net, 1e-4, 1)];
    let (joint, outcome) = merged(&nets, 1.0);
    let kept: Vec<_> = outcome.sites.iter().filter(|site| site.reason.is_some()).collect();
    assert!(kept.iter().all(|site| site.layers[0] == "fc"), "{kept:?}");
    let plan = prepared(&nets);
    let budget = Budget::uniform(Share::Fraction(1.0));
    let predicted = predict(&plan.joint, &plan.alignment, &budget, false).unwrap();
    assert_eq!(predicted.sizes, outcome.sizes);
    check_size(&joint);
    check_forms(&joint);
    for (_, form, _) in FORMS {
        let written = emit::emit(&joint, &EmitOptions { form: *form, ..EmitOptions::default() });
        assert_eq!(count(&written.unwrap(), "Gather"), 0);
    }
    for (net, joined) in nets.iter().zip(joint_outputs(&joint, Form::Heads)) {
        assert!(deviation(&joined, &outputs(net, &[])[0]) < 1e-2);
    }
}

/// A net that reads a spectrum and its shifted copy side by side, so that its bands become one channel: a window
/// meets each of them in the place of every other.
fn with_shifted_bands() -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("image", "batch,1,28,28");
    let (w, bias) = (b.weights("bands.w", &[20, 1, 1, 28]), b.weights("bands.b", &[20]));
    let y = b.op("Conv", "bands", &[x, w, bias], []);
    let w = b.weights("smooth.w", &[20, 1, 3, 1]);
    let y = b.op("Conv", "smooth", &[y, w], [("group", 20.into())]);
    let y = b.op("Mul", "power", &[y, y], []);
    let y = b.op("Transpose", "map", &[y], [("perm", [0, 3, 1, 2].into())]);
    let axis = b.ints("axis", &[2]);
    let copies = [0i64, 1].map(|shift| {
        let (start, end) = (b.ints("start", &[shift]), b.ints("end", &[shift + 19]));
        b.op("Slice", "copy", &[y, start, end, axis], [])
    });
    let y = b.op("Concat", "copies", &copies, [("axis", 1.into())]);
    let (w, bias) = (b.weights("conv.w", &[5, 2, 3, 3]), b.weights("conv.b", &[5]));
    let y = b.op("Conv", "conv", &[y, w, bias], []);
    let y = b.op("Relu", "relu", &[y], []);
    let y = b.op("GlobalAveragePool", "pool", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let (w, bias) = (b.weights("fc.w", &[10, 5]), b.weights("fc.b", &[10]));
    let y = b.op("Gemm", "fc", &[y, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

/// A gated unit whose second factor passes a window in part, so that its channels are of two groups.
fn with_windowed_gate() -> Model {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("image", "batch,1,28,28");
    let (w, bias) = (b.weights("rows.w", &[12, 1, 3, 3]), b.weights("rows.b", &[12]));
    let y = b.op("Conv", "rows", &[x, w, bias], [("strides", [2, 2].into())]);
    let axis = b.ints("axis", &[1]);
    let [gate, plain, windowed] = [(0i64, 6i64), (6, 10), (10, 12)].map(|(start, end)| {
        let (start, end) = (b.ints("start", &[start]), b.ints("end", &[end]));
        b.op("Slice", "part", &[y, start, end, axis], [])
    });
    let w = b.weights("window.w", &[2, 1, 3, 3]);
    let pads = ("pads", [1, 1, 1, 1].into());
    let windowed = b.op("Conv", "window", &[windowed, w], [("group", 2.into()), pads]);
    let factor = b.op("Concat", "factor", &[plain, windowed], [("axis", 1.into())]);
    let gate = b.op("Sigmoid", "gate", &[gate], []);
    let y = b.op("Mul", "gated", &[gate, factor], []);
    let y = b.op("GlobalAveragePool", "pool", &[y], []);
    let y = b.op("Flatten", "flat", &[y], []);
    let (w, bias) = (b.weights("fc.w", &[10, 6]), b.weights("fc.b", &[10]));
    let y = b.op("Gemm", "fc", &[y, w, bias], [("transB", 1.into())]);
    b.build(&[y])
}

#[test]
fn parts_of_gated_units_stay_where_they_are() {
    let net = with_windowed_gate();
    let nets = [canonical(&net, BatchNorm::Fold), moved(&net, 1e-4, 1)];
    let (joint, _) = merged(&nets, 1.0);
    check_forms(&joint);
    for (_, form, _) in FORMS {
        let written = emit::emit(&joint, &EmitOptions { form: *form, ..EmitOptions::default() });
        assert_eq!(count(&written.unwrap(), "Gather"), 0);
    }
}

#[test]
fn rows_of_one_channel_correspond_in_their_order() {
    let net = with_shifted_bands();
    let nets = [canonical(&net, BatchNorm::Fold), moved(&net, 1e-4, 1)];
    let (joint, outcome) = merged(&nets, 1.0);
    let kept: Vec<_> = outcome.sites.iter().filter(|site| site.reason.is_some()).collect();
    assert!(kept.iter().all(|site| site.layers[0] == "fc"), "{kept:?}");
    check_size(&joint);
    check_forms(&joint);
    for (net, joined) in nets.iter().zip(joint_outputs(&joint, Form::Heads)) {
        assert!(deviation(&joined, &outputs(net, &[])[0]) < 1e-2);
    }
}

/// The net with the filters of its first depthwise convolution negated, or of its second convolution if it has none.
fn with_another_filter(model: &Model) -> Model {
    let mut model = model.clone();
    let convolutions = model.graph.nodes().filter(|(_, node)| node.is("Conv"));
    let filters: Vec<_> = convolutions.filter_map(|(_, node)| node.input(1)).collect();
    let is_depthwise = |id: &&ValueId| model.graph.initializer(**id).unwrap().dims[1] == 1;
    let id = *filters[1..].iter().find(is_depthwise).unwrap_or(&filters[1]);
    let negated = model.graph.initializer(id).unwrap().to_f32().unwrap().mapv(|w| -w);
    model.graph.set_initializer(id, Tensor::from_f32(&negated));
    model
}

#[test]
fn fine_tunes_that_share_nothing_are_left_as_they_are() {
    let given = [with_unknown_operators(), model("zoo/resnet_mnist"), model("zoo/mobilenet_mnist")];
    let moved = given.each_ref().map(|net| moved(net, 1e-2, 1));
    // A layer that moved far, with channels that correspond by index nevertheless.
    let far = moved.each_ref().map(with_another_filter);
    for (net, tuned) in given.iter().zip(moved).chain(given.iter().zip(far)) {
        let nets = [canonical(net, BatchNorm::Fold), tuned];
        assert_eq!(prepared(&nets).alignment.lineages.len(), 1);
        let (joint, outcome) = merged(&nets, 0.0);
        assert_eq!(outcome.sizes.shared, 0);
        for (net, joined) in nets.iter().zip(joint_outputs(&joint, Form::Heads)) {
            let before: &ArrayD<f32> = &outputs(net, &[])[0];
            assert!(deviation(&joined, before) < 1e-6);
        }
    }
}

#[test]
fn unrelated_and_permuted_nets_have_no_lineage() {
    let pairs = [
        [model("lenet5_mnist_a"), model("lenet5_mnist_b")],
        [model("lenet300_mnist_a"), model("lenet300_fashion")],
        [model("zoo/resnet_mnist"), model("zoo/resnet_fashion")],
        [model("zoo/mobilenet_mnist"), model("zoo/mobilenet_fashion")],
        [model("zoo/lstm_mnist"), model("zoo/lstm_fashion")],
        [model("zoo/resnet_mnist"), permuted(&model("zoo/resnet_mnist"), 1)],
        [model("lenet300_mnist_a"), permuted(&model("lenet300_mnist_a"), 1)],
    ];
    for nets in pairs {
        assert_eq!(prepared(&nets).alignment.lineages, [], "{}", nets[1].name);
    }
}

/// Layers of these widths. Those at the places `common` are equal in all nets.
fn mlp(widths: &[usize], common: &[usize], seed: usize) -> Model {
    let mut b = GraphBuilder::new(&format!("mlp {seed}"), 17);
    let mut x = b.input("x", &format!("n,{}", widths[0]));
    for (place, pair) in widths.windows(2).enumerate() {
        let mut own = GraphBuilder::new("drawn", 17);
        let draws = if common.contains(&place) { 1 } else { 7 * seed + 11 };
        own.weights("unused", &[draws + place]);
        let drawn = own.weights("w", &[pair[1], pair[0]]);
        let weight = own.graph().initializer(drawn).unwrap().clone();
        let w = b.constant("w", weight);
        x = b.op("Gemm", &format!("fc{place}"), &[x, w], [("transB", 1.into())]);
        x = b.op("Tanh", "tanh", &[x], []);
    }
    b.build(&[x])
}

#[test]
fn a_part_of_a_net_is_no_backbone() {
    let wide_first = [200, 50, 20, 20, 20, 10];
    let cases: [(&[usize], &[usize], usize); 4] = [
        // Most weights, but one layer of five.
        (&wide_first, &[0], 0),
        // Most layers, but few weights.
        (&wide_first, &[1, 2, 3, 4], 0),
        (&wide_first, &[0, 1, 2], 1),
        // A backbone with another head.
        (&[20, 20, 20, 20, 20, 60], &[0, 1, 2, 3], 1),
    ];
    for (widths, common, lineages) in cases {
        let nets = [1, 2].map(|seed| mlp(widths, common, seed));
        let found = prepared(&nets).alignment.lineages;
        assert_eq!(found.len(), lineages, "{widths:?}, of which {common:?} are common");
    }
}

#[test]
fn indices_can_be_forced_and_left_alone() {
    let net = model("lenet5_mnist_a");
    let prepared = |nets: &[Model], matching| {
        let options = PrepareOptions { matching, ..PrepareOptions::default() };
        prepare_parts(parts(nets), options).unwrap().alignment.lineages.len()
    };
    let copy = [net.clone(), moved(&net, 1e-3, 1)];
    assert_eq!(prepared(&copy, Matching::Search), 0);
    let apart = [net, model("lenet5_mnist_b")];
    assert_eq!((prepared(&apart, Matching::Auto), prepared(&apart, Matching::Index)), (0, 1));
}

/// Two different nets of one backbone, and calibration on 400 images.
fn apart() -> ([Model; 2], Prepared, Calibration) {
    let nets = [
        canonical(&model("zoo/resnet_mnist"), BatchNorm::Fold),
        moved(&model("zoo/resnet_mnist"), 0.3, 1),
    ];
    let prepared = prepared(&nets);
    let calibration = calibrated(images(&nets[0], "mnist_train", 400));
    (nets, prepared, calibration)
}

/// The same samples for both tasks.
fn calibrated(data: Dataset) -> Calibration {
    Calibration {
        backend: backend(),
        data: vec![data; 2],
        stored: Vec::new(),
        predicts: false,
        batch: 200,
        memory: 1 << 30,
        shards: None,
    }
}

/// The largest deviation of a joint model's outputs from those of the nets.
fn worst(joint: &JointModel, nets: &[Model]) -> f32 {
    let all = nets.iter().zip(joint_outputs(joint, Form::Heads));
    all.map(|(net, joined)| deviation(&joined, &outputs(net, &[])[0]))
        .max_by(f32::total_cmp)
        .unwrap_or(0.0)
}

#[test]
fn corrections_of_full_rank_are_the_original_nets() {
    let (nets, prepared, calibration) = apart();
    let coupling = prepared.joint.tasks()[1].coupling();
    let full = (0..coupling.layers.len())
        .map(|id| (TaskId(1).layer(LayerId(id)), coupling.layer(LayerId(id)).outputs.len()));
    let corrections: Ranks = full.collect();
    let mut options = MergeOptions {
        corrections: Some(corrections),
        max_rows: FEW_ROWS,
        ..MergeOptions::default()
    };
    options.budget.set_biases(Biases::PerTask);
    let (joint, outcome) = zipper::merge(prepared, &calibration, &options, &Silent).unwrap();
    assert!(worst(&joint, &nets) < 1e-3, "{}", worst(&joint, &nets));
    assert!(outcome.sites.iter().any(|site| site.ranks == [(1, 64)]));
    check_forms(&joint);
}

#[test]
fn corrections_take_away_loss_within_the_size() {
    let (nets, prepared, calibration) = apart();
    let mut options = MergeOptions {
        corrections: Some(Ranks::new()),
        choose_ranks: true,
        max_rows: FEW_ROWS,
        ..MergeOptions::default()
    };
    options.budget.set_biases(Biases::PerTask);
    let merge = |options: &MergeOptions| {
        zipper::merge(prepared.clone(), &calibration, options, &Silent).unwrap()
    };
    let (scaled, before) = merge(&options);
    let (plain, _) = merge(&MergeOptions { corrections: None, ..options.clone() });
    assert!(worst(&scaled, &nets) < worst(&plain, &nets));
    check_forms(&scaled);
    let goal = Goal::Size(0.62);
    let (joint, outcome, trials) =
        merge_for(goal, &prepared, &[], &Job::new(&calibration, &options, &Silent)).unwrap();
    let size = outcome.sizes.joint() as f64 / outcome.sizes.separate() as f64;
    assert!(size <= 0.62, "{size}");
    assert_eq!(outcome.sizes.originals, before.sizes.originals);
    assert!(
        outcome.sites.iter().any(|site| !site.ranks.iter().all(|(_, rank)| *rank == 0)),
        "{trials:?}"
    );
    assert!(worst(&joint, &nets) < worst(&scaled, &nets));
    check_forms(&joint);
    check_size(&joint);
    let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
    assert_eq!(count(&written, "Gather"), 0);
    let restored = emit::restore(&written).unwrap();
    for (task, again) in joint.tasks().iter().zip(restored.tasks()) {
        assert_eq!(outputs(task.model(), &[]), outputs(again.model(), &[]));
    }
}

/// The largest deviation on some of the samples.
fn worst_on(joint: &JointModel, nets: &[Model], samples: &Dataset) -> f32 {
    let batch = samples.batch(0..64).unwrap();
    let model = emit::emit(joint, &EmitOptions::default()).unwrap();
    let joined = run(&model, &batch);
    let all = nets.iter().zip(&joined);
    all.map(|(net, joined)| deviation(joined, &run(net, &batch)[0]))
        .max_by(f32::total_cmp)
        .unwrap_or(0.0)
}

/// Merges fine-tunes to a part of their size, without and with differences of 4 or 8 bits. The latter are used,
/// lose less, and are small in the file. Returns the joint models with differences.
fn check_differences(
    nets: &[Model],
    samples: &Dataset,
    parts_of_size: [f64; 2],
) -> Vec<(JointModel, Outcome)> {
    let mut merged = Vec::new();
    let calibration = calibrated(samples.clone());
    let widths = [(Bits::Eight, 17), (Bits::Four, 21)];
    for ((bits, opset), part) in widths.into_iter().zip(parts_of_size) {
        let options = PrepareOptions { opset, ..PrepareOptions::default() };
        let prepared = prepare_parts(parts(nets), options).unwrap();
        let mut options =
            MergeOptions { delta: Some(bits), max_rows: FEW_ROWS, ..MergeOptions::default() };
        options.budget.set_biases(Biases::PerTask);
        let job = |options| Job::new(&calibration, options, &Silent);
        let plain = MergeOptions { delta: None, ..options.clone() };
        let goal = Goal::Size(part);
        let (plain, without, _) = merge_for(goal, &prepared, &[], &job(&plain)).unwrap();
        options.corrections = Some(Ranks::new());
        options.choose_ranks = true;
        let (joint, outcome, trials) = merge_for(goal, &prepared, &[], &job(&options)).unwrap();
        let size = outcome.sizes.joint() as f64 / outcome.sizes.separate() as f64;
        assert!(size <= part, "{size}");
        let has_bits = |site: &SiteRecord| site.bits.iter().any(|(_, n)| *n == bits.count());
        assert!(outcome.sites.iter().any(has_bits), "{trials:?}");
        let losses = [&joint, &plain].map(|joint| worst_on(joint, nets, samples));
        assert!(losses[0] < losses[1], "{losses:?}");
        let tasks = [joint.tasks()[0].model(), joint.tasks()[1].model()];
        for form in [Form::Heads, Form::Switch, Form::Masked] {
            let lost = lost(&joint, form, tasks);
            assert!(lost < 1e-4, "{form:?} differs by {lost}");
        }
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let gathers: usize = nets.iter().map(|net| count(net, "Gather")).sum();
        assert!(count(&written, "Gather") <= gathers);
        // The file is as small as planned, beside nodes and recipe: integers are not stored as floats.
        let beside = |joint: &JointModel, outcome: &Outcome| {
            let file = onnx::encode(&emit::emit(joint, &EmitOptions::default()).unwrap()).unwrap();
            file.len() as f64 - 4.0 * outcome.sizes.joint() as f64
        };
        let (nodes, more) = (beside(&plain, &without), beside(&joint, &outcome));
        assert!(
            more <= nodes + 8192.0,
            "{more} bytes beside parameters, {nodes} without differences"
        );
        let restored = emit::restore(&written).unwrap();
        for (task, again) in joint.tasks().iter().zip(restored.tasks()) {
            let batch = samples.batch(0..4).unwrap();
            assert_eq!(run(task.model(), &batch), run(again.model(), &batch));
        }
        merged.push((joint, outcome));
    }
    merged
}

/// [`check_differences`] of small nets on images, which gather nothing and have few nodes.
fn check_on_images(nets: &[Model]) {
    let images = images(&nets[0], "mnist_train", 400);
    for (joint, outcome) in check_differences(nets, &images, [0.66, 0.58]) {
        check_forms(&joint);
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        assert_eq!(count(&written, "Gather"), 0);
        // The file is as small as planned, beside its recipe.
        let bytes = onnx::encode(&written).unwrap().len();
        let planned = outcome.sizes.joint() as f64 * 4.0;
        assert!(bytes as f64 <= 1.04 * planned + 8192.0, "{bytes} bytes for {planned}");
    }
}

#[test]
fn differences_in_few_bits_take_away_loss_within_the_size() {
    let (nets, _, _) = apart();
    check_on_images(&nets);
}

#[test]
fn nets_in_other_orders_have_differences() {
    let (nets, _, _) = apart();
    check_on_images(&[nets[0].clone(), permuted(&nets[1], 5)]);
}

/// Depthwise layers, whose channels have inputs of their own, have differences where their tasks keep their own
/// biases.
#[test]
fn depthwise_layers_of_other_seeds_have_differences() {
    let nets = ["mobilenet_mnist", "mobilenet_fashion"].map(|name| model(&format!("zoo/{name}")));
    let images = images(&nets[0], "mnist_train", 400);
    for (joint, outcome) in check_differences(&nets, &images, [0.68, 0.6]) {
        check_forms(&joint);
        let is_depthwise = |site: &&SiteRecord| {
            let layers = joint.tasks()[0].coupling().layers.iter();
            let mut own = layers.filter(|layer| Some(&layer.name) == site.layers.first());
            own.any(|layer| layer.per_channel)
        };
        let mut depthwise = outcome.sites.iter().filter(is_depthwise);
        assert!(depthwise.any(|site| !site.bits.is_empty()));
    }
}

/// Weights of products over tokens are stored `[in, out]`, and their biases are added by other nodes.
#[test]
fn products_over_tokens_have_differences() {
    let net = model("open/vision_17");
    let nets = [canonical(&net, BatchNorm::Fold), moved(&net, 0.3, 1)];
    check_differences(&nets, &samples(&net, 64), [0.7, 0.6]);
}
