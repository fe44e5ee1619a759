//! Measures the effect of a layer's errors on the outputs, by running the nets on a few samples.
//!
//! Errors at different pixels and channels add up or cancel out after a layer, which no sum over
//! neurons shows. So a trial runs each net with a layer's weights before and after fusing, while later
//! layers are still those of the original net. It runs from the layer on: the values there are kept.

use std::sync::Arc;

use ndarray::ArrayD;

use crate::calib::data::Dataset;
use crate::calib::stream::{Paused, Source, Stream};
use crate::error::{Context, Result};
use crate::ir::{Model, ValueId};
use crate::ops::Layer;
use crate::runtime::{Backend, HostArray};

/// A few samples of a task, with the outputs of its original net.
pub struct Probe<'a> {
    backend: &'a dyn Backend,
    data: Dataset,
    /// Where the net is run from.
    cut: Paused,
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
        let stream = Stream::new(model, Source { data: &data, ..*source })?;
        let (wanted, cut) = (floats(stream.clone(), model)?, stream.pause());
        let count = wanted.first().map_or(0, Vec::len);
        let spread = (0..count)
            .map(|output| {
                let values = || wanted.iter().filter_map(|b| b.get(output)).flatten();
                let number = values().count().max(1) as f64;
                let mean = values().map(|v| f64::from(*v)).sum::<f64>() / number;
                values().map(|v| (f64::from(*v) - mean).powi(2)).sum()
            })
            .collect();
        Ok(Probe { backend: source.backend, data, cut, wanted, spread })
    }

    /// Moves on to a layer: from here on, nodes before it keep their weights. Values before the layer take
    /// at most `room` bytes.
    ///
    /// # Errors
    /// As [`Probe::new`].
    pub(crate) fn advance(&mut self, model: &Model, layer: &Layer, room: u64) -> Result<()> {
        self.move_cut(|stream| {
            stream.allow(room);
            stream.advance(model, &parameters(layer))
        })
    }

    /// Takes note that weights have changed everywhere.
    pub(crate) fn restart(&mut self) {
        self.move_cut(|stream| stream.restart());
    }

    /// Takes note that a layer's weights have changed.
    pub(crate) fn changed(&mut self, model: &Model, layer: &Layer) {
        self.move_cut(|stream| stream.changed(&model.graph, &parameters(layer)));
    }

    /// The mean squared error of a net's outputs, relative to their variance: the mean over all
    /// floating-point outputs that vary.
    ///
    /// # Errors
    /// As [`Probe::new`].
    pub fn deviation(&self, model: &Model) -> Result<f64> {
        let stream = self.cut.clone().resume(self.backend, &self.data);
        let found = floats(stream, model)?;
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

    // No copy of the cut stays behind: values that the stream drops are free at once.
    fn move_cut<R>(&mut self, work: impl FnOnce(&mut Stream<'_>) -> R) -> R {
        let mut stream = std::mem::take(&mut self.cut).resume(self.backend, &self.data);
        let result = work(&mut stream);
        self.cut = stream.pause();
        result
    }
}

/// The floating-point outputs, batch by batch.
fn floats(stream: Stream<'_>, model: &Model) -> Result<Vec<Vec<ArrayD<f32>>>> {
    let one = |outputs: Vec<Arc<HostArray>>| {
        let floats = outputs.iter().filter(|output| output.dtype().is_float());
        floats.map(|output| output.as_f32()).collect::<Result<_>>().in_model(&model.name)
    };
    stream.outputs(model)?.into_iter().map(one).collect()
}

fn parameters(layer: &Layer) -> Vec<ValueId> {
    layer.bias.into_iter().chain([layer.weight]).collect()
}
