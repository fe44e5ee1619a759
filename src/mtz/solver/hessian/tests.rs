use std::sync::Arc;

use ndarray::concatenate;
use ndarray_linalg::Inverse;
use proptest::prelude::*;

use super::*;
use crate::calib::product::tests::{on_threads, random};
use crate::mtz::solver::pair_cost::tests::{sensitivities, spd};
use crate::mtz::solver::pair_cost::{Metric, Problem, Weights};

/// Rows of multiples of 1/8, whose sums are exact: inputs ≥ 0, a dead input, and a constant input at
/// the end.
fn rows(count: usize, inputs: usize, seed: u64) -> Array2<f32> {
    let mut rows = random(count, inputs, seed).mapv(|v| ((v + 0.5) * 8.0).round().max(0.0) as f32);
    rows.column_mut(0).fill(0.0);
    rows.column_mut(inputs - 1).fill(8.0);
    rows / 8.0
}

/// The two forms of one Hessian.
fn both(rows: &Array2<f32>, scale: f64) -> [Hessian; 2] {
    let wide = rows.mapv(f64::from);
    let seen = rows.nrows() as f64;
    let dense = Hessian::Dense(Scaled::new(wide.t().dot(&wide), scale).seen(seen));
    [dense, Hessian::Samples(Samples::new(Arc::new(rows.clone()), scale).of_rows(seen))]
}

fn single(rows: usize, columns: usize, seed: u64) -> Weights {
    random(rows, columns, seed).mapv(|v| v as f32).into_shared()
}

fn close<'a>(
    a: impl IntoIterator<Item = &'a f64>,
    b: impl IntoIterator<Item = &'a f64>,
    tolerance: f64,
) -> bool {
    a.into_iter().zip(b).all(|(a, b)| (a - b).abs() <= tolerance * (1.0 + b.abs()))
}

/// A pair of layers in both forms.
fn problems(seen: [usize; 2], inputs: usize, weighted: bool, seed: u64) -> [Problem; 2] {
    let [a, b] = seen.map(|n| rows(n, inputs, seed ^ n as u64));
    let forms = both(&a, 0.7 / seen[0] as f64).into_iter().zip(both(&b, 0.3 / seen[1] as f64));
    let problem = |(h_a, h_b)| Problem {
        h_a,
        h_b,
        w_a: single(4, inputs, seed ^ 2),
        w_b: single(3, inputs, seed ^ 3),
        s_a: sensitivities(4, seed ^ 4).filter(|_| weighted),
        s_b: sensitivities(3, seed ^ 5).filter(|_| weighted),
    };
    let mut forms = forms.map(problem);
    [forms.next().unwrap(), forms.next().unwrap()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn both_forms_have_the_same_values(n in 1usize..30, inputs in 2usize..30, seed: u64) {
        let [dense, samples] = both(&rows(n, inputs, seed), 0.3);
        let (w, v) = (single(5, inputs, seed ^ 1), single(4, inputs, seed ^ 2));
        prop_assert!(close([&dense.trace()], [&samples.trace()], 1e-12));
        prop_assert!(close(&dense.mean_square(w.view()), &samples.mean_square(w.view()), 1e-10));
        prop_assert!(close(&dense.means(w.view()), &samples.means(w.view()), 1e-10));
        let weights = [w.view(), v.view()];
        prop_assert!(close(&dense.distances(weights), &samples.distances(weights), 1e-10));
        let some: Vec<usize> = (0..inputs).rev().step_by(2).collect();
        let w = single(5, some.len(), seed ^ 3);
        let (dense, samples) = (dense.select(&some).times(2.0), samples.select(&some).times(2.0));
        prop_assert!(close(&dense.mean_square(w.view()), &samples.mean_square(w.view()), 1e-10));
    }

    #[test]
    fn sums_over_different_inputs_are_the_same(n in 1usize..9, m in 1usize..9, seed: u64) {
        let (here, there): (Vec<usize>, Vec<usize>) = ((0..9).collect(), (3..16).collect());
        let a = both(&rows(n, here.len(), seed), 0.3);
        let b = both(&rows(m, there.len(), !seed), 0.6);
        let sum = |form: usize| Hessian::sum([(&a[form], &here), (&b[form], &there)], 16);
        let w = single(5, 16, seed ^ 3);
        prop_assert!(close(&sum(0).mean_square(w.view()), &sum(1).mean_square(w.view()), 1e-5));
        let is_few = n + m < 16;
        prop_assert_eq!(matches!(sum(1), Hessian::Samples(_)), is_few);
    }

    #[test]
    fn private_inputs_make_up_alike(n in 1usize..30, inputs in 3usize..30, mask: u32, seed: u64) {
        let [dense, samples] = both(&rows(n, inputs, seed), 0.3);
        let (shared, private): (Vec<usize>, Vec<usize>) =
            (0..inputs).partition(|i| *i == 1 || mask >> i & 1 == 1);
        let w = |columns: usize, seed| single(5, columns, seed);
        let (before, old, new) = (w(private.len(), 1), w(shared.len(), 2), w(shared.len(), 3));
        for damping in [1e-3, 0.1] {
            let [a, b] = [&dense, &samples].map(|h| h.reduced(&shared, &private, damping).unwrap());
            prop_assert!(close(&a.hessian.mean_square(old.view()), &b.hessian.mean_square(old.view()), 1e-5));
            prop_assert_eq!(a.gain.is_some(), !private.is_empty());
            let adjusted = |gain: &Gain| gain.readjust(before.view(), old.view(), new.view());
            let gains = a.gain.iter().zip(&b.gain);
            for (a, b) in gains.map(|(a, b)| (adjusted(a), adjusted(b))) {
                prop_assert!(close(&a, &b, 1e-7));
            }
        }
    }

    #[test]
    fn inverses_have_the_same_diagonal(n in 1usize..30, inputs in 2usize..30, seed: u64) {
        let [dense, samples] = both(&rows(n, inputs, seed), 0.3);
        for damping in [1e-4, 0.1] {
            let [a, b] = [&dense, &samples].map(|h| h.inverse_diagonal(damping).unwrap());
            prop_assert!(close(&(a / &b), &Array1::ones(inputs), 1e-6));
        }
    }

    #[test]
    fn pairs_cost_and_become_the_same(
        a in 1usize..20, b in 1usize..20, inputs in 2usize..40, weighted: bool, seed: u64,
    ) {
        let [dense, samples] = problems([a, b], inputs, weighted, seed);
        for damping in [1e-4, 1e-2, 1.0] {
            for (metric, ..) in Metric::ALL {
                let cost = |p: &Problem| p.cost(metric, damping).unwrap();
                prop_assert!(close(&cost(&samples), &cost(&dense), 1e-8));
            }
            let pairs = [(0, 2), (3, 0), (1, 1)];
            let fused = |p: &Problem| p.fuse(&pairs, damping).unwrap().mapv(f64::from);
            prop_assert!(close(&fused(&samples), &fused(&dense), 1e-5));
        }
    }

    #[test]
    fn schur_is_the_inverse_of_the_inverse_block(size in 2usize..12, mask: u16, seed: u64) {
        let h = spd(size, seed);
        let (s, p): (Vec<_>, Vec<_>) = (0..size).partition(|i| *i == 0 || mask >> i & 1 == 1);
        let block = |m: &Array2<f64>, i: &[usize], j: &[usize]| m.select(Axis(0), i).select(Axis(1), j);
        let direct = block(&h.inv().unwrap(), &s, &s).inv().unwrap();
        let (left, gain) = schur(h.view(), &s, &p, 0.0).unwrap();
        prop_assert!(close(&left, &direct, 1e-8));
        prop_assert!(close(&block(&h, &p, &p).dot(&gain), &block(&h, &p, &s), 1e-9));
    }

    #[test]
    fn readjusted_private_weights_are_the_best_ones(shared in 1usize..8, private in 1usize..8, seed: u64) {
        let h = spd(shared + private, seed);
        let (s, p): (Vec<usize>, Vec<usize>) = ((0..shared).collect(), (shared..shared + private).collect());
        let (old, new) = (random(3, shared, seed ^ 1), random(3, shared, seed ^ 2));
        let before = random(3, private, seed ^ 3);
        let left = Hessian::from(h.clone()).reduced(&s, &p, 0.0).unwrap();
        let after = left.gain.unwrap().readjust(before.view(), old.view(), new.view());
        let change = concatenate![Axis(1), &new - &old, &after - &before];
        // The gradient with respect to the private weights vanishes …
        let gradient = change.dot(&h);
        prop_assert!(gradient.select(Axis(1), &p).iter().all(|g| g.abs() < 1e-9));
        // … and the Schur complement measures the remaining error.
        let error = Hessian::from(h).mean_square(change.view());
        let reduced = left.hessian.mean_square((&new - &old).view());
        prop_assert!((error - reduced).iter().all(|d| d.abs() < 1e-9));
    }
}

#[test]
fn without_damping_few_samples_are_harmless() {
    let [_, mut p] = problems([3, 2], 20, true, 1);
    for swap in [false, true] {
        if swap {
            std::mem::swap(&mut p.h_a, &mut p.h_b);
        }
        let cost = p.cost(Metric::Hessian, 0.0).unwrap();
        assert!(cost.iter().all(|d| (0.0..100.0).contains(d)));
        let fused = p.fuse(&[(0, 0)], 0.0).unwrap();
        assert!(fused.iter().all(|w| w.abs() < 10.0));
    }
}

#[test]
fn equal_neurons_of_few_samples_keep_their_weights_bit_for_bit() {
    let [_, mut p] = problems([5, 6], 30, true, 1);
    p.w_b = p.w_a.select(Axis(0), &[2, 0, 1]).into_shared();
    assert_eq!(p.fuse(&[(2, 0), (0, 1), (1, 2)], 1e-4).unwrap(), p.w_b);
    std::mem::swap(&mut p.h_a, &mut p.h_b);
    assert_eq!(p.fuse(&[(2, 0), (0, 1), (1, 2)], 1e-4).unwrap(), p.w_b);
}

#[test]
fn few_rows_are_damped_more() {
    for rows in [1.0, 10.0, 100.0, 390.0] {
        assert!(damping_of(1e-4, 100, rows) > damping_of(1e-4, 100, rows + 1.0));
    }
    for rows in [400.0, 1e5, f64::INFINITY] {
        assert_eq!(damping_of(1e-4, 100, rows), 1e-4);
    }
}

#[test]
fn a_large_matrix_and_its_samples_agree() {
    let [dense, samples] = problems([150, 170], 700, true, 9);
    let cost = |p: &Problem| p.cost(Metric::Hessian, 1e-4).unwrap();
    assert!(close(&cost(&samples), &cost(&dense), 1e-8));
    let fused = |p: &Problem| p.fuse(&[(0, 2), (3, 0)], 1e-4).unwrap().mapv(f64::from);
    assert!(close(&fused(&samples), &fused(&dense), 1e-5));
}

#[test]
fn same_bits_on_any_number_of_threads() {
    let [_, p] = problems([250, 270], 1400, true, 9);
    let run = |threads| {
        on_threads(threads, || {
            let fused = p.fuse(&[(0, 2), (3, 0)], 1e-4).unwrap();
            (p.cost(Metric::Hessian, 1e-4).unwrap(), fused)
        })
    };
    assert_eq!(run(1), run(3));
}

#[test]
fn the_constant_input_is_the_last() {
    let mut w = Array2::<f32>::zeros((1, 5));
    w[(0, 4)] = 3.0;
    for hessian in both(&rows(7, 5, 3), 1.0 / 7.0) {
        assert!(close(&hessian.means(w.view()), [&3.0], 1e-12));
    }
}
