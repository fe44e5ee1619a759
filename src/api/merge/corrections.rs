//! Corrections of shared weights, as options of a merge.

use super::Merger;
use crate::api::options::Corrections;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::options::{MergeOptions, Ranks, Unit};
use crate::retrain::When;
use crate::zipper::Goal;

impl Merger {
    /// Enters the requested corrections into the options of a merge.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if other options exclude corrections, or no size limits their ranks.
    pub(super) fn correct(&self, options: &mut MergeOptions) -> Result<()> {
        let sharing = &self.options.sharing;
        let Some(corrections) = sharing.corrections else { return Ok(()) };
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
        let goal = self.options.goal.goal().or_else(|| sharing.goal(neurons));
        let limits_size = goal.is_some_and(|goal| !matches!(goal, Goal::Drop(_)));
        if corrections == Corrections::LowRank && !limits_size {
            let message = "corrections of low rank need a size limit";
            return usage(message, Hint::from("give a size: ").option("target-size"));
        }
        options.corrections = Some(Ranks::new());
        options.choose_ranks = corrections == Corrections::LowRank;
        Ok(())
    }
}
