//! Options of a merge: how much to share, and how.

use std::collections::BTreeMap;

use glob::Pattern;
use serde::{Deserialize, Serialize};

use crate::align::TaskLayer;
use crate::couple::CoupledLayer;
use crate::error::{Error, ErrorKind, Result};
use crate::ops::LayerKind;

use super::matching::{Matcher, Share, matcher};
pub use super::solver::bits::Bits;
use super::solver::cholesky::DAMPING;
use super::solver::options::SolverOptions;
use super::solver::pair_cost::Metric;

/// How weights are fused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Method {
    /// The paper's, exactly: eqs. 3–12; weights that are not shared stay untouched.
    Mtz,
    /// Every layer is first refitted to its original pre-activations from the inputs that it gets
    /// after zipping. Pairs are weighted by their effect on the outputs.
    #[default]
    Refit,
}

/// The unit that is shared or left to the tasks, if a goal decides how much to share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Unit {
    /// Layers: the weights of a layer are common, or each task keeps its own and the channels stay
    /// paired. Graphs stay dense.
    #[default]
    Layer,
    /// Neurons, as in the paper: a layer may share a part of them.
    Neuron,
    /// Tries both for each size, and keeps the merge whose outputs are closer to the originals'; for a limit of
    /// errors, the smallest one within it.
    Mixed,
}

/// The inputs that a layer's statistics are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Passes {
    /// Those of the original nets: one forward pass per net.
    One,
    /// Those of the nets as zipped so far, layer by layer (Algorithm 1).
    #[default]
    PerLayer,
}

/// The rank of each layer's correction, or the bits of its difference, by task and layer.
pub type Ranks = BTreeMap<TaskLayer, usize>;

/// How many neurons to share, per layer.
#[derive(Debug, Clone)]
pub struct Budget {
    default: Share,
    rules: Vec<(Pattern, Share)>,
    multiple: usize,
    biases: Biases,
    /// Whether channels of depthwise layers have one bias for all tasks in any case.
    shares_channel_biases: bool,
}

/// Whether the biases of shared neurons are shared.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Biases {
    /// A shared neuron has one bias, as in the paper.
    #[default]
    Shared,
    /// Every task has its own bias: one number per neuron, and no node.
    PerTask,
}

/// Parses a pattern of layer names: `*`, `?` and `[…]` as in a shell. `*` matches `/`, too.
///
/// # Errors
/// [`ErrorKind::Usage`] if `glob` is not a pattern.
pub(crate) fn layer_pattern(glob: &str) -> Result<Pattern> {
    Pattern::new(glob).map_err(|e| {
        Error::new(ErrorKind::Usage, format!("'{glob}' is not a layer pattern")).because(e)
    })
}

impl Budget {
    /// The same share everywhere.
    pub fn uniform(share: Share) -> Self {
        Budget {
            default: share,
            rules: Vec::new(),
            multiple: 1,
            biases: Biases::Shared,
            shares_channel_biases: false,
        }
    }

    /// Adds a rule for layers whose name matches `glob`; later rules win.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if `glob` is not a valid pattern.
    pub fn rule(&mut self, glob: &str, share: Share) -> Result<()> {
        self.rules.push((layer_pattern(glob)?, share));
        Ok(())
    }

    /// Adds a rule for the layer called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if `name` cannot be a pattern.
    pub fn layer(&mut self, name: &str, share: Share) -> Result<()> {
        self.rule(&Pattern::escape(name), share)
    }

    /// Rounds numbers of shared neurons to multiples of `multiple`, unless a rule gives them exactly.
    pub fn round(&mut self, multiple: usize) {
        self.multiple = multiple.max(1);
    }

    /// Sets whether biases of shared neurons are shared.
    pub fn set_biases(&mut self, biases: Biases) {
        self.biases = biases;
    }

    /// Shares the biases of channels of depthwise layers whatever those of other layers: what one per task gains is
    /// about what it takes.
    pub fn share_channel_biases(&mut self) {
        self.shares_channel_biases = true;
    }

    /// Whether the biases of shared neurons are shared.
    pub fn biases(&self) -> Biases {
        self.biases
    }

    /// Whether a layer's shared neurons have a bias per task. Units of recurrent layers have one for all tasks.
    pub(crate) fn keeps_bias(&self, layer: &CoupledLayer) -> bool {
        let may = match &layer.layer.kind {
            LayerKind::Gate(_) => false,
            _ if layer.per_channel => layer.layer.bias.is_some() && !self.shares_channel_biases,
            _ => true,
        };
        self.biases == Biases::PerTask && may
    }

    /// Whether the layer called `name` shares nothing.
    pub(crate) fn shares_nothing_of(&self, name: &str) -> bool {
        matches!(self.share(name, usize::MAX), Share::Count(0) | Share::Fraction(0.0))
    }

    /// Whether every layer shares all its neurons, and no rule says otherwise.
    pub(crate) fn shares_everything(&self) -> bool {
        self.rules.is_empty() && matches!(self.default, Share::Fraction(part) if part >= 1.0)
    }

    /// Whether none of these layers shares anything.
    pub(crate) fn shares_nothing<'a>(
        &self,
        layers: impl IntoIterator<Item = &'a CoupledLayer>,
    ) -> bool {
        let share = |layer: &CoupledLayer| self.share(&layer.name, layer.outputs.len());
        let mut shares = layers.into_iter().map(share);
        shares.all(|share| matches!(share, Share::Count(0) | Share::Fraction(0.0)))
    }

    /// The number that shared neurons are rounded to a multiple of, unless a rule gives them exactly.
    pub fn multiple(&self) -> usize {
        self.multiple
    }

    /// The number that the pairs of `share` are rounded to a multiple of.
    pub fn multiple_of(&self, share: Share) -> usize {
        if matches!(share, Share::MaxCost(_)) { self.multiple } else { 1 }
    }

    /// The share of the layer called `name`, which has at most `most` pairs.
    pub fn share(&self, name: &str, most: usize) -> Share {
        let rule = self.rules.iter().rev().find(|(glob, _)| glob.matches(name));
        rule.map_or(self.default, |(_, share)| *share).rounded(most, self.multiple)
    }

    /// The share of the layer called `name`, which has at most `most` pairs when one of so many `nets` joins the
    /// others.
    pub(crate) fn share_of_join(&self, name: &str, most: usize, nets: usize) -> Share {
        let share = self.share(name, most);
        if nets > 2 { share.at_most(most) } else { share }
    }

    /// The rules that match none of `names`, as typed.
    pub fn unused<'a>(&'a self, names: &[String]) -> Vec<&'a str> {
        self.rules
            .iter()
            .filter(|(glob, _)| !names.iter().any(|n| glob.matches(n)))
            .map(|(glob, _)| glob.as_str())
            .collect()
    }
}

/// Everything that a merge depends on besides nets and data.
#[derive(Debug, Clone)]
pub struct MergeOptions {
    /// How weights are fused.
    pub method: Method,
    /// How many neurons to share.
    pub budget: Budget,
    /// The unit that a goal decides about.
    pub unit: Unit,
    /// Name of the matcher; see [`super::matching::MATCHERS`]. `None` is the method's default: greedy
    /// for `mtz`, optimal for `refit`.
    pub matcher: Option<String>,
    /// The distance between neurons.
    pub metric: Metric,
    /// Where statistics come from.
    pub passes: Passes,
    /// Weight of each task's error; must sum to 1. Empty for equal weights.
    pub alpha: Vec<f64>,
    /// Added to Hessians' diagonals, relative to their mean.
    pub damping: f64,
    /// Rows per layer and task at most; convolutions give a row per output position, of which a
    /// seeded subset is taken beyond this.
    pub max_rows: usize,
    /// Bytes that one layer's statistics may take.
    pub memory: u64,
    /// Whether common weights are corrected for each task: by a scale of each neuron, and by a
    /// product of the given rank, if the layer has an entry.
    pub corrections: Option<Ranks>,
    /// Bits of differences that take the place of scales and products.
    pub delta: Option<Bits>,
    /// Whether a goal chooses ranks.
    pub choose_ranks: bool,
    /// Samples per task for measuring the effect of each layer's errors on the outputs; 0 estimates
    /// it from sensitivities.
    pub probe: usize,
    /// Whether tables beside the layers become common, too, where everything is shared.
    pub common_tables: bool,
    /// Seed of everything random.
    pub seed: u64,
}

impl Default for MergeOptions {
    fn default() -> Self {
        MergeOptions {
            method: Method::default(),
            budget: Budget::uniform(Share::Fraction(1.0)),
            unit: Unit::default(),
            matcher: None,
            metric: Metric::default(),
            passes: Passes::default(),
            alpha: Vec::new(),
            damping: DAMPING,
            max_rows: 1 << 18,
            memory: 4 << 30,
            corrections: None,
            delta: None,
            choose_ranks: false,
            probe: 0,
            common_tables: false,
            seed: 0,
        }
    }
}

impl MergeOptions {
    /// The matcher to use.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if there is no matcher of that name.
    pub fn matcher(&self) -> Result<Box<dyn Matcher>> {
        let default = match self.method {
            Method::Mtz => "greedy",
            Method::Refit => "optimal",
        };
        matcher(self.matcher.as_deref().unwrap_or(default), self.seed)
    }

    /// Options of the solver.
    pub(crate) fn solver(&self) -> SolverOptions {
        let compensates = self.method == Method::Refit;
        SolverOptions { compensates, metric: self.metric, damping: self.damping }
    }

    /// The weight of each task's error.
    pub fn task_weights(&self, tasks: usize) -> Vec<f64> {
        if self.alpha.len() == tasks { self.alpha.clone() } else { vec![1.0 / tasks as f64; tasks] }
    }
}
