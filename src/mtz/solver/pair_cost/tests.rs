use super::*;
use crate::calib::product::tests::{on_threads, random};
use crate::mtz::matching::{Matcher, Optimal, Share};
use crate::mtz::solver::cholesky::DAMPING;
use ndarray::Axis;
use ndarray_linalg::Inverse;
use proptest::prelude::*;

pub(crate) fn spd(size: usize, seed: u64) -> Array2<f64> {
    let x = random(size + 4, size, seed);
    x.t().dot(&x) / size as f64 + Array2::<f64>::eye(size) * 0.05
}

pub(crate) fn problem(inputs: usize, n_a: usize, n_b: usize, seed: u64) -> Problem {
    Problem {
        h_a: spd(inputs, seed).into(),
        h_b: (spd(inputs, seed ^ 1) * 0.3).into(),
        w_a: single(random(n_a, inputs, seed ^ 2)),
        w_b: single(random(n_b, inputs, seed ^ 3)),
        s_a: None,
        s_b: None,
    }
}

/// Weights, rounded to single precision.
pub(in crate::mtz::solver) fn single(weights: Array2<f64>) -> Weights {
    weights.mapv(|w| w as f32).into_shared()
}

/// The matrix of a dense Hessian.
pub(in crate::mtz::solver) fn matrix(hessian: &Hessian) -> Array2<f64> {
    let dense = hessian.dense();
    &dense.matrix() * dense.factor()
}

/// The difference of two neurons' weights.
fn delta(p: &Problem, i: usize, j: usize) -> Array1<f64> {
    p.w_a.row(i).mapv(f64::from) - p.w_b.row(j).mapv(f64::from)
}

/// Sensitivities whose logarithms spread over ±1.
pub(crate) fn sensitivities(n: usize, seed: u64) -> Option<Array1<f64>> {
    Some(random(1, n, seed).row(0).mapv(f64::exp))
}

/// Eq. 12 as the paper prints it: ½ δᵀ (H_A⁻¹ + H_B⁻¹)⁻¹ δ.
fn three_inverses(p: &Problem, i: usize, j: usize) -> f64 {
    let h_a = matrix(&p.h_a) * sensitivity(&p.s_a, i);
    let h_b = matrix(&p.h_b) * sensitivity(&p.s_b, j);
    let middle = (h_a.inv().unwrap() + h_b.inv().unwrap()).inv().unwrap();
    let delta = delta(p, i, j);
    middle.dot(&delta).dot(&delta) / 2.0
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn cost_is_the_papers_with_its_three_inverses(inputs in 1usize..12, a in 1usize..5, b in 1usize..5, seed: u64) {
        let p = problem(inputs, a, b, seed);
        for ((i, j), cost) in p.cost(Metric::Hessian, 0.0).unwrap().indexed_iter() {
            let naive = three_inverses(&p, i, j);
            prop_assert!((cost - naive).abs() <= 1e-10 * (1.0 + naive));
        }
    }

    #[test]
    fn sensitivities_weigh_the_errors_of_the_two_tasks(inputs in 1usize..12, seed: u64) {
        let mut p = problem(inputs, 4, 3, seed);
        p.s_a = sensitivities(4, seed ^ 4);
        p.s_b = sensitivities(3, seed ^ 5);
        for ((i, j), cost) in p.cost(Metric::Hessian, 0.0).unwrap().indexed_iter() {
            let naive = three_inverses(&p, i, j);
            prop_assert!((cost / naive - 1.0).abs() < 0.02, "{} for {}", cost, naive);
        }
    }

    #[test]
    fn levels_lie_between_those_of_all_pairs(a in 0usize..5, b in 0usize..4, zeros in 0usize..16, seed: u64) {
        let mut p = problem(3, a, b, seed);
        p.s_a = sensitivities(a, seed ^ 4).map(|s| s.mapv(|s| s * s));
        p.s_b = sensitivities(b, seed ^ 5);
        for (side, own) in [&mut p.s_a, &mut p.s_b].into_iter().enumerate() {
            let own = own.as_mut().unwrap();
            (0..own.len().min(2)).filter(|at| zeros >> (2 * side + at) & 1 == 1).for_each(|at| own[at] = 0.0);
        }
        let pairs = (0..a).flat_map(|i| (0..b).map(move |j| (i, j)));
        let balances = pairs.map(|(i, j)| p.balance(i, j)).filter(|balance| balance.weight > 0.0);
        let levels: Vec<f64> = balances.map(|balance| balance.level).collect();
        let wanted = levels.iter().copied().reduce(f64::min).map_or(Levels::even(), |low| {
            Levels::between(low, levels.iter().copied().fold(low, f64::max))
        });
        prop_assert_eq!(p.levels(), wanted);
    }

    #[test]
    fn equal_sensitivities_only_scale(inputs in 1usize..9, seed: u64) {
        let plain = problem(inputs, 3, 4, seed);
        let s = |n| Some(Array1::from_elem(n, 2.5));
        let p = Problem { s_a: s(3), s_b: s(4), ..plain.clone() };
        let (cost, plain) = (p.cost(Metric::Hessian, DAMPING), plain.cost(Metric::Hessian, DAMPING));
        prop_assert!((cost.unwrap() - plain.unwrap() * 2.5).iter().all(|d| d.abs() < 1e-10));
    }
}

/// A Hessian like those of trained nets: inputs ≥ 0, a strong mean, dead inputs, a bias.
fn lifelike(inputs: usize, seed: u64) -> Array2<f64> {
    let mut x = random(300, inputs, seed).mapv(|v| (v + 0.7).max(0.0));
    x.column_mut(3).fill(0.0);
    x.column_mut(inputs - 1).fill(1.0);
    x.t().dot(&x) / 300.0
}

#[test]
fn the_optimal_matcher_recovers_a_permutation() {
    let (n, inputs) = (60, 90);
    let order: Vec<usize> = (0..n).map(|i| (i * 7 + 3) % n).collect();
    let w_a = single(random(n, inputs, 5));
    let w_b = w_a.select(Axis(0), &order).into_shared();
    let (h_a, h_b) = (lifelike(inputs, 6) * 0.5, lifelike(inputs, 7) * 0.5);
    let mean_square = Hessian::from(h_a.clone()).mean_square(w_a.view());
    let sensitive = (sensitivities(n, 8), sensitivities(n, 9));
    for (s_a, s_b) in [(None, None), sensitive] {
        let (w_a, w_b) = (w_a.clone(), w_b.clone());
        let (h_a, h_b) = (h_a.clone().into(), h_b.clone().into());
        let cost = Problem { h_a, h_b, w_a, w_b, s_a, s_b }.cost(Metric::Hessian, DAMPING).unwrap();
        let pairing = Optimal.pair(cost.view(), Share::Fraction(1.0)).unwrap();
        for (&(i, j), d) in pairing.pairs().iter().zip(pairing.costs()) {
            assert_eq!(i, order[j]);
            assert!(
                *d <= 1e-12 * mean_square[i],
                "copies cost {d} at a mean square of {}",
                mean_square[i]
            );
        }
    }
}

#[test]
fn other_metrics_are_plain_distances() {
    let p = problem(6, 3, 2, 1);
    let sum = matrix(&p.h_a) + matrix(&p.h_b);
    let (weight, activation) = (p.cost(Metric::Weight, 0.0), p.cost(Metric::Activation, 0.0));
    let (weight, activation) = (weight.unwrap(), activation.unwrap());
    for i in 0..3 {
        for j in 0..2 {
            let delta = delta(&p, i, j);
            assert!((weight[(i, j)] - delta.dot(&delta) / 2.0).abs() < 1e-12);
            assert!((activation[(i, j)] - sum.dot(&delta).dot(&delta) / 2.0).abs() < 1e-12);
        }
    }
}

#[test]
fn an_irrelevant_neuron_does_not_make_a_pair_free() {
    let mut p = problem(5, 2, 2, 1);
    p.s_a = Some(Array1::from_vec(vec![0.0, 1.0]));
    p.s_b = Some(Array1::from_vec(vec![1.0, 0.0]));
    let cost = p.cost(Metric::Hessian, DAMPING).unwrap();
    assert!(cost[(0, 0)] > 0.0 && cost[(1, 1)] > 0.0);
    assert_eq!(cost[(0, 1)], 0.0);
}

#[test]
fn what_is_not_a_number_is_a_numeric_error() {
    let kind = |p: &Problem| p.cost(Metric::Hessian, DAMPING).unwrap_err().kind();
    let sound = problem(4, 2, 2, 1);
    let mut p = sound.clone();
    p.w_a[(0, 0)] = f32::NAN;
    assert_eq!(kind(&p), ErrorKind::Numeric);
    p = sound.clone();
    let mut infinite = matrix(&p.h_b);
    infinite[(1, 2)] = f64::INFINITY;
    p.h_b = infinite.into();
    assert_eq!(kind(&p), ErrorKind::Numeric);
    p = sound;
    p.s_a = Some(Array1::from_vec(vec![1.0, -1.0]));
    assert_eq!(kind(&p), ErrorKind::Numeric);
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let mut p = problem(500, 70, 300, 1);
    p.s_a = sensitivities(70, 2);
    let run = |threads| on_threads(threads, || p.cost(Metric::Hessian, DAMPING).unwrap());
    assert_eq!(run(1), run(3));
}

#[test]
fn metrics_are_found_by_name() {
    for (metric, name, _) in Metric::ALL {
        assert_eq!(Metric::named(name).unwrap(), metric);
    }
    assert_eq!(Metric::named("cosine").unwrap_err().kind(), ErrorKind::Usage);
}

#[test]
fn matrices_that_do_not_fit_together_are_refused() {
    let sound = problem(4, 3, 2, 1);
    let other = problem(5, 2, 3, 2);
    let cases = [
        Problem { w_a: other.w_a.clone(), ..sound.clone() },
        Problem { h_b: other.h_b.clone(), ..sound.clone() },
        Problem { s_a: sensitivities(2, 1), ..sound.clone() },
        Problem { s_b: sensitivities(3, 1), ..sound.clone() },
    ];
    for (case, problem) in cases.iter().enumerate() {
        for metric in [Metric::Hessian, Metric::Weight, Metric::Activation] {
            let error = problem.cost(metric, DAMPING).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Usage, "{case} {metric:?}");
        }
        assert_eq!(problem.fuse(&[(0, 0)], DAMPING).unwrap_err().kind(), ErrorKind::Usage);
    }
    for pair in [(3, 0), (0, 2)] {
        assert_eq!(sound.fuse(&[pair], DAMPING).unwrap_err().kind(), ErrorKind::Usage);
    }
    sound.fuse(&[(2, 1)], DAMPING).unwrap();
}
