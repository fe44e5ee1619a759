//! How a joint model is trained.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::retrain::{LossKind, OptimizerKind, RetrainOptions};

/// How the model is trained.
#[derive(Args)]
#[command(next_help_heading = "Training")]
pub(super) struct TrainingArgs {
    /// Steps of the optimiser; each takes one batch of every task
    #[arg(long, value_name = "N", default_value_t = 1000)]
    pub(super) iterations: usize,
    /// What the outputs are trained towards [default: distillation with --teacher, else cross-entropy]
    #[arg(long, value_name = "LOSS", value_parser = losses())]
    loss: Option<String>,
    /// Temperature at which probabilities are compared
    #[arg(long, value_name = "T", default_value_t = RetrainOptions::default().temperature)]
    temperature: f64,
    /// Weight of the merged layers' pre-activations, which are to be those of the original models;
    /// the outputs have 1
    #[arg(long, value_name = "W", default_value_t = RetrainOptions::default().layers)]
    layers: f64,
    /// Weight of each task's loss, relative to the others, e.g. 1,2 [default: equal]
    #[arg(long, value_name = "W,…", value_delimiter = ',')]
    weights: Vec<f64>,
    /// How parameters follow their gradients
    #[arg(long, value_name = "NAME", default_value = "adam", value_parser = optimizers())]
    optimizer: String,
    /// The largest learning rate; it rises to it at first and then falls to zero
    #[arg(long, value_name = "R", default_value_t = RetrainOptions::default().learning_rate)]
    learning_rate: f64,
    /// Weight decay of --optimizer adamw
    #[arg(long, value_name = "D", default_value_t = 0.01)]
    weight_decay: f64,
    /// Fraction of the samples that is kept to choose the best weights by
    #[arg(long, value_name = "F", default_value_t = 0.1)]
    validation: f64,
    /// Validations (there are 20 in all) without improvement after which training stops
    #[arg(long, value_name = "N", default_value_t = 10)]
    patience: usize,
    /// Train on mixtures of two samples each instead of samples, which makes more of few samples; with
    /// a larger --batch and --learning-rate. The original models compute their scores anew
    #[arg(long)]
    mix: bool,
    /// Take the statistics of BatchNormalization anew, from the samples, before the first step; with
    /// --iterations 0 without training
    #[arg(long)]
    reset_bn: bool,
    /// Seed of the order of samples
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub(super) seed: u64,
}

fn losses() -> PossibleValuesParser {
    LossKind::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help)).into()
}

fn optimizers() -> PossibleValuesParser {
    OptimizerKind::ALL.map(|(_, name, help)| PossibleValue::new(name).help(help)).into()
}

impl TrainingArgs {
    /// The options; `taught` says whether there are original models to learn from.
    pub(super) fn options(&self, batch: usize, taught: bool) -> RetrainOptions {
        let loss = LossKind::ALL.iter().find(|(_, name, _)| Some(*name) == self.loss.as_deref());
        let optimizer = OptimizerKind::ALL.iter().find(|(_, name, _)| *name == self.optimizer);
        let default = if taught { LossKind::Distillation } else { LossKind::CrossEntropy };
        RetrainOptions {
            iterations: self.iterations,
            batch,
            optimizer: optimizer.map(|(kind, ..)| *kind).unwrap_or_default(),
            learning_rate: self.learning_rate,
            weight_decay: self.weight_decay,
            loss: loss.map_or(default, |(kind, ..)| *kind),
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
