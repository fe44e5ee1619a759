//! Measures the effect of a layer's errors on the outputs, by running the nets on a few samples.
//!
//! Errors at different pixels and channels add up or cancel out after a layer, which no sum over
//! neurons shows. So a trial runs each net with a layer's weights before and after fusing, while later
//! layers are still those of the original net.

use ndarray::ArrayD;

use crate::calib::data::Dataset;
use crate::calib::stream::Source;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::runtime::{Backend, ModelSource, feeds};

/// A few samples of a task, with the outputs of its original net.
pub struct Probe<'a> {
    backend: &'a dyn Backend,
    data: Dataset,
    batch: usize,
    /// Outputs of each batch.
    wanted: Vec<Vec<ArrayD<f32>>>,
    /// Sum of squares of each output's distance from its mean.
    spread: Vec<f64>,
}

impl<'a> Probe<'a> {
    /// Runs the original net `model` on up to `samples` of its data.
    ///
    /// # Errors
    /// As [`Backend::load`] and [`crate::runtime::Session::run`].
    pub fn new(model: &Model, source: &Source<'a>, samples: usize, seed: u64) -> Result<Probe<'a>> {
        let data = source.data.subset(samples, seed);
        let mut probe = Probe {
            backend: source.backend,
            data,
            batch: source.batch,
            wanted: Vec::new(),
            spread: Vec::new(),
        };
        probe.wanted = probe.outputs(model)?;
        let count = probe.wanted.first().map_or(0, Vec::len);
        probe.spread = (0..count)
            .map(|output| {
                let values = || probe.wanted.iter().filter_map(|b| b.get(output)).flatten();
                let number = values().count().max(1) as f64;
                let mean = values().map(|v| f64::from(*v)).sum::<f64>() / number;
                values().map(|v| (f64::from(*v) - mean).powi(2)).sum()
            })
            .collect();
        Ok(probe)
    }

    /// The mean squared error of a net's outputs, relative to their variance: the mean over all
    /// floating-point outputs that vary.
    ///
    /// # Errors
    /// As [`Probe::new`].
    pub fn deviation(&self, model: &Model) -> Result<f64> {
        let found = self.outputs(model)?;
        let varying = self.spread.iter().enumerate().filter(|(_, spread)| **spread > 0.0);
        let each: Vec<f64> = varying
            .map(|(output, spread)| {
                let pairs = found.iter().zip(&self.wanted);
                let pairs = pairs.filter_map(|(a, b)| Some((a.get(output)?, b.get(output)?)));
                let squares = pairs.flat_map(|(a, b)| {
                    a.iter().zip(b).map(|(x, y)| (f64::from(*x) - f64::from(*y)).powi(2))
                });
                squares.sum::<f64>() / spread
            })
            .collect();
        Ok(each.iter().sum::<f64>() / each.len().max(1) as f64)
    }

    /// The floating-point outputs, batch by batch.
    fn outputs(&self, model: &Model) -> Result<Vec<Vec<ArrayD<f32>>>> {
        let mut session = self.backend.load(ModelSource::Graph(model)).in_model(&model.name)?;
        let one = |range| {
            let outputs = session.run(&feeds(&self.data.batch(range)?)).in_model(&model.name)?;
            let floats = outputs.iter().filter(|output| output.dtype().is_float());
            floats.map(|output| output.as_f32()).collect()
        };
        self.data.batches(self.batch).map(one).collect()
    }
}
