//! Statistics of one layer's inputs, taken from streams.

use ndarray::ArrayViewD;

use super::gram::Moments;
use super::im2col::{Positions, Rows, Window, chunk_rows};
use super::stream::Stream;
use crate::couple::CoupledLayer;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::Model;
use crate::ops::{ConvGeometry, LayerKind};
use crate::progress::Progress;

/// How many rows a layer gives at most.
#[derive(Debug, Clone, Copy)]
pub struct RowLimit {
    /// Rows per layer.
    pub rows: usize,
    /// Seed of the choice of positions.
    pub seed: u64,
}

impl RowLimit {
    fn positions(self, samples: usize, first_sample: usize) -> Positions {
        let per_sample = (self.rows / samples.max(1)).max(1);
        Positions::Sampled { per_sample, seed: self.seed, first_sample }
    }
}

/// A net with the stream that runs it.
pub struct Running<'s, 'a> {
    /// The net, with the weights it has now.
    pub model: &'s Model,
    /// Its stream.
    pub stream: &'s mut Stream<'a>,
}

/// Moments of the inputs of `layer` in the net `inputs`; where `targets` is given, also their
/// cross-moments with the layer's pre-activations in that net.
///
/// Both nets have the same graph. The cut of `inputs` stops before the layer, that of `targets`
/// behind it.
///
/// # Errors
/// [`ErrorKind::Backend`] if the runtime fails, [`ErrorKind::Unsupported`] for a layer whose rows
/// cannot be told.
pub fn collect(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    mut targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Moments> {
    let at = inputs.stream.position_of(layer.layer.node);
    let mut step = inputs.stream.prepare(inputs.model, at, &[layer.layer.input])?;
    let mut target_step = match &mut targets {
        Some(t) => Some(t.stream.prepare(t.model, at + 1, &[layer.layer.output])?),
        None => None,
    };
    let samples = inputs.stream.source().data.len();
    let mut moments: Option<Moments> = None;
    for batch in 0..inputs.stream.source().batches() {
        progress.check()?;
        let positions = limit.positions(samples, inputs.stream.source().range(batch).start);
        let taps = inputs.stream.run(inputs.model, &mut step, batch)?;
        let x = taps[0].as_f32()?;
        let rows = input_rows(&layer.layer.kind, x.view(), positions).at_node(&layer.name)?;
        match (&mut targets, &mut target_step) {
            (Some(t), Some(step)) => {
                let taps = t.stream.run(t.model, step, batch)?;
                let y = taps[0].as_f32()?;
                let y = output_rows(&layer.layer.kind, y.view(), positions).at_node(&layer.name)?;
                let sum =
                    moments.get_or_insert_with(|| Moments::with_targets(rows.width(), y.width()));
                let n = chunk_rows(rows.width() + y.width());
                for (x, y) in rows.chunks(n).zip(y.chunks(n)) {
                    sum.push_with(x.view(), y.view()).at_node(&layer.name)?;
                }
            }
            _ => {
                let sum = moments.get_or_insert_with(|| Moments::new(rows.width()));
                for x in rows.chunks(chunk_rows(rows.width())) {
                    sum.push(x.view()).at_node(&layer.name)?;
                }
            }
        }
        progress.step();
    }
    inputs.stream.finish(step);
    if let (Some(t), Some(step)) = (targets, target_step) {
        t.stream.finish(step);
    }
    moments.ok_or_else(|| Error::new(ErrorKind::Calibration, "there are no calibration samples"))
}

fn input_rows<'x>(
    kind: &LayerKind,
    x: ArrayViewD<'x, f32>,
    positions: Positions,
) -> Result<Rows<'x>> {
    match kind {
        LayerKind::Gemm | LayerKind::MatMul => Rows::features(x, positions),
        LayerKind::Conv(g) => {
            let channels = x.shape().get(1).copied().unwrap_or(0);
            Rows::patches(x, &window(g)?, 0..channels, positions)
        }
        LayerKind::ConvTranspose(_) => {
            Err(Error::new(ErrorKind::Unsupported, "the rows of a transposed convolution"))
        }
    }
}

fn output_rows<'x>(
    kind: &LayerKind,
    y: ArrayViewD<'x, f32>,
    positions: Positions,
) -> Result<Rows<'x>> {
    match kind {
        LayerKind::Gemm | LayerKind::MatMul => Rows::features(y, positions),
        LayerKind::Conv(_) | LayerKind::ConvTranspose(_) => {
            let channels = y.shape().get(1).copied().unwrap_or(0);
            Rows::channels(y, 0..channels, positions)
        }
    }
}

fn window(geometry: &ConvGeometry) -> Result<Window> {
    let begins = geometry.pads.iter().map(|(begin, _)| *begin);
    let ends = geometry.pads.iter().map(|(_, end)| *end);
    let pads: Vec<usize> = begins.chain(ends).collect();
    Window::new(&geometry.kernel, &geometry.strides, &geometry.dilations, &pads)
}
