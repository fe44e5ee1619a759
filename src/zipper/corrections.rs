//! Merges with corrections of low rank, or with differences in few bits.

use std::collections::BTreeSet;

use crate::error::Result;
use crate::mtz::plan::layer_choice::{Curve, LayerCost, given_up};
use crate::mtz::plan::ranks::spend;

use super::candidates::Candidates;
use super::search::{Choice, Search};

/// Limit of rounds of choosing ranks.
const CORRECTIONS: usize = 2;

impl Search<'_> {
    /// The parameters that a merge without a size spends beside those of full sharing; `own` are the layers
    /// left to the tasks at the knee.
    pub(super) fn spent_at_knee(&self, costs: &[LayerCost], own: &BTreeSet<usize>) -> u64 {
        given_up(costs, own).max(self.differences(costs))
    }

    /// Whether parameters may be spent on corrections, too.
    pub(super) fn chooses_ranks(&self) -> bool {
        self.job.options.corrections.is_some() && self.job.options.choose_ranks
    }

    /// The parameters that corrections of all layers would take that lose anything, where they are
    /// differences.
    fn differences(&self, costs: &[LayerCost]) -> u64 {
        let losing = costs.iter().filter(|cost| cost.loss > 0.0);
        match self.job.options.delta {
            Some(_) => losing.filter_map(|cost| cost.curve.as_ref()).map(Curve::least).sum(),
            None => 0,
        }
    }

    /// Merges with corrections, if they are requested, and merges again with the costs measured by that.
    pub(super) fn correct(
        &self,
        costs: &[LayerCost],
        found: &mut Candidates<'_>,
        spare: u64,
    ) -> Result<()> {
        if !self.chooses_ranks() {
            return Ok(());
        }
        let mut costs = costs.to_vec();
        for _ in 0..CORRECTIONS {
            let spending = spend(&costs, spare);
            let choice = Choice {
                own: spending.own,
                ranks: spending.ranks,
                probe: self.probe(),
                ..self.everything()
            };
            if found.has(&choice) {
                break;
            }
            let (joint, outcome) = self.zipped(&choice, None)?;
            costs = match self.job.options.delta {
                // A difference leaves too little to tell from it what the layer would lose without.
                Some(_) => self
                    .costs(&outcome)
                    .into_iter()
                    .map(|cost| {
                        let before = costs.iter().find(|before| before.places == cost.places);
                        let has_difference = cost.curve.as_ref().is_some_and(|curve| {
                            curve.layers.iter().any(|own| choice.ranks.contains_key(own))
                        });
                        match before.filter(|_| has_difference) {
                            Some(before) => before.clone(),
                            None => cost,
                        }
                    })
                    .collect(),
                None => self.costs(&outcome),
            };
            found.add(choice, joint, outcome)?;
        }
        Ok(())
    }
}
