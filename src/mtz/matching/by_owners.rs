//! Pairs the next net with neurons that several tasks share already.

use std::collections::BTreeSet;

use ndarray::{ArrayView2, Axis};

use crate::error::Result;

use super::{Matcher, Pairing, Quota, Share};

/// Pairs rows of `cost`, which are neurons with `owners` tasks each, with columns, the next net's
/// neurons. Rows with most owners are paired first; rows with fewer owners are used only when those
/// run out.
///
/// A joint model stores one block of weights per set of row owners and set of column owners. If all
/// nets keep to one set, there are few blocks, and shared neurons read shared neurons.
///
/// # Errors
/// As [`Matcher::pair`].
pub(crate) fn pair_by_owners(
    matcher: &dyn Matcher,
    cost: ArrayView2<f64>,
    owners: &[usize],
    share: Share,
) -> Result<Pairing> {
    let sizes: BTreeSet<usize> = owners.iter().copied().collect();
    if sizes.len() < 2 {
        return matcher.pair(cost, share);
    }
    let quota = share.quota(cost)?;
    let mut free: Vec<usize> = (0..cost.ncols()).collect();
    let mut pairs: Vec<(usize, usize)> = Vec::new();
    for size in sizes.into_iter().rev() {
        let rows: Vec<usize> = (0..cost.nrows()).filter(|row| owners[*row] == size).collect();
        let share = match quota {
            Quota::Exactly(count) => {
                Share::Count((count - pairs.len()).min(rows.len()).min(free.len()))
            }
            Quota::Below(limit) => Share::MaxCost(limit),
        };
        let part = cost.select(Axis(0), &rows).select(Axis(1), &free);
        let found = matcher.pair(part.view(), share)?;
        let found = found.pairs().iter().map(|(row, column)| (rows[*row], free[*column]));
        let found: Vec<(usize, usize)> = found.collect();
        free.retain(|column| found.iter().all(|(_, paired)| paired != column));
        pairs.extend(found);
    }
    Pairing::new(cost, pairs)
}

#[cfg(test)]
mod tests {
    use ndarray::array;
    use proptest::prelude::*;

    use super::super::tests::{all, costs};
    use super::super::{Greedy, Optimal};
    use super::*;

    #[test]
    fn neurons_of_most_tasks_come_first_and_others_where_they_are_too_few() {
        let cost = array![[0.1, 0.3, 0.3], [5.0, 9.0, 9.0], [9.0, 9.0, 6.0]];
        let owners = [1, 2, 2];
        for matcher in [&Optimal as &dyn Matcher, &Greedy] {
            let pairs = |share| pair_by_owners(matcher, cost.view(), &owners, share).unwrap();
            assert_eq!(pairs(Share::Count(1)).pairs(), [(1, 0)]);
            assert_eq!(pairs(Share::Count(2)).pairs(), [(1, 0), (2, 2)]);
            assert_eq!(pairs(Share::Fraction(1.0)).pairs(), [(0, 1), (1, 0), (2, 2)]);
            assert_eq!(pairs(Share::MaxCost(1.0)).pairs(), [(0, 0)], "a limit stays a limit");
        }
    }

    proptest! {
        #[test]
        fn every_matcher_finds_as_many_as_asked(n in 0usize..12, m in 0usize..12, seed: u64) {
            let cost = costs(n, m, seed);
            let owners: Vec<usize> = (0..n).map(|row| 1 + (seed as usize ^ row) % 3).collect();
            for matcher in all() {
                for count in 0..=n.min(m) {
                    let share = Share::Count(count);
                    let found = pair_by_owners(&*matcher, cost.view(), &owners, share).unwrap();
                    prop_assert_eq!(found.len(), count);
                    let least = found.pairs().iter().map(|(row, _)| owners[*row]).min();
                    let largest = least.map(|l| owners.iter().filter(|o| **o > l).count());
                    prop_assert!(largest.unwrap_or(0) <= count, "larger sets are used up first");
                }
            }
        }
    }
}
