//! Options of training a joint model.

#[cfg(feature = "cli")]
use super::parse::choices;
use crate::error::Hint;
use crate::retrain::{LossKind, OptimizerKind, Rate, RetrainOptions};

/// Options of training.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Training"))]
#[non_exhaustive]
pub struct TrainingOptions {
    /// Steps of the optimiser; each uses one batch of every task
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 1000))]
    pub iterations: usize,
    /// Loss of the outputs [default: distillation with --teacher, else cross-entropy]
    #[cfg_attr(feature = "cli", arg(long, value_name = "LOSS", value_parser = choices(LossKind::ALL.map(|(loss, name, help)| (name, loss, help)))))]
    pub loss: Option<LossKind>,
    /// Temperature of the compared probabilities
    #[cfg_attr(feature = "cli", arg(long, value_name = "T", default_value_t = RetrainOptions::default().temperature))]
    pub temperature: f64,
    /// Weight of the error of merged layers' pre-activations, against the original models; outputs
    /// have weight 1
    #[cfg_attr(feature = "cli", arg(long, value_name = "W", default_value_t = RetrainOptions::default().layers))]
    pub layers: f64,
    /// Weight of each task's loss, relative to the others, e.g. 1,2 [default: equal]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "W,…", value_delimiter = ',', allow_hyphen_values = true)
    )]
    pub weights: Vec<f64>,
    /// Optimiser
    #[cfg_attr(feature = "cli", arg(long, value_name = "NAME", default_value = "adam", 
        value_parser = choices(OptimizerKind::ALL.map(|(kind, name, help)| (name, kind, help)))))]
    pub optimizer: OptimizerKind,
    /// Peak learning rate of all tensors, e.g. 0.001; it rises to this first and then falls to zero [default
    /// with --optimizer sgd: 0.001]
    #[cfg_attr(feature = "cli", arg(long, value_name = "R"))]
    pub learning_rate: Option<f64>,
    /// Peak learning rate in parts of the root mean square of each tensor's elements, in place of
    /// --learning-rate: tensors of one net may differ much in size [default with other optimisers: 0.01]
    #[cfg_attr(feature = "cli", arg(long, value_name = "R"))]
    pub relative_rate: Option<f64>,
    /// Weight decay of --optimizer adamw
    #[cfg_attr(feature = "cli", arg(long, value_name = "D", default_value_t = 0.01))]
    pub weight_decay: f64,
    /// Fraction of the samples for validation, at most 2000 of them; it selects the best weights
    #[cfg_attr(feature = "cli", arg(long, value_name = "F", default_value_t = 0.1))]
    pub validation: f64,
    /// Validations without improvement, of 20 in all, after which training stops [default: never, since
    /// losses rise at first and fall with the rate]
    #[cfg_attr(feature = "cli", arg(long, value_name = "N"))]
    pub patience: Option<usize>,
    /// Train on mixtures of two samples (mixup), which helps with few samples and takes a larger
    /// --batch and --learning-rate; the original models score every mixture
    #[cfg_attr(feature = "cli", arg(long))]
    pub mix: bool,
    /// Recompute the statistics of BatchNormalization from the samples before the first step; with
    /// --iterations 0 without training
    #[cfg_attr(feature = "cli", arg(long))]
    pub reset_bn: bool,
    /// Seed of the order of samples
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 0))]
    pub seed: u64,
}

impl Default for TrainingOptions {
    fn default() -> Self {
        let RetrainOptions { temperature, layers, .. } = RetrainOptions::default();
        TrainingOptions {
            iterations: 1000,
            loss: None,
            temperature,
            layers,
            weights: Vec::new(),
            optimizer: OptimizerKind::Adam,
            learning_rate: None,
            relative_rate: None,
            weight_decay: 0.01,
            validation: 0.1,
            patience: None,
            mix: false,
            reset_bn: false,
            seed: 0,
        }
    }
}

impl TrainingOptions {
    /// A remark on an option that does nothing beside the others, if there is one.
    pub(crate) fn idle(&self) -> Option<Hint> {
        let decays = self.weight_decay != TrainingOptions::default().weight_decay;
        if decays && self.optimizer != OptimizerKind::AdamW {
            let remark = Hint::from("").option("weight-decay").then(" does nothing without ");
            return Some(remark.option_as("optimizer", "adamw"));
        }
        let remark = Hint::from("").option("learning-rate").then(" does nothing beside ");
        (self.learning_rate.and(self.relative_rate)).map(|_| remark.option("relative-rate"))
    }

    /// The options of a training; `taught` says whether there are original models to learn from.
    pub(crate) fn options(&self, batch: usize, taught: bool) -> RetrainOptions {
        let default = if taught { LossKind::Distillation } else { LossKind::CrossEntropy };
        RetrainOptions {
            iterations: self.iterations,
            batch,
            optimizer: self.optimizer,
            rate: self.rate(),
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

    fn rate(&self) -> Rate {
        let relative = self.relative_rate.map(Rate::Relative);
        let given = relative.or(self.learning_rate.map(Rate::Absolute));
        given.unwrap_or_else(|| Rate::of(self.optimizer))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decay_that_the_optimiser_does_not_know_is_told() {
        let default = TrainingOptions::default();
        let decay = TrainingOptions { weight_decay: 5.0, ..default.clone() };
        let adamw = TrainingOptions { optimizer: OptimizerKind::AdamW, ..decay.clone() };
        assert!(default.idle().is_none() && adamw.idle().is_none());
        let said = decay.idle().map(|hint| hint.in_flags());
        assert_eq!(said.as_deref(), Some("--weight-decay does nothing without --optimizer adamw"));
    }

    #[test]
    fn one_of_two_learning_rates_is_told() {
        let relative = TrainingOptions { relative_rate: Some(0.02), ..TrainingOptions::default() };
        let both = TrainingOptions { learning_rate: Some(0.01), ..relative.clone() };
        let absolute = TrainingOptions { relative_rate: None, ..both.clone() };
        let descent =
            TrainingOptions { optimizer: OptimizerKind::Sgd, ..TrainingOptions::default() };
        for (options, rate) in [
            (&relative, Rate::Relative(0.02)),
            (&both, Rate::Relative(0.02)),
            (&absolute, Rate::Absolute(0.01)),
            (&descent, Rate::Absolute(0.001)),
            (&TrainingOptions::default(), RetrainOptions::default().rate),
        ] {
            assert_eq!(options.options(8, true).rate, rate);
        }
        assert!(relative.idle().is_none() && absolute.idle().is_none());
        let said = both.idle().map(|hint| hint.in_flags());
        assert_eq!(said.as_deref(), Some("--learning-rate does nothing beside --relative-rate"));
    }
}
