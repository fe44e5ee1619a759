//! Statistics of one layer's inputs, taken from streams.

use std::ops::Range;
use std::sync::Arc;

use ndarray::parallel::prelude::*;
use ndarray::{Array3, ArrayViewD, CowArray, IxDyn};

use super::counts;
use super::gathering::Gathering;
use super::gram::Moments;
use super::im2col::{Positions, Rows};
use super::kept::Statistics;
use super::mask::Mask;
use super::recurrent;
use super::stream::Stream;
use super::window::Window;
use crate::couple::CoupledLayer;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Model, ValueId};
use crate::ops::{ConvGeometry, LayerKind};
use crate::progress::Progress;
use crate::runtime::HostArray;

/// Limits of rows per layer.
#[derive(Debug, Clone, Copy)]
pub struct RowLimit {
    /// Rows per layer. If there are more samples, not every sample gives a row.
    pub rows: usize,
    /// Up to this many rows are kept; more rows are summed up.
    pub kept: usize,
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
/// [`ErrorKind::Backend`] if the runtime fails.
pub fn collect(
    layer: &CoupledLayer,
    inputs: Running<'_, '_>,
    targets: Option<Running<'_, '_>>,
    limit: RowLimit,
    progress: &dyn Progress,
) -> Result<Statistics> {
    collect_any(layer, inputs, targets, limit, progress)?.ok_or_else(no_samples)
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
    let mut gathering = Gathering::new(limit.kept);
    let is_tokenwise = matches!(kind, LayerKind::Gemm | LayerKind::MatMul);
    each_batch(layer, inputs, targets, limit, progress, |x, y, positions, mask| {
        let mask = mask.filter(|mask| is_tokenwise && mask.covers(x.shape()));
        let mut rows = rows_of(End::Input, kind, x, 0..usize::MAX, positions)?;
        let mut targets =
            y.map(|y| rows_of(End::Output, kind, y, 0..usize::MAX, positions)).transpose()?;
        if let Some(mask) = mask {
            (rows, targets) = (rows.masked(mask), targets.map(|targets| targets.masked(mask)));
        }
        gathering.add(&rows, targets.as_ref())
    })?;
    let statistics = gathering.finish()?;
    Ok(statistics.map(|statistics| match &layer.layer.rows {
        Some(rows) => statistics.select_outputs(rows),
        None => statistics,
    }))
}

fn no_samples() -> Error {
    Error::new(ErrorKind::Calibration, "there are no calibration samples")
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
    collect_any_channels(layer, inputs, targets, limit, progress)?.ok_or_else(no_samples)
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
    let kind = &layer.layer.kind;
    let mut moments: Vec<Gathering> = Vec::new();
    moments.resize_with(layer.outputs.len(), || Gathering::new(0));
    each_batch(layer, inputs, targets, limit, progress, |x, y, positions, _| {
        moments.par_iter_mut().enumerate().try_for_each(|(channel, sum)| {
            let own = layer.layer.row(channel)..layer.layer.row(channel) + 1;
            let rows = rows_of(End::Input, kind, x.clone(), own.clone(), positions)?;
            let targets =
                y.clone().map(|y| rows_of(End::Output, kind, y, own, positions)).transpose()?;
            sum.add(&rows, targets.as_ref())
        })
    })?;
    let moments =
        moments.into_iter().map(|sum| sum.finish()?.map(Statistics::into_moments).transpose());
    moments.collect()
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
    let limit = RowLimit { rows: 1, kept: 0, seed: 0, part: None };
    each_batch(layer, inputs, targets, limit, progress, |_, _, _, _| Ok(()))
}

/// A layer's inputs or pre-activations.
type View<'x> = ArrayViewD<'x, f32>;

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
        visit(x.view(), y.as_ref().map(|y| y.view()), positions, mask.as_ref())
            .at_node(&layer.name)?;
        progress.step();
    }
    inputs.stream.finish(step);
    if let (Some(t), Some(step)) = (targets, target_step) {
        t.stream.finish(step);
    }
    Ok(())
}

fn is_gate(layer: &CoupledLayer) -> bool {
    matches!(layer.layer.kind, LayerKind::Gate(_))
}

/// The values to probe for a layer's rows.
fn input_taps(layer: &CoupledLayer, model: &Model) -> Vec<ValueId> {
    match &layer.layer.kind {
        LayerKind::Gate(gate) => recurrent::taps(&layer.layer, gate, &model.graph),
        _ => vec![layer.layer.input],
    }
}

/// The values to probe for a layer's pre-activations. The net has no value for those of a gate.
fn target_taps(layer: &CoupledLayer, model: &Model) -> Vec<ValueId> {
    match is_gate(layer) {
        true => input_taps(layer, model),
        false => vec![layer.layer.output],
    }
}

/// A layer's inputs, from its probed values.
fn activations<'x>(
    layer: &CoupledLayer,
    model: &Model,
    taps: &'x [Arc<HostArray>],
) -> Result<CowArray<'x, f32, IxDyn>> {
    match gate_rows(layer, model, taps)? {
        Some(rows) => Ok(rows.into_dyn().into()),
        None => floats(tapped(taps)?),
    }
}

/// A layer's pre-activations, from its probed values.
fn pre_activations<'x>(
    layer: &CoupledLayer,
    model: &Model,
    taps: &'x [Arc<HostArray>],
) -> Result<CowArray<'x, f32, IxDyn>> {
    match gate_rows(layer, model, taps)? {
        Some(rows) => {
            Ok(recurrent::pre_activations(&layer.layer, &model.graph, &rows)?.into_dyn().into())
        }
        None => floats(tapped(taps)?),
    }
}

/// The rows of a gate; `None` for other layers.
fn gate_rows(
    layer: &CoupledLayer,
    model: &Model,
    taps: &[Arc<HostArray>],
) -> Result<Option<Array3<f32>>> {
    match &layer.layer.kind {
        LayerKind::Gate(gate) => recurrent::rows(&layer.layer, gate, &model.graph, taps).map(Some),
        _ => Ok(None),
    }
}

/// The only probed value.
fn tapped(taps: &[Arc<HostArray>]) -> Result<&HostArray> {
    match taps {
        [tap] => Ok(tap),
        _ => Err(Error::new(ErrorKind::Backend, "the runtime did not compute a layer's input")),
    }
}

/// The elements as floats, copied only if they have another type.
fn floats(array: &HostArray) -> Result<CowArray<'_, f32, IxDyn>> {
    match array.f32_view() {
        Some(view) => Ok(view.into()),
        None => array.as_f32().map(CowArray::from),
    }
}

/// The side of a layer that rows belong to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Input,
    Output,
}

/// The rows of a layer's inputs, or of its pre-activations.
fn rows_of<'x>(
    end: End,
    kind: &LayerKind,
    values: ArrayViewD<'x, f32>,
    channels: Range<usize>,
    positions: Positions,
) -> Result<Rows<'x>> {
    let channels = within(channels, &values);
    match (kind, end) {
        (LayerKind::Gemm | LayerKind::MatMul | LayerKind::Gate(_) | LayerKind::Table { .. }, _) => {
            Rows::features(values, positions)
        }
        (_, End::Output) => Rows::channels(values, channels, positions),
        (LayerKind::Conv(g), End::Input) => Rows::patches(values, &window(g)?, channels, positions),
        (LayerKind::ConvTranspose(g), End::Input) => {
            let window = window(g)?.transposed(&g.output_padding)?;
            Rows::patches(values, &window, channels, positions)
        }
    }
}

/// Limits a range of channels to those of an activation.
fn within(channels: Range<usize>, x: &ArrayViewD<'_, f32>) -> Range<usize> {
    let all = x.shape().get(1).copied().unwrap_or(0);
    channels.start.min(all)..channels.end.min(all)
}

fn window(geometry: &ConvGeometry) -> Result<Window> {
    let begins = geometry.pads.iter().map(|(begin, _)| *begin);
    let ends = geometry.pads.iter().map(|(_, end)| *end);
    let pads: Vec<usize> = begins.chain(ends).collect();
    Window::new(&geometry.kernel, &geometry.strides, &geometry.dilations, &pads)
}
