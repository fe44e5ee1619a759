//! One site: statistics, pairs and common weights of corresponding layers (secs. 3.2–3.3).

use std::time::Instant;

use ndarray::{Array1, ArrayView2};
use serde::{Deserialize, Serialize};

use crate::align::Site;
use crate::couple::LayerId;
use crate::error::Result;

use super::columns::Columns;
use super::members::{Chosen, Member, common_neurons};
use super::observations::Observations;
use super::options::Method;
use super::pair::Weights;
use super::run::Zip;

/// What happened at a site that several nets have. Lists follow `tasks`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct SiteRecord {
    /// The tasks whose layers these are: those that were zipped, or all where none could be.
    pub tasks: Vec<usize>,
    /// Names of the layers.
    pub layers: Vec<String>,
    /// Neurons.
    pub neurons: Vec<usize>,
    /// Neurons that two tasks or more share (Ñ_l).
    pub shared: usize,
    /// Inputs that two layers or more share (columns of the weight, without the bias).
    pub shared_inputs: usize,
    /// Inputs.
    pub inputs: Vec<usize>,
    /// The predicted increase of Σ α E (eq. 11).
    pub cost: f64,
    /// What each pair costs that was chosen here, in units that are the same for all layers.
    #[serde(skip)]
    pub pair_costs: Vec<f64>,
    /// Predicted mean squared error of the shared neurons' pre-activations, relative to their mean
    /// square.
    pub relative_errors: Vec<f64>,
    /// Calibration rows.
    pub rows: Vec<u64>,
    /// Seconds spent on statistics and on solving.
    pub seconds: (f64, f64),
    /// Why nothing is shared, where nothing is.
    pub reason: Option<String>,
}

impl SiteRecord {
    /// Adds a layer's mean squared error, which counts α times, and the mean square it relates to.
    pub(super) fn add_error(&mut self, alpha: f64, error: f64, total: f64) {
        self.cost += alpha * error / 2.0;
        self.relative_errors.push(if total > 0.0 { error / total } else { 0.0 });
    }

    /// Whether weights were fused here, not shared before.
    pub(super) fn is_zipped(&self) -> bool {
        self.shared > 0 && self.rows.iter().any(|rows| *rows > 0)
    }
}

/// A layer of one task at a site: its statistics and its weights with the bias as last column.
pub(super) struct Side {
    pub(super) observed: Observations,
    pub(super) weights: Weights,
}

impl Zip<'_> {
    /// Zips the layers of a site that several nets have.
    pub(super) fn site(&mut self, site: &Site) -> Result<SiteRecord> {
        let mut chosen = Chosen::at(self.joint, self.alignment, site)?;
        if chosen.duplicates {
            return self.duplicates(&chosen);
        }
        if chosen.reason.is_none() {
            chosen.reason = self.too_large(&chosen.all)?;
        }
        let alone = |i: &usize| chosen.reason.is_some() || !chosen.zipped.contains(i);
        for member in (0..chosen.all.len()).filter(alone) {
            let member = &chosen.all[member];
            self.refit_alone(member.task, member.id)?;
        }
        let mut record = self.record(&chosen)?;
        if record.reason.is_some() {
            return Ok(record);
        }
        let members = chosen.members();
        match members[0].layer.per_channel {
            true => self.depthwise(&members, &mut record)?,
            false => self.zip_site(&members, &chosen.columns, &mut record)?,
        }
        self.paired.fuse(self.joint, &members);
        Ok(record)
    }

    /// Layers that are the same as they are stay so.
    fn duplicates(&self, chosen: &Chosen) -> Result<SiteRecord> {
        let mut record = self.record(chosen)?;
        record.shared = common_neurons(self.joint, &chosen.all).len();
        record.shared_inputs = record.inputs.first().copied().unwrap_or(0);
        record.rows = vec![0; chosen.all.len()];
        record.relative_errors = vec![0.0; chosen.all.len()];
        Ok(record)
    }

    fn record(&self, chosen: &Chosen) -> Result<SiteRecord> {
        let members = if chosen.reason.is_some() { chosen.all.clone() } else { chosen.members() };
        let mut record = SiteRecord {
            shared_inputs: chosen.columns.count / chosen.taps.max(1),
            reason: chosen.reason.clone(),
            ..SiteRecord::default()
        };
        for member in &members {
            let graph = &self.joint.tasks[member.task].model.graph;
            let (out, inputs, _) = member.layer.layer.sizes(graph)?;
            record.tasks.push(member.task);
            record.layers.push(member.layer.name.clone());
            record.neurons.push(out);
            record.inputs.push(inputs);
        }
        Ok(record)
    }

    /// Pairs and fuses the rows of corresponding layers and writes their weights.
    pub(super) fn zip_site(
        &mut self,
        members: &[Member],
        columns: &Columns,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut sides = Vec::new();
        for member in members {
            let side = self.side(member.task, &member.layer)?;
            record.rows.push(side.observed.count());
            sides.push(side);
        }
        let gathered = start.elapsed().as_secs_f64();
        let (mut seats, parties) = self.seats(members, columns, sides)?;
        let parties = self.gather(members, parties, record)?;
        for party in parties.iter().filter(|p| p.members.len() > 1) {
            record.shared += party.rows.len();
            self.settle(party, columns, &mut seats)?;
        }
        let alpha = self.options.weights(self.joint.tasks.len());
        for (member, seat) in members.iter().zip(&seats) {
            self.update(member, seat.side.weights.view(), seat.shares)?;
            let (error, total) = seat.error;
            record.add_error(alpha[member.task], error, total);
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }

    /// Gives a layer its weights, with rows that are shared now or not.
    pub(super) fn update(
        &mut self,
        member: &Member,
        weights: ArrayView2<f32>,
        shares: bool,
    ) -> Result<()> {
        if !shares && !self.adjusts(member.task, &member.layer) {
            return Ok(());
        }
        let changed = self.write(member.task, &member.layer, weights)?;
        // Neurons that were alike keep their weights, and nothing behind them has to make up for it.
        if shares && changed {
            self.diverge(member.task);
        }
        Ok(())
    }

    /// How much each row matters: its sensitivity, or where there is none, the inverse of its
    /// energy, so that errors are relative. Nothing in `mtz`.
    pub(super) fn importance(&self, task: usize, id: LayerId, side: &Side) -> Option<Array1<f64>> {
        if self.options.method == Method::Mtz {
            return None;
        }
        if let Some(s) = self.sensitivities.get(task).and_then(|s| s.get(&id)) {
            // Relative to the layer's mean, so that the scale of a task's outputs does not decide
            // whose neurons count.
            let mean = s.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            return Some(s.mapv(|v| (v / mean).max(1e-3)));
        }
        // The constant's part of the energy is a shift that the next bias absorbs.
        let hessian = side.observed.hessian();
        let means = hessian.means(side.weights.view());
        let energy = hessian.energy(side.weights.view()) - &means * &means;
        Some(inverse(&energy))
    }
}

/// Energies below this are rounding errors: the neuron never changes.
const DEAD: f64 = 1e-30;

/// How much errors matter that count relative to `energies`. A neuron with hardly any energy counts
/// no more than a thousand times the mean, and those of a layer without any count alike.
pub(super) fn inverse(energies: &Array1<f64>) -> Array1<f64> {
    match energies.mean() {
        Some(mean) if mean > DEAD => energies.mapv(|e| 1.0 / e.max(1e-3 * mean)),
        _ => Array1::ones(energies.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use ndarray::array;

    #[test]
    fn errors_are_relative_and_dead_neurons_harmless() {
        assert_eq!(inverse(&array![2.0, 0.5]), array![0.5, 2.0]);
        assert_eq!(inverse(&array![1.0, 0.0]), array![1.0, 2000.0]);
        for dead in [0.0, -1e-20, 1e-310] {
            assert_eq!(inverse(&array![dead, dead]), array![1.0, 1.0]);
        }
        assert!(inverse(&array![]).is_empty());
    }
}
