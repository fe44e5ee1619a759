//! One site: statistics, pairs and common weights of corresponding layers (secs. 3.2–3.3).

use std::time::Instant;

use ndarray::{Array1, ArrayView2, Axis};

use crate::align::Site;
use crate::calib::wide::widened;
use crate::error::{Context, Result};
use crate::mtz::joint::Rounding;
use crate::mtz::options::{Passes, Unit};
use crate::mtz::site::{
    CommonInputs, SiteLayer, SiteRecord, SiteSelection, SiteShape, common_neurons,
};
use crate::mtz::solver::correction::{Change, CorrectedRows};
use crate::mtz::solver::layer::{LayerState, settle};

use super::{Driver, rounding};

/// A layer's weights with some rows shared.
pub(super) struct Fused<'a> {
    pub(super) weights: ArrayView2<'a, f32>,
    /// Whether any row is shared.
    pub(super) shares: bool,
    /// How weights are rounded to the few bits in which they were stored: all layers of the site must round alike.
    pub(super) rounding: &'a Rounding,
}

impl Driver<'_> {
    /// Merges the layers of a site of several nets.
    pub(super) fn site(&mut self, site: &Site) -> Result<SiteRecord> {
        let mut selection = SiteSelection::at(self.joint, self.alignment, site)?;
        if selection.duplicates {
            return self.duplicates(&selection);
        }
        if selection.reason.is_none() {
            let obstacle = self.statistics.too_large(self.joint, &selection.all)?;
            (selection.reason, selection.hint) = obstacle.unzip();
        }
        let alone = |i: &usize| selection.reason.is_some() || !selection.zipped.contains(i);
        for member in (0..selection.all.len()).filter(alone) {
            self.refit_alone(selection.all[member].place())?;
        }
        let mut record = self.record(&selection)?;
        if record.reason.is_some() {
            return Ok(record);
        }
        let members = selection.members();
        let own = site.own_weights
            || selection.leaves_alone(self.joint, (self.alignment, site), &self.options.budget);
        match members[0].layer.per_channel {
            true if own && self.probes.is_empty() => {
                members.iter().try_for_each(|member| self.refit_alone(member.place()))?;
            }
            true => self.depthwise(&members, own, &mut record)?,
            false => self.merge_layers(&members, &selection.columns, own, &mut record)?,
        }
        match own {
            true => {
                record.keep_own_weights();
                self.settled.join_groups(self.joint, &members);
            }
            false => self.settled.fuse(self.joint, self.alignment, &members),
        }
        Ok(record)
    }

    /// Keeps duplicate layers unchanged.
    fn duplicates(&self, selection: &SiteSelection) -> Result<SiteRecord> {
        let mut record = self.record(selection)?;
        record.shared = common_neurons(self.joint, &selection.all).len();
        record.shared_inputs = record.inputs.first().copied().unwrap_or(0);
        record.rows = vec![0; selection.all.len()];
        record.relative_errors = vec![0.0; selection.all.len()];
        Ok(record)
    }

    fn record(&self, selection: &SiteSelection) -> Result<SiteRecord> {
        let SiteShape { tasks, layers, neurons, inputs } =
            SiteShape::of(self.joint, &selection.recorded())?;
        Ok(SiteRecord {
            tasks,
            layers,
            neurons,
            inputs,
            shared_inputs: selection.columns.count / selection.taps.max(1),
            reason: selection.reason.clone(),
            hint: selection.hint.clone(),
            ..SiteRecord::default()
        })
    }

    /// Pairs and fuses the rows of corresponding layers, and writes their weights. If they keep their
    /// `own` weights, only computes the cost.
    pub(super) fn merge_layers(
        &mut self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        own: bool,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let start = Instant::now();
        let mut all_stats = Vec::new();
        for member in members {
            let stats = self.statistics.of_layer(self.joint, member.place())?;
            record.rows.push(stats.observed.count());
            all_stats.push(stats);
        }
        let gathered = start.elapsed().as_secs_f64();
        let measures = !self.probes.is_empty();
        let (mut states, sets) = self.layer_states(members, columns, all_stats, own || measures)?;
        // A layer that keeps its own weights needs no common ones.
        let fuses = !own || measures;
        let origins = if fuses { self.origins(members, &sets) } else { Vec::new() };
        let mut sets = self.gather(members, sets, record)?;
        if fuses {
            for set in &mut sets {
                set.weigh_together(&origins, self.options.damping)
                    .at_node(&members[0].layer.name)?;
            }
            drop(origins);
            for set in sets.iter().filter(|set| set.members.len() > 1) {
                record.shared += set.rows.len();
                let holders = columns.holders(&set.members);
                settle(set, &holders, &mut states, self.options.solver())?;
            }
        }
        for correction in sets.iter().flat_map(|set| &set.corrections) {
            let task = members[correction.member].task.0;
            record.gains.push((task, correction.gains.clone()));
        }
        // The layers hold the common weights now; copies of a large layer take much memory.
        drop(sets);
        self.write_members(members, columns, states, own, record)?;
        record.seconds = (gathered, start.elapsed().as_secs_f64() - gathered);
        Ok(())
    }

    /// Records the errors and losses of corresponding layers, and writes their weights.
    fn write_members(
        &mut self,
        members: &[SiteLayer],
        columns: &CommonInputs,
        states: Vec<LayerState>,
        own: bool,
        record: &mut SiteRecord,
    ) -> Result<()> {
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let roundings = rounding::of(self.joint, members, columns);
        for ((member, state), rounding) in members.iter().zip(states).zip(&roundings) {
            let (alpha, errors) = (alpha[member.task.0], state.row_errors());
            record.add_error(alpha, errors.sum(), state.total);
            let predicted = self.predicted(member, &state, &errors)?;
            let shares = !state.shared.is_empty();
            let fused = Fused { weights: state.stats.weights.view(), shares, rounding };
            let loss = self.replace(member, state.fitted(), fused, own)?;
            record.loss += alpha * loss.unwrap_or(predicted);
            if let Some(corrected) = state.correction.clone().filter(|_| !own) {
                self.corrects(member, corrected, record);
            }
        }
        Ok(())
    }

    /// Takes note of a layer's correction.
    pub(super) fn corrects(
        &mut self,
        member: &SiteLayer,
        corrected: CorrectedRows,
        record: &mut SiteRecord,
    ) {
        let task = member.task.0;
        match &corrected.change {
            Change::LowRank { right, .. } => record.ranks.push((task, right.nrows())),
            Change::Difference { bits, .. } => record.bits.push((task, bits.count())),
        }
        self.corrections.insert(member.place(), corrected);
    }

    /// The loss of the outputs by the errors of a layer's shared rows, as statistics predict it.
    fn predicted(
        &self,
        member: &SiteLayer,
        state: &LayerState,
        errors: &Array1<f64>,
    ) -> Result<f64> {
        let own = member.place();
        let one_by_one = || {
            let weights = self.weighting.of_rows(own, &state.stats);
            self.weighting.loss(errors, &weights.select(Axis(0), &state.shared), state.total)
        };
        // Predictions take the place of measurements only for whole layers and original inputs.
        let replaces = self.options.unit != Unit::Neuron && self.options.passes == Passes::One;
        if !replaces || !self.probes.is_empty() {
            return Ok(one_by_one());
        }
        let change = widened(state.stats.weights.view()) - widened(self.joint.weights(own)?.view());
        let hessian = state.stats.observed.hessian();
        let together = self.weighting.of_change(own, &hessian, change.view());
        Ok(together.unwrap_or_else(one_by_one) * self.weighting.coherence(own))
    }

    /// Writes a layer's fused weights, or, if it keeps its `own`, the weights that were `fitted` to
    /// its inputs. Returns the change of the task's outputs by fusing, if it is measured.
    pub(super) fn replace(
        &mut self,
        member: &SiteLayer,
        fitted: ArrayView2<f32>,
        fused: Fused<'_>,
        own: bool,
    ) -> Result<Option<f64>> {
        let mut loss = None;
        if !self.probes.is_empty() {
            let weight = member.layer.layer.weight;
            let codes = self.joint.task(member.task).graph().codes(weight).cloned();
            let kept = self.joint.weights(member.place())?;
            let sum = self.joint.based_layer(member.place()).cloned();
            let room = self.statistics.room_at(self.joint, member.place())?;
            let model = self.joint.task(member.task).model();
            if let Some(probe) = self.probes.get_mut(member.task.0) {
                probe.advance(model, &member.layer.layer, room)?;
            }
            let before = match self.statistics.is_original(member.task) {
                true => 0.0,
                false => self.deviation_with(member, fitted, &Rounding::Own)?,
            };
            let after = self.deviation_with(member, fused.weights, fused.rounding)?;
            if let Some(codes) = codes {
                self.joint.model_mut(member.task).graph.set_codes(weight, codes);
            }
            self.joint.write(member.place(), kept.view())?;
            if let Some(sum) = sum {
                self.joint.set_based(member.place(), sum);
            }
            loss = Some((after - before).max(0.0));
        }
        match own {
            true => {
                let rounding = &Rounding::Own;
                self.update(member, &Fused { weights: fitted, shares: false, rounding })?;
            }
            false => self.update(member, &fused)?,
        }
        Ok(loss)
    }

    /// Deviation of a task's outputs from the original net's when a layer has these weights.
    fn deviation_with(
        &mut self,
        member: &SiteLayer,
        weights: ArrayView2<f32>,
        rounding: &Rounding,
    ) -> Result<f64> {
        self.joint.write_rounded(member.place(), weights, rounding)?;
        let model = self.joint.task(member.task).model();
        self.probes.get(member.task.0).map_or(Ok(0.0), |probe| probe.deviation(model))
    }

    /// Writes a layer's weights, with or without shared rows.
    fn update(&mut self, member: &SiteLayer, fused: &Fused<'_>) -> Result<()> {
        let Fused { weights, shares, rounding } = *fused;
        if !shares && !self.statistics.adjusts(self.joint, member.place()) {
            return Ok(());
        }
        let changed = self.joint.write_rounded(member.place(), weights, rounding)?;
        // If no weights have changed, later layers have nothing to compensate.
        if shares && changed {
            self.statistics.diverge(member.task);
        }
        Ok(())
    }
}
