//! How much to share.

use super::corrections::Corrections;
use super::keep_shared::{KeepShared, Typed};
#[cfg(feature = "cli")]
use super::keep_shared::{cost, fraction};
#[cfg(feature = "cli")]
use super::{
    corrections::{CORRECTIONS, DELTAS},
    parse,
};
use crate::canon::BatchNorm;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::matching::Share;
use crate::mtz::options::{Biases, Bits, Budget, Unit};
use crate::zipper::{Goal, Matching, PrepareOptions};

/// How much to share.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Sharing"))]
#[non_exhaustive]
pub struct ShareOptions {
    /// How much to share, from 0 to 1 or in percent [default: up to the knee]
    ///
    /// With layers as the unit, the part of the largest possible saving; with neurons, the part of
    /// each layer's neurons. 1 shares all, 0 nothing. By default, layers whose weights save little
    /// and cost much are not shared. Output layers are shared only with --share-outputs.
    #[cfg_attr(feature = "cli", arg(long, value_name = "F", value_parser = fraction))]
    pub share: Option<f64>,
    /// The unit of sharing [default: layer; neuron with --method mtz, --keep-shared, --max-cost,
    /// --round or --gram]
    #[cfg_attr(feature = "cli", arg(long, value_name = "UNIT", value_parser = parse::choices(UNITS)))]
    pub unit: Option<Unit>,
    /// Whether shared neurons share their biases [default: per-task if each model has its own samples
    /// and layers are the unit; shared otherwise]
    ///
    /// Tasks with one common input compute shared layers once only if biases are shared, too.
    #[cfg_attr(feature = "cli", arg(long, value_name = "WHOSE", value_parser = parse::choices(BIASES)))]
    pub biases: Option<Biases>,
    /// Set the share of layers that match GLOB; repeatable, the last match wins
    ///
    /// GLOB is matched with layer names of the first model, see `onnx-zip inspect`. The share is a
    /// whole number of neurons (fc1=50), a part with a decimal point or in percent (conv*=0.5,
    /// conv*=50%), or, after e or ε, the largest cost of a pair (fc2=e0.01). With --unit layer it is
    /// none or all (0 or 100%).
    #[cfg_attr(feature = "cli", arg(long, value_name = "GLOB=N|F|eE"))]
    pub keep_shared: Vec<KeepShared>,
    /// Share, in every layer, the pairs that cost less than this (the paper's ε)
    ///
    /// The cost of a pair is the predicted increase of the layer's mean squared error.
    #[cfg_attr(feature = "cli", arg(long, value_name = "E", conflicts_with = "share", value_parser = cost))]
    pub max_cost: Option<f64>,
    /// Share only layers up to the last one that matches GLOB
    ///
    /// For joint models with one trunk and a head per task. Example: --until 'block4*'
    #[cfg_attr(feature = "cli", arg(long, value_name = "GLOB"))]
    pub until: Option<String>,
    /// Keep the weights of layers that match GLOB per task, and share later layers; repeatable
    ///
    /// Their channels stay paired for later layers. Useful for small layers that are costly to share,
    /// such as first convolutions. Tasks with one input then have no computation in common.
    #[cfg_attr(feature = "cli", arg(long, value_name = "GLOB"))]
    pub own_weights: Vec<String>,
    /// Also share neurons of output layers
    ///
    /// For models whose outputs have the same meaning: embeddings, or one list of classes. The order
    /// of outputs stays. No later layer can compensate for the error.
    #[cfg_attr(feature = "cli", arg(long))]
    pub share_outputs: bool,
    /// How to find corresponding channels: by index for models fine-tuned from one backbone, or by
    /// search
    #[cfg_attr(feature = "cli", arg(long, value_name = "HOW", default_value = "auto",
          value_parser = parse::choices(Matching::ALL)))]
    pub correspondence: Matching,
    /// Correct shared weights per task, in the layers where that removes most loss for its size
    ///
    /// A scale adds one node behind a layer, a product of low rank three nodes. Ranks are chosen for
    /// --target-size, for --share below 1, or for the default size.
    #[cfg_attr(feature = "cli", arg(long, value_name = "KIND", value_parser = parse::choices(CORRECTIONS)))]
    pub corrections: Option<Corrections>,
    /// Per-task differences in few bits from shared weights, where they remove most loss for their size
    ///
    /// For fine-tunes of one backbone, and wherever the size of the file counts. A task's weights are the
    /// shared ones plus whole numbers times a step per channel. Runtimes add them up when they load the
    /// model, so only the file is smaller. Layers are chosen for --target-size, for --share below 1, or so
    /// that all that lose anything can have a difference.
    #[cfg_attr(feature = "cli", arg(long, value_name = "TYPE", conflicts_with = "corrections",
          value_parser = parse::choices(DELTAS)))]
    pub delta: Option<Bits>,
    /// Round numbers of shared neurons to multiples of N, e.g. 16, which run faster on many devices
    ///
    /// Fully shared layers, and whole numbers of --keep-shared, are not rounded.
    #[cfg_attr(feature = "cli", arg(long, value_name = "N", default_value_t = 1,
          value_parser = parse::at_least_one()))]
    pub round: usize,
}

impl Default for ShareOptions {
    fn default() -> Self {
        ShareOptions {
            share: None,
            unit: None,
            biases: None,
            keep_shared: Vec::new(),
            max_cost: None,
            until: None,
            own_weights: Vec::new(),
            share_outputs: false,
            correspondence: Matching::Auto,
            corrections: None,
            delta: None,
            round: 1,
        }
    }
}

#[cfg(feature = "cli")]
const UNITS: [(&str, Unit, &str); 3] = [
    (
        "layer",
        Unit::Layer,
        "Whole layers: graphs stay dense, and every runtime and converter keeps the saving",
    ),
    (
        "neuron",
        Unit::Neuron,
        "Neurons, as in the paper: layers are split into shared and task-specific blocks",
    ),
    (
        "mixed",
        Unit::Mixed,
        "Try both for each size; keep the one whose outputs are closer to the originals', or the smallest one \
         within --max-drop",
    ),
];

#[cfg(feature = "cli")]
const BIASES: [(&str, Biases, &str); 2] = [
    ("per-task", Biases::PerTask, "One bias per task: one number per neuron, and no node"),
    ("shared", Biases::Shared, "One bias per shared neuron"),
];

impl ShareOptions {
    /// The budget of all layers; `one_input` tells whether all tasks see the same samples.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an invalid pattern, and for shares of neurons with whole layers as the unit.
    pub(crate) fn budget(&self, paper: bool, one_input: bool) -> Result<Budget> {
        self.check_unit()?;
        let mut budget = Budget::uniform(self.default(paper));
        for rule in &self.keep_shared {
            budget.rule(&rule.glob, rule.share)?;
        }
        budget.round(self.round);
        budget.set_biases(match self.biases {
            Some(biases) => biases,
            None if self.delta.is_some() => Biases::PerTask,
            None if one_input || self.unit(paper) == Unit::Neuron => Biases::Shared,
            None => Biases::PerTask,
        });
        if self.biases.is_none() && self.delta.is_none() {
            budget.share_channel_biases();
        }
        Ok(budget)
    }

    /// Refuses options that share a part of a layer's neurons if whole layers were asked for.
    fn check_unit(&self) -> Result<()> {
        if self.unit != Some(Unit::Layer) {
            return Ok(());
        }
        let is_whole = |share: Share| match share {
            Share::Count(count) => count == 0,
            Share::Fraction(part) => part == 0.0 || part == 1.0,
            Share::MaxCost(_) => false,
        };
        let part = self.keep_shared.iter().find(|rule| !is_whole(rule.share));
        let (option, text) = match part {
            Some(rule) => ("keep-shared", rule.text()),
            None if self.max_cost.is_some() => ("max-cost", String::new()),
            None if self.round > 1 => ("round", String::new()),
            None => return Ok(()),
        };
        let shown = if text.is_empty() { text } else { format!(" ({text})") };
        let message = format!("whole layers share all of their neurons or none{shown}");
        let hint = Hint::from("leave out ").option(option).then(", or use ");
        Err(Error::new(ErrorKind::Usage, message).hint(hint.option_as("unit", "neuron")))
    }

    /// The unit of sharing. `paper` says whether the method is the paper's, which shares neurons
    /// only.
    pub(crate) fn unit(&self, paper: bool) -> Unit {
        let counts_neurons =
            !self.keep_shared.is_empty() || self.max_cost.is_some() || self.round > 1;
        match self.unit {
            Some(unit) => unit,
            None if paper || counts_neurons => Unit::Neuron,
            None => Unit::Layer,
        }
    }

    /// The share as a goal, with layers as the unit.
    pub(crate) fn goal(&self, paper: bool) -> Option<Goal> {
        if self.unit(paper) == Unit::Neuron || self.max_cost.is_some() {
            return None;
        }
        match self.share {
            None => Some(Goal::Knee),
            Some(part) if part > 0.0 && part < 1.0 => Some(Goal::Part(part)),
            Some(_) => None,
        }
    }

    /// Options for preparing models.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if channels correspond by index but only some neurons are shared.
    pub(crate) fn preparation(&self, batchnorm: BatchNorm, paper: bool) -> Result<PrepareOptions> {
        let some = self.unit(paper) != Unit::Layer
            && (self.unit(paper) == Unit::Mixed || self.share != Some(1.0) || self.has_rules());
        let matching = match self.correspondence {
            Matching::Index if some => {
                let message =
                    "channels correspond by index only if all neurons of a layer are shared";
                let hint = Hint::from("use ").option_as("unit", "layer").then(", or leave out ");
                return Err(Error::new(ErrorKind::Usage, message)
                    .hint(hint.option_as("correspondence", "index")));
            }
            Matching::Auto if some => Matching::Search,
            wish => wish,
        };
        Ok(PrepareOptions {
            batchnorm,
            share_outputs: self.share_outputs,
            matching,
            own_weights: self.own_weights.clone(),
            until: self.until.clone(),
            opset: self.delta.map_or(0, Bits::opset),
        })
    }

    /// Whether rules or limits make layers share in part.
    fn has_rules(&self) -> bool {
        !self.keep_shared.is_empty() || self.max_cost.is_some()
    }

    /// The default share, as typed.
    pub(crate) fn default_text(&self, paper: bool) -> String {
        match (self.goal(paper), self.share) {
            (Some(Goal::Knee), _) => "knee".to_owned(),
            (_, Some(part)) => Typed(Share::Fraction(part)).to_string(),
            _ => Typed(self.default(paper)).to_string(),
        }
    }

    /// The rules, as typed.
    pub(crate) fn rule_texts(&self) -> Vec<String> {
        self.keep_shared.iter().map(KeepShared::text).collect()
    }

    /// The default share, without a goal.
    fn default(&self, paper: bool) -> Share {
        let part = match self.goal(paper) {
            Some(_) => 1.0,
            None => self.share.unwrap_or(1.0),
        };
        self.max_cost.map_or(Share::Fraction(part), Share::MaxCost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_layers_share_all_or_nothing() {
        let with = |set: &dyn Fn(&mut ShareOptions)| {
            let mut options = ShareOptions { unit: Some(Unit::Layer), ..Default::default() };
            set(&mut options);
            options
        };
        let rule = |text: &str| text.parse::<KeepShared>().unwrap();
        let refused = [
            ("fc1=0.5", with(&|o| o.keep_shared = vec![rule("*=0"), rule("fc1=0.5")])),
            ("fc1=7", with(&|o| o.keep_shared = vec![rule("fc1=7")])),
            ("fc1=e0.1", with(&|o| o.keep_shared = vec![rule("fc1=e0.1")])),
            ("--max-cost", with(&|o| o.max_cost = Some(0.001))),
            ("--round", with(&|o| o.round = 16)),
        ];
        for (part, options) in refused {
            let error = options.budget(false, true).unwrap_err();
            let text = error.with_flags().to_string();
            assert!(error.kind() == ErrorKind::Usage && text.contains(part), "{text}");
            let neurons = ShareOptions { unit: Some(Unit::Neuron), ..options.clone() };
            assert!(neurons.budget(false, true).is_ok(), "{part}");
            assert!(ShareOptions { unit: None, ..options }.budget(false, true).is_ok(), "{part}");
        }
        let whole = with(&|o| o.keep_shared = vec![rule("fc1=0"), rule("fc2=0.0"), rule("*=100%")]);
        assert!(whole.budget(false, true).is_ok());
    }
}
