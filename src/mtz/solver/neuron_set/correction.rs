//! Corrections of neurons that join others.

use ndarray::Array1;

use super::{NeuronSet, PairProblem};
use crate::error::Result;
use crate::mtz::solver::correction::{Correction, Wish};
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
