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

/// The part of answers that differ. Further wanted ones, of samples that fill no batch, do not count.
pub(super) fn differing(found: &[i64], wanted: &[i64]) -> f64 {
    misclassified(found, wanted) as f64 / found.len().max(1) as f64
}

/// The answer for each sample, except for the last ones if they do not fill a batch of the net's fixed size;
/// `None` if the net's first output holds none.
///
/// # Errors
/// As [`Dataset::runs`](crate::calib::data::Dataset::runs), [`Backend::load`] and
/// [`crate::runtime::Session::run`].
pub(super) fn answers(net: &Model, source: &Source<'_>) -> Result<Option<Vec<i64>>> {
    let backend: &dyn Backend = source.backend;
    let mut session = backend.load(ModelSource::Graph(net)).in_model(&net.name)?;
    let reading = Reading::of(&net.graph);
    let mut all = Vec::new();
    let ranges = source.data.runs(net.graph.fixed_batch(), source.batch).in_model(&net.name)?;
    for range in ranges {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::{DataOptions, Dataset};
    use crate::ir::builder::GraphBuilder;
    use crate::runtime::{self, RuntimeOptions};

    #[test]
    fn samples_that_do_not_fill_a_fixed_batch_are_not_measured() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "7,4");
        let weight = b.weights("w", &[3, 4]);
        let y = b.op("Gemm", "fc", &[x, weight], [("transB", 1.into())]);
        let mut net = b.build(&[y]);
        crate::canon::infer_types(&mut net.graph).unwrap();
        let backend = runtime::open(&RuntimeOptions::default()).unwrap();
        let session = backend.load(ModelSource::Graph(&net)).unwrap();
        let options = DataOptions::default();
        let data = Dataset::synthetic(session.inputs(), 20, 3, &options).unwrap();
        let source = |data| Source { backend: backend.as_ref(), data, batch: 7, memory: 1 << 20 };
        assert_eq!(answers(&net, &source(&data)).unwrap().map(|all| all.len()), Some(14));
        let loss = Gauge::new(&net, source(&data), 0).unwrap().measure(&net).unwrap();
        assert_eq!((loss.agreement, loss.error), (Some(1.0), None));
        let error = answers(&net, &source(&data.take(6))).unwrap_err().to_string();
        assert!(error.contains("a batch of 7 takes more than 6 samples"), "{error}");
    }

    #[test]
    fn wanted_answers_beyond_those_found_do_not_count() {
        assert_eq!(differing(&[1, 2], &[1, 3, 9]), 0.5);
        assert_eq!(differing(&[], &[1]), 0.0);
    }
}
