//! Solves equal problems once.
//!
//! Groups are paired in rounds until nothing changes, and a search repeats this for every merge. Most costs
//! are the same as before, bit for bit, and so are their pairs.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use ndarray::ArrayView2;
use sha2::{Digest, Sha256};

use crate::error::Result;

use super::{Matcher, Pairing, Share};

/// Problems with fewer costs are solved as soon as they are recognised.
const LEAST: usize = 1 << 12;

/// Pairs at most, about as many bytes as the costs of one large layer take.
const MOST: usize = 1 << 20;

type Problem = [u8; 32];

/// The pairs of each problem.
type Solved = HashMap<Problem, Vec<(usize, usize)>>;

/// The pairs of problems that have been solved, by one rule.
#[derive(Debug, Clone, Default)]
pub(crate) struct Pairings(Arc<Mutex<Solved>>);

impl Pairings {
    fn lock(&self) -> MutexGuard<'_, Solved> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A rule that remembers its pairs.
pub(crate) struct Remembered {
    matcher: Box<dyn Matcher>,
    pairings: Pairings,
}

impl Remembered {
    pub(crate) fn new(matcher: Box<dyn Matcher>, pairings: Pairings) -> Remembered {
        Remembered { matcher, pairings }
    }
}

impl Matcher for Remembered {
    fn name(&self) -> &'static str {
        self.matcher.name()
    }

    fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing> {
        if cost.len() < LEAST {
            return self.matcher.pair(cost, share);
        }
        let problem = problem(cost, share);
        let known = self.pairings.lock().get(&problem).cloned();
        if let Some(pairs) = known {
            return Pairing::new(cost, pairs);
        }
        let pairing = self.matcher.pair(cost, share)?;
        let mut pairings = self.pairings.lock();
        let kept: usize = pairings.values().map(Vec::len).sum();
        if kept + pairing.len() > MOST {
            pairings.clear();
        }
        pairings.insert(problem, pairing.pairs().to_vec());
        Ok(pairing)
    }
}

/// The digest of a problem: the number of pairs or their limit, the shape, and the bits of all costs.
fn problem(cost: ArrayView2<f64>, share: Share) -> Problem {
    let share = match share {
        Share::Count(count) => (0, count as u64),
        Share::Fraction(part) => (1, part.to_bits()),
        Share::MaxCost(limit) => (2, limit.to_bits()),
    };
    let (rows, columns) = cost.dim();
    let mut digest = Sha256::new();
    for number in [share.0, share.1, rows as u64, columns as u64] {
        digest.update(number.to_le_bytes());
    }
    let mut bytes = Vec::with_capacity(8 * columns);
    for row in cost.rows() {
        bytes.clear();
        row.iter().for_each(|d| bytes.extend_from_slice(&d.to_bits().to_le_bytes()));
        digest.update(&bytes);
    }
    digest.finalize().into()
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::Optimal;
    use super::super::tests::costs;
    use super::*;
    use crate::error::ErrorKind;

    /// The optimal rule, which counts its problems.
    struct Counted(Arc<AtomicUsize>);

    impl Matcher for Counted {
        fn name(&self) -> &'static str {
            "counted"
        }

        fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing> {
            self.0.fetch_add(1, Ordering::Relaxed);
            Optimal.pair(cost, share)
        }
    }

    #[test]
    fn equal_problems_are_solved_once() {
        let (solved, pairings) = (Arc::new(AtomicUsize::new(0)), Pairings::default());
        let matcher = || Remembered::new(Box::new(Counted(Arc::clone(&solved))), pairings.clone());
        let cost = costs(70, 65, 1);
        let mut other = cost.clone();
        other[(69, 64)] += 1e-9;
        let shares = [Share::Fraction(1.0), Share::Count(40), Share::MaxCost(0.5)];
        for round in 0..2 {
            for (n, cost) in [&cost, &other].into_iter().enumerate() {
                for (m, share) in shares.into_iter().enumerate() {
                    let expected = Optimal.pair(cost.view(), share).unwrap();
                    assert_eq!(matcher().pair(cost.view(), share).unwrap(), expected);
                    let all = shares.len();
                    let known = if round == 0 { n * all + m + 1 } else { 2 * all };
                    assert_eq!(solved.load(Ordering::Relaxed), known);
                }
            }
        }
        // The same numbers in another shape are another problem.
        let reshaped = cost.clone().into_shape_with_order((65, 70)).unwrap();
        matcher().pair(reshaped.view(), shares[0]).unwrap();
        assert_eq!(solved.load(Ordering::Relaxed), 2 * shares.len() + 1);
    }

    #[test]
    fn faults_are_not_remembered() {
        let matcher = Remembered::new(Box::new(Optimal), Pairings::default());
        let mut cost = costs(70, 70, 2);
        cost[(3, 3)] = f64::NAN;
        for _ in 0..2 {
            let error = matcher.pair(cost.view(), Share::Count(5)).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Numeric);
        }
    }
}
