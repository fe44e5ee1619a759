//! How a joint model is trained.

#[cfg(feature = "cli")]
use super::parse::choices;
use crate::retrain::{LossKind, OptimizerKind, RetrainOptions};

/// How the model is trained.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Training"))]
#[non_exhaustive]
pub struct TrainingOptions {
    /// Steps of the optimiser; each takes one batch of every task
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 1000))]
    pub iterations: usize,
    /// What the outputs are trained towards [default: distillation with --teacher, else cross-entropy]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LOSS", value_parser = choices(LossKind::ALL.map(|(loss, name, help)| (name, loss, help)))))]
    pub loss: Option<LossKind>,
    /// Temperature at which probabilities are compared
    #[cfg_attr(feature = "cli", arg(long, value_name = "T", default_value_t = RetrainOptions::default().temperature))]
    pub temperature: f64,
    /// Weight of the merged layers' pre-activations, which are to be those of the original models;
    /// the outputs have 1
    #[cfg_attr(feature = "cli", arg(long, value_name = "W", default_value_t = RetrainOptions::default().layers))]
    pub layers: f64,
    /// Weight of each task's loss, relative to the others, e.g. 1,2 [default: equal]
    #[cfg_attr(feature = "cli", arg(long, value_name = "W,…", value_delimiter = ','))]
    pub weights: Vec<f64>,
    /// How parameters follow their gradients
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", default_value = "adam", 
        value_parser = choices(OptimizerKind::ALL.map(|(kind, name, help)| (name, kind, help)))))]
    pub optimizer: OptimizerKind,
    /// The largest learning rate; it rises to it at first and then falls to zero
    #[cfg_attr(feature = "cli", arg(long, value_name = "R", default_value_t = RetrainOptions::default().learning_rate))]
    pub learning_rate: f64,
    /// Weight decay of --optimizer adamw
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value_t = 0.01))]
    pub weight_decay: f64,
    /// Fraction of the samples that is kept to choose the best weights by
    #[cfg_attr(feature = "cli", arg(long, value_name = "F", default_value_t = 0.1))]
    pub validation: f64,
    /// Validations (there are 20 in all) without improvement after which training stops
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 10))]
    pub patience: usize,
    /// Train on mixtures of two samples each instead of samples, which makes more of few samples; with
    /// a larger --batch and --learning-rate. The original models compute their scores anew
    #[cfg_attr(feature = "cli", arg(long))]
    pub mix: bool,
    /// Take the statistics of BatchNormalization anew, from the samples, before the first step; with
    /// --iterations 0 without training
    #[cfg_attr(feature = "cli", arg(long))]
    pub reset_bn: bool,
    /// Seed of the order of samples
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0))]
    pub seed: u64,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        let RetrainOptions { temperature, layers, learning_rate, .. } = RetrainOptions::default();
        TrainingOptions {
            iterations: 1000,
            loss: None,
            temperature,
            layers,
            weights: Vec::new(),
            optimizer: OptimizerKind::Adam,
            learning_rate,
            weight_decay: 0.01,
            validation: 0.1,
            patience: 10,
            mix: false,
            reset_bn: false,
            seed: 0,
        }
    }
}

impl TrainingOptions {
    /// The options; `taught` says whether there are original models to learn from.
    pub(crate) fn options(&self, batch: usize, taught: bool) -> RetrainOptions {
        let default = if taught { LossKind::Distillation } else { LossKind::CrossEntropy };
        RetrainOptions {
            iterations: self.iterations,
            batch,
            optimizer: self.optimizer,
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            loss: self.loss.unwrap_or(default),
            temperature: self.temperature,
            layers: self.layers,
            weights: self.weights.clone(),
            validation: self.validation,
            patience: self.patience,
            mix: self.mix,
            seed: self.seed,
            reset_statistics: self.reset_bn,
            ..RetrainOptions::default()
        }
    }
}
