//! Chooses pairs of neurons by their costs.
//!
//! A new rule is one file beside this one and one row of [`MATCHERS`]; the values of the command
//! line and their help come from there.

mod by_owners;
mod common_order;
mod greedy;
mod heads;
mod optimal;
mod random;
mod remembered;
mod weight_similarity;

use ndarray::ArrayView2;

pub(crate) use by_owners::pair_by_owners;
pub use greedy::Greedy;
pub(crate) use heads::{HeadBlocks, head_costs, pair_heads};
pub use optimal::Optimal;
pub use random::Random;
pub(crate) use remembered::{Pairings, Remembered};
pub(crate) use weight_similarity::{dissimilarity, least_cost_pairs};

use crate::error::{Error, ErrorKind, Result};

/// How many neurons of a layer to share.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Share {
    /// This many pairs (the paper's Ñ_l).
    Count(usize),
    /// This part, 0 … 1, of the smaller layer, rounded to whole pairs.
    Fraction(f64),
    /// As many pairs as possible that cost less than this each (the paper's ε_l).
    MaxCost(f64),
}

/// A [`Share`] for two layers of known size.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Quota {
    Exactly(usize),
    Below(f64),
}

impl Share {
    /// A part of `most` pairs as the nearest multiple of `multiple`; all pairs stay all, and counts
    /// and limits stay as they are.
    pub fn rounded(self, most: usize, multiple: usize) -> Share {
        match self {
            Share::Fraction(part) if multiple > 1 && part < 1.0 => {
                let count = (part * most as f64 / multiple as f64).round() as usize * multiple;
                Share::Count(count.min(most))
            }
            other => other,
        }
    }

    /// A number of pairs, limited to `most`. Each of several nets has a limit of its own when it joins the others.
    pub(crate) fn at_most(self, most: usize) -> Share {
        match self {
            Share::Count(count) => Share::Count(count.min(most)),
            other => other,
        }
    }

    /// The number of pairs, of at most `most`; `None` if it depends on the pairs' costs.
    pub(crate) fn pairs(self, most: usize) -> Option<usize> {
        match self {
            Share::Count(count) => Some(count),
            Share::Fraction(part) => Some((part * most as f64).round() as usize),
            Share::MaxCost(_) => None,
        }
    }

    fn quota(self, cost: ArrayView2<f64>) -> Result<Quota> {
        let most = cost.nrows().min(cost.ncols());
        if !cost.iter().all(|d| d.is_finite()) {
            return Err(Error::new(ErrorKind::Numeric, "a pairing cost is not finite")
                .hint("look for NaN and infinity in the models' weights and in the samples"));
        }
        match (self, self.pairs(most)) {
            (Share::Fraction(part), _) if !(0.0..=1.0).contains(&part) => {
                Err(usage(format!("a share of {part} is not between 0 and 1")))
            }
            (Share::MaxCost(limit), _) if limit.is_nan() => {
                Err(usage("a cost limit is not a number"))
            }
            (Share::MaxCost(limit), _) => Ok(Quota::Below(limit)),
            (_, Some(count)) if count > most => Err(usage(format!(
                "{count} shared neurons are more than the smaller layer has ({most})"
            ))),
            (_, count) => Ok(Quota::Exactly(count.unwrap_or(0))),
        }
    }
}

fn usage(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::Usage, message)
}

/// Pairs of neurons, one-to-one, sorted by A's neuron.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Pairing {
    pairs: Vec<(usize, usize)>,
    costs: Vec<f64>,
}

impl Pairing {
    /// A pairing of neurons of A (rows of `cost`) with neurons of B (columns).
    ///
    /// # Errors
    /// [`ErrorKind::Format`] where a pair names no neuron, or a neuron occurs twice.
    pub fn new(cost: ArrayView2<f64>, mut pairs: Vec<(usize, usize)>) -> Result<Self> {
        pairs.sort_unstable();
        let mut used = (vec![false; cost.nrows()], vec![false; cost.ncols()]);
        let mut costs = Vec::with_capacity(pairs.len());
        for &(i, j) in &pairs {
            let (Some(a), Some(b), Some(d)) =
                (used.0.get_mut(i), used.1.get_mut(j), cost.get((i, j)))
            else {
                return Err(unsound(i, j, "is outside the layers"));
            };
            if std::mem::replace(a, true) || std::mem::replace(b, true) {
                return Err(unsound(i, j, "uses a neuron twice"));
            }
            costs.push(*d);
        }
        Ok(Pairing { pairs, costs })
    }

    /// The cheapest pairs, as many as a multiple of `multiple` allows; all pairs of the smaller layer
    /// stay all.
    pub fn rounded_down(mut self, most: usize, multiple: usize) -> Pairing {
        let kept = self.len() / multiple.max(1) * multiple.max(1);
        if self.len() < most && kept < self.len() {
            let mut order: Vec<usize> = (0..self.len()).collect();
            order.sort_by(|a, b| self.costs[*a].total_cmp(&self.costs[*b]));
            order.truncate(kept);
            order.sort_unstable();
            self.pairs = order.iter().map(|n| self.pairs[*n]).collect();
            self.costs = order.iter().map(|n| self.costs[*n]).collect();
        }
        self
    }

    /// The pairs (neuron of A, neuron of B), sorted.
    pub fn pairs(&self) -> &[(usize, usize)] {
        &self.pairs
    }

    /// The cost of each pair.
    pub fn costs(&self) -> &[f64] {
        &self.costs
    }

    /// The cost of all pairs.
    pub fn total_cost(&self) -> f64 {
        self.costs.iter().fold(0.0, |total, d| total + d)
    }

    /// Number of pairs.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether nothing is paired.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }
}

fn unsound(i: usize, j: usize, what: &str) -> Error {
    Error::new(ErrorKind::Format, format!("the pair of neurons {i} and {j} {what}"))
}

/// A rule that pairs neurons.
pub trait Matcher: Send + Sync {
    /// The rule's name on the command line.
    fn name(&self) -> &'static str;

    /// Pairs rows of `cost` (n_A×n_B) with columns.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for an impossible share, [`ErrorKind::Numeric`] where a cost is not
    /// finite.
    fn pair(&self, cost: ArrayView2<f64>, share: Share) -> Result<Pairing>;
}

/// A row of [`MATCHERS`].
pub struct MatcherEntry {
    /// Name on the command line.
    pub name: &'static str,
    /// A line of help.
    pub about: &'static str,
    /// Makes the rule; the argument is the seed.
    pub make: fn(u64) -> Box<dyn Matcher>,
}

/// Every pairing rule; the first one is the default.
pub const MATCHERS: [MatcherEntry; 3] = [
    MatcherEntry {
        name: optimal::NAME,
        about: "least total cost (Jonker-Volgenant)",
        make: |_| Box::new(Optimal),
    },
    MatcherEntry {
        name: greedy::NAME,
        about: "always the cheapest pair that is left, as in the paper",
        make: |_| Box::new(Greedy),
    },
    MatcherEntry {
        name: random::NAME,
        about: "pairs drawn by lot, the paper's baseline",
        make: |seed| Box::new(Random { seed }),
    },
];

/// The rule called `name`; `seed` is for random rules.
///
/// # Errors
/// [`ErrorKind::Usage`] for a name that is not in [`MATCHERS`].
pub fn matcher(name: &str, seed: u64) -> Result<Box<dyn Matcher>> {
    match MATCHERS.iter().find(|entry| entry.name == name) {
        Some(entry) => Ok((entry.make)(seed)),
        None => {
            let names = MATCHERS.map(|entry| entry.name).join(", ");
            Err(usage(format!("there is no matcher '{name}'"))
                .hint(format!("choose one of {names}")))
        }
    }
}

#[cfg(test)]
mod tests;
