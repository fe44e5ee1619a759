//! One pair of corresponding layers: statistics, pairs, common weights (secs. 3.2–3.3).

use std::time::Instant;

use ndarray::{Array1, Array2, ArrayView1, Axis, s};
use serde::{Deserialize, Serialize};

use crate::align::{Alignment, only_group};
use crate::calib::gram::Moments;
use crate::couple::{CoupledLayer, LayerId};
use crate::error::{Context, Result};
use crate::ops::LayerKind;

use super::columns::{Columns, rest, shared};
use super::fuse::{Fused, energy};
use super::matcher::Share;
use super::options::Method;
use super::pair::Problem;
use super::run::Zip;
use super::solve::{Schur, schur};

/// What happened at one pair of corresponding layers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SiteRecord {
    /// Names of the layers, one per task.
    pub layers: Vec<String>,
    /// Neurons, one number per task.
    pub neurons: Vec<usize>,
    /// Neurons that are shared (Ñ_l).
    pub shared: usize,
    /// Inputs that are shared (columns of the weight, without the bias).
    pub shared_inputs: usize,
    /// Inputs, one number per task.
    pub inputs: Vec<usize>,
    /// Sum of the pairs' costs (eq. 11): the predicted increase of α E^A + (1−α) E^B.
    pub cost: f64,
    /// Predicted mean squared error of the shared neurons' pre-activations, relative to their mean
    /// square, one number per task.
    pub relative_errors: Vec<f64>,
    /// Calibration rows, one number per task.
    pub rows: Vec<u64>,
    /// Seconds spent on statistics and on solving.
    pub seconds: (f64, f64),
    /// Why nothing is shared, where nothing is.
    pub reason: Option<String>,
}

/// A layer of one task at a site: its statistics and its weights with the bias as last column.
pub(super) struct Side {
    pub(super) moments: Moments,
    pub(super) weights: Array2<f64>,
    shared: Vec<usize>,
    private: Vec<usize>,
}

impl Side {
    /// A layer with nothing shared yet.
    pub(super) fn new(moments: Moments, weights: Array2<f64>) -> Side {
        Side { moments, weights, shared: Vec::new(), private: Vec::new() }
    }

    /// Gives a row its common weights on the shared columns; with `gain`, its private columns make
    /// up for the change.
    fn set_shared(&mut self, row: usize, common: ArrayView1<'_, f64>, gain: Option<&Array2<f64>>) {
        let before: Array1<f64> = self.shared.iter().map(|c| self.weights[[row, *c]]).collect();
        for (column, value) in self.shared.iter().zip(common) {
            self.weights[[row, *column]] = *value;
        }
        if let Some(gain) = gain.filter(|_| !self.private.is_empty()) {
            let moved = gain.dot(&(&before - &common));
            for (column, change) in self.private.iter().zip(moved) {
                self.weights[[row, *column]] += change;
            }
        }
    }
}

/// Error of the fused neurons relative to their energy, per task.
fn relative_errors(problem: &Problem, pairs: &[(usize, usize)], fused: &Fused) -> Vec<f64> {
    let rows_a: Vec<usize> = pairs.iter().map(|(i, _)| *i).collect();
    let rows_b: Vec<usize> = pairs.iter().map(|(_, j)| *j).collect();
    let share = |h: &Array2<f64>, w: &Array2<f64>, rows: &[usize], errors: &Array1<f64>| {
        let total = energy(h.view(), w.select(Axis(0), rows).view()).sum();
        if total > 0.0 { errors.sum() / total } else { 0.0 }
    };
    vec![
        share(&problem.h_a, &problem.w_a, &rows_a, &fused.errors_a),
        share(&problem.h_b, &problem.w_b, &rows_b, &fused.errors_b),
    ]
}

impl Zip<'_> {
    /// One pair of corresponding layers.
    pub(super) fn site(&mut self, ia: LayerId, ib: LayerId) -> Result<SiteRecord> {
        let layers = [self.layer(0, ia), self.layer(1, ib)];
        let graph = |t: usize| &self.joint.tasks[t].model.graph;
        let (out_a, in_a, taps) = layers[0].layer.sizes(graph(0))?;
        let (out_b, in_b, _) = layers[1].layer.sizes(graph(1))?;
        let columns = shared(self.joint, self.alignment, &layers[0], &layers[1], taps);
        let mut record = SiteRecord {
            layers: layers.iter().map(|l| l.name.clone()).collect(),
            neurons: vec![out_a, out_b],
            shared: 0,
            shared_inputs: columns.a.len() / taps.max(1),
            inputs: vec![in_a, in_b],
            cost: 0.0,
            relative_errors: Vec::new(),
            rows: Vec::new(),
            seconds: (0.0, 0.0),
            reason: obstacle(self.alignment, &layers, &columns).or_else(|| self.too_large(&layers)),
        };
        if record.reason.is_some() {
            self.refit_alone(0, ia)?;
            self.refit_alone(1, ib)?;
            return Ok(record);
        }
        if layers[0].per_channel {
            self.depthwise(&layers, &mut record)?;
            return Ok(record);
        }
        let start = Instant::now();
        let mut sides = Vec::new();
        for (task, (layer, shared)) in layers.iter().zip([&columns.a, &columns.b]).enumerate() {
            let mut side = self.side(task, layer)?;
            side.shared.clone_from(shared);
            side.private = rest(shared, side.moments.inputs());
            // The bias is the weight of a constant input, which is always shared.
            if layer.layer.bias.is_some() {
                side.shared.push(side.moments.inputs());
            }
            record.rows.push(side.moments.count());
            sides.push(side);
        }
        let gathered = start.elapsed().as_secs_f64();
        self.zip_site(&layers, [ia, ib], sides, &mut record)?;
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(record)
    }

    /// Pairs and fuses the rows of two layers and writes their weights.
    fn zip_site(
        &mut self,
        layers: &[CoupledLayer; 2],
        ids: [LayerId; 2],
        mut sides: Vec<Side>,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let alpha = self.options.weights(2);
        let first = self.hessian(&sides[0], alpha[0])?;
        let second = self.hessian(&sides[1], alpha[1])?;
        let part = |side: &Side| side.weights.select(Axis(1), &side.shared);
        let (w_a, w_b) = (part(&sides[0]), part(&sides[1]));
        let gains = [first.gain, second.gain];
        let problem = Problem {
            h_a: first.hessian,
            h_b: second.hessian,
            s_a: self.importance(0, ids[0], &sides[0]),
            s_b: self.importance(1, ids[1], &sides[1]),
            w_a,
            w_b,
        };
        let pairs = match self.known_pairs(layers) {
            Some(pairs) => pairs,
            None => self.pair(layers, &problem)?,
        };
        let fused = problem.fuse(&pairs, self.options.damping)?;
        record.shared = pairs.len();
        record.cost = (fused.errors_a.sum() + fused.errors_b.sum()) / 2.0;
        record.relative_errors = relative_errors(&problem, &pairs, &fused);
        for (n, (i, j)) in pairs.iter().enumerate() {
            let common = fused.weights.row(n);
            for ((row, side), gain) in [*i, *j].into_iter().zip(&mut sides).zip(&gains) {
                let adjust = self.options.method == Method::Refit;
                side.set_shared(row, common, adjust.then_some(gain));
            }
        }
        for (task, side) in sides.iter().enumerate() {
            if !pairs.is_empty() || self.adjusts(task, &layers[task]) {
                self.write(task, &layers[task], &side.weights)?;
            }
            if !pairs.is_empty() {
                self.diverge(task);
            }
        }
        Ok(())
    }

    /// A layer's Hessian over its shared inputs (eqs. 7–8). In `refit`, what private inputs can
    /// make up for does not count.
    fn hessian(&self, side: &Side, alpha: f64) -> Result<Schur> {
        let full = side.moments.scaled(alpha)?;
        let private: &[usize] = match self.options.method {
            Method::Mtz => &[],
            Method::Refit => &side.private,
        };
        schur(full.view(), &side.shared, private, self.options.damping)
    }

    /// How much each row matters: its sensitivity, or where there is none, the inverse of its
    /// energy, so that errors are relative. Nothing in `mtz`.
    fn importance(&self, task: usize, id: LayerId, side: &Side) -> Option<Array1<f64>> {
        if self.options.method == Method::Mtz {
            return None;
        }
        if let Some(s) = self.sensitivities.get(task).and_then(|s| s.get(&id)) {
            // Relative to the layer's mean, so that the scale of a task's outputs does not decide
            // whose neurons count.
            let mean = s.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            return Some(s.mapv(|v| (v / mean).max(1e-3)));
        }
        let h = side.moments.scaled(1.0).ok()?;
        let n = h.nrows() - 1;
        // The constant's part of the energy is a shift that the next bias absorbs.
        let means = h.slice(s![n, ..]).to_owned();
        let energy = Array1::from_iter(side.weights.outer_iter().map(|w| {
            let mean = means.dot(&w);
            w.dot(&h.dot(&w)) - mean * mean
        }));
        let floor = energy.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE) * 1e-3;
        Some(energy.mapv(|e| 1.0 / e.max(floor)))
    }

    /// Pairs the neurons of two groups and records them as shared.
    fn pair(
        &mut self,
        layers: &[CoupledLayer; 2],
        problem: &Problem,
    ) -> Result<Vec<(usize, usize)>> {
        let share = self.options.budget.share(&layers[0].name);
        if matches!(share, Share::Count(0)) || matches!(share, Share::Fraction(0.0)) {
            return Ok(Vec::new());
        }
        let cost = problem.cost(self.options.metric, self.options.damping)?;
        let pairing = self.matcher.pair(cost.view(), share).at_node(&layers[0].name)?;
        for (i, j) in pairing.pairs() {
            self.joint.share((0, layers[0].outputs[*i]), (1, layers[1].outputs[*j]));
        }
        Ok(pairing.pairs().to_vec())
    }
}

impl Zip<'_> {
    /// Why the statistics of two corresponding layers cannot be taken, where they do not fit.
    fn too_large(&self, layers: &[CoupledLayer; 2]) -> Option<String> {
        let bytes =
            layers.iter().enumerate().map(|(task, l)| self.statistics_bytes(task, l)).max()?;
        (bytes > self.options.memory).then(|| {
            let mib = |bytes: u64| bytes.div_ceil(1 << 20);
            format!(
                "its statistics would take {} MiB, over the limit of {} MiB (--memory)",
                mib(bytes),
                mib(self.options.memory)
            )
        })
    }

    /// Bytes that the statistics of one layer take.
    pub(super) fn statistics_bytes(&self, task: usize, layer: &CoupledLayer) -> u64 {
        let Ok((out, inputs, taps)) = layer.layer.sizes(&self.joint.tasks[task].model.graph) else {
            return u64::MAX;
        };
        if layer.per_channel {
            return Moments::bytes(taps, 1).saturating_mul(out as u64);
        }
        Moments::bytes(inputs.saturating_mul(taps), out)
    }
}

/// Why nothing can be shared at two corresponding layers, where nothing can.
pub(super) fn obstacle(
    alignment: &Alignment,
    layers: &[CoupledLayer; 2],
    columns: &Columns,
) -> Option<String> {
    let (Some(a), Some(b)) = (only_group(&layers[0].outputs), only_group(&layers[1].outputs))
    else {
        return Some("its channels belong to several groups".to_owned());
    };
    if let Some((_, _, reason)) = alignment.refused.iter().find(|(x, y, _)| (*x, *y) == (a, b)) {
        return Some(reason.clone());
    }
    if !alignment.groups.contains(&(a, b)) {
        return Some("its channels correspond to those of another layer".to_owned());
    }
    if !layers.iter().all(has_rows) {
        return Some("a transposed convolution".to_owned());
    }
    if layers[0].layer.bias.is_some() != layers[1].layer.bias.is_some() {
        return Some("only one of the layers has a bias".to_owned());
    }
    let per_channel = layers.iter().all(|l| l.per_channel);
    (columns.a.is_empty() && !per_channel).then(|| "no input is shared".to_owned())
}

/// Whether a layer's inputs can be written as rows that its weights multiply.
pub(super) fn has_rows(layer: &CoupledLayer) -> bool {
    !matches!(layer.layer.kind, LayerKind::ConvTranspose(_))
}
