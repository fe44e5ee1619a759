//! Merges with corrections of low rank.

use crate::error::Result;
use crate::mtz::plan::layer_choice::LayerCost;
use crate::mtz::plan::ranks::spend;

use super::candidates::Candidates;
use super::search::{Choice, PROBE, Search};

/// Limit of rounds of choosing ranks.
const CORRECTIONS: usize = 2;

impl Search<'_> {
    /// Merges with corrections of low rank, if they are requested, and merges again with the costs
    /// measured by that.
    pub(super) fn correct(
        &self,
        costs: &[LayerCost],
        found: &mut Candidates<'_>,
        spare: u64,
    ) -> Result<()> {
        if self.job.options.corrections.is_none() || !self.job.options.choose_ranks {
            return Ok(());
        }
        let mut costs = costs.to_vec();
        for _ in 0..CORRECTIONS {
            let spending = spend(&costs, spare);
            let choice = Choice {
                own: spending.own,
                ranks: spending.ranks,
                probe: PROBE,
                ..self.everything()
            };
            if found.has(&choice) {
                break;
            }
            let (joint, outcome) = self.zipped(&choice, None)?;
            costs = self.costs(&outcome);
            found.add(choice, joint, outcome)?;
        }
        Ok(())
    }
}
