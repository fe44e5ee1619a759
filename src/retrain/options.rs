//! Options of retraining.

use serde::{Deserialize, Serialize};

use crate::error::{Error, ErrorKind, Result};

/// The targets of the outputs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LossKind {
    /// The original nets: probabilities of classifiers, scores of everything else. An output is a
    /// classifier's if it ends in a softmax, or if the samples have labels.
    #[default]
    Distillation,
    /// The original nets' probabilities, by their divergence at a temperature.
    Divergence,
    /// The original nets' scores (before a final softmax or sigmoid), by squared error.
    Scores,
    /// The original nets' unchanged outputs, by squared error.
    Mse,
    /// The labels, by cross-entropy.
    CrossEntropy,
}

impl LossKind {
    /// All losses with their names and descriptions.
    pub const ALL: [(LossKind, &'static str, &'static str); 5] = [
        (
            LossKind::Distillation,
            "distillation",
            "the original models: probabilities of classifiers, scores of others; needs no labels",
        ),
        (
            LossKind::Divergence,
            "divergence",
            "probabilities of the original models, at --temperature; needs no labels",
        ),
        (
            LossKind::Scores,
            "scores",
            "scores of the original models, before a final softmax; needs no labels",
        ),
        (LossKind::Mse, "mse", "outputs of the original models as they are; needs no labels"),
        (LossKind::CrossEntropy, "cross-entropy", "labels"),
    ];

    /// The loss of one output, which may be a classifier's.
    pub(super) fn of_output(self, is_classifier: bool) -> Self {
        match (self, is_classifier) {
            (LossKind::Distillation, true) => LossKind::Divergence,
            (LossKind::Distillation, false) => LossKind::Scores,
            (other, _) => other,
        }
    }

    /// Whether the targets are labels.
    pub fn needs_labels(self) -> bool {
        self == LossKind::CrossEntropy
    }
}

/// The optimiser.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptimizerKind {
    /// Stochastic gradient descent with momentum.
    Sgd,
    /// Adam.
    #[default]
    Adam,
    /// Adam with decoupled weight decay.
    AdamW,
}

impl OptimizerKind {
    /// All optimisers with their names and descriptions.
    pub const ALL: [(OptimizerKind, &'static str, &'static str); 3] = [
        (OptimizerKind::Sgd, "sgd", "gradient descent with momentum 0.9"),
        (OptimizerKind::Adam, "adam", "Adam"),
        (OptimizerKind::AdamW, "adamw", "Adam with decoupled weight decay"),
    ];
}

/// A learning rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// In parts of each tensor's size, which is the root mean square of its elements before the first step
    /// (Shazeer & Stern 2018, section 8). Sizes of one net's tensors differ by a factor of twenty and more.
    Relative(f64),
    /// The same for all tensors.
    Absolute(f64),
}

impl Rate {
    /// The largest rate of all steps, as a number.
    pub fn peak(self) -> f64 {
        match self {
            Rate::Relative(rate) | Rate::Absolute(rate) => rate,
        }
    }

    /// Whether it is in parts of each tensor's size.
    pub fn is_relative(self) -> bool {
        matches!(self, Rate::Relative(_))
    }
}

impl Rate {
    /// The usual rate of an optimiser. Steps of Adam are as long as the rate, whatever the gradient. Steps of
    /// gradient descent are not; at ten times the rate, residual nets diverge.
    pub fn of(optimizer: OptimizerKind) -> Self {
        match optimizer {
            OptimizerKind::Adam | OptimizerKind::AdamW => Rate::Relative(0.01),
            OptimizerKind::Sgd => Rate::Absolute(1e-3),
        }
    }
}

/// Options of retraining.
#[derive(Debug, Clone, PartialEq)]
pub struct RetrainOptions {
    /// Steps of the optimiser; each takes one batch of every task.
    pub iterations: usize,
    /// Samples per batch and task.
    pub batch: usize,
    /// The optimiser.
    pub optimizer: OptimizerKind,
    /// The largest learning rate.
    pub rate: Rate,
    /// Weight decay of AdamW.
    pub weight_decay: f64,
    /// The loss.
    pub loss: LossKind,
    /// Temperature of [`LossKind::Divergence`].
    pub temperature: f64,
    /// Weight of the merged layers' pre-activations: their squared error against the original nets,
    /// relative to the variance, mean over layers. Outputs have weight 1.
    pub layers: f64,
    /// Weight of each task's loss, relative to the others; empty for equal weights.
    pub weights: Vec<f64>,
    /// Fraction of the samples for validation, which takes 2000 of them at most.
    pub validation: f64,
    /// Validations without improvement after which training stops. Losses rise at first and fall with the rate, so
    /// that without patience little would be learnt.
    pub patience: Option<usize>,
    /// Whether training uses mixtures of two samples (mixup).
    pub mix: bool,
    /// Seed of the order of samples and of the choice for validation.
    pub seed: u64,
    /// The round of a merge, from 0. Rounds take the samples in different orders, and hold out the same ones.
    pub round: u64,
    /// Whether new statistics of `BatchNormalization` are taken before the first step.
    pub reset_statistics: bool,
    /// Memory limit for the original nets' outputs, in bytes per task. If they need more, they are computed
    /// for each batch.
    pub memory: u64,
}

impl Default for RetrainOptions {
    fn default() -> Self {
        RetrainOptions {
            iterations: 1000,
            batch: 128,
            optimizer: OptimizerKind::default(),
            rate: Rate::of(OptimizerKind::default()),
            weight_decay: 1e-2,
            loss: LossKind::default(),
            temperature: 2.0,
            layers: 0.0,
            weights: Vec::new(),
            validation: 0.1,
            patience: None,
            mix: false,
            seed: 0,
            round: 0,
            reset_statistics: false,
            memory: 1 << 30,
        }
    }
}

/// Part of the steps over which the learning rate rises at the start.
const WARM_UP: f64 = 0.05;

impl RetrainOptions {
    /// Checks all numbers.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`].
    pub fn validate(&self, tasks: usize) -> Result<()> {
        let usage = |message: String| Err(Error::new(ErrorKind::Usage, message));
        let positive = |v: f64| v.is_finite() && v > 0.0;
        if self.batch == 0 {
            return usage("a batch needs samples".to_owned());
        }
        if !positive(self.rate.peak()) || !positive(self.temperature) {
            return usage("learning rate and temperature must be positive".to_owned());
        }
        if !(self.layers.is_finite() && self.layers >= 0.0) {
            return usage("the weight of layers must be a number from 0".to_owned());
        }
        if self.layers > 0.0 && self.loss.needs_labels() {
            return usage("labels say nothing about layers: learn from original models".to_owned());
        }
        if !(0.0..1.0).contains(&self.validation) {
            return usage("the fraction for validation must be from 0 to below 1".to_owned());
        }
        let weights = &self.weights;
        if weights.is_empty() {
            return Ok(());
        }
        if weights.len() != tasks {
            return usage(format!("{} weights do not fit {tasks} tasks", weights.len()));
        }
        if !weights.iter().all(|w| w.is_finite() && *w >= 0.0) || weights.iter().all(|w| *w == 0.0)
        {
            return usage("the tasks' weights must be numbers from 0, and not all 0".to_owned());
        }
        Ok(())
    }

    /// The weight of each task's loss; they sum to the number of tasks.
    pub(super) fn task_weights(&self, tasks: usize) -> Vec<f64> {
        let total: f64 = self.weights.iter().sum();
        match self.weights.is_empty() {
            true => vec![1.0; tasks],
            false => self.weights.iter().map(|w| w * tasks as f64 / total).collect(),
        }
    }

    /// The learning rate of a step: a linear rise, then half a cosine down to zero.
    pub(super) fn rate(&self, step: usize) -> f64 {
        let peak = self.rate.peak();
        let (step, all) = (step as f64, self.iterations.max(1) as f64);
        let rise = (WARM_UP * all).ceil();
        if step + 1.0 < rise {
            return peak * (step + 1.0) / rise;
        }
        let way = (step + 1.0 - rise) / (all - rise + 1.0);
        peak * 0.5 * (1.0 + (std::f64::consts::PI * way).cos())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_rises_to_its_peak_and_falls() {
        let options = RetrainOptions { iterations: 100, ..RetrainOptions::default() };
        let rates: Vec<f64> = (0..100).map(|i| options.rate(i)).collect();
        assert_eq!(rates[4], options.rate.peak());
        assert!(rates[..5].is_sorted() && rates[4..].iter().rev().is_sorted());
        assert!(rates[0] > 0.0 && rates[99] > 0.0 && rates[99] < 1e-2 * rates[4]);
    }

    #[test]
    fn weights_are_relative() {
        let options = RetrainOptions { weights: vec![1.0, 3.0], ..RetrainOptions::default() };
        assert_eq!(options.task_weights(2), [0.5, 1.5]);
        assert!(
            options.validate(3).unwrap_err().to_string().contains("2 weights do not fit 3 tasks")
        );
        for bad in [[0.0, 0.0], [-1.0, 2.0], [f64::NAN, 1.0], [f64::INFINITY, 1.0]] {
            let options = RetrainOptions { weights: bad.to_vec(), ..options.clone() };
            let error = options.validate(2).unwrap_err().to_string();
            assert!(error.contains("numbers from 0, and not all 0"), "{error}");
        }
        assert!(RetrainOptions { validation: 1.0, ..options }.validate(2).is_err());
    }
}
