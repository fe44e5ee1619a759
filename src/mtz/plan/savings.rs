//! Parameters that sites save, by the numbers of neurons that are shared.

use std::collections::{BTreeMap, BTreeSet};

/// The number of shared neurons of each correspondence.
pub(super) type Counts = BTreeMap<usize, usize>;

/// Saving of one site: rows × (fixed + Σ per input neuron), for every task except the first.
#[derive(Debug, Clone)]
pub(super) struct Saving {
    /// That of its rows.
    pub(super) correspondence: usize,
    /// Its rows, if their correspondence has no number.
    pub(super) rows: usize,
    /// Parameters per row beside those of input neurons.
    pub(super) fixed: f64,
    /// Parameters per row and input neuron, by correspondence.
    pub(super) columns: BTreeMap<usize, f64>,
    /// Copies of the weights that sharing saves.
    pub(super) copies: f64,
}

impl Saving {
    fn of<'c>(&self, count: impl Fn(usize) -> Option<&'c usize>) -> f64 {
        let shared = |correspondence: &usize| count(*correspondence).map(|count| *count as f64);
        let rows = shared(&self.correspondence).unwrap_or(self.rows as f64);
        let columns: f64 = self.columns.iter().map(|(c, per)| per * shared(c).unwrap_or(0.0)).sum();
        rows * (self.fixed + columns) * self.copies
    }

    /// The correspondences whose numbers it depends on, perhaps repeated.
    fn correspondences(&self) -> impl Iterator<Item = usize> + '_ {
        self.columns.keys().copied().chain([self.correspondence])
    }
}

/// The savings of all sites.
pub(super) struct Savings {
    all: Vec<Saving>,
    /// The savings that each correspondence enters.
    entered: BTreeMap<usize, BTreeSet<usize>>,
}

impl Savings {
    pub(super) fn new(all: Vec<Saving>) -> Savings {
        let mut entered: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (at, saving) in all.iter().enumerate() {
            for correspondence in saving.correspondences() {
                entered.entry(correspondence).or_default().insert(at);
            }
        }
        Savings { all, entered }
    }

    /// What all sites save.
    pub(super) fn sum(&self, counts: &Counts) -> f64 {
        self.all.iter().map(|saving| saving.of(|c| counts.get(&c))).sum()
    }

    /// What is saved less with `fewer` neurons of one correspondence, which is the difference of two
    /// [sums](Savings::sum) up to [`Savings::rounding`]. It is zero only where these are the same number.
    pub(super) fn lost(&self, counts: &Counts, changed: usize, fewer: usize) -> f64 {
        let then = |c: usize| if c == changed { Some(&fewer) } else { counts.get(&c) };
        let one = |saving: &Saving| saving.of(|c| counts.get(&c)) - saving.of(then);
        self.of(changed).map(one).sum()
    }

    /// The correspondences whose [loss](Savings::lost) depends on the number of this one.
    pub(super) fn beside(&self, changed: usize) -> BTreeSet<usize> {
        self.of(changed).flat_map(Saving::correspondences).collect()
    }

    /// A limit of the rounding error of a difference of sums, where no number on the way is above `most`.
    pub(super) fn rounding(&self, most: f64) -> f64 {
        let columns = self.all.iter().map(|saving| saving.columns.len()).max().unwrap_or(0);
        // Each addition is off by half of ε; there are about three sums of so many numbers.
        4.0 * (self.all.len() + columns + 16) as f64 * f64::EPSILON * most
    }

    /// The savings that a correspondence enters.
    fn of(&self, correspondence: usize) -> impl Iterator<Item = &Saving> + '_ {
        let places = self.entered.get(&correspondence).into_iter().flatten();
        places.filter_map(|at| self.all.get(*at))
    }
}
