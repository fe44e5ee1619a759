use super::*;
use crate::calib::product::tests::random;
use ndarray::{Array2, array};
use proptest::prelude::*;

/// The least total cost for every number of pairs, by trying everything.
fn brute_force(cost: &Array2<f64>) -> Vec<f64> {
    fn visit(cost: &Array2<f64>, row: usize, used: &mut Vec<usize>, total: f64, best: &mut [f64]) {
        best[used.len()] = best[used.len()].min(total);
        for i in row..cost.nrows() {
            for j in 0..cost.ncols() {
                if !used.contains(&j) {
                    used.push(j);
                    visit(cost, i + 1, used, total + cost[(i, j)], best);
                    used.pop();
                }
            }
        }
    }
    let mut best = vec![f64::INFINITY; cost.nrows().min(cost.ncols()) + 1];
    visit(cost, 0, &mut Vec::new(), 0.0, &mut best);
    best
}

/// Costs, some of them equal and some zero.
pub(crate) fn costs(rows: usize, columns: usize, seed: u64) -> Array2<f64> {
    random(rows, columns, seed)
        .mapv(|v| if v.abs() < 0.3 { (v * 10.0).round().abs() } else { v.abs() })
}

pub(crate) fn all() -> impl Iterator<Item = Box<dyn Matcher>> {
    MATCHERS.iter().map(|entry| (entry.make)(7))
}

#[test]
fn numbers_are_limited_by_what_there_is() {
    assert_eq!(Share::Count(54).at_most(40), Share::Count(40));
    assert_eq!(Share::Count(4).at_most(40), Share::Count(4));
    assert_eq!(Share::Fraction(0.5).at_most(40), Share::Fraction(0.5));
}

#[test]
fn parts_are_rounded_to_whole_multiples() {
    let rounded = |part: f64, most| Share::Fraction(part).rounded(most, 16);
    assert_eq!(rounded(0.5, 100), Share::Count(48));
    assert_eq!(rounded(0.99, 100), Share::Count(96));
    assert_eq!(rounded(1.0, 100), Share::Fraction(1.0), "all stay all");
    assert_eq!(rounded(0.9, 12), Share::Count(12));
    assert_eq!(Share::Count(7).rounded(100, 16), Share::Count(7), "counts are meant as typed");
    assert_eq!(Share::Fraction(0.3).rounded(100, 1), Share::Fraction(0.3));
}

#[test]
fn the_costliest_pairs_go_where_too_many_were_found() {
    let cost = array![[3.0, 9.0, 9.0], [9.0, 1.0, 9.0], [9.0, 9.0, 2.0]];
    let all = vec![(0, 0), (1, 1), (2, 2)];
    let pairing = Pairing::new(cost.view(), all).unwrap();
    let kept = pairing.clone().rounded_down(4, 2);
    assert_eq!(kept.pairs(), [(1, 1), (2, 2)]);
    assert_eq!(kept.costs(), [1.0, 2.0]);
    assert_eq!(pairing.clone().rounded_down(3, 2), pairing, "all stay all");
}

proptest! {
    #[test]
    fn optimal_finds_the_cheapest_pairs_of_every_number(a in 1usize..6, b in 1usize..6, seed: u64) {
        let cost = costs(a, b, seed);
        for (count, best) in brute_force(&cost).into_iter().enumerate() {
            let pairing = Optimal.pair(cost.view(), Share::Count(count)).unwrap();
            prop_assert_eq!(pairing.len(), count);
            prop_assert!((pairing.total_cost() - best).abs() < 1e-12);
        }
    }

    #[test]
    fn optimal_shares_most_below_a_limit(a in 1usize..6, b in 1usize..6, seed: u64, limit in 0.0..1.0f64) {
        let cost = costs(a, b, seed);
        let far = brute_force(&cost.mapv(|d| if d < limit { d } else { 1e6 }));
        let best = far.iter().rposition(|d| *d < 1e6).unwrap();
        let pairing = Optimal.pair(cost.view(), Share::MaxCost(limit)).unwrap();
        prop_assert_eq!(pairing.len(), best);
        prop_assert!(pairing.costs().iter().all(|d| *d < limit));
        prop_assert!((pairing.total_cost() - far[best]).abs() < 1e-12);
    }

    #[test]
    fn optimal_costs_no_more_than_greedy_and_that_no_more_at_first(n in 1usize..40, m in 1usize..40, part in 0.0..1.0f64, seed: u64) {
        let cost = costs(n, m, seed);
        let of = |matcher: &dyn Matcher| matcher.pair(cost.view(), Share::Fraction(part)).unwrap();
        let (optimal, greedy) = (of(&Optimal), of(&Greedy));
        prop_assert!(optimal.total_cost() <= greedy.total_cost() + 1e-9);
        prop_assert_eq!(optimal.len(), greedy.len());
        if !greedy.is_empty() {
            let least = cost.iter().copied().fold(f64::INFINITY, f64::min);
            prop_assert_eq!(greedy.costs().iter().copied().fold(f64::INFINITY, f64::min), least);
        }
    }

    #[test]
    fn greedy_takes_the_cheapest_free_pair_each_time(a in 1usize..7, b in 1usize..7, seed: u64) {
        let cost = costs(a, b, seed);
        let (mut left, mut pairs) = (cost.clone(), Vec::new());
        for count in 0..=a.min(b) {
            let pairing = Greedy.pair(cost.view(), Share::Count(count)).unwrap();
            prop_assert_eq!(&pairing, &Pairing::new(cost.view(), pairs.clone()).unwrap());
            let ((i, j), _) = left.indexed_iter().fold(((0, 0), &f64::INFINITY), |best, next| {
                if next.1 < best.1 { next } else { best }
            });
            pairs.push((i, j));
            left.row_mut(i).fill(f64::INFINITY);
            left.column_mut(j).fill(f64::INFINITY);
        }
    }

    #[test]
    fn every_matcher_pairs_one_to_one_as_many_as_asked(n in 0usize..12, m in 0usize..12, seed: u64) {
        let cost = costs(n, m, seed);
        for matcher in all() {
            for count in 0..=n.min(m) {
                // Pairing::new refuses anything that is not one-to-one.
                let pairing = matcher.pair(cost.view(), Share::Count(count)).unwrap();
                prop_assert_eq!(pairing.len(), count);
                prop_assert!(pairing.pairs().is_sorted());
            }
            let cheap = matcher.pair(cost.view(), Share::MaxCost(0.4)).unwrap();
            prop_assert!(cheap.costs().iter().all(|d| *d < 0.4));
            let none = matcher.pair(cost.view(), Share::MaxCost(0.0)).unwrap();
            prop_assert!(none.is_empty());
        }
    }
}

#[test]
fn optimal_copes_with_equal_zero_and_enormous_costs() {
    for cost in
        [Array2::zeros((30, 20)), Array2::from_elem((20, 30), 3.0), random(30, 30, 1) * 1e300]
    {
        for share in [Share::Fraction(0.5), Share::Fraction(1.0), Share::MaxCost(1e299)] {
            assert!(Optimal.pair(cost.view(), share).is_ok());
        }
    }
    let tiny = costs(25, 25, 2) * 1e-250;
    let optimal = Optimal.pair(tiny.view(), Share::Fraction(0.8)).unwrap().total_cost();
    let scaled = Optimal.pair((&tiny * 1e250).view(), Share::Fraction(0.8)).unwrap();
    assert!((optimal * 1e250 - scaled.total_cost()).abs() < 1e-9);
}

#[test]
fn random_pairs_depend_on_the_seed_only() {
    let cost = costs(20, 20, 3);
    let draw = |seed| matcher("random", seed).unwrap().pair(cost.view(), Share::Fraction(0.5));
    assert_eq!(draw(1).unwrap(), draw(1).unwrap());
    assert_ne!(draw(1).unwrap().pairs(), draw(2).unwrap().pairs());
}

#[test]
fn impossible_shares_and_costs_are_errors() {
    let cost = Array2::ones((3, 2));
    for matcher in all() {
        let kind = |cost: &Array2<f64>, share| matcher.pair(cost.view(), share).unwrap_err().kind();
        for share in [
            Share::Count(3),
            Share::Fraction(1.1),
            Share::Fraction(f64::NAN),
            Share::MaxCost(f64::NAN),
        ] {
            assert_eq!(kind(&cost, share), ErrorKind::Usage);
        }
        for bad in [f64::NAN, f64::INFINITY] {
            assert_eq!(kind(&array![[1.0, bad]], Share::Count(1)), ErrorKind::Numeric);
        }
    }
}

#[test]
fn a_pairing_is_one_to_one() {
    let cost = Array2::zeros((2, 3));
    for pairs in [vec![(0, 1), (1, 1)], vec![(0, 1), (0, 2)], vec![(2, 0)], vec![(0, 3)]] {
        let error = Pairing::new(cost.view(), pairs).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Format);
    }
}

#[test]
fn the_table_knows_its_rules_by_name() {
    for entry in &MATCHERS {
        assert_eq!(matcher(entry.name, 0).unwrap().name(), entry.name);
    }
    assert_eq!(matcher("best", 0).err().map(|e| e.kind()), Some(ErrorKind::Usage));
}
