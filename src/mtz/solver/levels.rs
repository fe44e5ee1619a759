//! The ratios of two neurons' sensitivities at which costs are computed, and interpolation between them.
//!
//! In an eigenbasis of both Hessians, the cost at a ratio r is a sum of terms ∝ 1/cosh((ln r − c)/2), one c per
//! eigenvalue. Such a function of log r is analytic up to a distance of π, so polynomials through few Chebyshev
//! nodes come close.

use std::f64::consts::PI;

/// The largest difference of log₂ of two sensitivities that counts.
const LIMIT: i32 = 3;

/// The widest ranges of log₂ r for 1, 2, … nodes, with which no term is off by more than 1.5 %.
const WIDEST: [f64; 4] = [0.0, 1.25, 3.0, 5.0];

/// A pair's weights of the two tasks: s_i e_A + s_j e_B = `weight` (√r e_A + e_B/√r).
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Balance {
    /// √(s_i s_j)
    pub(super) weight: f64,
    /// log₂ r = log₂ (s_i/s_j), between ±[`LIMIT`].
    pub(super) level: f64,
}

impl Balance {
    /// The balance of neurons that count alike.
    pub(super) const EVEN: Balance = Balance { weight: 1.0, level: 0.0 };

    /// The smaller sensitivity is raised to an eighth of the larger one, so that an irrelevant neuron
    /// does not make a pair free.
    pub(super) fn of(s_i: f64, s_j: f64) -> Balance {
        let most = f64::from(1 << LIMIT);
        let (s_i, s_j) = (s_i.max(s_j / most), s_j.max(s_i / most));
        if s_i <= 0.0 || s_j <= 0.0 {
            return Balance { weight: 0.0, level: 0.0 };
        }
        Balance { weight: (s_i * s_j).sqrt(), level: (s_i / s_j).log2() }
    }
}

/// Values of log₂ r at which costs are computed, ascending.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Levels(Vec<f64>);

impl Levels {
    /// The one level of neurons that count alike.
    pub(super) fn even() -> Levels {
        Levels(vec![0.0])
    }

    /// The Chebyshev nodes between two levels, as many as the range needs.
    pub(super) fn between(low: f64, high: f64) -> Levels {
        let (middle, half) = ((low + high) / 2.0, (high - low) / 2.0);
        let too_narrow = WIDEST.iter().filter(|widest| high - low > **widest);
        let count = 1 + too_narrow.count();
        let node = |nth: usize| (PI * (2 * nth + 1) as f64 / (2 * count) as f64).cos();
        Levels((0..count).rev().map(|nth| middle + half * node(nth)).collect())
    }

    /// The levels.
    pub(super) fn nodes(&self) -> &[f64] {
        &self.0
    }

    /// The part that a node has in the value at a level: its Lagrange polynomial.
    pub(super) fn part(&self, node: usize, level: f64) -> f64 {
        let own = self.0[node];
        let others = self.0.iter().enumerate().filter(|(other, _)| *other != node);
        others.map(|(_, other)| (level - other) / (own - other)).product()
    }

    /// The node below a level and the one above with their parts by linear interpolation. Levels outside of
    /// the nodes get the next node alone.
    pub(super) fn around(&self, level: f64) -> [(usize, f64); 2] {
        let above = self.0.partition_point(|node| *node < level);
        let last = self.0.len() - 1;
        if above == 0 || above > last {
            let only = above.min(last);
            return [(only, 1.0), (only, 0.0)];
        }
        let (low, high) = (self.0[above - 1], self.0[above]);
        let part = (level - low) / (high - low);
        [(above - 1, 1.0 - part), (above, part)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The cost of one eigenvalue at a level.
    fn term(level: f64, center: f64) -> f64 {
        1.0 / (std::f64::consts::LN_2 * (level - center) / 2.0).cosh()
    }

    proptest! {
        #[test]
        fn no_term_is_off_by_more_than_1_5_percent(
            low in -3.0f64..3.0, part in 0.0f64..1.0, at in 0.0f64..1.0, center in -20.0f64..20.0,
        ) {
            let high = low + part * (3.0 - low);
            let level = low + at * (high - low);
            let levels = Levels::between(low, high);
            let nodes = levels.nodes().iter().enumerate();
            let found: f64 = nodes.map(|(n, node)| levels.part(n, level) * term(*node, center)).sum();
            prop_assert!((found / term(level, center) - 1.0).abs() < 0.015);
        }

        #[test]
        fn linear_parts_add_up_and_meet_the_level(level in -3.0f64..3.0, width in 0.0f64..3.0) {
            let levels = Levels::between(-width, width);
            let [(low, a), (high, b)] = levels.around(level);
            prop_assert!((a + b - 1.0).abs() < 1e-12 && a >= 0.0 && b >= 0.0 && low <= high);
            let nodes = levels.nodes();
            let met = a * nodes[low] + b * nodes[high];
            let nearest = level.clamp(nodes[0], nodes[nodes.len() - 1]);
            prop_assert!((met - nearest).abs() < 1e-12);
        }
    }

    #[test]
    fn wider_ranges_take_more_nodes() {
        let count = |width: f64| Levels::between(-width / 2.0, width / 2.0).nodes().len();
        assert_eq!([0.0, 1.0, 2.0, 4.0, 6.0].map(count), [1, 2, 3, 4, 5]);
        assert_eq!(Levels::between(0.5, 0.5).nodes(), [0.5]);
        assert_eq!(Levels::even(), Levels::between(0.0, 0.0));
    }

    #[test]
    fn the_weaker_neuron_counts_an_eighth_at_least() {
        assert_eq!(Balance::of(2.0, 2.0), Balance { weight: 2.0, level: 0.0 });
        assert_eq!(Balance::of(64.0, 1.0), Balance::of(64.0, 8.0));
        assert_eq!(Balance::of(1.0, 0.0).level, 3.0);
        assert_eq!(Balance::of(0.0, 0.0).weight, 0.0);
    }
}
