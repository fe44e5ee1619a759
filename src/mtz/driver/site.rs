//! One site: statistics, pairs and common weights of corresponding layers (secs. 3.2–3.3).

use std::time::Instant;

use ndarray::{Array1, ArrayView2, Axis};

use crate::align::Site;
use crate::couple::LayerId;
use crate::error::Result;
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, SiteRecord, SiteSelection, common_neurons};
use crate::mtz::statistics::{LayerStats, inverse};

use super::Driver;

/// A layer's weights where some rows are shared.
pub(super) struct Fused<'a> {
    pub(super) weights: ArrayView2<'a, f32>,
    /// Whether any row is.
    pub(super) shares: bool,
}

impl Driver<'_> {
    /// Zips the layers of a site that several nets have.
    pub(super) fn site(&mut self, site: &Site) -> Result<SiteRecord> {
        let mut selection = SiteSelection::at(self.joint, self.alignment, site)?;
        if selection.duplicates {
            return self.duplicates(&selection);
        }
        if selection.reason.is_none() {
            selection.reason = self.too_large(&selection.all)?;
        }
        let alone = |i: &usize| selection.reason.is_some() || !selection.zipped.contains(i);
        for member in (0..selection.all.len()).filter(alone) {
            let member = &selection.all[member];
            self.refit_alone(member.task, member.id)?;
        }
        let mut record = self.record(&selection)?;
        if record.reason.is_some() {
            return Ok(record);
        }
        let members = selection.members();
        let own = site.own_weights || self.leaves_alone(site, &members[0]);
        match members[0].layer.per_channel {
            true if own && self.probes.is_empty() => {
                members.iter().try_for_each(|member| self.refit_alone(member.task, member.id))?;
            }
            true => self.depthwise(&members, own, &mut record)?,
            false => self.zip_site(&members, &selection.columns, own, &mut record)?,
        }
        match own {
            true => {
                record.keep_own_weights();
                self.settled.join_groups(&members);
            }
            false => self.settled.fuse(self.joint, &members),
        }
        Ok(record)
    }

    /// Whether weights are the tasks' own though channels correspond by index: nothing is to be shared.
    fn leaves_alone(&self, site: &Site, first: &SiteLayer) -> bool {
        let budget = &self.options.budget;
        self.alignment.is_by_index(site) && budget.shares_nothing_of(&first.layer.name)
    }

    /// How far a task's outputs are from the original net's where a layer has these weights.
    fn deviation_with(&mut self, member: &SiteLayer, weights: ArrayView2<f32>) -> Result<f64> {
        self.write(member.task, &member.layer, weights)?;
        let model = &self.joint.tasks[member.task].model;
        self.probes.get(member.task).map_or(Ok(0.0), |probe| probe.deviation(model))
    }

    /// What errors of shared rows, which count as `weights` say, mean for the outputs; in `mtz`, which
    /// knows nothing of outputs, relative to the rows' mean squares.
    pub(super) fn loss(&self, errors: &Array1<f64>, weights: &Array1<f64>, total: f64) -> f64 {
        match self.options.method {
            Method::Refit => errors.dot(weights),
            Method::Mtz if total > 0.0 => errors.sum() / total,
            Method::Mtz => 0.0,
        }
    }

    /// Layers that are the same as they are stay so.
    fn duplicates(&self, selection: &SiteSelection) -> Result<SiteRecord> {
        let mut record = self.record(selection)?;
        record.shared = common_neurons(self.joint, &selection.all).len();
        record.shared_inputs = record.inputs.first().copied().unwrap_or(0);
        record.rows = vec![0; selection.all.len()];
        record.relative_errors = vec![0.0; selection.all.len()];
        Ok(record)
    }

    fn record(&self, selection: &SiteSelection) -> Result<SiteRecord> {
        let members =
            if selection.reason.is_some() { selection.all.clone() } else { selection.members() };
        let mut record = SiteRecord {
            shared_inputs: selection.columns.count / selection.taps.max(1),
            reason: selection.reason.clone(),
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

    /// Pairs and fuses the rows of corresponding layers and writes their weights; where they keep their `own`,
    /// only tells what it would cost to fuse them.
    pub(super) fn zip_site(
        &mut self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        own: bool,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut all_stats = Vec::new();
        for member in members {
            let stats = self.layer_stats(member.task, &member.layer)?;
            record.rows.push(stats.observed.count());
            all_stats.push(stats);
        }
        let gathered = start.elapsed().as_secs_f64();
        let keep = own || !self.probes.is_empty();
        let (mut states, sets) = self.layer_states(members, columns, all_stats, keep)?;
        let sets = self.gather(members, sets, record)?;
        if !own || !self.probes.is_empty() {
            for set in sets.iter().filter(|set| set.members.len() > 1) {
                record.shared += set.rows.len();
                self.settle(set, columns, &mut states)?;
            }
        }
        for correction in sets.iter().flat_map(|set| &set.corrections) {
            record.gains.push((members[correction.member].task, correction.gains.clone()));
        }
        let alpha = self.options.task_weights(self.joint.tasks.len());
        for (member, state) in members.iter().zip(&states) {
            let errors = Array1::from(state.errors.clone());
            record.add_error(alpha[member.task], errors.sum(), state.total);
            let weights = self.weights_of(member, &state.stats).select(Axis(0), &state.shared);
            let predicted = self.loss(&errors, &weights, state.total);
            let shares = !state.shared.is_empty();
            let fused = Fused { weights: state.stats.weights.view(), shares };
            let loss = self.replace(member, state.fitted(), fused, own)?;
            record.loss += alpha[member.task] * loss.unwrap_or(predicted);
            if let Some(thin) = state.correction.clone().filter(|_| !own) {
                record.ranks.push((member.task, thin.right.nrows()));
                self.corrections.insert((member.task, member.id), thin);
            }
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }

    /// Gives a layer its fused weights, or where it keeps its `own`, those that were `fitted` to its inputs.
    /// Returns by how much fusing moves the task's outputs, where that is measured.
    pub(super) fn replace(
        &mut self,
        member: &SiteLayer,
        fitted: ArrayView2<f32>,
        fused: Fused<'_>,
        own: bool,
    ) -> Result<Option<f64>> {
        let mut loss = None;
        if !self.probes.is_empty() {
            let kept = self.weights(member.task, &member.layer)?;
            let before = self.deviation_with(member, fitted)?;
            let after = self.deviation_with(member, fused.weights)?;
            self.write(member.task, &member.layer, kept.view())?;
            loss = Some((after - before).max(0.0));
        }
        match own {
            true => self.update(member, fitted, false)?,
            false => self.update(member, fused.weights, fused.shares)?,
        }
        Ok(loss)
    }

    /// Gives a layer its weights, with rows that are shared now or not.
    pub(super) fn update(
        &mut self,
        member: &SiteLayer,
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
    /// mean square, so that errors are relative. Nothing in `mtz`.
    pub(super) fn importance(
        &self,
        task: usize,
        id: LayerId,
        stats: &LayerStats,
    ) -> Option<Array1<f64>> {
        if self.options.method == Method::Mtz {
            return None;
        }
        if let Some(s) = self.sensitivities.get(task).and_then(|s| s.get(&id)) {
            // Relative to the layer's mean, so that the scale of a task's outputs does not decide
            // whose neurons count.
            let mean = s.mean().unwrap_or(1.0).max(f64::MIN_POSITIVE);
            return Some(s.mapv(|v| (v / mean).max(1e-3)));
        }
        // The constant's part of the mean square is a shift that the next bias absorbs.
        let hessian = stats.observed.hessian();
        let means = hessian.means(stats.weights.view());
        let variances = hessian.mean_square(stats.weights.view()) - &means * &means;
        Some(inverse(&variances))
    }
}
