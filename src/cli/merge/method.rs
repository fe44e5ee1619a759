//! How weights are fused and pairs are found.

use clap::Args;
use clap::builder::{PossibleValue, PossibleValuesParser};

use crate::cli::statistics::StatisticsArgs;
use crate::error::{Error, ErrorKind, Result};
use crate::mtz::matching::MATCHERS;
use crate::mtz::options::{MergeOptions, Method, Passes};
use crate::mtz::solver::pair_cost::Metric;

const METHODS: [(&str, Method, &str); 2] = [
    (
        "refit",
        Method::Refit,
        "every layer is refitted to what it computed before, from its new inputs",
    ),
    ("mtz", Method::Mtz, "the paper's (eqs. 3–12); weights that are not shared stay untouched"),
];

const PASSES: [(&str, Passes, &str); 2] = [
    (
        "per-layer",
        Passes::PerLayer,
        "layer by layer, from the inputs that layers get after zipping",
    ),
    ("one", Passes::One, "once, from the inputs that layers get in the original models"),
];

/// How weights are fused.
#[derive(Args)]
#[command(next_help_heading = "Method")]
pub(in crate::cli) struct MethodArgs {
    /// How weights are fused
    #[arg(long, value_name = "NAME", default_value = "refit", value_parser = methods())]
    method: String,
    /// When statistics of the layers' inputs are taken
    #[arg(long, value_name = "WHEN", default_value = "per-layer", value_parser = passes())]
    passes: String,
}

/// How pairs are found, and limits of the work.
#[derive(Args)]
#[command(next_help_heading = "Method")]
pub(super) struct TuningArgs {
    /// How pairs of neurons are chosen [default: optimal, or greedy for --method mtz]
    #[arg(long, value_name = "NAME", value_parser = matchers())]
    matcher: Option<String>,
    /// What makes two neurons alike
    #[arg(long, value_name = "NAME", default_value = "hessian", value_parser = metrics())]
    metric: String,
    /// Weight of each task's error, e.g. 0.7,0.3, which sum to 1; or of the first of two tasks alone,
    /// e.g. 0.7 [default: equal]
    #[arg(long, value_name = "A,…", value_delimiter = ',')]
    alpha: Vec<f64>,
    /// Added to the diagonal of each Hessian, relative to its mean
    #[arg(long, value_name = "D", allow_negative_numbers = true,
          default_value_t = MergeOptions::default().damping)]
    damping: f64,
    #[command(flatten)]
    statistics: StatisticsArgs,
}

fn values<'a>(rows: impl IntoIterator<Item = (&'a str, &'a str)>) -> PossibleValuesParser
where
    'a: 'static,
{
    let values = rows.into_iter().map(|(name, help)| PossibleValue::new(name).help(help));
    PossibleValuesParser::new(values)
}

fn methods() -> PossibleValuesParser {
    values(METHODS.map(|(name, _, help)| (name, help)))
}

fn passes() -> PossibleValuesParser {
    values(PASSES.map(|(name, _, help)| (name, help)))
}

fn matchers() -> PossibleValuesParser {
    values(MATCHERS.map(|entry| (entry.name, entry.about)))
}

fn metrics() -> PossibleValuesParser {
    values(Metric::ALL.map(|(_, name, help)| (name, help)))
}

impl MethodArgs {
    /// Whether statistics hold pre-activations too.
    pub(in crate::cli) fn stores_targets(&self) -> bool {
        self.method() == Method::Refit && self.passes() == Passes::PerLayer
    }

    pub(super) fn apply(&self, options: &mut MergeOptions) {
        options.method = self.method();
        options.passes = self.passes();
    }

    /// Whether the method is the paper's.
    pub(in crate::cli) fn is_paper(&self) -> bool {
        self.method() == Method::Mtz
    }

    fn method(&self) -> Method {
        let row = METHODS.iter().find(|(name, ..)| *name == self.method);
        row.map(|(_, method, _)| *method).unwrap_or_default()
    }

    fn passes(&self) -> Passes {
        let row = PASSES.iter().find(|(name, ..)| *name == self.passes);
        row.map(|(_, passes, _)| *passes).unwrap_or_default()
    }
}

impl TuningArgs {
    /// Limits of statistics.
    pub(super) fn statistics(&self) -> &StatisticsArgs {
        &self.statistics
    }

    /// Puts the values into the options for `tasks` tasks.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for values that make no sense.
    pub(super) fn apply(&self, options: &mut MergeOptions, tasks: usize) -> Result<()> {
        options.alpha = weights(&self.alpha, tasks)?;
        options.metric = Metric::named(&self.metric)?;
        options.matcher.clone_from(&self.matcher);
        if !(self.damping.is_finite() && self.damping >= 0.0) {
            return Err(usage(format!("a damping of {} is no number ≥ 0", self.damping)));
        }
        options.damping = self.damping;
        options.max_rows = self.statistics.max_rows;
        options.memory = self.statistics.memory();
        options.seed = self.statistics.seed;
        Ok(())
    }
}

/// One weight per task; a single one is that of the first of two tasks.
fn weights(alpha: &[f64], tasks: usize) -> Result<Vec<f64>> {
    let all = match alpha {
        [first] if tasks == 2 => vec![*first, 1.0 - first],
        _ => alpha.to_vec(),
    };
    if all.is_empty() {
        return Ok(all);
    }
    if all.len() != tasks {
        let message = format!("--alpha has {} weights for {tasks} tasks", all.len());
        return Err(usage(message).hint("give one weight per task"));
    }
    let sum: f64 = all.iter().sum();
    if all.iter().any(|a| !(*a > 0.0 && *a < 1.0)) || (sum - 1.0).abs() > 1e-6 {
        return Err(usage("the weights of --alpha must lie between 0 and 1 and sum to 1"));
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
