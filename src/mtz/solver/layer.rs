//! One layer of a site: its neuron set, and its weights after sharing.

use ndarray::{Array1, ArrayView2, Axis};

use crate::error::Result;

use super::correction::CorrectedRows;
use super::hessian::{Gain, block};
use super::neuron_set::{NeuronSet, WeightChange, complement, reduced, some_columns};
use super::observations::Observations;
use super::options::SolverOptions;
use super::pair_cost::Weights;
use super::sparse::is_sparse;

/// The statistics of a layer, and its weights with the bias as last column.
pub(crate) struct LayerStats {
    pub(crate) observed: Observations,
    pub(crate) weights: Weights,
}

impl LayerStats {
    /// Bytes that they take.
    pub(crate) fn bytes(&self) -> u64 {
        self.observed.bytes().saturating_add(4 * self.weights.len() as u64)
    }
}

/// The inputs that a layer has in common with others.
#[derive(Debug, Clone)]
pub(crate) struct LayerInputs {
    /// The common inputs, each with its column. The bias is the weight of a constant input, which is the
    /// last one if it is common.
    pub(crate) columns: Vec<(usize, usize)>,
    /// The constant input.
    pub(crate) constant: usize,
    pub(crate) has_bias: bool,
}

impl LayerInputs {
    /// The number of columns that can compensate for others. The last column is the constant's, which
    /// counts only with a bias.
    fn adjustable(&self, columns: usize) -> usize {
        columns - usize::from(!self.has_bias)
    }

    /// The layer as a neuron set without sensitivities, with error weight `alpha`; `at` is its member.
    /// The gain says how private columns compensate for a change of the common ones.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
    pub(crate) fn neuron_set(
        &self,
        at: usize,
        stats: &LayerStats,
        alpha: f64,
        options: SolverOptions,
    ) -> Result<(NeuronSet, Option<Gain>)> {
        let (inputs, shared): (Vec<usize>, Vec<usize>) = self.columns.iter().copied().unzip();
        let hessian = stats.observed.hessian();
        let own = reduced(&hessian, &shared, self.adjustable(hessian.size()), options)?;
        let set = NeuronSet {
            members: vec![at],
            inputs,
            hessian: own.hessian.times(alpha),
            weights: some_columns(&stats.weights, &shared),
            importance: None,
            rows: (0..stats.weights.nrows()).map(|row| vec![row]).collect(),
            sparse: is_sparse(stats.weights.view()),
            constant: self.constant,
            wish: None,
            // The last column is that of the bias.
            is_whole: shared.len() + 1 >= stats.weights.ncols(),
            scales: false,
            corrections: Vec::new(),
        };
        Ok((set, own.gain))
    }
}

/// A layer during the joins of a site.
pub(crate) struct LayerState {
    pub(crate) stats: LayerStats,
    inputs: LayerInputs,
    /// The gain of the private columns.
    gain: Option<Gain>,
    /// Rows that are shared, with the mean squared error of each one's pre-activation.
    pub(crate) shared: Vec<usize>,
    pub(crate) errors: Vec<f64>,
    /// The mean squares of their pre-activations, added up.
    pub(crate) total: f64,
    /// Its correction of the common weights.
    pub(crate) correction: Option<CorrectedRows>,
    /// The layer's weights before sharing, if they are needed.
    fitted: Option<Weights>,
}

impl LayerState {
    /// A layer without shared rows; with `keep`, its present weights are kept.
    pub(crate) fn new(
        stats: LayerStats,
        inputs: LayerInputs,
        gain: Option<Gain>,
        keep: bool,
    ) -> LayerState {
        let fitted = keep.then(|| stats.weights.clone());
        let (shared, errors) = (Vec::new(), Vec::new());
        LayerState { stats, inputs, gain, shared, errors, total: 0.0, correction: None, fitted }
    }

    /// The layer's weights before sharing, if they were kept.
    pub(crate) fn fitted(&self) -> ArrayView2<'_, f32> {
        self.fitted.as_ref().unwrap_or(&self.stats.weights).view()
    }

    /// The errors of the shared rows.
    pub(crate) fn row_errors(&self) -> Array1<f64> {
        Array1::from(self.errors.clone())
    }

    /// Writes a neuron set's weights into rows of the layer, the set's `nth` member. `holders` is the
    /// number of members with each common input.
    fn settle(
        &mut self,
        set: &NeuronSet,
        nth: usize,
        holders: &[usize],
        options: SolverOptions,
    ) -> Result<()> {
        let is_common = |i: &&(usize, usize)| holders.get(i.0).is_none_or(|n| *n > 1);
        let shared: Vec<(usize, usize)> =
            self.inputs.columns.iter().filter(is_common).copied().collect();
        let (inputs, own): (Vec<usize>, Vec<usize>) = shared.iter().copied().unzip();
        let rows: Vec<usize> = set.rows.iter().map(|r| r[nth]).collect();
        let places = set.places(&inputs);
        let mut common = some_columns(&set.weights, &places);
        let at = set.members[nth];
        let correction = set.corrections.iter().find(|own| own.member == at);
        if let Some(correction) = correction.filter(|own| own.is_some()) {
            let plain = common.to_owned();
            common = correction.added_to(&plain, &rows, &places).into_shared();
            self.correction = Some(correction.of_rows(plain, &rows, &places, &own));
        }
        let width = self.inputs.adjustable(self.stats.weights.ncols());
        let private = complement(&own, width);
        let adjusts = options.compensates && !private.is_empty();
        let hessian = self.stats.observed.hessian();
        let fewer = match adjusts && shared.len() < self.inputs.columns.len() {
            true => reduced(&hessian, &own, self.inputs.adjustable(hessian.size()), options)?.gain,
            false => None,
        };
        let gain = fewer.as_ref().or(self.gain.as_ref()).filter(|_| adjusts);
        let block = block(self.stats.weights.ncols());
        let blocks = common.axis_chunks_iter(Axis(0), block);
        for (common, rows) in blocks.zip(rows.chunks(block)) {
            let change =
                WeightChange { columns: &own, common, private: &private, gain, sparse: set.sparse };
            let before = self.stats.weights.select(Axis(0), rows);
            self.total += hessian.mean_square(before.view()).sum();
            let changed = change.of(before.clone());
            self.errors.extend(hessian.mean_square((&changed - &before).view()));
            let new = rows.iter().zip(changed.rows());
            new.for_each(|(row, new)| self.stats.weights.row_mut(*row).assign(&new));
        }
        self.shared.extend(rows);
        Ok(())
    }
}

/// Writes a neuron set's weights into the rows of its members. `holders` is the number of members
/// with each common input.
///
/// # Errors
/// [`crate::error::ErrorKind::Numeric`] where a Hessian cannot be factored.
pub(crate) fn settle(
    set: &NeuronSet,
    holders: &[usize],
    states: &mut [LayerState],
    options: SolverOptions,
) -> Result<()> {
    let mut members = set.members.iter().enumerate();
    members.try_for_each(|(nth, at)| states[*at].settle(set, nth, holders, options))
}

#[cfg(test)]
mod tests;
