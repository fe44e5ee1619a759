//! Common weights of all neurons of a layer together, under the outputs' metric.
//!
//! Eq. 10 takes each pair by itself: the error of a neuron counts by its own sensitivity. But errors of
//! several neurons add up or cancel out at the outputs. With G_t = E[g gᵀ], g the gradient of the outputs
//! by the pre-activations in task t, the error Σ_t tr(G_t (W − W_t) H_t (W − W_t)ᵀ) counts them together.
//! Its optimum solves Σ_t G_t W H_t = Σ_t G_t W_t H_t, here by conjugate gradients that start from the
//! weights of eq. 10 and so never have a larger error than these.

use ndarray::{Array2, ArrayView2, Axis};

use crate::calib::product::{submatrix, times};
use crate::calib::wide::widened;
use crate::error::Result;

use super::cholesky::Spd;
use super::hessian::{Hessian, Scaled};
use super::neuron_set::NeuronSet;
use super::pair_cost::Weights;

/// Steps of conjugate gradients at most.
const STEPS: usize = 24;

/// The part of the first residual at which they end.
const ENOUGH: f64 = 1e-3;

/// What is added to the diagonal of each G, relative to its mean: errors count by themselves to this part.
const APART: f64 = 0.1;

/// A member of a neuron set before it joined others.
pub(crate) struct Origin {
    /// Its place among the members of the site.
    pub(crate) at: usize,
    /// Its Hessian over its common inputs.
    pub(crate) hessian: Hessian,
    /// Its weights for these inputs.
    pub(crate) weights: Weights,
    /// These inputs.
    pub(crate) inputs: Vec<usize>,
    /// G over its neurons.
    pub(crate) metric: Array2<f64>,
}

/// One task's part of the error.
struct Part {
    /// H
    hessian: Scaled,
    /// λ, which is added to the diagonal of H.
    ridge: f64,
    /// G over the set's neurons.
    metric: Array2<f64>,
    /// W_t
    weights: Array2<f64>,
}

impl NeuronSet {
    /// Changes the common weights of the set's neurons to those with the least error together. Sets
    /// with corrections, with zeros that mean something, or of tasks with different inputs stay.
    ///
    /// # Errors
    /// As [`Spd::factor`].
    pub(crate) fn weigh_together(&mut self, origins: &[Origin], damping: f64) -> Result<()> {
        let Some(mut parts) = self.parts(origins, damping) else { return Ok(()) };
        // Equal neurons keep their weights.
        let differ = |row: &usize| {
            parts.iter().any(|part| part.weights.row(*row) != parts[0].weights.row(*row))
        };
        let open: Vec<usize> = (0..self.rows.len()).filter(differ).collect();
        if open.is_empty() {
            return Ok(());
        }
        for part in &mut parts {
            part.metric = submatrix(part.metric.view(), &open, &open);
            part.weights = part.weights.select(Axis(0), &open);
        }
        let start = widened(self.weights.select(Axis(0), &open).view());
        let step = solve(&parts, start.view())?;
        let found = (start + step).mapv(|w| w as f32);
        if found.iter().all(|w| w.is_finite()) {
            let new = open.iter().zip(found.rows());
            new.for_each(|(row, new)| self.weights.row_mut(*row).assign(&new));
        }
        Ok(())
    }

    /// Each task's part of the error; `None` where the weights stay.
    fn parts(&self, origins: &[Origin], damping: f64) -> Option<Vec<Part>> {
        if self.sparse || !self.corrections.is_empty() || self.members.len() < 2 {
            return None;
        }
        let members = self.members.iter().enumerate().map(|(nth, member)| {
            let origin = origins.iter().find(|origin| origin.at == *member)?;
            let Hessian::Dense(hessian) = &origin.hessian else { return None };
            let rows: Vec<usize> = self.rows.iter().map(|rows| rows[nth]).collect();
            let metric = submatrix(origin.metric.view(), &rows, &rows);
            (origin.inputs == self.inputs && metric.diag().sum() > 0.0).then(|| Part {
                hessian: hessian.clone(),
                ridge: origin.hessian.ridge(damping),
                metric: apart(metric),
                weights: widened(origin.weights.select(Axis(0), &rows).view()),
            })
        });
        members.collect()
    }
}

/// G with errors that count by themselves to a part.
fn apart(mut metric: Array2<f64>) -> Array2<f64> {
    let mean = metric.diag().mean().unwrap_or(0.0);
    metric.diag_mut().mapv_inplace(|entry| entry + APART * mean);
    metric
}

/// The step X from `start` to the optimum: Σ_t G_t X H_t = Σ_t G_t (W_t − W) H_t.
fn solve(parts: &[Part], start: ArrayView2<f64>) -> Result<Array2<f64>> {
    let mut residual = Array2::zeros(start.dim());
    for part in parts {
        residual += &part.image((&part.weights - &start).view());
    }
    let (rows, columns) = start.dim();
    let (mut metric, mut hessian) =
        (Array2::zeros((rows, rows)), Array2::zeros((columns, columns)));
    for part in parts {
        metric += &part.metric;
        hessian.scaled_add(part.hessian.factor(), &part.hessian.matrix());
    }
    let left = Spd::factor(metric.view(), 0.0)?;
    let right = Spd::factor(hessian.view(), parts.iter().map(|part| part.ridge).sum())?;
    let precondition = |residual: &Array2<f64>| {
        let half = left.solve(residual.view());
        right.solve(half.t()).reversed_axes()
    };
    let mut step = Array2::zeros(start.dim());
    let mut along = precondition(&residual);
    let mut energy = dot(&residual, &along);
    let enough = ENOUGH * ENOUGH * energy;
    for _ in 0..STEPS {
        if energy.is_nan() || energy <= enough {
            break;
        }
        let mut image = Array2::zeros(start.dim());
        for part in parts {
            image += &part.image(along.view());
        }
        let curvature = dot(&along, &image);
        if curvature.is_nan() || curvature <= 0.0 {
            break;
        }
        let length = energy / curvature;
        step.scaled_add(length, &along);
        residual.scaled_add(-length, &image);
        let next = precondition(&residual);
        let left = dot(&residual, &next);
        along = next + along * (left / energy);
        energy = left;
    }
    Ok(step)
}

impl Part {
    /// G X (H + λI)
    fn image(&self, x: ArrayView2<f64>) -> Array2<f64> {
        let mut image = times(x, self.hessian.matrix()) * self.hessian.factor();
        image.scaled_add(self.ridge, &x);
        times(self.metric.view(), image.view())
    }
}

fn dot(a: &Array2<f64>, b: &Array2<f64>) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::solver::cholesky::DAMPING;
    use crate::mtz::solver::options::SolverOptions;
    use crate::mtz::solver::pair_cost::Metric;
    use crate::mtz::solver::pair_cost::tests::{matrix, problem, spd};
    use proptest::prelude::*;

    const NEURONS: usize = 5;
    const OPTIONS: SolverOptions =
        SolverOptions { compensates: true, metric: Metric::Hessian, damping: DAMPING };

    /// Two layers with a neuron in common, and the set in which they share all, neuron by neuron.
    fn joined(inputs: usize, metrics: [Array2<f64>; 2], seed: u64) -> (Vec<Origin>, NeuronSet) {
        let mut p = problem(inputs, NEURONS, NEURONS, seed);
        let equal = p.w_a.row(2).to_owned();
        p.w_b.row_mut(2).assign(&equal);
        let sides = [(&p.h_a, &p.w_a), (&p.h_b, &p.w_b)].into_iter().zip(metrics).enumerate();
        let origins: Vec<Origin> = sides
            .map(|(at, ((hessian, weights), metric))| Origin {
                at,
                hessian: hessian.clone(),
                weights: weights.clone(),
                inputs: (0..inputs).collect(),
                metric,
            })
            .collect();
        let set = |origin: &Origin| NeuronSet {
            members: vec![origin.at],
            inputs: origin.inputs.clone(),
            hessian: origin.hessian.clone(),
            weights: origin.weights.clone(),
            importance: Some(origin.metric.diag().to_owned()),
            rows: (0..NEURONS).map(|row| vec![row]).collect(),
            sparse: false,
            constant: inputs,
            wish: None,
            is_whole: false,
            scales: false,
            corrections: Vec::new(),
        };
        let (a, b) = (set(&origins[0]), set(&origins[1]));
        let pairs: Vec<_> = (0..NEURONS).map(|n| (n, n)).collect();
        let problem = a.pair_problem(&b, OPTIONS).unwrap();
        let joined = problem.join(&a, &b, &pairs, false, OPTIONS).unwrap();
        (origins, joined)
    }

    /// Σ_t G_t (W − W_t) H_t and half of its product with what changed, the error.
    fn slope_and_error(origins: &[Origin], set: &NeuronSet) -> (Array2<f64>, f64) {
        let mut slope = Array2::zeros(set.weights.dim());
        let mut error = 0.0;
        for origin in origins {
            let off = widened(set.weights.view()) - widened(origin.weights.view());
            let mut hessian = matrix(&origin.hessian);
            let ridge = origin.hessian.ridge(DAMPING);
            hessian.diag_mut().mapv_inplace(|entry| entry + ridge);
            let image = apart(origin.metric.clone()).dot(&off).dot(&hessian);
            error += dot(&off, &image) / 2.0;
            slope += &image;
        }
        (slope, error)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        #[test]
        fn weights_together_are_the_best_ones(inputs in 2usize..9, seed: u64) {
            let metrics = [spd(NEURONS, seed ^ 7), spd(NEURONS, seed ^ 8)];
            let (origins, mut set) = joined(inputs, metrics, seed);
            let before = set.weights.clone();
            let (first, most) = slope_and_error(&origins, &set);
            set.weigh_together(&origins, DAMPING).unwrap();
            let (last, least) = slope_and_error(&origins, &set);
            prop_assert!(least <= most * (1.0 + 1e-6));
            prop_assert_eq!(set.weights.row(2), before.row(2));
            for row in [0, 1, 3, 4] {
                let size = |slope: &Array2<f64>| slope.row(row).dot(&slope.row(row)).sqrt();
                prop_assert!(size(&last) < 0.05 * first.iter().map(|v| v.abs()).sum::<f64>());
            }
        }

        #[test]
        fn errors_that_count_alike_by_themselves_change_nothing(inputs in 2usize..9, seed: u64) {
            let (origins, mut set) = joined(inputs, [Array2::eye(NEURONS), Array2::eye(NEURONS)], seed);
            let before = set.weights.clone();
            set.weigh_together(&origins, DAMPING).unwrap();
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-3 * (1.0 + a.abs());
            prop_assert!(before.iter().zip(&set.weights).all(near));
        }
    }

    #[test]
    fn sets_with_zeros_that_mean_something_stay() {
        let metrics = [spd(NEURONS, 1), spd(NEURONS, 2)];
        let (origins, mut set) = joined(6, metrics, 3);
        let before = set.weights.clone();
        let mut sparse = NeuronSet { sparse: true, ..set.clone() };
        sparse.weigh_together(&origins, DAMPING).unwrap();
        assert_eq!(sparse.weights, before);
        set.weigh_together(&origins[..1], DAMPING).unwrap();
        assert_eq!(set.weights, before);
        set.weigh_together(&origins, DAMPING).unwrap();
        assert_ne!(set.weights, before);
    }
}
