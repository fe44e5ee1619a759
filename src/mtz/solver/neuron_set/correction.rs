//! Corrections of neurons that join others.

use ndarray::Array1;

use super::{NeuronSet, PairProblem};
use crate::error::Result;
use crate::mtz::solver::correction::{Correction, Wish};
use crate::mtz::solver::low_rank::may_correct;
use crate::mtz::solver::options::SolverOptions;

impl PairProblem {
    /// Subtracts from the weights of `b`, which joins `a`, its correction. Only dense layers whose
    /// neurons all join at once over the same inputs get one.
    ///
    /// # Errors
    /// As [`PairProblem::cost`].
    pub(crate) fn correct(
        &mut self,
        a: &NeuronSet,
        b: &NeuronSet,
        pairs: &[(usize, usize)],
        options: SolverOptions,
    ) -> Result<Option<Correction>> {
        let alike = self.inputs == a.inputs && self.inputs == b.inputs;
        let whole = b.members.len() == 1 && pairs.len() == b.rows.len() && !(a.sparse && b.sparse);
        let Some(wish) = b.wish.filter(|_| alike && whole) else { return Ok(None) };
        let constant = self.inputs.iter().position(|input| *input == a.constant);
        let found = match wish {
            Wish::LowRank(_) if !may_correct(pairs.len()) => None,
            Wish::LowRank(rank) => {
                let scale = match b.scales {
                    true => self.rescale(pairs, constant, options)?,
                    false => Vec::new(),
                };
                let found = self.problem.low_rank(pairs, rank, constant, options.damping)?;
                found.map(|found| Correction { scale, ..found })
            }
            Wish::Difference { bits, kept } => {
                let all = a.is_whole && b.is_whole && constant.is_none();
                let all = all && pairs.len() == a.rows.len();
                match all {
                    true => Some(self.problem.difference(pairs, bits, kept, options.damping)?),
                    false => None,
                }
            }
        };
        let Some(mut found) = found else { return Ok(None) };
        found.member = b.members[0];
        found.rows = pairs.iter().map(|(_, j)| b.rows[*j][0]).collect();
        if !found.change.is_none() {
            let change = found.change.sum();
            for ((_, j), change) in pairs.iter().zip(change.rows()) {
                self.problem.w_b.row_mut(*j).zip_mut_with(&change, |w, c| *w -= c);
            }
        }
        Ok(Some(found))
    }

    /// Divides the weights of joining neurons by their scales, and weights their errors accordingly.
    fn rescale(
        &mut self,
        pairs: &[(usize, usize)],
        constant: Option<usize>,
        options: SolverOptions,
    ) -> Result<Vec<f32>> {
        let problem = &mut self.problem;
        let scale = problem.scales(pairs, constant, options.damping)?;
        let mut importance =
            problem.s_b.take().unwrap_or_else(|| Array1::ones(problem.w_b.nrows()));
        for ((_, j), scale) in pairs.iter().zip(&scale) {
            problem.w_b.row_mut(*j).mapv_inplace(|w| w / scale);
            importance[*j] *= f64::from(*scale).powi(2);
        }
        problem.s_b = Some(importance);
        Ok(scale)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::random;
    use crate::mtz::solver::neuron_set::join_sets;
    use crate::mtz::solver::pair_cost::Metric;
    use ndarray::Array2;

    /// Neurons over inputs without correlation, which may be scaled when they join others.
    fn set(member: usize, weights: &Array2<f32>, importance: f64) -> NeuronSet {
        let (rows, inputs) = weights.dim();
        NeuronSet {
            members: vec![member],
            inputs: (0..inputs).collect(),
            hessian: Array2::eye(inputs).into(),
            weights: weights.clone().into_shared(),
            importance: Some(Array1::from_elem(rows, importance)),
            rows: (0..rows).map(|row| vec![row]).collect(),
            sparse: false,
            constant: inputs,
            wish: Some(Wish::LowRank(0)),
            is_whole: true,
            scales: true,
            corrections: Vec::new(),
        }
    }

    /// The neurons of a layer, joined by those of a second one that are twice as large and half as
    /// important.
    fn joined(rows: usize) -> (Array2<f32>, NeuronSet) {
        let options = SolverOptions { compensates: true, metric: Metric::Hessian, damping: 1e-9 };
        let weights = random(rows, 3, 1).mapv(|w| w as f32);
        let sets = vec![set(0, &weights, 1.0), set(1, &(&weights * 2.0), 0.5)];
        let all = |_: &[NeuronSet], _: &NeuronSet, _: &mut [PairProblem]| {
            Ok(vec![(0..rows).map(|row| (row, row)).collect()])
        };
        let mut sets = join_sets(sets, true, options, all).unwrap();
        assert_eq!(sets.len(), 1);
        (weights, sets.remove(0))
    }

    fn worst(a: &Array2<f32>, b: &Array2<f32>) -> f32 {
        (a - b).iter().fold(0.0, |worst, d| worst.max(d.abs()))
    }

    #[test]
    fn errors_of_scaled_neurons_count_more_for_those_that_join_later() {
        let (weights, set) = joined(6);
        assert!(set.corrections[0].scale.iter().all(|scale| (scale - 2.0).abs() < 1e-4));
        assert!(worst(&set.weights.to_owned(), &weights) < 1e-4);
        let importance = set.importance.unwrap();
        assert!(importance.iter().all(|s| (s - (1.0 + 0.5 * 4.0) / 2.0).abs() < 1e-3));
    }

    #[test]
    fn layers_too_large_for_corrections_are_not_scaled() {
        let (weights, set) = joined(3001);
        assert!(set.corrections.is_empty());
        // (1 · w + ½ · 2 w) / (1 + ½)
        assert!(worst(&set.weights.to_owned(), &(&weights * (4.0 / 3.0))) < 1e-4);
        assert!(set.importance.unwrap().iter().all(|s| (s - 0.75).abs() < 1e-12));
    }
}
