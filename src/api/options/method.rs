//! Options of fusing and pairing.

#[cfg(feature = "cli")]
use super::parse::choices;
use super::statistics::StatisticsOptions;
use crate::error::{Error, ErrorKind, Hint, Result};
#[cfg(feature = "cli")]
use crate::mtz::matching::MATCHERS;
use crate::mtz::options::{self as mtz, Method, Passes};
use crate::mtz::solver::pair_cost::Metric;

#[cfg(feature = "cli")]
const METHODS: [(&str, Method, &str); 2] = [
    (
        "refit",
        Method::Refit,
        "refit every layer to its original pre-activations, from its new inputs",
    ),
    ("mtz", Method::Mtz, "the paper's (eqs. 3–12); weights that are not shared stay unchanged"),
];

#[cfg(feature = "cli")]
const PASSES: [(&str, Passes, &str); 2] = [
    ("per-layer", Passes::PerLayer, "layer by layer, from the inputs after merging earlier layers"),
    ("one", Passes::One, "once, from the inputs in the original models"),
];

/// How weights are fused.
#[derive(Debug, Clone, Default, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Method"))]
#[non_exhaustive]
pub struct MethodOptions {
    /// How to fuse weights
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "NAME", default_value = "refit", value_parser = choices(METHODS)))]
    pub method: Method,
    /// When to collect statistics of the layers' inputs
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "WHEN", default_value = "per-layer", value_parser = choices(PASSES)))]
    pub passes: Passes,
}

/// Options of pairing, and limits of the statistics.
#[derive(Debug, Clone, PartialEq)]
#[cfg_attr(feature = "cli", derive(clap::Args))]
#[cfg_attr(feature = "cli", command(next_help_heading = "Method"))]
#[non_exhaustive]
pub struct TuningOptions {
    /// How to choose pairs of neurons [default: optimal, or greedy for --method mtz]
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "NAME",
        value_parser = choices(MATCHERS.map(|m| (m.name, m.name.to_owned(), m.about)))))]
    pub matcher: Option<String>,
    /// The distance between two neurons
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "NAME", default_value = "hessian",
        value_parser = choices(Metric::ALL.map(|(metric, name, help)| (name, metric, help)))))]
    pub metric: Metric,
    /// Weights of the tasks' errors, which sum to 1, e.g. 0.7,0.3; or that of the first of two tasks,
    /// e.g. 0.7 [default: equal]
    #[cfg_attr(
        feature = "cli",
        arg(long, value_name = "A,…", value_delimiter = ',', allow_hyphen_values = true)
    )]
    pub alpha: Vec<f64>,
    /// Added to the diagonal of each Hessian, relative to its mean
    #[cfg_attr(feature = "cli", arg(
        long, value_name = "D", default_value_t = mtz::MergeOptions::default().damping))]
    pub damping: f64,
    /// Limits of statistics.
    #[cfg_attr(feature = "cli", command(flatten))]
    pub statistics: StatisticsOptions,
}

impl Default for TuningOptions {
    fn default() -> Self {
        let mtz::MergeOptions { metric, damping, .. } = mtz::MergeOptions::default();
        let statistics = StatisticsOptions::default();
        TuningOptions { matcher: None, metric, alpha: Vec::new(), damping, statistics }
    }
}

impl MethodOptions {
    /// Whether statistics include pre-activations.
    pub(crate) fn stores_targets(&self) -> bool {
        self.method == Method::Refit && self.passes == Passes::PerLayer
    }

    /// Whether the method is the paper's.
    pub(crate) fn is_paper(&self) -> bool {
        self.method == Method::Mtz
    }
}

impl TuningOptions {
    /// Puts the values into the options for `tasks` tasks.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for values that make no sense.
    pub(crate) fn apply(&self, options: &mut mtz::MergeOptions, tasks: usize) -> Result<()> {
        options.alpha = weights(&self.alpha, tasks)?;
        options.metric = self.metric;
        options.matcher.clone_from(&self.matcher);
        if !(self.damping.is_finite() && self.damping >= 0.0) {
            return Err(usage(format!("a damping of {} is no number ≥ 0", self.damping)));
        }
        options.damping = self.damping;
        options.max_rows = self.statistics.max_rows;
        options.memory = self.statistics.bytes();
        options.seed = self.statistics.seed;
        Ok(())
    }
}

/// One weight per task. A single weight is that of the first of two tasks.
fn weights(alpha: &[f64], tasks: usize) -> Result<Vec<f64>> {
    let all = match alpha {
        [first] if tasks == 2 => vec![*first, 1.0 - first],
        _ => alpha.to_vec(),
    };
    if all.is_empty() {
        return Ok(all);
    }
    if all.len() != tasks {
        let message = format!("{} weights were given for {tasks} tasks", all.len());
        return Err(usage(message).hint(Hint::from("give one per task: ").option("alpha")));
    }
    let sum: f64 = all.iter().sum();
    if all.iter().any(|a| !(*a > 0.0 && *a < 1.0)) || (sum - 1.0).abs() > 1e-6 {
        return Err(usage("the tasks' weights must lie between 0 and 1 and sum to 1")
            .hint(Hint::from("correct ").option("alpha")));
    }
    Ok(all)
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_one_per_task() {
        assert!(weights(&[], 2).unwrap().is_empty());
        assert_eq!(weights(&[0.25], 2).unwrap(), [0.25, 0.75]);
        assert_eq!(weights(&[0.25, 0.75], 2).unwrap(), [0.25, 0.75]);
        for bad in [&[1.0][..], &[0.0], &[-0.5], &[f64::NAN], &[0.5, 0.6], &[0.2, 0.3, 0.5]] {
            assert_eq!(weights(bad, 2).unwrap_err().kind(), ErrorKind::Usage, "{bad:?}");
        }
    }
}
