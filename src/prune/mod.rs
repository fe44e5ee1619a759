//! Prunes a net by the layer-wise optimal brain surgeon.
//!
//! Removing weight q of a neuron w costs its layer at least w_q² / (2 [H⁻¹]_qq) if the other weights
//! compensate; H is the layer's Hessian (eqs. 7–8 with all inputs). The weights of least cost are
//! removed. The others are then refitted at once, from the layer's inputs in the pruned net to its
//! pre-activations in the original net.

use ndarray::Array2;
use serde::{Deserialize, Serialize};

use crate::calib::kept::Statistics;
use crate::calib::stream::{Source, Stream};
use crate::calib::taps::{RowLimit, Running, collect};
use crate::couple::{CoupledLayer, Coupling, LayerId};
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Graph, Model};
use crate::mtz::joint::matrix;
use crate::mtz::solver::hessian::Hessian;
use crate::mtz::solver::observations::Observations;
use crate::mtz::solver::refit::residual;
use crate::mtz::solver::sparse::refit_sparse;
use crate::progress::Progress;

/// The criterion for removing weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Saliency {
    /// The least cost of removing the weight.
    #[default]
    LObs,
    /// The magnitude of the weight.
    Magnitude,
}

/// Options of pruning.
#[derive(Debug, Clone)]
pub struct PruneOptions {
    /// Part of each layer's weights to remove, from 0 to 1. Biases stay.
    pub sparsity: f64,
    /// The criterion for removing weights.
    pub saliency: Saliency,
    /// Added to Hessians' diagonals, relative to their mean.
    pub damping: f64,
    /// Rows per layer at most.
    pub max_rows: usize,
    /// Seed of the choice of rows.
    pub seed: u64,
}

/// The record of one layer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PruneRecord {
    /// Name of the layer.
    pub layer: String,
    /// Weights, without biases.
    pub weights: usize,
    /// Weights that are not zero.
    pub kept: usize,
    /// Mean squared error of the pre-activations relative to their mean square.
    pub relative_error: f64,
    /// The reason why no weight was removed, if so.
    pub reason: Option<String>,
}

/// Prunes a canonical net layer by layer, in place.
///
/// # Errors
/// [`ErrorKind::Usage`] for a sparsity outside 0…1; else as calibration and solving.
pub fn prune(
    model: &mut Model,
    source: Source<'_>,
    options: &PruneOptions,
    progress: &dyn Progress,
) -> Result<Vec<PruneRecord>> {
    if !(0.0..=1.0).contains(&options.sparsity) {
        let message = format!("a sparsity of {} is not between 0 and 1", options.sparsity);
        return Err(Error::new(ErrorKind::Usage, message));
    }
    let original = model.clone();
    let coupling = Coupling::of(&original.graph)?;
    progress.begin("pruning", (source.batches() * coupling.layers.len()) as u64);
    let before = Stream::new(&original, source.clone())?;
    let mut streams = Streams { before, after: Stream::new(&original, source)? };
    let mut records = Vec::new();
    for (id, layer) in (0..).map(LayerId).zip(&coupling.layers) {
        let weights = layer.layer.read(&model.graph)?.len();
        let (mut kept, mut relative_error) = (weights, 0.0);
        let reason = reason(layer, &coupling);
        if reason.is_none() {
            let uses: Vec<&CoupledLayer> =
                coupling.later_uses(id).map(|later| coupling.layer(later)).collect();
            let limit = limit(layer, uses.len() + 1, &model.graph, options)?;
            let nets = [&original, &*model];
            let statistics = streams.statistics(nets, (layer, &uses), limit, progress)?;
            let pruned = statistics
                .try_into()
                .and_then(|observed| prune_layer(layer, &mut model.graph, &observed, options));
            (kept, relative_error) = pruned.at_node(&layer.name)?;
        }
        let layer = layer.name.clone();
        records.push(PruneRecord { layer, weights, kept, relative_error, reason });
    }
    Ok(records)
}

/// Prunes a layer by the statistics of its inputs. Returns the number of weights that are left, and the mean
/// squared error of its pre-activations relative to their mean square.
fn prune_layer(
    layer: &CoupledLayer,
    graph: &mut Graph,
    observed: &Observations,
    options: &PruneOptions,
) -> Result<(usize, f64)> {
    let mut weights = matrix::read(layer, graph)?;
    let hessian = observed.hessian();
    let kept = mask(&weights, &hessian, options)?;
    let total = hessian.mean_square(weights.view()).sum();
    let bias = layer.layer.bias.is_some();
    refit_sparse(observed, weights.view_mut(), &kept, bias, options.damping)?;
    let error = residual(observed, weights.view())?.sum();
    matrix::write(layer, graph, weights.view())?;
    let relative_error = if total > 0.0 { error / total } else { 0.0 };
    Ok((kept.iter().filter(|kept| **kept).count(), relative_error))
}

/// The rows of each of a layer's uses that count.
fn limit(
    layer: &CoupledLayer,
    uses: usize,
    graph: &Graph,
    options: &PruneOptions,
) -> Result<RowLimit> {
    let rows = (options.max_rows / uses).max(1);
    let (kept, seed) = (few_rows(layer, graph)?, options.seed);
    Ok(RowLimit { rows, kept, coherence: 1.0, seed, part: None })
}

/// The limit of rows up to which rows are stored instead of a Gram matrix.
fn few_rows(layer: &CoupledLayer, graph: &Graph) -> Result<usize> {
    let (_, inputs, taps) = layer.layer.sizes(graph)?;
    Ok(inputs * taps / 2)
}

/// The original net and the pruned net, run up to a layer.
#[derive(Clone)]
struct Streams<'a> {
    before: Stream<'a>,
    after: Stream<'a>,
}

impl Streams<'_> {
    /// Statistics of the inputs of a layer in the second net, with its pre-activations in the first one; of all its
    /// later uses, too.
    fn statistics(
        &mut self,
        nets: [&Model; 2],
        (layer, uses): (&CoupledLayer, &[&CoupledLayer]),
        limit: RowLimit,
        progress: &dyn Progress,
    ) -> Result<Statistics> {
        let mut sum = self.collect(nets, layer, limit, progress)?;
        if let [_, ..] = uses {
            let mut ahead = self.clone();
            for layer in uses {
                sum = sum.and(ahead.collect(nets, layer, limit, progress)?, limit.kept)?;
            }
        }
        Ok(sum)
    }

    fn collect(
        &mut self,
        [original, pruned]: [&Model; 2],
        layer: &CoupledLayer,
        limit: RowLimit,
        progress: &dyn Progress,
    ) -> Result<Statistics> {
        let inputs = Running { model: pruned, stream: &mut self.after };
        let targets = Running { model: original, stream: &mut self.before };
        collect(layer, inputs, Some(targets), limit, progress)
    }
}

/// The reason why a layer is not pruned, if there is one.
fn reason(layer: &CoupledLayer, coupling: &Coupling) -> Option<String> {
    if let Some(first) = layer.repeats() {
        return Some(format!("its weights are those of {}", coupling.layer(first).name));
    }
    let why = match layer.per_channel {
        true => "a depthwise convolution has few weights",
        false if layer.layer.is_table() => "rows of a table are picked, not added up",
        false => return None,
    };
    Some(why.to_owned())
}

/// Mask of the weights to keep: all but the fraction of least saliency.
fn mask(weights: &Array2<f32>, hessian: &Hessian, options: &PruneOptions) -> Result<Array2<bool>> {
    let columns = weights.ncols() - 1;
    let inverse: Vec<f64> = match options.saliency {
        Saliency::Magnitude => vec![1.0; columns],
        Saliency::LObs => hessian.inverse_diagonal(options.damping)?.to_vec(),
    };
    let saliency = |(at, w): ((usize, usize), &f32)| {
        let w = f64::from(*w);
        (at.1 < columns).then(|| (w * w / inverse[at.1].max(f64::MIN_POSITIVE), at))
    };
    let mut order: Vec<(f64, (usize, usize))> =
        weights.indexed_iter().filter_map(saliency).collect();
    order.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let gone = (options.sparsity * order.len() as f64).round() as usize;
    let mut kept = Array2::from_elem((weights.nrows(), columns), true);
    order.iter().take(gone).for_each(|(_, at)| kept[*at] = false);
    Ok(kept)
}
