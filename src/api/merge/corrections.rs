//! Corrections of shared weights, as options of a merge.

use super::Merger;
use crate::api::options::Corrections;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::options::{Biases, MergeOptions, Ranks, Unit};
use crate::retrain::When;
use crate::zipper::Goal;

impl Merger {
    /// Enters the requested corrections into the options of a merge.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if other options exclude corrections, or no size limits their ranks.
    pub(super) fn correct(&self, options: &mut MergeOptions) -> Result<()> {
        let sharing = &self.options.sharing;
        if sharing.corrections.is_none() && sharing.delta.is_none() {
            return Ok(());
        }
        let neurons = self.counts_neurons();
        let usage =
            |message: &str, hint: Hint| Err(Error::new(ErrorKind::Usage, message).hint(hint));
        // Retraining between layers changes weights that later corrections refer to.
        let weights_change = self.options.retraining.retrain == Some(When::PerLayer);
        if sharing.unit(neurons) != Unit::Layer || weights_change {
            let message = "corrections need whole layers as the unit, and weights that stay after a layer is merged";
            let hint = Hint::from("use ").option_as("unit", "layer").then(" and ");
            return usage(message, hint.option_as("retrain", "end"));
        }
        if sharing.delta.is_some() {
            if sharing.corrections.is_some() {
                let message = "a layer has either a correction or a difference";
                let hint = Hint::from("leave out ").option("corrections").then(" or ");
                return usage(message, hint.option("delta"));
            }
            if sharing.biases == Some(Biases::Shared) {
                let message = "differences need biases per task";
                return usage(message, Hint::from("leave out ").option_as("biases", "shared"));
            }
        }
        let goal = self.options.goal.goal().or_else(|| sharing.goal(neurons));
        let limits_size = goal.is_some_and(|goal| !matches!(goal, Goal::Drop(_)));
        let chooses = sharing.corrections != Some(Corrections::Scale);
        if chooses && !limits_size {
            let message = match sharing.delta {
                Some(_) => "differences need a size limit",
                None => "corrections of low rank need a size limit",
            };
            return usage(message, Hint::from("give a size: ").option("target-size"));
        }
        options.corrections = Some(Ranks::new());
        options.delta = sharing.delta;
        options.choose_ranks = chooses;
        Ok(())
    }
}
