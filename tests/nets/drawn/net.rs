//! Randomly drawn nets: an input, some steps, and outputs.
//!
//! Every number of a [`Drawn`] net selects an entry of a table, so any numbers give a net, and smaller
//! numbers a simpler one. Each file of steps serves one form of values.

use ndarray::{ArrayD, IxDyn};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use onnx_zip::ir::builder::{GraphBuilder, shape};
use onnx_zip::ir::{Attribute, DataType, Model, Tensor, TensorType, ValueId};

use super::{features, images, sequences};

/// The numbers that a net is built from.
#[derive(Debug, Clone)]
pub struct Drawn {
    /// The form of the input.
    pub start: u8,
    /// Kind and choice of each step.
    pub steps: Vec<(u8, u8)>,
    /// The outputs other than the scores.
    pub end: u8,
}

/// The form of a value, without its first axis, that of samples.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Form {
    /// Square images.
    Image { channels: usize, side: usize },
    /// Features.
    Features { size: usize },
    /// A sequence of features.
    Sequence { length: usize, size: usize },
}

/// A value and its form.
#[derive(Debug, Clone, Copy)]
pub struct Live {
    pub value: ValueId,
    pub form: Form,
}

/// A step: computes a new value from a value.
pub type Step = fn(&mut Net, Live, u8) -> Live;

/// A net under construction.
pub struct Net {
    pub b: GraphBuilder,
    rng: ChaCha8Rng,
    samples: &'static str,
    beside: Option<ValueId>,
}

/// Activations that steps choose from.
const ACTIVATIONS: [&str; 20] = [
    "Relu",
    "LeakyRelu",
    "Sigmoid",
    "Tanh",
    "Elu",
    "Selu",
    "Celu",
    "HardSigmoid",
    "HardSwish",
    "Softplus",
    "Softsign",
    "Mish",
    "Erf",
    "Neg",
    "Abs",
    "Sin",
    "Cos",
    "Atan",
    "ThresholdedRelu",
    "Identity",
];

/// The drawn net with weights of this seed.
pub fn net(drawn: &Drawn, seed: u64) -> Model {
    let samples = if drawn.start & 4 == 0 { "n" } else { "2" };
    let b = GraphBuilder::new("net", 18);
    let mut net = Net { b, rng: ChaCha8Rng::seed_from_u64(seed), samples, beside: None };
    let form = match drawn.start % 3 {
        0 => Form::Image { channels: 3, side: 8 },
        1 => Form::Features { size: 6 },
        _ => Form::Sequence { length: 4, size: 5 },
    };
    let input = net.dims(form);
    let mut live = Live { value: net.b.input("x", &input), form };
    let mut before = Vec::new();
    for (kind, choice) in &drawn.steps {
        let table = match live.form {
            Form::Image { .. } => images::STEPS,
            Form::Features { .. } => features::STEPS,
            Form::Sequence { .. } => sequences::STEPS,
        };
        live = table[usize::from(*kind) % table.len()](&mut net, live, *choice);
        before.push(live);
    }
    let outputs = net.finish(live, &before, drawn.end);
    net.b.build(&outputs)
}

impl Net {
    /// The dimensions of a value as text.
    pub fn dims(&self, form: Form) -> String {
        let n = self.samples;
        match form {
            Form::Image { channels, side } => format!("{n},{channels},{side},{side}"),
            Form::Features { size } => format!("{n},{size}"),
            Form::Sequence { length, size } => format!("{n},{length},{size}"),
        }
    }

    /// The type of a value.
    pub fn ty(&self, form: Form) -> TensorType {
        TensorType { dtype: DataType::F32, shape: Some(shape(&self.dims(form))) }
    }

    /// Weights of a layer with `fan_in` inputs, scaled so that outputs are about as large as inputs.
    pub fn weights(&mut self, name: &str, dims: &[usize], fan_in: usize) -> ValueId {
        let most = (3.0 / fan_in as f32).sqrt();
        self.random(name, dims, -most, most)
    }

    /// A constant of random numbers.
    pub fn random(&mut self, name: &str, dims: &[usize], from: f32, to: f32) -> ValueId {
        let rng = &mut self.rng;
        let array = ArrayD::from_shape_simple_fn(IxDyn(dims), || rng.random_range(from..to));
        self.b.constant(name, Tensor::from_f32(&array))
    }

    /// A second input of four features, the same for all steps that read it.
    pub fn beside(&mut self) -> ValueId {
        let dims = format!("{},4", self.samples);
        *self.beside.get_or_insert_with(|| self.b.input("z", &dims))
    }

    pub fn op<const N: usize>(
        &mut self,
        op: &str,
        inputs: &[ValueId],
        attributes: [(&'static str, Attribute); N],
    ) -> ValueId {
        self.b.op(op, &op.to_lowercase(), inputs, attributes)
    }

    pub fn activation(&mut self, x: ValueId, choice: u8) -> ValueId {
        self.op(ACTIVATIONS[usize::from(choice) % ACTIVATIONS.len()], &[x], [])
    }

    /// A value with its axes in another order.
    pub fn transpose<const N: usize>(&mut self, x: ValueId, perm: [i64; N]) -> ValueId {
        self.op("Transpose", &[x], [("perm", perm.into())])
    }

    pub fn reshape(&mut self, x: ValueId, dims: &[i64]) -> ValueId {
        let dims = self.b.ints("dims", dims);
        self.op("Reshape", &[x, dims], [])
    }

    /// One part of a value along an axis.
    pub fn slice(&mut self, x: ValueId, axis: i64, from: usize, to: usize) -> ValueId {
        let ends = [("from", from as i64), ("to", to as i64), ("axis", axis)];
        let [from, to, axis] = ends.map(|(name, number)| self.b.ints(name, &[number]));
        self.op("Slice", &[x, from, to, axis], [])
    }

    /// Both halves of a value along an axis, side by side or alternating.
    pub fn halves(&mut self, x: ValueId, axis: i64, size: usize, choice: u8) -> [ValueId; 2] {
        let half = size / 2;
        if choice & 1 == 0 {
            return [(0, half), (half, 2 * half)].map(|(a, b)| self.slice(x, axis, a, b));
        }
        [0, 1].map(|first| {
            let indices: Vec<i64> = (0..half as i64).map(|i| 2 * i + first).collect();
            let indices = self.b.ints("indices", &indices);
            self.op("Gather", &[x, indices], [("axis", axis.into())])
        })
    }

    /// The outputs: scores, and those that `end` adds.
    fn finish(&mut self, last: Live, before: &[Live], end: u8) -> Vec<ValueId> {
        let flat = match last.form {
            Form::Image { .. } => images::to_features(self, last, 0),
            Form::Features { .. } => last,
            Form::Sequence { .. } => sequences::to_features(self, last, 0),
        };
        // Nets without a hidden layer have nothing to share.
        let flat = features::layer(self, flat, 1);
        let scores = features::linear(self, flat, 5, end >> 4);
        let mut outputs = vec![scores];
        if end & 1 != 0 {
            outputs.push(features::linear(self, flat, 3, 0));
        }
        if end & 2 != 0 {
            let axis = [("axis", 1.into()), ("keepdims", 0.into())];
            outputs.push(self.op("ArgMax", &[scores], axis));
        }
        if end & 4 != 0 {
            let zero = self.b.scalar("zero", 0.0);
            outputs.push(self.op("Greater", &[scores, zero], []));
        }
        if let (true, Some(hidden)) = (end & 8 != 0, before.first()) {
            outputs.push(self.op("Identity", &[hidden.value], []));
        }
        outputs
    }
}
