//! Merges for a goal: a size, or a limit of the measured error.

use std::collections::BTreeSet;

use crate::calib::data::Dataset;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::mtz::joint::JointModel;
use crate::mtz::options::Unit;
use crate::mtz::plan::layer_choice::{self, LayerCost};
use crate::report::Trial;

use super::candidates::Candidates;
use super::search::{Choice, Full, Search, ratio};
use super::{Job, Outcome, Prepared};

/// Limit of rounds of choosing layers.
const REFINEMENTS: usize = 3;

/// The goal of a search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Goal {
    /// At most this part of all models' parameters, with the least predicted loss.
    Size(f64),
    /// This part, from 0 to 1, of the largest possible saving.
    Part(f64),
    /// Share all that can be shared except what saves little and costs much.
    Knee,
    /// As few parameters as possible while no task's classification error, a number from 0 to 1, rises
    /// by more than this.
    Drop(f64),
}

/// Merges prepared nets for a goal. `tests` are labelled samples, one set per task, for
/// [`Goal::Drop`]. That loss is measured after retraining, if the job retrains.
///
/// # Errors
/// [`ErrorKind::Usage`] for a size that cannot be reached; [`ErrorKind::Unsupported`] where errors cannot
/// be measured; else as [`super::merge`].
pub fn merge_for(
    goal: Goal,
    prepared: &Prepared,
    tests: &[Dataset],
    job: &Job<'_>,
) -> Result<(JointModel, Outcome, Vec<Trial>)> {
    let calibration = job.calibration.fitting(&prepared.joint);
    let job = &Job { calibration: &calibration, ..*job };
    let search = Search::new(prepared, tests, job)?;
    let (joint, mut outcome, trials) = match goal {
        Goal::Size(size) => search.for_size(size)?,
        Goal::Part(part) => search.for_part(part)?,
        Goal::Knee => search.for_knee()?,
        Goal::Drop(drop) => search.for_drop(drop)?,
    };
    search.add_time(&mut outcome);
    Ok((joint, outcome, trials))
}

impl Search<'_> {
    fn for_size(&self, size: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let (joint, full) = self.full(None)?;
        let separate = full.outcome.sizes.separate();
        let least = full.outcome.sizes.joint().min(separate);
        let parameters = (size * separate as f64) as u64;
        if least > parameters {
            let message = format!(
                "a joint model of {:.1} % of all models is out of reach: with full sharing it has {:.1} %",
                100.0 * size,
                100.0 * ratio(&full.outcome)
            );
            return Err(Error::new(ErrorKind::Usage, message)
                .hint(Hint::from("give a larger ").option("target-size")));
        }
        self.at_size(joint, full, parameters)
    }

    /// Merges for a part of the largest possible saving.
    fn for_part(&self, part: f64) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let (joint, full) = self.full(None)?;
        let parameters = full.outcome.sizes.saving(part);
        self.at_size(joint, full, parameters)
    }

    fn at_size(
        &self,
        joint: JointModel,
        full: Full,
        parameters: u64,
    ) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let spare = parameters.saturating_sub(full.outcome.sizes.joint());
        let own = layer_choice::for_size(&full.costs, spare);
        self.within((joint, full), own, parameters)
    }

    /// Leaves layers to the tasks while giving up a small part of the saving removes a large part of the
    /// loss.
    fn for_knee(&self) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let (joint, full) = self.full(None)?;
        let own = layer_choice::at_knee(&full.costs);
        let parameters = full.outcome.sizes.joint() + self.spent_at_knee(&full.costs, &own);
        self.within((joint, full), own, parameters)
    }

    /// Merges for a number of parameters at most, with each allowed unit. With layers, the first
    /// merge leaves `own` to the tasks.
    fn within(
        &self,
        (joint, full): (JointModel, Full),
        own: BTreeSet<usize>,
        parameters: u64,
    ) -> Result<(JointModel, Outcome, Vec<Trial>)> {
        let spare = parameters.saturating_sub(full.outcome.sizes.joint());
        let mut found = Candidates::new(self, parameters)?;
        let neurons = match self.job.options.unit {
            Unit::Layer => None,
            Unit::Neuron | Unit::Mixed => self.by_neurons(&full, parameters),
        };
        found.add(self.everything(), joint, full.outcome)?;
        if let Some(choice) = neurons {
            let (joint, outcome) = self.zipped(&choice, None)?;
            found.add(choice, joint, outcome)?;
        }
        if self.job.options.unit != Unit::Neuron {
            let first = Choice { own, ..self.everything() };
            // The cost of a layer depends on earlier layers. Later choices keep the size of the first
            // one.
            self.refine(first, &mut found, |costs| layer_choice::for_size(costs, spare))?;
            self.correct(&full.costs, &mut found, spare)?;
        }
        found.best()
    }

    /// Merges with `first`, measures the costs of layers, and chooses again, until a choice repeats.
    /// Predicted costs stay, so they lead to one choice.
    fn refine(
        &self,
        first: Choice,
        found: &mut Candidates<'_>,
        choose: impl Fn(&[LayerCost]) -> BTreeSet<usize>,
    ) -> Result<()> {
        let mut choice = first;
        for _ in 0..REFINEMENTS {
            if found.has(&choice) {
                break;
            }
            let probe = self.probe();
            let (joint, outcome) = self.zipped(&Choice { probe, ..choice.clone() }, None)?;
            if probe == 0 {
                return found.add(choice, joint, outcome);
            }
            let next = Choice { own: choose(&self.costs(&outcome)), ..choice.clone() };
            found.add(std::mem::replace(&mut choice, next), joint, outcome)?;
        }
        Ok(())
    }
}
