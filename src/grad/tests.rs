//! Every rule against central finite differences, with respect to every operand.

mod cases;
mod moves;
mod recurrent;

use std::collections::BTreeSet;

use ndarray::{ArrayD, IxDyn};
use rand::SeedableRng;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

use super::{Tape, differentiable_ops};
use crate::canon::infer_types;
use crate::ir::builder::GraphBuilder;
use crate::ir::{Attribute, Model, Tensor, ValueId};
use crate::onnx;
use crate::runtime::{self, HostArray, ModelSource, RuntimeOptions, Session};

/// All cases.
fn cases() -> impl Iterator<Item = &'static cases::Case> {
    cases::CASES.iter().chain(moves::CASES)
}

/// Half the distance between the points of a difference.
const STEP: f32 = 2e-3;

/// Builds a net whose operands to differentiate by are made by [`variable`]; gives its outputs.
type Build = fn(&mut GraphBuilder) -> Vec<ValueId>;

/// An operand: points further apart than the step of a difference, in random order, so that no step
/// changes a maximum or crosses a kink.
fn variable(b: &mut GraphBuilder, dims: &[usize], low: f32, high: f32) -> ValueId {
    let n: usize = dims.iter().product();
    let points = (0..n).map(|i| low + (high - low) * (i as f32 + 0.5) / n as f32);
    let mut points: Vec<f32> = points.collect();
    points.shuffle(&mut ChaCha8Rng::seed_from_u64(n as u64));
    let array = ArrayD::from_shape_vec(IxDyn(dims), points).unwrap();
    b.constant("variable", Tensor::from_f32(&array))
}

#[test]
fn every_rule_has_a_case() {
    let tested: BTreeSet<&str> = cases().map(|(op, ..)| *op).collect();
    let all: BTreeSet<&str> = differentiable_ops().into_iter().collect();
    assert_eq!(tested, all);
}

#[test]
fn gradients_are_the_limits_of_differences() {
    let mut wrong = Vec::new();
    for (number, (op, opset, build)) in cases().enumerate() {
        let mut b = GraphBuilder::new("net", *opset);
        let outputs = build(&mut b);
        let model = b.build(&outputs);
        let uses_op = model.graph.nodes().any(|(_, node)| node.is(op));
        assert!(uses_op, "case {number} is not about {op}");
        let worst = worst_difference(model, &format!("case {number} ({op})"));
        if worst.is_nan() || worst > 1e-2 {
            wrong.push(format!("case {number} ({op}): {worst}"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn gradients_have_the_types_of_their_values() {
    let mut b = GraphBuilder::new("net", 13);
    let x = b.input("x", "batch,2,3");
    let sizes = b.ints("sizes", &[0, 6]);
    let flat = b.op("Reshape", "flat", &[x, sizes], []);
    let weight = b.weights("fc.w", &[4, 6]);
    let y = b.op("Gemm", "fc", &[flat, weight], [("transB", 1.into())]);
    let mut model = b.build(&[y]);
    infer_types(&mut model.graph).unwrap();
    let mut tape = Tape::new(model.graph, &[x, weight]).unwrap();
    let ty = tape.graph.value(y).ty.clone().unwrap();
    let seed = tape.graph.add_input("seed", ty);
    tape.seed(y, seed);
    tape.run().unwrap();
    let ty = |id: ValueId| match tape.graph.initializer(id) {
        Some(tensor) => tensor.ty(),
        None => tape.graph.value(id).ty.clone().unwrap(),
    };
    for value in [x, flat, weight] {
        assert_eq!(ty(tape.gradient(value).unwrap()), ty(value));
    }
}

#[test]
fn roots_of_dead_channels_have_finite_gradients() {
    let norm = |b: &mut GraphBuilder, x| {
        let axes = b.ints("axes", &[1]);
        b.op("ReduceL2", "norm", &[x, axes], [])
    };
    let root = |b: &mut GraphBuilder, x| {
        let square = b.op("Mul", "square", &[x, x], []);
        b.op("Sqrt", "root", &[square], [])
    };
    let ops: [fn(&mut GraphBuilder, ValueId) -> ValueId; 2] = [norm, root];
    for op in ops {
        let mut b = GraphBuilder::new("net", 18);
        let x = b.constant("variable", Tensor::from_f32(&ArrayD::zeros(IxDyn(&[2, 3]))));
        let y = op(&mut b, x);
        let mut model = b.build(&[y]);
        let (wanted, points) = variables(&model);
        differentiate(&mut model, &wanted, "roots");
        let bytes = onnx::encode(&model).unwrap();
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let mut session = backend.load(ModelSource::Bytes(&bytes)).unwrap();
        let results = run(session.as_mut(), &points, "roots");
        assert!(results[1].iter().all(|gradient| *gradient == 0.0), "{:?}", results[1]);
    }
}

/// The largest difference between a gradient and its finite difference, relative to the largest
/// entry of that gradient.
fn worst_difference(mut model: Model, what: &str) -> f32 {
    let (wanted, points) = variables(&model);
    assert!(!wanted.is_empty(), "{what} has nothing to differentiate by");
    let gradients = differentiate(&mut model, &wanted, what);
    let bytes = onnx::encode(&model).unwrap();
    let backend = runtime::open(&RuntimeOptions::default()).unwrap();
    let mut session =
        backend.load(ModelSource::Bytes(&bytes)).unwrap_or_else(|e| panic!("{what}: {e}"));
    let results = run(session.as_mut(), &points, what);
    assert_eq!(results.len(), 1 + gradients, "{what}");
    let mut worst = 0.0f32;
    for (v, gradient) in results[1..].iter().enumerate() {
        assert_eq!(gradient.shape(), points[v].1.shape(), "{what}: operand {v}");
        let scale = gradient.iter().fold(0.1f32, |m, g| m.max(g.abs()));
        for (index, gradient) in gradient.indexed_iter() {
            let mut loss = |step: f32| {
                let mut moved = points.clone();
                moved[v].1[&index] += step;
                run(session.as_mut(), &moved, what)[0].iter().copied().sum::<f32>()
            };
            let difference = (loss(STEP) - loss(-STEP)) / (2.0 * STEP);
            let off = ((difference - gradient) / scale).abs();
            worst = std::cmp::max_by(worst, off, f32::total_cmp);
        }
    }
    worst
}

/// The operands to differentiate by, with their values.
fn variables(model: &Model) -> (Vec<ValueId>, Vec<(String, ArrayD<f32>)>) {
    let graph = &model.graph;
    let named = graph.values().filter(|(_, v)| v.name.starts_with("variable"));
    named
        .filter_map(|(id, v)| {
            Some((id, (v.name.clone(), graph.initializer(id)?.to_f32().unwrap())))
        })
        .unzip()
}

/// Makes the model compute a random combination of its outputs, and its gradient; gives the number
/// of gradients.
fn differentiate(model: &mut Model, wanted: &[ValueId], what: &str) -> usize {
    infer_types(&mut model.graph).unwrap();
    let outputs = model.graph.outputs.clone();
    let mut tape = Tape::new(model.graph.clone(), wanted).unwrap();
    let mut loss = None;
    for output in outputs {
        let dims = tape.sizes(output, 0).unwrap_or_else(|e| panic!("{what}: {e}"));
        let n: usize = dims.iter().product();
        let factors = (0..n).map(|i| ((i * 37 + 11) % 101) as f32 / 50.0 - 1.0).collect();
        let factors = tape.floats(&dims, factors).unwrap();
        tape.seed(output, factors);
        let weighted = tape.op("Mul", &[output, factors]);
        let sum = tape.op_with("ReduceSum", &[weighted], [("keepdims", Attribute::Int(0))]);
        loss = Some(match loss {
            Some(total) => tape.op("Add", &[total, sum]),
            None => sum,
        });
    }
    tape.run().unwrap_or_else(|e| panic!("{what}: {e}"));
    let gradients: Vec<ValueId> = wanted
        .iter()
        .map(|v| tape.gradient(*v).unwrap_or_else(|| panic!("{what}: no gradient")))
        .collect();
    let mut graph = tape.graph;
    graph.outputs = loss.into_iter().collect();
    // An output must be computed, and only once an output.
    for gradient in &gradients {
        let output = graph.add_op("Identity", "gradient", &[*gradient], []);
        graph.outputs.push(output);
    }
    for variable in wanted {
        let ty = graph.initializer(*variable).unwrap().ty();
        graph.set_input(*variable, ty);
    }
    graph.remove_dead_nodes();
    model.graph = graph;
    gradients.len()
}

fn run(
    session: &mut dyn Session,
    points: &[(String, ArrayD<f32>)],
    what: &str,
) -> Vec<ArrayD<f32>> {
    let arrays: Vec<(String, HostArray)> =
        points.iter().map(|(name, a)| (name.clone(), a.clone().into())).collect();
    let results = session.run(&runtime::feeds(&arrays)).unwrap_or_else(|e| panic!("{what}: {e}"));
    results.into_iter().map(|r| r.into_f32().unwrap()).collect()
}
