//! Pairs of whole heads: heads first, and then the channels of each.

use ndarray::{Array2, ArrayView2, Axis};

use crate::error::Result;

use super::common_order::{Orders, Sides};
use super::{Matcher, Pairing, Quota, Share, pair_by_owners};

/// The cost of each pair of heads, and the pairs of channels of each.
type AllPairs = (Array2<f64>, Vec<Vec<(usize, usize)>>);

/// Rows and columns grouped into heads.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct HeadBlocks {
    /// The rows of each head of one side.
    pub(crate) rows: Vec<Vec<usize>>,
    /// The columns of each head of the other side.
    pub(crate) columns: Vec<Vec<usize>>,
    /// Whether the channels of a head keep their order.
    pub(crate) is_fixed: bool,
    /// The family of each row's head, if all heads of a family have one order of channels: they are paired alike.
    pub(crate) families: Option<Vec<usize>>,
    /// The pairs of heads, if other channels have paired them already.
    pub(crate) known: Option<Vec<(usize, usize)>>,
    /// Costs of pairs of heads in other groups with the same heads, rows × columns.
    pub(crate) elsewhere: Option<Array2<f64>>,
}

impl HeadBlocks {
    /// Channels of each head; `None` if heads differ in size, so that none can be paired.
    fn width(&self) -> Option<usize> {
        let mut all = self.rows.iter().chain(&self.columns).map(Vec::len);
        let first = all.next().filter(|width| *width > 0)?;
        all.all(|width| width == first).then_some(first)
    }

    /// The cost of every pair of heads, and its best pairs of channels, row by row.
    fn all_pairs(&self, matcher: &dyn Matcher, cost: ArrayView2<f64>) -> Result<AllPairs> {
        let orders = self.common_orders(matcher, cost)?;
        let mut inside = Vec::new();
        let mut totals = Array2::zeros((self.rows.len(), self.columns.len()));
        for ((a, b), total) in totals.indexed_iter_mut() {
            let pairs = self.inside(matcher, cost, (a, b), &orders)?;
            *total = pairs.iter().map(|pair| cost[*pair]).sum();
            inside.push(pairs);
        }
        Ok((totals, inside))
    }

    /// The order of each family, if heads have one.
    fn common_orders(&self, matcher: &dyn Matcher, cost: ArrayView2<f64>) -> Result<Orders> {
        let Some(families) = self.families.as_ref().filter(|_| !self.is_fixed) else {
            return Ok(Orders::new());
        };
        let known = self.known.as_deref();
        let sides = Sides { rows: &self.rows, columns: &self.columns, known };
        sides.common_orders(families, matcher, cost)
    }

    /// The best pairs of the channels of two heads.
    fn inside(
        &self,
        matcher: &dyn Matcher,
        cost: ArrayView2<f64>,
        (a, b): (usize, usize),
        orders: &Orders,
    ) -> Result<Vec<(usize, usize)>> {
        let (rows, columns) = (&self.rows[a], &self.columns[b]);
        let family = self.families.as_ref().and_then(|families| families.get(a));
        if let Some(order) = family.filter(|_| !self.is_fixed).and_then(|own| orders.get(own)) {
            let column = |place: &usize| columns.get(*place).copied();
            return Ok(rows.iter().copied().zip(order.iter().filter_map(column)).collect());
        }
        if self.is_fixed {
            return Ok(rows.iter().copied().zip(columns.iter().copied()).collect());
        }
        let part = cost.select(Axis(0), rows).select(Axis(1), columns);
        let found = matcher.pair(part.view(), Share::Fraction(1.0))?;
        Ok(found.pairs().iter().map(|(i, j)| (rows[*i], columns[*j])).collect())
    }
}

/// The cost of each pair of heads with the best pairs of its channels; `None` if heads differ in size.
///
/// # Errors
/// As [`Matcher::pair`].
pub(crate) fn head_costs(
    matcher: &dyn Matcher,
    cost: ArrayView2<f64>,
    blocks: &HeadBlocks,
) -> Result<Option<Array2<f64>>> {
    blocks.width().map(|_| Ok(blocks.all_pairs(matcher, cost)?.0)).transpose()
}

/// Pairs whole heads. The cost of a pair of heads is that of the best pairs of their channels.
///
/// # Errors
/// As [`Matcher::pair`].
pub(crate) fn pair_heads(
    matcher: &dyn Matcher,
    cost: ArrayView2<f64>,
    owners: &[usize],
    blocks: &HeadBlocks,
    share: Share,
) -> Result<Pairing> {
    let quota = share.quota(cost)?;
    let Some(width) = blocks.width() else { return Pairing::new(cost, Vec::new()) };
    if let Some(known) = &blocks.known {
        let orders = blocks.common_orders(matcher, cost)?;
        let pairs = known.iter().map(|pair| blocks.inside(matcher, cost, *pair, &orders));
        return Pairing::new(cost, pairs.collect::<Result<Vec<_>>>()?.concat());
    }
    let (mut totals, inside) = blocks.all_pairs(matcher, cost)?;
    if let Some(elsewhere) = blocks.elsewhere.as_ref().filter(|own| own.dim() == totals.dim()) {
        totals += elsewhere;
    }
    let share = match quota {
        Quota::Exactly(count) => Share::Count(count / width),
        Quota::Below(limit) => Share::MaxCost(limit * width as f64),
    };
    let heads: Vec<usize> = blocks.rows.iter().map(|rows| owners[rows[0]]).collect();
    let found = pair_by_owners(matcher, totals.view(), &heads, share)?;
    let of_pair = |(a, b): &(usize, usize)| inside[a * blocks.columns.len() + b].clone();
    Pairing::new(cost, found.pairs().iter().flat_map(of_pair).collect())
}

#[cfg(test)]
mod tests {
    use ndarray::array;

    use super::super::Optimal;
    use super::*;

    fn blocks(is_fixed: bool, known: Option<Vec<(usize, usize)>>) -> HeadBlocks {
        let both = vec![vec![0, 1], vec![2, 3]];
        let (families, elsewhere) = (None, None);
        HeadBlocks { rows: both.clone(), columns: both, is_fixed, families, known, elsewhere }
    }

    #[test]
    fn heads_stay_together_where_single_channels_would_be_cheaper_apart() {
        let cost = array![
            [0.0, 9.0, 5.0, 2.0],
            [9.0, 9.0, 2.0, 5.0],
            [2.0, 5.0, 9.0, 9.0],
            [5.0, 2.0, 9.0, 0.0],
        ];
        let pairs = |blocks: &HeadBlocks, share| {
            pair_heads(&Optimal, cost.view(), &[1; 4], blocks, share).unwrap().pairs().to_vec()
        };
        let all = Share::Fraction(1.0);
        assert_eq!(pairs(&blocks(false, None), all), [(0, 3), (1, 2), (2, 0), (3, 1)]);
        assert_eq!(pairs(&blocks(true, None), all), [(0, 2), (1, 3), (2, 0), (3, 1)]);
        let known = Some(vec![(0, 0), (1, 1)]);
        assert_eq!(pairs(&blocks(true, known), all), [(0, 0), (1, 1), (2, 2), (3, 3)]);
        let elsewhere = Some(array![[0.0, 99.0], [99.0, 0.0]]);
        let beside = HeadBlocks { elsewhere, ..blocks(true, None) };
        assert_eq!(pairs(&beside, all), [(0, 0), (1, 1), (2, 2), (3, 3)], "other channels count");
        assert_eq!(pairs(&blocks(false, None), Share::Count(3)).len(), 2, "whole heads");
        assert_eq!(pairs(&blocks(false, None), Share::MaxCost(1.0)), []);
        let unlike = HeadBlocks { rows: vec![(0..4).collect()], ..blocks(false, None) };
        assert_eq!(pairs(&unlike, all), [], "unlike heads are not paired");
    }
}
