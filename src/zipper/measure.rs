//! Measures the loss of a task.

use ndarray::ArrayD;

use crate::calib::stream::Source;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::mtz::statistics::Probe;
use crate::onnx;
use crate::report::TaskLoss;
use crate::runtime::{Backend, ModelSource, feeds};
use crate::verify::largest;

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
        let classes = classes(original, &source)?;
        let labels = source.data.labels(0..source.data.len()).filter(|_| classes.is_some());
        Ok(Gauge { probe, source, labels, classes })
    }

    /// Measures a net on the samples.
    ///
    /// # Errors
    /// As [`Gauge::new`].
    pub(super) fn measure(&self, net: &Model) -> Result<TaskLoss> {
        let found = match self.classes {
            Some(_) => classes(net, &self.source)?,
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

/// The part of entries that differ.
fn differing(found: &[i64], wanted: &[i64]) -> f64 {
    let unlike = found.iter().zip(wanted).filter(|(a, b)| a != b).count();
    unlike as f64 / wanted.len().max(1) as f64
}

/// The class of each sample; `None` if the net's first output holds no scores.
fn classes(net: &Model, source: &Source<'_>) -> Result<Option<Vec<i64>>> {
    let bytes = onnx::encode(net)?;
    let backend: &dyn Backend = source.backend;
    let mut session = backend.load(ModelSource::Bytes(&bytes)).in_model(&net.name)?;
    let mut all = Vec::new();
    for range in source.data.batches(source.batch) {
        let samples = range.len();
        let outputs = session.run(&feeds(&source.data.batch(range)?)).in_model(&net.name)?;
        let first = outputs.first().filter(|output| output.dtype().is_float());
        let scores: Option<ArrayD<f32>> = first.map(|output| output.as_f32()).transpose()?;
        let is_scores = |s: &ArrayD<f32>| s.ndim() == 2 && s.shape()[0] == samples;
        let Some(scores) = scores.filter(is_scores).filter(|s| s.shape()[1] > 1) else {
            return Ok(None);
        };
        all.extend(scores.outer_iter().map(|row| largest(row.iter())));
    }
    Ok(Some(all))
}
