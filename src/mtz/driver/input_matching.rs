//! Pairs channels by their consumers if their producers do not correspond; see [`crate::mtz::plan`].

use crate::error::{Context, Result};
use crate::mtz::plan::{PlanState, consumers, settle_inputs, similar_inputs};

use super::Driver;

impl Driver<'_> {
    /// Pairs the inputs of a site's layers that no other step pairs.
    pub(super) fn match_inputs(&mut self, place: usize) -> Result<()> {
        let members = consumers(self.joint, self.alignment, &self.alignment.sites[place]);
        if !members.iter().all(|m| self.statistics.fits(self.joint.task(m.task), &m.layer)) {
            return Ok(());
        }
        let mut before = None;
        loop {
            let state = PlanState {
                joint: self.joint,
                alignment: self.alignment,
                settled: &self.settled,
                producers: &self.producers,
                budget: &self.options.budget,
                place,
            };
            // Inputs that a step leaves as they were stay unmatched.
            let unmatched =
                state.unmatched(&members).filter(|found| before.as_ref() != Some(found));
            let Some(unmatched) = unmatched else { return Ok(()) };
            let pairs =
                similar_inputs(self.joint, &members, &unmatched).at_node(&members[0].layer.name)?;
            settle_inputs(self.joint, &mut self.settled, &members, &unmatched, &pairs);
            before = Some(unmatched);
        }
    }
}
