//! The common weights of shared neurons (sec. 3.3, eq. 10), and masks of sparse nets.

use std::collections::BTreeMap;

use ndarray::parallel::prelude::*;
use ndarray::{Array2, ArrayView1, ArrayView2, Axis, Zip};

use crate::calib::wide::widened;
use crate::error::Result;

use super::cholesky::Spd;
use super::diagonal::Diagonals;
use super::hessian::block;
use super::junction::{Junction, Pull};
use super::levels::Levels;
use super::pair_cost::{Factors, Problem, Weights, not_finite};
use super::shapes::check_pairs;

/// Places of pairs, with the parts that two levels have in their weights.
type Around = Vec<(usize, [f64; 2])>;

impl Problem {
    /// The common weights w = (H_A + H_B)⁻¹ (H_A w_i + H_B w_j) of each pair (i, j), one row per pair.
    ///
    /// With sensitivities, weights are computed at the two levels around s_i/s_j and interpolated, so that
    /// all pairs between two levels are solved at once. The error is flat around its optimum, so this loses
    /// less than half a percent.
    ///
    /// Computed as one neuron's weights plus a multiple of the difference, so that equal neurons
    /// keep their weights bit for bit.
    ///
    /// # Errors
    /// As [`Problem::cost`]; [`crate::error::ErrorKind::Usage`] where a pair names no neuron.
    pub fn fuse(&self, pairs: &[(usize, usize)], damping: f64) -> Result<Array2<f32>> {
        self.fuse_with(pairs, damping, &Factors::default())
    }

    /// [`Problem::fuse`] with given factors.
    pub(crate) fn fuse_with(
        &self,
        pairs: &[(usize, usize)],
        damping: f64,
        factors: &Factors,
    ) -> Result<Array2<f32>> {
        self.check()?;
        check_pairs(pairs, (self.w_a.nrows(), self.w_b.nrows()))?;
        if let Some(diagonals) = self.diagonals(damping) {
            return Ok(self.fuse_diagonals(&diagonals, pairs));
        }
        let (a, b): (Vec<usize>, Vec<usize>) = pairs.iter().copied().unzip();
        let junction = Junction::of([&self.h_a, &self.h_b], damping);
        // Neurons of the other side change by a multiple of the difference.
        let (own, mut weights) = match junction.is_a {
            true => (Rows { of: &self.w_a, taken: a }, self.w_b.select(Axis(0), &b)),
            false => (Rows { of: &self.w_b, taken: b }, self.w_a.select(Axis(0), &a)),
        };
        let levels = self.levels();
        let mut made = BTreeMap::<usize, Spd>::new();
        for ([low, high], members) in self.by_levels(&levels, pairs) {
            made.retain(|node, _| *node >= low);
            for node in [low, high] {
                if factors.get(node).is_none() && !made.contains_key(&node) {
                    made.insert(node, junction.factor(levels.nodes()[node])?);
                }
            }
            let factor = |node| factors.get(node).or(made.get(&node));
            let pull = |node| Some(junction.pull(levels.nodes()[node], factor(node)?));
            let pulls = [pull(low), pull(high).filter(|_| low < high)];
            for members in members.chunks(block(weights.ncols())) {
                own.pull(members, &pulls, &junction, &mut weights);
            }
        }
        if weights.iter().any(|w| !w.is_finite()) {
            return Err(not_finite());
        }
        Ok(weights)
    }

    /// The common weights of pairs under diagonal Hessians.
    fn fuse_diagonals(&self, diagonals: &Diagonals, pairs: &[(usize, usize)]) -> Array2<f32> {
        let places: Vec<usize> = pairs.iter().map(|(_, j)| *j).collect();
        let mut fused = self.w_b.select(Axis(0), &places);
        let levels = self.levels();
        let rows = fused.axis_iter_mut(Axis(0)).into_par_iter().zip(pairs);
        rows.for_each(|(row, (i, j))| {
            let around = levels.around(self.balance(*i, *j).level);
            let around = around.map(|(node, part)| (levels.nodes()[node], part));
            diagonals.join(self.w_a.row(*i), row, around);
        });
        fused
    }

    /// The pairs' places in `pairs` by the levels around them, with the parts of these levels.
    fn by_levels(&self, levels: &Levels, pairs: &[(usize, usize)]) -> BTreeMap<[usize; 2], Around> {
        let mut by_levels = BTreeMap::<[usize; 2], Around>::new();
        for (place, &(i, j)) in pairs.iter().enumerate() {
            let [(low, of_low), (high, of_high)] = levels.around(self.balance(i, j).level);
            by_levels.entry([low, high]).or_default().push((place, [of_low, of_high]));
        }
        by_levels
    }
}

/// The neurons towards which those of the other side change.
struct Rows<'a> {
    of: &'a Weights,
    /// The row of each pair.
    taken: Vec<usize>,
}

impl Rows<'_> {
    /// Adds the steps of some pairs at two levels, by their parts, to `weights`, the other neurons.
    fn pull(
        &self,
        members: &[(usize, [f64; 2])],
        pulls: &[Option<Pull>; 2],
        junction: &Junction,
        weights: &mut Array2<f32>,
    ) {
        let rows: Vec<usize> = members.iter().map(|(pair, _)| self.taken[*pair]).collect();
        let mut difference = widened(self.of.select(Axis(0), &rows).view());
        for ((pair, _), mut difference) in members.iter().zip(difference.rows_mut()) {
            difference.zip_mut_with(&weights.row(*pair), |own, w| *own -= f64::from(*w));
        }
        let images = junction.images(difference.view());
        for (side, pull) in pulls.iter().enumerate() {
            let Some(pull) = pull else { continue };
            let steps = pull.steps(&difference, &images);
            for ((pair, parts), step) in members.iter().zip(steps.rows()) {
                let mut fused = weights.row_mut(*pair);
                let add =
                    |w: &mut f32, step: &f64| *w = (f64::from(*w) + parts[side] * step) as f32;
                fused.zip_mut_with(&step, add);
            }
        }
    }
}

/// Keeps fused neurons as sparse as the nets were (sec. 3.6). Zeros mean "no connection". Applies the
/// mask with more ones of the two neurons' masks, or A's mask on a tie. Rows are pairs.
///
/// # Panics
/// Where the shapes differ.
pub fn apply_masks(fused: &mut Array2<f32>, w_a: ArrayView2<f32>, w_b: ArrayView2<f32>) {
    Zip::from(fused.rows_mut()).and(w_a.rows()).and(w_b.rows()).for_each(|mut w, a, b| {
        let ones = |row: &ArrayView1<f32>| row.iter().filter(|v| **v != 0.0).count();
        let mask = if ones(&b) > ones(&a) { b } else { a };
        w.zip_mut_with(&mask, |w, m| {
            if *m == 0.0 {
                *w = 0.0
            }
        });
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calib::product::tests::on_threads;
    use crate::mtz::solver::cholesky::DAMPING;
    use crate::mtz::solver::hessian::Hessian;
    use crate::mtz::solver::pair_cost::Metric;
    use crate::mtz::solver::pair_cost::tests::{matrix, problem, sensitivities};
    use ndarray::{Array1, array};
    use ndarray_linalg::Inverse;
    use proptest::prelude::*;

    const PAIRS: [(usize, usize); 3] = [(0, 2), (3, 0), (1, 1)];

    /// s_i e_A + s_j e_B of one pair.
    fn weighted_error(p: &Problem, fused: &Array2<f32>, pair: usize) -> f64 {
        let (i, j) = PAIRS[pair];
        let s = |s: &Option<Array1<f64>>, i: usize| s.as_ref().map_or(1.0, |s| s[i]);
        let error = |h: &Hessian, w: ArrayView1<f32>| {
            let change = fused.row(pair).mapv(f64::from) - w.mapv(f64::from);
            h.mean_square(change.insert_axis(Axis(0)).view())[0]
        };
        s(&p.s_a, i) * error(&p.h_a, p.w_a.row(i)) + s(&p.s_b, j) * error(&p.h_b, p.w_b.row(j))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn common_weights_are_eq_10(inputs in 1usize..12, seed: u64) {
            let p = problem(inputs, 4, 3, seed);
            let fused = p.fuse(&PAIRS, 0.0).unwrap();
            let (h_a, h_b) = (matrix(&p.h_a), matrix(&p.h_b));
            let inverse = (&h_a + &h_b).inv().unwrap();
            let cost = p.cost(Metric::Hessian, 0.0).unwrap();
            for (k, &(i, j)) in PAIRS.iter().enumerate() {
                let (w_a, w_b) = (p.w_a.row(i).mapv(f64::from), p.w_b.row(j).mapv(f64::from));
                let naive = inverse.dot(&(h_a.dot(&w_a) + h_b.dot(&w_b)));
                let near = |(n, w): (&f64, &f32)| (n - f64::from(*w)).abs() < 1e-6 * (1.0 + n.abs());
                prop_assert!(naive.iter().zip(fused.row(k)).all(near));
                prop_assert!((weighted_error(&p, &fused, k) / 2.0 - cost[(i, j)]).abs() < 1e-9);
            }
        }

        #[test]
        fn with_sensitivities_the_error_is_as_predicted(inputs in 1usize..12, seed: u64) {
            let mut p = problem(inputs, 4, 3, seed);
            p.s_a = sensitivities(4, seed ^ 4);
            p.s_b = sensitivities(3, seed ^ 5);
            let fused = p.fuse(&PAIRS, 0.0).unwrap();
            let cost = p.cost(Metric::Hessian, 0.0).unwrap();
            for (k, pair) in PAIRS.iter().enumerate() {
                let error = weighted_error(&p, &fused, k) / 2.0;
                prop_assert!((error / cost[*pair] - 1.0).abs() < 0.05);
            }
        }
    }

    #[test]
    fn equal_neurons_keep_their_weights_bit_for_bit() {
        let mut p = problem(20, 4, 3, 1);
        for (i, j) in PAIRS {
            let weights = p.w_a.row(i).to_owned();
            p.w_b.row_mut(j).assign(&weights);
        }
        for _ in 0..2 {
            let fused = p.fuse(&PAIRS, DAMPING).unwrap();
            assert_eq!(fused, p.w_a.select(Axis(0), &[0, 3, 1]));
            std::mem::swap(&mut p.h_a, &mut p.h_b);
        }
    }

    #[test]
    fn no_pairs_are_fused_to_no_weights() {
        assert_eq!(problem(4, 2, 2, 1).fuse(&[], DAMPING).unwrap().dim(), (0, 4));
    }

    #[test]
    fn same_bits_on_any_number_of_threads() {
        let mut p = problem(500, 90, 90, 1);
        p.s_b = sensitivities(90, 2);
        let pairs: Vec<_> = (0..90).map(|i| (i, 89 - i)).collect();
        let run = |threads| on_threads(threads, || p.fuse(&pairs, DAMPING).unwrap());
        assert_eq!(run(1), run(3));
    }

    #[test]
    fn the_mask_with_more_ones_is_applied() {
        let mut fused = array![[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]];
        let w_a = array![[1.0, 0.0, 1.0], [0.0, 0.0, 1.0]];
        let w_b = array![[0.0, 1.0, 0.0], [1.0, 1.0, 0.0]];
        apply_masks(&mut fused, w_a.view(), w_b.view());
        assert_eq!(fused, array![[1.0, 0.0, 3.0], [4.0, 5.0, 0.0]]);
    }
}
