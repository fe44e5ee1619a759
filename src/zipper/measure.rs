//! Measures the loss of a task.

use crate::calib::stream::Source;
use crate::error::Result;
use crate::ir::Model;
use crate::mtz::statistics::Probe;
use crate::report::TaskLoss;
use crate::verify::{answers, differing};

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
    /// As [`answers`].
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::data::{DataOptions, Dataset};
    use crate::ir::builder::GraphBuilder;
    use crate::runtime::{self, ModelSource, RuntimeOptions};

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
}
