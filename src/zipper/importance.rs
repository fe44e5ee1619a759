//! Sensitivities of the original nets.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::error::{ErrorKind, Result};
use crate::grad::{self, Sample};
use crate::mtz::joint::JointModel;
use crate::mtz::options::Method;
use crate::mtz::statistics::Sensitivities;

use super::batches::batch_with_gradients;
use super::extents::with_extents;
use super::{Job, Prepared};

/// Samples that sensitivities are estimated from.
const SENSITIVITY_SAMPLES: usize = 2048;

/// Sensitivities of the original nets' neurons.
pub(super) struct Importance {
    /// Per task; empty where pairs are not weighted.
    pub(super) sensitivities: Vec<Sensitivities>,
    /// Tasks that have no gradients, with the reason.
    pub(super) without: Vec<(String, String)>,
    /// Seconds that the measurement took.
    pub(super) seconds: f64,
}

impl Importance {
    /// Checks that the nets have something in common, and measures sensitivities if the job needs them.
    ///
    /// # Errors
    /// [`ErrorKind::Misaligned`] if the nets have nothing in common; else as [`grad::sensitivities`].
    pub(super) fn measure(prepared: &Prepared, job: &Job<'_>) -> Result<Importance> {
        let Job { calibration, options, .. } = job;
        let Prepared { joint, alignment, .. } = prepared;
        prepared.check_common(&options.budget)?;
        let start = Instant::now();
        let mut importance =
            Importance { sensitivities: Vec::new(), without: Vec::new(), seconds: 0.0 };
        // With stored statistics there is no data: pairs are weighted by their mean square.
        let weighted = options.method == Method::Refit && calibration.stored.is_empty();
        if weighted && alignment.common().any(|site| !alignment.is_duplicate(site)) {
            importance.add_sensitivities(joint, job)?;
        }
        importance.seconds = start.elapsed().as_secs_f64();
        Ok(importance)
    }

    fn add_sensitivities(&mut self, joint: &JointModel, job: &Job<'_>) -> Result<()> {
        let Job { calibration, options, progress, .. } = *job;
        progress.begin("sensitivities", joint.tasks().len() as u64);
        for (task, data) in joint.tasks().iter().zip(&calibration.data) {
            progress.check()?;
            let model = with_extents(task.model(), data)?;
            let sample = Sample {
                backend: calibration.backend.as_ref(),
                data,
                samples: SENSITIVITY_SAMPLES,
                batch: batch_with_gradients(&model, calibration.batch, calibration.memory),
                seed: options.seed,
            };
            let measured = grad::sensitivities(&model, task.coupling(), sample);
            self.sensitivities.push(match measured {
                Ok(sensitivities) => sensitivities,
                Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Backend) => {
                    self.without.push((task.name().to_owned(), e.to_string()));
                    BTreeMap::new()
                }
                Err(e) => return Err(e),
            });
            progress.step();
        }
        // Sensitivities of all tasks are compared with each other, so either all tasks have them or
        // none.
        if !self.without.is_empty() {
            self.sensitivities.iter_mut().for_each(BTreeMap::clear);
        }
        Ok(())
    }
}
