//! Statistics of one layer's inputs, taken from streams.

use ndarray::parallel::prelude::*;

use super::counts;
use super::gathering::Gathering;
use super::gram::{Moments, no_rows};
use super::im2col::Positions;
use super::kept::Statistics;
use super::mask::Mask;
use super::net::LayerInputs;
use super::probed::{
    End, View, activations, input_taps, is_gate, pre_activations, rows_of, target_taps,
};
use super::stream::Stream;
use crate::couple::CoupledLayer;
use crate::error::{Context, Result};
use crate::ir::Model;
use crate::ops::LayerKind;
use crate::progress::Progress;

/// Limits of rows per layer.
#[derive(Debug, Clone, Copy)]
pub struct RowLimit {
    /// Rows per layer. If there are more samples, not every sample gives a row.
    pub rows: usize,
    /// Up to this many rows are kept; more rows are summed up.
    pub kept: usize,
    /// How many times as much as other errors of a convolution an error counts that is the same at all
    /// positions of a sample; from 1.
    pub coherence: f64,
    /// Seed of the choice of samples and positions.
    pub seed: u64,
    /// The place of these samples in a larger set; the limit of rows is that of the whole set.
    pub part: Option<Part>,
}

/// The place of samples in a larger set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Part {
    /// Index of the first one.
    pub first: usize,
    /// Number of samples of the set.
    pub samples: usize,
}

impl RowLimit {
    fn positions(self, samples: usize, first_sample: usize) -> Positions {
        let part = self.part.unwrap_or(Part { first: 0, samples });
        let (samples, first_sample) = (part.samples, part.first + first_sample);
        let per_sample = (self.rows / samples.max(1)).max(1);
        let of = (self.rows < samples).then_some((self.rows.max(1), samples));
        Positions::Sampled { per_sample, seed: self.seed, first_sample, of }
    }
}

/// A net with the stream that runs it.
pub struct Running<'s, 'a> {
    /// The net, with the weights it has now.
    pub model: &'s Model,
    /// Its stream.
    pub stream: &'s mut Stream<'a>,
}

/// Statistics of the inputs of `layer` in the net `inputs` and, if `targets` is given, of the layer's
/// pre-activations in that net.
///
/// Both nets have the same graph. The cut of `inputs` stops before the layer, that of `targets` after it.
///
/// # Errors
/// [`crate::error::ErrorKind::Backend`] if the runtime fails.
pub fn collect(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Statistics> {
    collect_any(layer, inputs, targets, limit, progress)?.ok_or_else(no_rows)
}

/// [`collect`] for samples that may give no rows, such as a part of a larger set.
///
/// # Errors
/// As [`collect`].
pub(crate) fn collect_any(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Option<Statistics>> {
    let kind = &layer.layer.kind;
    if let LayerKind::Table { rows } = kind {
        let Running { model, stream } = inputs;
        let counts = counts::collect(layer, *rows, model, stream, progress).at_node(&layer.name)?;
        return Ok(Some(Statistics::Counts(counts)));
    }
    let gathering = Gathering::new(limit.kept, coherence(kind, limit));
    let statistics = gather(layer, inputs, targets, limit, gathering, progress)?.finish()?;
    Ok(statistics.map(|statistics| match &layer.layer.rows {
        Some(rows) => statistics.select_outputs(rows),
        None => statistics,
    }))
}

/// Adds all rows of a layer.
fn gather(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    mut gathering: Gathering,
    progress: &dyn Progress,
) -> Result<Gathering> {
    let kind = &layer.layer.kind;
    let is_tokenwise = matches!(kind, LayerKind::Gemm | LayerKind::MatMul);
    each_batch(layer, inputs, targets, limit, progress, |x, y, positions, mask| {
        let mask = mask.filter(|mask| is_tokenwise && mask.covers(x.shape()));
        let mut rows = rows_of(End::Input, kind, x, positions)?;
        let mut targets = y.map(|y| rows_of(End::Output, kind, y, positions)).transpose()?;
        if let Some(mask) = mask {
            (rows, targets) = (rows.masked(mask), targets.map(|targets| targets.masked(mask)));
        }
        gathering.add(&rows, targets.as_ref())
    })?;
    Ok(gathering)
}

/// Statistics of the inputs of `layer` in the net `inputs` for any merge to come.
///
/// # Errors
/// As [`collect`].
pub fn survey(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<LayerInputs> {
    let kind = &layer.layer.kind;
    if let LayerKind::Table { rows } = kind {
        let Running { model, stream } = inputs;
        let counts = counts::collect(layer, *rows, model, stream, progress).at_node(&layer.name)?;
        return Ok(LayerInputs::Counts(counts));
    }
    let empty = || Gathering::apart(has_positions(kind));
    if layer.per_channel {
        let all = gather_channels(layer, inputs, None, limit, empty, progress)?;
        let spreads = all.into_iter().map(|sum| sum.finish_apart()?.ok_or_else(no_rows));
        return Ok(LayerInputs::Channels(spreads.collect::<Result<_>>()?));
    }
    let spread = gather(layer, inputs, None, limit, empty(), progress)?.finish_apart()?;
    spread.map(LayerInputs::from).ok_or_else(no_rows)
}

/// How much means over positions count: those of convolutions. Tokens may be padding.
fn coherence(kind: &LayerKind, limit: RowLimit) -> f64 {
    if has_positions(kind) { limit.coherence } else { 1.0 }
}

/// Whether a layer has the same weights at several positions of a sample.
pub(crate) fn has_positions(kind: &LayerKind) -> bool {
    matches!(kind, LayerKind::Conv(_) | LayerKind::ConvTranspose(_))
}

/// [`collect`] for a depthwise layer: separate moments of every channel.
///
/// # Errors
/// As [`collect`].
pub fn collect_channels(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Vec<Moments>> {
    collect_any_channels(layer, inputs, targets, limit, progress)?.ok_or_else(no_rows)
}

/// [`collect_channels`] for samples that may give no rows, such as a part of a larger set.
///
/// # Errors
/// As [`collect`].
pub(crate) fn collect_any_channels(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Option<Vec<Moments>>> {
    let empty = || Gathering::new(0, coherence(&layer.layer.kind, limit));
    let all = gather_channels(layer, inputs, targets, limit, empty, progress)?;
    let moments =
        all.into_iter().map(|sum| sum.finish()?.map(Statistics::into_moments).transpose());
    moments.collect()
}

/// Adds all rows of each channel of a depthwise layer.
fn gather_channels(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    empty: impl Fn() -> Gathering,
    progress: &dyn Progress,
) -> Result<Vec<Gathering>> {
    let kind = &layer.layer.kind;
    let mut sums: Vec<Gathering> = Vec::new();
    sums.resize_with(layer.outputs.len(), empty);
    each_batch(layer, inputs, targets, limit, progress, |x, y, positions, _| {
        let rows = rows_of(End::Input, kind, x, positions)?;
        let targets = y.map(|y| rows_of(End::Output, kind, y, positions)).transpose()?;
        sums.par_iter_mut().enumerate().try_for_each(|(channel, sum)| {
            let own = layer.layer.row(channel)..layer.layer.row(channel) + 1;
            let targets = targets.as_ref().map(|targets| targets.of_channels(own.clone()));
            sum.add(&rows.of_channels(own), targets.as_ref())
        })
    })?;
    Ok(sums)
}

/// Advances a net to a layer like [`collect`], without statistics.
///
/// # Errors
/// As [`collect`].
pub(crate) fn pass(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    progress: &dyn Progress,
) -> Result<()> {
    if let LayerKind::Table { rows } = layer.layer.kind {
        let Running { model, stream } = inputs;
        return counts::collect(layer, rows, model, stream, progress).map(drop);
    }
    let limit = RowLimit { rows: 1, kept: 0, coherence: 1.0, seed: 0, part: None };
    each_batch(layer, inputs, targets, limit, progress, |_, _, _, _| Ok(()))
}

/// Runs all batches up to a layer, and calls `visit` with its inputs and target pre-activations.
fn each_batch(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    mut targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
    mut visit: impl FnMut(View<'_>, Option<View<'_>>, Positions, Option<&Mask>) -> Result<()>,
) -> Result<()> {
    let at = inputs.stream.position_of(layer.layer.node);
    let mut step = inputs.stream.prepare(inputs.model, at, &input_taps(layer, inputs.model))?;
    let mut target_step = match &mut targets {
        Some(t) => {
            // Other gates of the node follow, so the cut stays before the node.
            let behind = match is_gate(layer) {
                true => at,
                false => t.stream.position_of(layer.layer.last_node()) + 1,
            };
            Some(t.stream.prepare(t.model, behind, &target_taps(layer, t.model))?)
        }
        None => None,
    };
    let samples = inputs.stream.source().data.len();
    for batch in 0..inputs.stream.source().batches() {
        progress.check()?;
        let positions = limit.positions(samples, inputs.stream.source().range(batch).start);
        let x = inputs.stream.run(inputs.model, &mut step, batch)?;
        let y = match (&mut targets, &mut target_step) {
            (Some(t), Some(step)) => Some(t.stream.run(t.model, step, batch)?),
            _ => None,
        };
        let x = activations(layer, inputs.model, &x).at_node(&layer.name)?;
        let y = match (&targets, &y) {
            (Some(t), Some(y)) => Some(pre_activations(layer, t.model, y).at_node(&layer.name)?),
            _ => None,
        };
        let mask = inputs.stream.mask(batch)?;
        visit(x.view(), y.as_ref().map(|y| y.view()), positions, mask.as_deref())
            .at_node(&layer.name)?;
        progress.step();
    }
    inputs.stream.finish(step);
    if let (Some(t), Some(step)) = (targets, target_step) {
        t.stream.finish(step);
    }
    Ok(())
}
