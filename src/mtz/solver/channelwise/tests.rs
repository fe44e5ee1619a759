use super::*;
use crate::calib::product::tests::random;
use crate::mtz::solver::cholesky::DAMPING;
use crate::mtz::solver::pair_cost::Problem;
use crate::mtz::solver::pair_cost::tests::{sensitivities, single, spd};
use ndarray::{array, stack};
use proptest::prelude::*;

fn hessians(n: usize, k: usize, seed: u64) -> Array3<f64> {
    let each: Vec<_> = (0..n as u64).map(|i| spd(k, seed + i)).collect();
    stack(Axis(0), &each.iter().map(|h| h.view()).collect::<Vec<_>>()).unwrap()
}

/// More channels of B than lie side by side.
const OTHERS: usize = LANES + 3;

fn problem(k: usize) -> ChannelwiseProblem {
    ChannelwiseProblem {
        h_a: hessians(4, k, 10),
        h_b: hessians(OTHERS, k, 20),
        w_a: single(random(4, k, 1)).mapv(f64::from),
        w_b: single(random(OTHERS, k, 2)).mapv(f64::from),
        s_a: None,
        s_b: None,
    }
}

/// The same pair as a layer of one neuron each, sensitivities multiplied into the Hessians.
fn alone(p: &ChannelwiseProblem, i: usize, j: usize) -> Problem {
    let row = |w: &Array2<f64>, i| single(w.select(Axis(0), &[i]));
    Problem {
        h_a: (&p.h_a.index_axis(Axis(0), i) * sensitivity(&p.s_a, i)).into(),
        h_b: (&p.h_b.index_axis(Axis(0), j) * sensitivity(&p.s_b, j)).into(),
        w_a: row(&p.w_a, i),
        w_b: row(&p.w_b, j),
        s_a: None,
        s_b: None,
    }
}

/// The common weights of a pair.
fn fused(p: &ChannelwiseProblem, (i, j): (usize, usize), damping: f64) -> Array1<f64> {
    let (h_a, h_b) = p.hessians(i, j);
    let channel = |hessian, weights, importance| ChannelNeuron { hessian, weights, importance };
    let a = channel(h_a, p.w_a.row(i), sensitivity(&p.s_a, i));
    let b = channel(h_b, p.w_b.row(j), sensitivity(&p.s_b, j));
    common_weights(&[a, b], damping).unwrap()
}

#[test]
fn every_pair_is_a_layer_of_its_own() {
    for k in [1, 2, 10] {
        let plain = problem(k);
        let (s_a, s_b) = (sensitivities(4, 3), sensitivities(OTHERS, 4));
        let sensitive = ChannelwiseProblem { s_a, s_b, ..plain.clone() };
        for p in [plain, sensitive] {
            let cost = p.cost(Metric::Hessian, DAMPING).unwrap();
            for ((i, j), d) in cost.indexed_iter() {
                let single = alone(&p, i, j);
                let expected = single.cost(Metric::Hessian, DAMPING).unwrap()[(0, 0)];
                assert!((d - expected).abs() < 1e-10 * (1.0 + expected));
                let weights = fused(&p, (i, j), DAMPING);
                let wanted = single.fuse(&[(0, 0)], DAMPING).unwrap();
                let wanted = wanted.row(0).mapv(f64::from);
                assert!((&weights - &wanted).iter().all(|d| d.abs() < 1e-6));
            }
        }
    }
}

/// ½ δᵀ A (A + B)⁻¹ B δ with a whole substitution, and ½ δᵀ A δ.
fn naive(p: &ChannelwiseProblem, (i, j): (usize, usize), damping: f64) -> (f64, f64) {
    let ridged = |h: ArrayView2<'_, f64>| {
        let ridge = ridge(h, damping.max(LEAST_DAMPING));
        &h + &(Array2::<f64>::eye(h.nrows()) * ridge)
    };
    let (h_a, h_b) = p.hessians(i, j);
    let (h_a, h_b) = (ridged(h_a), ridged(h_b));
    let delta = p.delta(i, j);
    let mut step = h_b.dot(&delta).to_vec();
    solve_small(&mut (&h_a + &h_b).into_raw_vec_and_offset().0, &mut step).unwrap();
    let pull = h_a.dot(&delta);
    (pull.dot(&Array1::from(step)) / 2.0, pull.dot(&delta) / 2.0)
}

proptest! {
    #[test]
    fn half_a_substitution_is_enough(k in 1usize..27, rows in 1usize..40, scale in -6.0..6.0f64, seed: u64) {
        // Fewer rows than weights, too, and nets of other scales.
        let hessians = |n: u64, factor: f64| {
            let each: Vec<_> = (0..n)
                .map(|i| random(rows, k, seed ^ n ^ (i << 8)))
                .map(|x| x.t().dot(&x) * (factor / rows as f64))
                .collect();
            stack(Axis(0), &each.iter().map(|h| h.view()).collect::<Vec<_>>()).unwrap()
        };
        let (n_a, n_b) = (2, OTHERS);
        let p = ChannelwiseProblem {
            h_a: hessians(n_a as u64, scale.exp()),
            h_b: hessians(n_b as u64, 1.0),
            w_a: random(n_a, k, seed ^ 3),
            w_b: random(n_b, k, seed ^ 4),
            s_a: None,
            s_b: None,
        };
        for (at, d) in p.cost(Metric::Hessian, 0.0).unwrap().indexed_iter() {
            let (expected, alone) = naive(&p, at, 0.0);
            prop_assert!((d - expected).abs() <= 1e-8 * alone, "{} for {}", d, expected);
        }
    }
}

#[test]
fn what_is_not_positive_definite_is_an_error_unless_channels_are_equal() {
    let mut p = problem(3);
    p.h_b.index_axis_mut(Axis(0), LANES + 1).assign(&(Array2::<f64>::eye(3) * -50.0));
    let error = p.cost(Metric::Hessian, DAMPING).unwrap_err();
    assert!(error.to_string().contains("not positive definite"), "{error}");
    p.w_a.outer_iter_mut().for_each(|mut w| w.assign(&p.w_b.row(LANES + 1)));
    assert_eq!(p.cost(Metric::Hessian, DAMPING).unwrap()[(2, LANES + 1)], 0.0);
    p.w_a[(1, 0)] = f64::INFINITY;
    assert_eq!(p.cost(Metric::Hessian, DAMPING).unwrap_err().kind(), ErrorKind::Numeric);
}

#[test]
fn other_metrics_are_plain_distances() {
    let p = problem(3);
    for metric in [Metric::Weight, Metric::Activation] {
        for ((i, j), d) in p.cost(metric, 0.0).unwrap().indexed_iter() {
            let expected = alone(&p, i, j).cost(metric, 0.0).unwrap()[(0, 0)];
            assert!((d - expected).abs() < 1e-12);
        }
    }
}

#[test]
fn costs_of_some_channels_are_those_among_all() {
    let p = problem(3);
    let some = ChannelwiseProblem {
        h_a: p.h_a.select(Axis(0), &[3, 1]),
        w_a: p.w_a.select(Axis(0), &[3, 1]),
        ..p.clone()
    };
    for metric in [Metric::Hessian, Metric::Weight, Metric::Activation] {
        let [all, some] = [&p, &some].map(|p| p.cost(metric, DAMPING).unwrap());
        assert_eq!(some, all.select(Axis(0), &[3, 1]));
    }
}

#[test]
fn equal_and_dead_channels_are_harmless() {
    let mut p = problem(3);
    p.h_a.index_axis_mut(Axis(0), 1).fill(0.0);
    p.h_b.index_axis_mut(Axis(0), 1).fill(0.0);
    p.w_b.row_mut(2).assign(&p.w_a.row(0));
    p.s_a = Some(array![1.0, 1.0, 0.0, 1.0]);
    let cost = p.cost(Metric::Hessian, 0.0).unwrap();
    assert_eq!(cost[(0, 2)], 0.0);
    assert!(cost[(1, 1)] < 1e-12);
    assert_eq!(fused(&p, (0, 2), 0.0), p.w_a.row(0));
    assert_eq!(fused(&p, (2, 0), 0.0), p.w_b.row(0));
}

#[test]
fn what_is_not_a_number_is_a_numeric_error() {
    let mut p = problem(3);
    p.h_a[(0, 0, 0)] = f64::NAN;
    let error = p.cost(Metric::Hessian, DAMPING).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Numeric);
}
