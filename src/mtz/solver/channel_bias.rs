//! Channels of depthwise layers whose tasks keep their own biases.
//!
//! The constant input, the last one, is private then, and is eliminated from each channel's Hessian: the Schur
//! complement H_ww − h hᵀ/H_cc is the covariance of the window's inputs. If weights change, the bias makes up
//! for the change of the mean.

use ndarray::{Array2, Array3, ArrayView1, Axis, s};

/// What is added to variances, as a part of the second moments.
const ROUNDING: f64 = 1e-6;

/// The windows of a layer's channels, without the constant input.
pub(crate) struct Windows {
    /// Covariances, n × (k−1) × (k−1).
    pub(crate) hessians: Array3<f64>,
    /// Means h/H_cc, n × (k−1).
    means: Array2<f64>,
}

impl Windows {
    /// From Hessians over the inputs and the constant, n × k × k. A channel without samples has zeros.
    pub(crate) fn of(hessians: &Array3<f64>) -> Windows {
        let (channels, inputs, _) = hessians.dim();
        let taps = inputs.saturating_sub(1);
        let mut covariances = hessians.slice(s![.., ..taps, ..taps]).to_owned();
        let mut means = Array2::zeros((channels, taps));
        for (channel, mut covariance) in covariances.axis_iter_mut(Axis(0)).enumerate() {
            let weight = hessians[(channel, taps, taps)];
            if weight <= 0.0 {
                continue;
            }
            let sums = hessians.slice(s![channel, taps, ..taps]);
            let mean = sums.mapv(|sum| sum / weight);
            for ((row, column), entry) in covariance.indexed_iter_mut() {
                *entry -= sums[row] * mean[column];
            }
            // Moments are sums of products in single precision. Where inputs hardly vary, their rounding must
            // not make the difference indefinite.
            let moments = hessians.index_axis(Axis(0), channel);
            let diagonal = covariance.diag_mut().into_iter().zip(moments.diag());
            diagonal.for_each(|(entry, moment)| *entry = entry.max(0.0) + ROUNDING * moment);
            means.row_mut(channel).assign(&mean);
        }
        Windows { hessians: covariances, means }
    }

    /// What a channel's bias gains where its weights change from `before` to `after`.
    pub(super) fn shift(
        &self,
        channel: usize,
        before: ArrayView1<'_, f64>,
        after: ArrayView1<'_, f64>,
    ) -> f64 {
        let changed = before.iter().zip(after).zip(self.means.row(channel));
        changed.map(|((before, after), mean)| (before - after) * mean).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mtz::solver::channelwise::{ChannelNeuron, common_weights};
    use ndarray::{Array1, stack};
    use ndarray_linalg::Solve;
    use proptest::prelude::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    const TAPS: usize = 4;

    /// The second moments of random rows whose last entry is the constant.
    fn moments(seed: u64) -> Array3<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut sum = Array2::zeros((TAPS + 1, TAPS + 1));
        for _ in 0..40 {
            let mut row = Array1::from_shape_fn(TAPS + 1, |_| random.random::<f64>());
            row[TAPS] = 1.0;
            let (column, row) = (row.clone().insert_axis(Axis(1)), row.insert_axis(Axis(0)));
            sum += &(column.dot(&row) / 40.0);
        }
        sum.insert_axis(Axis(0))
    }

    fn weights(seed: u64) -> Array1<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        Array1::from_shape_fn(TAPS + 1, |_| random.random::<f64>() - 0.5)
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(32))]
        /// Weights and both biases follow from one least-squares problem over all of them.
        #[test]
        fn common_weights_with_own_biases_are_the_best_ones(seed: u64) {
            let (h_a, h_b) = (moments(seed), moments(!seed));
            let (w_a, w_b) = (weights(seed ^ 1), weights(seed ^ 2));
            // Unknowns are the common weights, the bias of A and that of B.
            let mut system = Array2::<f64>::zeros((TAPS + 2, TAPS + 2));
            let mut wanted = Array1::<f64>::zeros(TAPS + 2);
            for (h, w, bias) in [(&h_a, &w_a, TAPS), (&h_b, &w_b, TAPS + 1)] {
                let h = h.index_axis(Axis(0), 0);
                let pull = h.dot(w);
                let place = |at: usize| if at < TAPS { at } else { bias };
                for row in 0..=TAPS {
                    wanted[place(row)] += pull[row];
                    for column in 0..=TAPS {
                        system[(place(row), place(column))] += h[(row, column)];
                    }
                }
            }
            let best: Array1<f64> = system.solve(&wanted).unwrap();
            let windows = [Windows::of(&h_a), Windows::of(&h_b)];
            let taps = |w: &Array1<f64>| w.slice(s![..TAPS]).to_owned();
            let both = stack![Axis(0), taps(&w_a), taps(&w_b)];
            let channels: Vec<ChannelNeuron<'_>> = windows
                .iter()
                .zip(both.rows())
                .map(|(windows, weights)| ChannelNeuron {
                    hessian: windows.hessians.index_axis(Axis(0), 0),
                    weights,
                    importance: 1.0,
                })
                .collect();
            let common = common_weights(&channels, 0.0).unwrap();
            for (at, (windows, w)) in windows.iter().zip([&w_a, &w_b]).enumerate() {
                let bias = w[TAPS] + windows.shift(0, w.slice(s![..TAPS]), common.view());
                prop_assert!((bias - best[TAPS + at]).abs() < 1e-3, "{bias} {}", best[TAPS + at]);
            }
            prop_assert!(common.iter().zip(&best).all(|(a, b)| (a - b).abs() < 1e-3));
        }
    }

    #[test]
    fn inputs_that_never_vary_are_harmless() {
        let constant = Array3::from_elem((1, TAPS + 1, TAPS + 1), 1.0 + 1e-7);
        for moments in [constant, Array3::zeros((1, TAPS + 1, TAPS + 1))] {
            let windows = Windows::of(&moments);
            let zeros = Array1::zeros(TAPS);
            let ones = Array1::ones(TAPS);
            let neuron = |weights| ChannelNeuron {
                hessian: windows.hessians.index_axis(Axis(0), 0),
                weights,
                importance: 1.0,
            };
            let common =
                common_weights(&[neuron(zeros.view()), neuron(ones.view())], 1e-4).unwrap();
            assert!(common.iter().all(|w| (w - 0.5).abs() < 1e-6));
        }
    }
}
