//! The optimiser's update, as operators.

use ndarray::ArrayD;

use crate::grad::Tape;
use crate::ir::ValueId;

use super::options::{OptimizerKind, RetrainOptions};

/// Momentum of gradient descent.
const MOMENTUM: f32 = 0.9;

/// Decay of Adam's mean of gradients.
const BETA1: f64 = 0.9;

/// Decay of Adam's mean of squared gradients. Light retraining is short, so it is shorter than the
/// usual 0.999.
const BETA2: f64 = 0.99;

/// The least size of a tensor that its steps are in parts of, so that zeros train, too.
const LEAST_SIZE: f64 = 0.01;

/// Keeps Adam from dividing by zero.
const EPSILON: f64 = 1e-8;

/// Numbers that change in every step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Schedule {
    /// Factor of the update.
    pub(super) rate: f32,
    /// Part of the weights that decays.
    pub(super) decay: f32,
}

/// The inputs behind a [`Schedule`], as scalars.
#[derive(Debug, Clone, Copy)]
pub(super) struct Knobs {
    pub(super) rate: ValueId,
    pub(super) decay: ValueId,
}

impl Knobs {
    /// The same in parts of a tensor's size, which is the root mean square of its elements. Zeros do not count:
    /// pruned connections do not train.
    pub(super) fn relative_to(self, tape: &mut Tape, tensor: &ArrayD<f32>) -> Knobs {
        let trained = tensor.iter().filter(|w| **w != 0.0);
        let (count, squares) =
            trained.fold((0, 0.0), |(n, sum), w| (n + 1, sum + f64::from(*w).powi(2)));
        let size = (squares / f64::from(count.max(1))).sqrt().max(LEAST_SIZE);
        let size = tape.scalar(size as f32);
        let [rate, decay] = [self.rate, self.decay].map(|knob| tape.op("Mul", &[knob, size]));
        Knobs { rate, decay }
    }
}

/// Number of state tensors per parameter, each of the parameter's shape.
pub(super) fn states(kind: OptimizerKind) -> usize {
    match kind {
        OptimizerKind::Sgd => 1,
        OptimizerKind::Adam | OptimizerKind::AdamW => 2,
    }
}

/// The numbers of step `step`, counted from 0.
pub(super) fn schedule(options: &RetrainOptions, step: usize) -> Schedule {
    let rate = options.rate(step);
    match options.optimizer {
        OptimizerKind::Sgd => Schedule { rate: rate as f32, decay: 0.0 },
        kind => {
            // State holds plain sums, Σ β₁ⁱ g and Σ β₂ⁱ g². The factors (1 − β) and the bias corrections
            // are part of the rate.
            let t = i32::try_from(step + 1).unwrap_or(i32::MAX);
            let first = (1.0 - BETA1) / (1.0 - BETA1.powi(t));
            let second = (1.0 - BETA2) / (1.0 - BETA2.powi(t));
            let decay = if kind == OptimizerKind::AdamW { options.weight_decay } else { 0.0 };
            Schedule { rate: (rate * first / second.sqrt()) as f32, decay: (rate * decay) as f32 }
        }
    }
}

/// Writes the update of one parameter, whose weights may decay (`decays`). Returns its new value and
/// the new state.
pub(super) fn update(
    tape: &mut Tape,
    (kind, knobs): (OptimizerKind, Knobs),
    (parameter, gradient): (ValueId, ValueId),
    state: &[ValueId],
    decays: bool,
) -> (ValueId, Vec<ValueId>) {
    let mut parameter = parameter;
    if decays && kind == OptimizerKind::AdamW {
        let one = tape.scalar(1.0);
        let kept = tape.op("Sub", &[one, knobs.decay]);
        parameter = tape.op("Mul", &[parameter, kept]);
    }
    let keep = if kind == OptimizerKind::Sgd { MOMENTUM } else { BETA1 as f32 };
    let mut new = Vec::new();
    let mut direction = gradient;
    for (i, state) in state.iter().enumerate() {
        let (factor, term) = match i {
            0 => (keep, gradient),
            _ => (BETA2 as f32, tape.op("Mul", &[gradient, gradient])),
        };
        let kept = tape.scaled(*state, factor);
        new.push(tape.op("Add", &[kept, term]));
    }
    if let [first, rest @ ..] = new.as_slice() {
        direction = *first;
        if let [second] = rest {
            let root = tape.op("Sqrt", &[*second]);
            let epsilon = tape.scalar((EPSILON / (1.0 - BETA2).sqrt()) as f32);
            let spread = tape.op("Add", &[root, epsilon]);
            direction = tape.op("Div", &[direction, spread]);
        }
    }
    let step = tape.op("Mul", &[direction, knobs.rate]);
    (tape.op("Sub", &[parameter, step]), new)
}
