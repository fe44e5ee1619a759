//! The cost of sharing a neuron of net A with a neuron of net B (sec. 3.3, eqs. 10–12).
//!
//! With δ = w_i − w_j the cost collapses to d_ij = ½ δᵀ P δ, P = H_A (H_A + H_B)⁻¹ H_B; see
//! `junction` for how that is computed.

use std::collections::BTreeMap;

use ndarray::{ArcArray2, Array1, Array2, Zip};

use super::cholesky::Spd;
use super::diagonal::Diagonals;
use super::distances::half_distances;
use super::hessian::Hessian;
use super::junction::Junction;
use super::levels::{Balance, Levels};
use super::shapes::{self, Side};
use crate::error::{Error, ErrorKind, Result};

/// Weights of neurons, one row each; copied on the first change.
pub type Weights = ArcArray2<f32>;

/// Memory limit for cached factors, which fits those of five levels up to about 7300 inputs.
const KEPT_BYTES: u64 = 1 << 30;

/// The metric of two neurons' distance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Metric {
    /// The paper's d_ij: the error that remains with the best common weights.
    #[default]
    Hessian,
    /// Half the squared distance of the weights.
    Weight,
    /// Half the mean squared difference of the pre-activations, over both tasks' inputs.
    Activation,
}

impl Metric {
    /// Every metric with its name on the command line and its help.
    pub const ALL: [(Metric, &'static str, &'static str); 3] = [
        (Metric::Hessian, "hessian", "error left with the best common weights (the paper's)"),
        (Metric::Weight, "weight", "distance of the weights"),
        (Metric::Activation, "activation", "distance of the pre-activations"),
    ];

    /// The metric called `name`.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for a name that is not in [`Metric::ALL`].
    pub fn named(name: &str) -> Result<Metric> {
        Self::ALL.iter().find(|(_, n, _)| *n == name).map(|(metric, ..)| *metric).ok_or_else(|| {
            let names = Self::ALL.map(|(_, name, _)| name).join(", ");
            Error::new(ErrorKind::Usage, format!("there is no metric '{name}'"))
                .hint(format!("choose one of {names}"))
        })
    }
}

/// One layer of each net with the inputs that the nets share. Groups with several producers add
/// their costs up.
///
/// The paper's error is the plain sum over neurons; with sensitivities the error of neuron i of A
/// counts s_i times and that of neuron j of B s_j times.
#[derive(Debug, Clone)]
pub struct Problem {
    /// α/n_A Σ x xᵀ over A's samples (eq. 7), S×S.
    pub h_a: Hessian,
    /// (1−α)/n_B Σ x xᵀ over B's samples (eq. 8), S×S.
    pub h_b: Hessian,
    /// Weights of A's neurons from the shared inputs, n_A×S.
    pub w_a: Weights,
    /// Weights of B's neurons from the shared inputs, n_B×S.
    pub w_b: Weights,
    /// Weight of each neuron's error in A, n_A numbers ≥ 0; `None` stands for 1.
    pub s_a: Option<Array1<f64>>,
    /// Weight of each neuron's error in B, n_B numbers ≥ 0; `None` stands for 1.
    pub s_b: Option<Array1<f64>>,
}

impl Problem {
    /// The cost of each pair, n_A×n_B, none below zero. `damping` counts relative to each Hessian's
    /// mean diagonal entry.
    ///
    /// The cost is half of the tasks' summed mean squared pre-activation errors, as in the paper,
    /// which drops the factor 2 of eq. 3's second derivative.
    ///
    /// With sensitivities the cost at a pair's ratio r = s_i/s_j is interpolated between up to five
    /// levels, so that one factor serves all pairs. That is within 1.5 %. The exact way, the
    /// basis that makes H_A and H_B diagonal at once, takes a generalised eigenproblem, which costs
    /// some forty times one Cholesky factor, and then one weighted sum per pair instead of products.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] where the shapes of the fields do not fit together; [`ErrorKind::Numeric`]
    /// where the Hessians or weights are not finite, a sensitivity is negative or not finite, or no
    /// damping makes the Hessians positive definite.
    pub fn cost(&self, metric: Metric, damping: f64) -> Result<Array2<f64>> {
        self.cost_keeping(metric, damping, &mut Factors::default())
    }

    /// [`Problem::cost`]; its factors are cached for [`Problem::fuse_with`].
    pub(crate) fn cost_keeping(
        &self,
        metric: Metric,
        damping: f64,
        factors: &mut Factors,
    ) -> Result<Array2<f64>> {
        self.check()?;
        let weights = [self.w_a.view(), self.w_b.view()];
        let mut cost = match metric {
            Metric::Hessian => self.hessian_cost(damping, factors)?,
            Metric::Weight => half_distances(weights, weights.map(|w| w.reversed_axes())),
            Metric::Activation => self.h_a.distances(weights) + self.h_b.distances(weights),
        };
        if cost.iter().any(|d| !d.is_finite()) {
            return Err(not_finite());
        }
        // Rounding can make costs of equal neurons slightly negative.
        cost.mapv_inplace(|d| d.max(0.0));
        Ok(cost)
    }

    /// Checks that the fields fit together.
    ///
    /// # Errors
    /// As [`shapes::check`].
    pub(super) fn check(&self) -> Result<()> {
        let sides = [(&self.w_a, &self.h_a, &self.s_a), (&self.w_b, &self.h_b, &self.s_b)];
        shapes::check(sides.map(|(weights, hessian, sensitivities)| Side {
            weights: weights.dim(),
            inputs: hessian.size(),
            hessians: None,
            sensitivities: sensitivities.as_ref(),
        }))
    }

    fn hessian_cost(&self, damping: f64, factors: &mut Factors) -> Result<Array2<f64>> {
        let weights = [self.w_a.view(), self.w_b.view()];
        let levels = self.levels();
        if let Some(diagonals) = self.diagonals(damping) {
            let mut cost = Array2::zeros((self.w_a.nrows(), self.w_b.nrows()));
            for (node, level) in levels.nodes().iter().enumerate() {
                let own = diagonals.cost(weights, *level);
                Zip::indexed(&mut cost).and(&own).par_for_each(|(i, j), d, own| {
                    let balance = self.balance(i, j);
                    *d += balance.weight * levels.part(node, balance.level) * own;
                });
            }
            return Ok(cost);
        }
        let junction = Junction::of([&self.h_a, &self.h_b], damping);
        let images = weights.map(|w| junction.images(w));
        let before = junction.distances(weights, [&images[0], &images[1]]);
        let mut cost = Array2::zeros(before.dim());
        for (node, level) in levels.nodes().iter().enumerate() {
            let factor = junction.factor(*level)?;
            let pull = junction.pull(*level, &factor);
            let (of_before, of_after) = pull.parts();
            let features = [pull.features(&images[0]), pull.features(&images[1])];
            let after = half_distances(
                [features[0].t(), features[1].t()],
                [features[0].view(), features[1].view()],
            );
            Zip::indexed(&mut cost).and(&before).and(&after).par_for_each(|(i, j), d, h, v| {
                let balance = self.balance(i, j);
                let part = levels.part(node, balance.level);
                *d += balance.weight * part * (of_before * h + of_after * v);
            });
            factors.keep(node, factor, levels.nodes().len());
        }
        Ok(cost)
    }

    /// The two Hessians, if both are diagonal.
    pub(super) fn diagonals(&self, damping: f64) -> Option<Diagonals> {
        match (&self.h_a, &self.h_b) {
            (Hessian::Diagonal(a), Hessian::Diagonal(b)) => Some(Diagonals::of([a, b], damping)),
            _ => None,
        }
    }

    /// The levels between which those of all pairs lie. The level of a pair rises with the sensitivity of A's neuron
    /// and falls with that of B's.
    pub(super) fn levels(&self) -> Levels {
        if self.w_a.nrows() == 0 || self.w_b.nrows() == 0 {
            return Levels::even();
        }
        let extremes = |own: &Option<Array1<f64>>| {
            let wider = |(least, most): (f64, f64), s: &f64| (least.min(*s), most.max(*s));
            own.as_ref().map_or((1.0, 1.0), |own| own.iter().fold((f64::INFINITY, 0.0), wider))
        };
        let ((least_a, most_a), (least_b, most_b)) = (extremes(&self.s_a), extremes(&self.s_b));
        let ends = [Balance::of(least_a, most_b), Balance::of(most_a, least_b)];
        let mut levels = ends.iter().filter(|end| end.weight > 0.0).map(|end| end.level);
        let Some(low) = levels.next() else { return Levels::even() };
        Levels::between(low, levels.next().unwrap_or(low))
    }

    /// The weights of the tasks' errors for a pair.
    pub(super) fn balance(&self, i: usize, j: usize) -> Balance {
        if self.s_a.is_none() && self.s_b.is_none() {
            return Balance::EVEN;
        }
        Balance::of(sensitivity(&self.s_a, i), sensitivity(&self.s_b, j))
    }
}

pub(crate) fn not_finite() -> Error {
    Error::new(ErrorKind::Numeric, "a layer's weights are not finite")
        .hint("look for NaN and infinity in the model's weights and in the samples")
}

/// The weight of the error of neuron `index`.
pub(crate) fn sensitivity(sensitivities: &Option<Array1<f64>>, index: usize) -> f64 {
    sensitivities.as_ref().map_or(1.0, |s| s[index])
}

/// Factors of the two Hessians' sums by level. Costs and common weights use the same factors.
#[derive(Default)]
pub(crate) struct Factors {
    levels: BTreeMap<usize, Spd>,
}

impl Factors {
    /// Keeps the factor of one of `all` levels if there is memory for all.
    fn keep(&mut self, level: usize, factor: Spd, all: usize) {
        if factor.bytes().saturating_mul(all as u64) <= KEPT_BYTES {
            self.levels.insert(level, factor);
        }
    }

    /// The cached factor of a level.
    pub(crate) fn get(&self, level: usize) -> Option<&Spd> {
        self.levels.get(&level)
    }
}

#[cfg(test)]
pub(crate) mod tests;
