//! The order in which the channels of all heads of a family are paired, if they must be paired alike.

use std::collections::BTreeMap;

use ndarray::{Array2, ArrayView2};

use crate::error::Result;

use super::{Matcher, Share};

/// For each family, the place of the other side's channel for each place in a head.
pub(super) type Orders = BTreeMap<usize, Vec<usize>>;

/// Rounds in which pairs of heads and the order of their channels are chosen by each other.
const ROUNDS: usize = 4;

/// Heads of both sides, all of one width.
#[derive(Clone, Copy)]
pub(super) struct Sides<'a> {
    /// The rows of each head.
    pub(super) rows: &'a [Vec<usize>],
    /// The columns of each head.
    pub(super) columns: &'a [Vec<usize>],
    /// The pairs of heads, if they are known.
    pub(super) known: Option<&'a [(usize, usize)]>,
}

impl Sides<'_> {
    /// The order of each of the `families` of heads of rows.
    pub(super) fn common_orders(
        self,
        families: &[usize],
        matcher: &dyn Matcher,
        cost: ArrayView2<f64>,
    ) -> Result<Orders> {
        let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (head, family) in families.iter().enumerate().take(self.rows.len()) {
            members.entry(*family).or_default().push(head);
        }
        let mut orders = Orders::new();
        for (family, heads) in members {
            let of_family = Family { sides: self, heads, matcher, cost };
            orders.insert(family, of_family.order()?);
        }
        Ok(orders)
    }
}

/// Heads of rows whose channels are paired alike.
struct Family<'a> {
    sides: Sides<'a>,
    heads: Vec<usize>,
    matcher: &'a dyn Matcher,
    cost: ArrayView2<'a, f64>,
}

impl Family<'_> {
    /// The order with the least costs that is found from the best pair of heads.
    fn order(&self) -> Result<Vec<usize>> {
        let mut pairs = self.known();
        if pairs.is_empty() {
            pairs = self.best_pair()?;
        }
        let mut order = self.order_of(&pairs)?;
        for _ in 0..ROUNDS {
            if self.sides.known.is_some() {
                break;
            }
            let next = self.order_of(&self.pairs_of(&order)?)?;
            if next == order {
                break;
            }
            order = next;
        }
        Ok(order)
    }

    /// The pairs of heads that are known.
    fn known(&self) -> Vec<(usize, usize)> {
        let known = self.sides.known.into_iter().flatten().copied();
        known.filter(|(row, _)| self.heads.contains(row)).collect()
    }

    /// The pair of heads whose channels fit best.
    fn best_pair(&self) -> Result<Vec<(usize, usize)>> {
        let mut best: Option<(f64, (usize, usize))> = None;
        for a in &self.heads {
            for b in 0..self.sides.columns.len() {
                let costs = self.costs(&[(*a, b)]);
                let found = self.matcher.pair(costs.view(), Share::Fraction(1.0))?;
                let total: f64 = found.pairs().iter().map(|pair| costs[*pair]).sum();
                if best.is_none_or(|(least, _)| total < least) {
                    best = Some((total, (*a, b)));
                }
            }
        }
        Ok(best.map(|(_, pair)| pair).into_iter().collect())
    }

    /// The costs of pairs of places, added up over pairs of heads.
    fn costs(&self, pairs: &[(usize, usize)]) -> Array2<f64> {
        let width = self.sides.rows.first().map_or(0, Vec::len);
        let mut costs = Array2::zeros((width, width));
        for (a, b) in pairs {
            let (rows, columns) = (&self.sides.rows[*a], &self.sides.columns[*b]);
            for (place, row) in rows.iter().enumerate() {
                for (other, column) in columns.iter().enumerate() {
                    costs[(place, other)] += self.cost[(*row, *column)];
                }
            }
        }
        costs
    }

    /// The best order of channels for these pairs of heads.
    fn order_of(&self, pairs: &[(usize, usize)]) -> Result<Vec<usize>> {
        let costs = self.costs(pairs);
        let found = self.matcher.pair(costs.view(), Share::Fraction(1.0))?;
        let mut order: Vec<usize> = (0..costs.nrows()).collect();
        if found.pairs().len() == order.len() {
            found.pairs().iter().for_each(|(place, other)| order[*place] = *other);
        }
        Ok(order)
    }

    /// The best pairs of heads for this order of channels.
    fn pairs_of(&self, order: &[usize]) -> Result<Vec<(usize, usize)>> {
        let total = |(at, b): (usize, usize)| {
            let (rows, columns) = (&self.sides.rows[self.heads[at]], &self.sides.columns[b]);
            rows.iter().zip(order).map(|(row, other)| self.cost[(*row, columns[*other])]).sum()
        };
        let costs = Array2::from_shape_fn((self.heads.len(), self.sides.columns.len()), total);
        let found = self.matcher.pair(costs.view(), Share::Fraction(1.0))?;
        Ok(found.pairs().iter().map(|(at, b)| (self.heads[*at], *b)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Optimal;
    use super::*;

    /// Two heads of three channels. The second net has the heads exchanged, and the channels of both in one order.
    #[test]
    fn channels_of_all_heads_are_paired_alike() {
        let order = [2, 0, 1];
        let rows: Vec<Vec<usize>> = vec![vec![0, 1, 2], vec![3, 4, 5]];
        let mut cost = Array2::from_elem((6, 6), 5.0);
        for (a, b) in [(0, 1), (1, 0)] {
            for (place, other) in order.iter().enumerate() {
                cost[(rows[a][place], rows[b][*other])] = 0.0;
            }
        }
        // Alone, the second head would rather have another order.
        cost[(3, 0)] = 0.0;
        cost[(3, 2)] = 0.5;
        cost[(4, 2)] = 0.4;
        let sides = Sides { rows: &rows, columns: &rows, known: None };
        let found = |sides: Sides<'_>| sides.common_orders(&[0, 0], &Optimal, cost.view()).unwrap();
        assert_eq!(found(sides)[&0], order);
        let known = [(0, 1), (1, 0)];
        assert_eq!(found(Sides { known: Some(&known), ..sides })[&0], order);
    }
}
