//! One site: statistics, pairs and common weights of corresponding layers (secs. 3.2–3.3).

use std::time::Instant;

use ndarray::{Array1, Array2, s};

use crate::align::Site;
use crate::couple::LayerId;
use crate::error::Result;
use crate::mtz::options::Method;
use crate::mtz::site::{CommonInputs, SiteLayer, SiteRecord, SiteSelection, common_neurons};
use crate::mtz::statistics::{LayerStats, inverse};

use super::Driver;

impl Driver<'_> {
    /// Zips the layers of a site that several nets have.
    pub(super) fn site(&mut self, site: &Site) -> Result<SiteRecord> {
        let mut selection = SiteSelection::at(self.joint, self.alignment, site)?;
        if selection.duplicates {
            return self.duplicates(&selection);
        }
        selection.reason = selection.reason.or_else(|| self.too_large(&selection.all));
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
        match members[0].layer.per_channel {
            true => self.depthwise(&members, &mut record)?,
            false => self.zip_site(&members, &selection.columns, &mut record)?,
        }
        self.settled.fuse(self.joint, &members);
        Ok(record)
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

    /// Pairs and fuses the rows of corresponding layers and writes their weights.
    pub(super) fn zip_site(
        &mut self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut all_stats = Vec::new();
        for member in members {
            let stats = self.layer_stats(member.task, &member.layer)?;
            record.rows.push(stats.moments.count());
            all_stats.push(stats);
        }
        let gathered = start.elapsed().as_secs_f64();
        let (mut states, sets) = self.layer_states(members, columns, all_stats)?;
        let sets = self.gather(members, sets, record)?;
        for set in sets.iter().filter(|p| p.members.len() > 1) {
            record.shared += set.rows.len();
            self.settle(set, columns, &mut states)?;
        }
        let alpha = self.options.task_weights(self.joint.tasks.len());
        for (member, state) in members.iter().zip(&states) {
            self.update(member, &state.stats.weights, !state.shared.is_empty())?;
            let (error, total) = state.error()?;
            record.add_error(alpha[member.task], error, total);
        }
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }

    /// Gives a layer its weights, with rows that are shared now or not.
    pub(super) fn update(
        &mut self,
        member: &SiteLayer,
        weights: &Array2<f64>,
        shares: bool,
    ) -> Result<()> {
        if !shares && !self.adjusts(member.task, &member.layer) {
            return Ok(());
        }
        let before = self.weights(member.task, &member.layer)?;
        self.write(member.task, &member.layer, weights)?;
        // Neurons that were alike keep their weights, and nothing behind them has to make up for it.
        if shares && self.weights(member.task, &member.layer)? != before {
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
        let h = stats.moments.scaled(1.0).ok()?;
        let n = h.nrows() - 1;
        // The constant's part of the mean square is a shift that the next bias absorbs.
        let means = h.slice(s![n, ..]).to_owned();
        let mean_square = Array1::from_iter(stats.weights.outer_iter().map(|w| {
            let mean = means.dot(&w);
            w.dot(&h.dot(&w)) - mean * mean
        }));
        Some(inverse(&mean_square))
    }
}
