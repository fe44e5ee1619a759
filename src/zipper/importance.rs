//! Sensitivities of the original nets.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::calib::stream::Source;
use crate::couple::{Coupling, LayerId};
use crate::error::{ErrorKind, Result};
use crate::grad::{self, Sample};
use crate::ir::Model;
use crate::mtz::joint::JointModel;
use crate::mtz::options::{Method, Unit};
use crate::mtz::statistics::{Originals, Sensitivities};

use super::batches::batch_with_gradients;
use super::extents::with_extents;
use super::{Job, Prepared};

/// Samples that sensitivities are estimated from.
pub(crate) const SENSITIVITY_SAMPLES: usize = 2048;

/// Findings about the original nets, which all their merges have in common.
#[derive(Default)]
pub(super) struct Importance {
    /// Per task; empty where pairs are not weighted.
    pub(super) sensitivities: Vec<Sensitivities>,
    /// Tasks that have no gradients, with the reason.
    pub(super) without: Vec<(String, String)>,
    /// Seconds that the measurement took.
    pub(super) seconds: f64,
    /// Statistics that one merge leaves to the next, if there are several.
    pub(super) originals: Option<Originals>,
}

impl Importance {
    /// Measures sensitivities if the job needs them.
    ///
    /// # Errors
    /// As [`grad::sensitivities`].
    pub(super) fn measure(prepared: &Prepared, job: &Job<'_>) -> Result<Importance> {
        let Job { calibration, options, .. } = job;
        let Prepared { joint, alignment, .. } = prepared;
        let start = Instant::now();
        let mut importance = Importance::default();
        let weighted = options.method == Method::Refit;
        if weighted && alignment.common().any(|site| !alignment.is_duplicate(site)) {
            match calibration.stored.is_empty() {
                true => importance.add_sensitivities(joint, job)?,
                false => importance.add_stored(joint, job),
            }
            importance.level();
            importance.add_uses(joint);
        }
        importance.seconds = start.elapsed().as_secs_f64();
        Ok(importance)
    }

    /// Takes sensitivities from stored statistics.
    fn add_stored(&mut self, joint: &JointModel, job: &Job<'_>) {
        for (task, stored) in joint.tasks().iter().zip(&job.calibration.stored) {
            let mut sensitivities = stored.sensitivities.clone();
            if sensitivities.is_empty() {
                let reason = "its statistics hold no sensitivities".to_owned();
                self.without.push((task.name().to_owned(), reason));
            }
            if job.options.unit == Unit::Neuron {
                sensitivities.values_mut().for_each(|own| own.metric = None);
            }
            self.sensitivities.push(sensitivities);
        }
    }

    fn add_sensitivities(&mut self, joint: &JointModel, job: &Job<'_>) -> Result<()> {
        let Job { calibration, options, progress, .. } = *job;
        progress.begin("sensitivities", joint.tasks().len() as u64);
        for (task, data) in joint.tasks().iter().zip(&calibration.data) {
            progress.check()?;
            let source = Source {
                backend: calibration.backend.as_ref(),
                data,
                batch: calibration.batch,
                memory: calibration.memory,
            };
            let together = options.unit != Unit::Neuron;
            let measured =
                sensitivities((task.model(), task.coupling()), &source, options.seed, together)?;
            self.sensitivities.push(measured.unwrap_or_else(|reason| {
                self.without.push((task.name().to_owned(), reason));
                BTreeMap::new()
            }));
            progress.step();
        }
        Ok(())
    }

    /// Adds the sensitivities of all uses of a layer at its first use, where its weights change for all.
    fn add_uses(&mut self, joint: &JointModel) {
        for (task, own) in joint.tasks().iter().zip(&mut self.sensitivities) {
            for (id, layer) in (0..).map(LayerId).zip(&task.coupling().layers) {
                let Some((first, later)) = layer.repeats().zip(own.get(&id).cloned()) else {
                    continue;
                };
                own.entry(first).and_modify(|first| first.add(later));
            }
        }
    }

    /// Drops all sensitivities if a task has none, since those of all tasks are compared with each other.
    fn level(&mut self) {
        if !self.without.is_empty() {
            self.sensitivities.iter_mut().for_each(BTreeMap::clear);
        }
    }
}

/// Sensitivities of a net's layers, measured on its samples, or the reason why it has none. `together`
/// says whether to measure how errors of channels add up.
///
/// # Errors
/// As [`grad::sensitivities`], except that a net without gradients is no error.
pub(crate) fn sensitivities(
    (net, coupling): (&Model, &Coupling),
    source: &Source<'_>,
    seed: u64,
    together: bool,
) -> Result<std::result::Result<Sensitivities, String>> {
    let Source { backend, data, batch, memory } = *source;
    let model = with_extents(net, data)?;
    let sample = Sample {
        backend,
        data,
        samples: SENSITIVITY_SAMPLES,
        batch: batch_with_gradients(&model, batch, memory),
        seed,
        together,
    };
    match grad::sensitivities(&model, coupling, sample) {
        Ok(sensitivities) => Ok(Ok(sensitivities)),
        Err(e) if matches!(e.kind(), ErrorKind::Unsupported | ErrorKind::Backend) => {
            Ok(Err(e.fault().to_string()))
        }
        Err(e) => Err(e),
    }
}
