//! Measures the loss of a task.

use crate::calib::stream::Source;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::mtz::statistics::Probe;
use crate::report::TaskLoss;
use crate::runtime::{Backend, ModelSource, feeds};
use crate::verify::{Reading, misclassified};

/// Samples for measuring the deviation of outputs.
const PROBED: usize = 1024;

/// Samples of one task, with the outputs of its original.
pub(super) struct Gauge<'a> {
    probe: Probe<'a>,
    source: Source<'a>,
    labels: Option<Vec<i64>>,
    classes: Option<Vec<i64>>,
}

impl<'a> Gauge<'a> {
    /// Runs the original net on its samples.
    ///
    /// # Errors
    /// As [`Backend::load`] and [`crate::runtime::Session::run`].
    pub(super) fn new(original: &Model, source: Source<'a>, seed: u64) -> Result<Gauge<'a>> {
        let probe = Probe::new(original, &source, PROBED, seed)?;
        let classes = answers(original, &source)?;
        let labels = source.data.labels(0..source.data.len()).filter(|_| classes.is_some());
        Ok(Gauge { probe, source, labels, classes })
    }

    /// Measures a net on the samples.
    ///
    /// # Errors
    /// As [`Gauge::new`].
    pub(super) fn measure(&self, net: &Model) -> Result<TaskLoss> {
        let found = match self.classes {
            Some(_) => answers(net, &self.source)?,
            None => None,
        };
        let differ = |wanted: &Option<Vec<i64>>| Some(differing(found.as_ref()?, wanted.as_ref()?));
        Ok(TaskLoss {
            error: differ(&self.labels),
            agreement: differ(&self.classes).map(|part| 1.0 - part),
            deviation: self.probe.deviation(net)?,
        })
    }
}

/// The part of answers that differ.
pub(super) fn differing(found: &[i64], wanted: &[i64]) -> f64 {
    misclassified(found, wanted) as f64 / wanted.len().max(1) as f64
}

/// The answer for each sample; `None` if the net's first output holds none.
pub(super) fn answers(net: &Model, source: &Source<'_>) -> Result<Option<Vec<i64>>> {
    let backend: &dyn Backend = source.backend;
    let mut session = backend.load(ModelSource::Graph(net)).in_model(&net.name)?;
    let reading = Reading::of(&net.graph);
    let mut all = Vec::new();
    for range in source.data.batches(source.batch) {
        let samples = range.len();
        let outputs = session.run(&feeds(&source.data.batch(range)?)).in_model(&net.name)?;
        let first = outputs.first();
        let Some(answers) = first.and_then(|output| reading.of_samples(output, samples)) else {
            return Ok(None);
        };
        all.extend(answers);
    }
    Ok(Some(all))
}
