//! Laws on nets with recurrent layers of all kinds, as exporters write them.

use ndarray::{ArrayD, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use onnx_zip::emit::{self, EmitOptions, FORMS, Form};
use onnx_zip::ir::builder::GraphBuilder;
use onnx_zip::ir::{Attribute, Model, Node, Tensor, ValueId, ValueKind};
use onnx_zip::mtz::joint::JointModel;
use onnx_zip::mtz::matching::Share;
use onnx_zip::mtz::options::{Budget, MergeOptions, Method};
use onnx_zip::onnx;
use onnx_zip::progress::Silent;
use onnx_zip::retrain::{Lesson, RetrainOptions, retrain};
use onnx_zip::runtime::{self, HostArray, ModelSource, RuntimeChoice, RuntimeOptions, feeds};
use onnx_zip::zipper::Outcome;

use crate::permute::permuted;
use crate::support::{self, deviation, error, images, joint_outputs, model, outputs};

/// A net that reads the rows of an image one after the other.
#[derive(Debug, Clone, Copy)]
struct Kind {
    op: &'static str,
    gates: usize,
    direction: &'static str,
    /// Whether a GRU applies its reset gate after the product with the weights.
    reset_last: bool,
    /// Number of stacked recurrent layers.
    depth: usize,
    /// Whether the classifier reads the last state instead of the output of the last step.
    reads_state: bool,
    /// Whether the layers start from a constant non-zero state.
    starts: bool,
}

const LSTM: Kind = Kind {
    op: "LSTM",
    gates: 4,
    direction: "forward",
    reset_last: false,
    depth: 1,
    reads_state: false,
    starts: false,
};

const GRU: Kind = Kind { op: "GRU", gates: 3, ..LSTM };

const KINDS: &[Kind] = &[
    LSTM,
    Kind { depth: 2, ..LSTM },
    Kind { direction: "reverse", reads_state: true, ..LSTM },
    Kind { direction: "bidirectional", ..LSTM },
    Kind { direction: "bidirectional", reads_state: true, depth: 2, ..LSTM },
    Kind { starts: true, ..LSTM },
    Kind { starts: true, direction: "bidirectional", ..LSTM },
    GRU,
    Kind { reset_last: true, ..GRU },
    Kind { reset_last: true, direction: "bidirectional", ..GRU },
    Kind { op: "RNN", gates: 1, depth: 2, ..LSTM },
];

/// The batch size of nets with constant states.
const BATCH: usize = 64;

struct Builder {
    graph: GraphBuilder,
    rng: ChaCha8Rng,
}

impl Builder {
    fn weights(&mut self, name: &str, dims: &[usize]) -> ValueId {
        let rng = &mut self.rng;
        let values = ArrayD::from_shape_simple_fn(IxDyn(dims), || rng.random_range(-0.5f32..0.5));
        self.graph.constant(name, Tensor::from_f32(&values))
    }

    /// A recurrent layer; returns the outputs of all steps and the last state.
    fn recurrent(&mut self, kind: Kind, name: &str, x: ValueId, sizes: [usize; 2]) -> [ValueId; 2] {
        let directions = if kind.direction == "bidirectional" { 2 } else { 1 };
        let [width, units] = sizes;
        let rows = kind.gates * units;
        let part = |p: &str| format!("{name}.{p}");
        let mut inputs = vec![
            Some(x),
            Some(self.weights(&part("w"), &[directions, rows, width])),
            Some(self.weights(&part("r"), &[directions, rows, units])),
            Some(self.weights(&part("b"), &[directions, 2 * rows])),
        ];
        if kind.starts {
            let states =
                ["h", "c"].map(|s| Some(self.weights(&part(s), &[directions, BATCH, units])));
            inputs.push(None);
            inputs.extend(states);
        }
        let graph = self.graph.graph();
        let outputs = ["y", "yh"].map(|o| graph.add_value(&part(o), ValueKind::Detached, None));
        let mut attributes = vec![
            ("hidden_size", Attribute::Int(units as i64)),
            ("direction", kind.direction.into()),
        ];
        if kind.op == "GRU" {
            attributes.push(("linear_before_reset", Attribute::Int(i64::from(kind.reset_last))));
        }
        graph.add_node(Node {
            name: name.to_owned(),
            op: kind.op.to_owned(),
            inputs,
            outputs: outputs.map(Some).to_vec(),
            attributes: attributes.into_iter().map(|(k, v)| (k.to_owned(), v)).collect(),
            ..Node::default()
        });
        outputs
    }
}

fn net(kind: Kind, units: usize, seed: u64) -> Model {
    let graph = GraphBuilder::new("rows", 14);
    let mut b = Builder { graph, rng: ChaCha8Rng::seed_from_u64(seed) };
    let batch = if kind.starts { BATCH.to_string() } else { "batch".to_owned() };
    let image = b.graph.input("image", &format!("{batch},1,28,28"));
    let one = b.graph.ints("one", &[1]);
    let zero = b.graph.ints("zero", &[0]);
    let flat = b.graph.ints("flat", &[0, 0, -1]);
    let rows = b.graph.op("Squeeze", "rows", &[image, one], []);
    let mut x = b.graph.op("Transpose", "steps", &[rows], [("perm", [1, 0, 2].into())]);
    let directions = if kind.direction == "bidirectional" { 2 } else { 1 };
    let (mut width, mut state) = (28, x);
    for layer in 0..kind.depth {
        let name = format!("recurrent{layer}");
        let [all, last] = b.recurrent(kind, &name, x, [width, units]);
        state = last;
        x = match directions {
            1 => b.graph.op("Squeeze", &format!("{name}.out"), &[all, one], []),
            _ => {
                let perm = [("perm", [0, 2, 1, 3].into())];
                let turned = b.graph.op("Transpose", &format!("{name}.turned"), &[all], perm);
                b.graph.op("Reshape", &format!("{name}.out"), &[turned, flat], [])
            }
        };
        width = directions * units;
    }
    let last = match kind.reads_state {
        true => {
            let turned = b.graph.op("Transpose", "state", &[state], [("perm", [1, 0, 2].into())]);
            b.graph.op("Flatten", "last", &[turned], [])
        }
        false => {
            let end = b.graph.ints("end", &[-1]);
            let last = b.graph.op("Gather", "step", &[x, end], [("axis", 0.into())]);
            b.graph.op("Squeeze", "last", &[last, zero], [])
        }
    };
    let (w, bias) = (b.weights("fc.w", &[10, width]), b.weights("fc.b", &[10]));
    let y = b.graph.op("Gemm", "logits", &[last, w, bias], [("transB", 1.into())]);
    b.graph.build(&[y])
}

fn options(method: Method, share: f64) -> MergeOptions {
    let budget = Budget::uniform(Share::Fraction(share));
    MergeOptions { method, budget, max_rows: 4096, ..MergeOptions::default() }
}

fn merge(a: &Model, b: &Model, options: &MergeOptions) -> (JointModel, Outcome) {
    let data = images(a, "mnist_train", 2 * BATCH);
    support::merge_in([(a.clone(), data.clone()), (b.clone(), data)], options, BATCH)
}

fn alone(joint: &JointModel) -> Vec<ArrayD<f32>> {
    joint.tasks().iter().map(|t| outputs(t.model(), &[]).remove(0)).collect()
}

#[test]
fn sharing_nothing_leaves_the_nets_as_they_are() {
    for kind in KINDS {
        let (a, b) = (net(*kind, 12, 1), net(*kind, 12, 2));
        let (joint, outcome) = merge(&a, &b, &options(Method::Refit, 0.0));
        assert_eq!(outcome.sizes.shared, 0);
        for (_, form, _) in FORMS {
            for (net, joined) in [&a, &b].into_iter().zip(joint_outputs(&joint, *form)) {
                let lost = deviation(&joined, &outputs(net, &[])[0]);
                assert!(lost < 1e-5, "{kind:?} {form:?} lost {lost}");
            }
        }
    }
}

#[test]
fn a_permuted_copy_is_recognised_and_nothing_is_lost() {
    for kind in KINDS {
        let a = net(*kind, 12, 3);
        let b = permuted(&a, 7);
        let original = outputs(&a, &[]).remove(0);
        let moved = deviation(&outputs(&b, &[])[0], &original);
        assert!(moved < 1e-5, "the copy computes the same: {kind:?} {moved}");
        for method in [Method::Mtz, Method::Refit] {
            let (joint, outcome) = merge(&a, &b, &options(method, 1.0));
            let sizes = &outcome.sizes;
            assert_eq!(sizes.joint() - sizes.specific[1], sizes.originals[0], "{kind:?}");
            for joined in joint_outputs(&joint, Form::Heads) {
                let lost = deviation(&joined, &original);
                assert!(lost < 1e-4, "{kind:?} {method:?} lost {lost}");
            }
            let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
            let count = |op: &str| written.graph.nodes().filter(|(_, n)| n.is(op)).count();
            let directions = if kind.direction == "bidirectional" { 2 } else { 1 };
            assert_eq!(count(kind.op), kind.depth * directions, "{kind:?}: one trunk");
        }
    }
}

#[test]
fn all_forms_of_a_partial_merge_agree_with_its_task_nets() {
    for kind in KINDS {
        let (a, b) = (net(*kind, 12, 4), net(*kind, 9, 5));
        let (joint, outcome) = merge(&a, &b, &options(Method::Refit, 0.5));
        assert!(outcome.sizes.shared > 0, "{kind:?}");
        let alone = alone(&joint);
        for (name, form, _) in FORMS {
            for (joined, alone) in joint_outputs(&joint, *form).iter().zip(&alone) {
                let lost = deviation(joined, alone);
                assert!(lost < 1e-5, "{kind:?} {name} lost {lost}");
            }
        }
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let written = onnx::decode(onnx::encode(&written).unwrap().into(), None, "joint").unwrap();
        let restored = emit::restore(&written).unwrap();
        for (restored, alone) in restored.tasks().iter().zip(&alone) {
            assert_eq!(&outputs(restored.model(), &[])[0], alone, "{kind:?}");
        }
    }
}

#[test]
fn tract_runs_shared_recurrent_layers() {
    let options_of = RuntimeOptions { choice: RuntimeChoice::Tract, ..RuntimeOptions::default() };
    let tract = runtime::open(&options_of).unwrap();
    for (a, b, share) in [("lstm_mnist", "lstm_fashion", 1.0), ("gru_mnist", "gru_fashion", 0.5)] {
        let (a, b) = (model(&format!("zoo/{a}")), model(&format!("zoo/{b}")));
        let (joint, _) = merge(&a, &b, &options(Method::Refit, share));
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let bytes = onnx::encode(&written).unwrap();
        let mut session = tract.load(ModelSource::Bytes(&bytes)).unwrap();
        let batch = images(&a, "mnist_test", 16).batch(0..16).unwrap();
        let found: Vec<HostArray> = session.run(&feeds(&batch)).unwrap();
        let expected = support::run(&written, &batch);
        for (found, expected) in found.into_iter().zip(&expected) {
            assert!(deviation(&found.into_f32().unwrap(), expected) < 1e-4);
        }
    }
}

#[test]
fn more_sharing_never_adds_parameters_and_files_have_the_predicted_size() {
    let (a, b) = (model("zoo/lstm_mnist"), model("zoo/lstm_fashion"));
    let mut last = u64::MAX;
    for share in [0.0, 0.5, 1.0] {
        let (joint, outcome) = merge(&a, &b, &options(Method::Mtz, share));
        let parameters = outcome.sizes.joint();
        assert!(parameters <= last);
        last = parameters;
        let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
        let floats = written.graph.values().filter_map(|(v, _)| written.graph.initializer(v));
        let stored: usize = floats.filter(|t| t.dtype.is_float()).map(Tensor::len).sum();
        // Canonical form adds the second half of B to the first; the second becomes zeros.
        let zeros = stored as u64 - parameters;
        assert!(zeros <= 2 * 4 * 64, "{stored} numbers for {parameters}");
    }
}

#[test]
fn units_of_a_narrow_net_are_stored_once_beside_those_of_a_wide_one() {
    const UNITS: [usize; 2] = [12, 16];
    for (op, gates) in [("LSTM", 4), ("GRU", 3)] {
        let kind = Kind { op, gates, ..LSTM };
        let [narrow, wide] = UNITS.map(|units| net(kind, units, units as u64));
        for nets in [[&narrow, &wide], [&wide, &narrow]] {
            let (joint, _) = merge(nets[0], nets[1], &options(Method::Mtz, 1.0));
            let written = emit::emit(&joint, &EmitOptions::default()).unwrap();
            let floats = written.graph.values().filter_map(|(v, _)| written.graph.initializer(v));
            let floats = floats.filter(|t| t.dtype.is_float() && t.dims.len() == 3);
            let stored: usize = floats.map(Tensor::len).sum();
            assert_eq!(stored, gates * UNITS[1] * (28 + UNITS[1]), "{op}");
            let joined = joint_outputs(&joint, Form::Heads);
            for (joined, alone) in joined.iter().zip(&alone(&joint)) {
                assert!(deviation(joined, alone) < 1e-5, "{op}");
            }
        }
    }
}

/// Test errors in percent before and after a merge at full share.
fn errors(nets: [&str; 2], method: Method) -> [[f64; 2]; 2] {
    let tasks = ["mnist", "fashion"];
    let nets = nets.map(|net| model(&format!("zoo/{net}")));
    let data =
        |set: &str, at: usize, samples| images(&nets[at], &format!("{}_{set}", tasks[at]), samples);
    let test = [data("test", 0, 2000), data("test", 1, 2000)];
    let before = [0, 1].map(|i| error(&nets[i], &test[i]));
    let parts = [0, 1].map(|i| (nets[i].clone(), data("train", i, 1000)));
    let (joint, _) = support::merge(
        parts,
        &MergeOptions { method, max_rows: support::FEW_ROWS, ..MergeOptions::default() },
    );
    let after = [0, 1].map(|i| error(joint.tasks()[i].model(), &test[i]));
    println!("{method:?}: {before:?} -> {after:?}");
    [before, after]
}

#[test]
fn retraining_recurrent_nets_wins_back_and_keeps_what_is_shared() {
    let tasks = ["mnist", "fashion"];
    for (kind, share) in [("lstm", 1.0), ("gru", 0.5)] {
        let nets = tasks.map(|task| model(&format!("zoo/{kind}_{task}")));
        let samples = |set: &str, at: usize, samples| {
            images(&nets[at], &format!("{}_{set}", tasks[at]), samples)
        };
        let data = [0, 1].map(|at| samples("train", at, 2000));
        let parts = [0, 1].map(|at| (nets[at].clone(), data[at].clone()));
        let (mut joint, _) = support::merge(parts, &options(Method::Refit, share));
        let size = |joint: &JointModel| {
            onnx::encode(&emit::emit(joint, &EmitOptions::default()).unwrap()).unwrap().len()
        };
        let mean_error = |joint: &JointModel| {
            let errors =
                [0, 1].map(|at| error(joint.tasks()[at].model(), &samples("test", at, 2000)));
            errors.iter().sum::<f64>() / 2.0
        };
        let (before, stored) = (mean_error(&joint), size(&joint));
        let backend = support::backend();
        let lesson = Lesson {
            data: &data,
            teachers: &nets,
            backend: backend.as_ref(),
            checkpoint: None,
            resume: false,
        };
        let options = RetrainOptions { iterations: 150, ..RetrainOptions::default() };
        retrain(&mut joint, &lesson, &options, &Silent).unwrap();
        let after = mean_error(&joint);
        println!("{kind} {share}: {before} -> {after}");
        assert!(after < before, "{kind} {share}: {before} -> {after}");
        assert_eq!(size(&joint), stored, "{kind} {share}");
    }
}

#[test]
fn refit_loses_less_than_half_of_what_the_paper_s_rule_does() {
    for nets in [["lstm_mnist", "lstm_fashion"], ["gru_mnist", "gru_fashion"]] {
        let rise = |method| {
            let [before, after] = errors(nets, method);
            (after.iter().sum::<f64>() - before.iter().sum::<f64>()) / 2.0
        };
        let (mtz, refit) = (rise(Method::Mtz), rise(Method::Refit));
        assert!(refit < mtz / 2.0, "{nets:?}: mtz {mtz}, refit {refit}");
    }
}
