//! Bisection over sizes, for the smallest joint model that is good enough.

use crate::error::Result;

use super::search::Choice;

/// Limit of sizes at which something is merged.
const STEPS: usize = 6;

/// Sizes that differ by less than this part of all originals are one size.
const RESOLUTION: f64 = 1e-3;

/// Sizes between full sharing and none, as parts of all originals, and the choices that were merged.
pub(super) struct Bisection {
    too_small: f64,
    enough: f64,
    tried: Vec<(Choice, Option<f64>)>,
}

impl Bisection {
    /// Full sharing, of this size, is not good enough. Sharing nothing is.
    pub(super) fn above(full: Choice, size: f64) -> Bisection {
        Bisection { too_small: size, enough: 1.0, tried: vec![(full, None)] }
    }

    /// Halves sizes. `choices` lists what can be merged to reach a size. `merge` merges a choice, and
    /// returns the size that came of it if it is good enough. A size is enough if any of its choices is;
    /// the choices behind it are not merged.
    pub(super) fn run(
        mut self,
        choices: impl Fn(f64) -> Vec<Choice>,
        mut merge: impl FnMut(&Choice) -> Result<Option<f64>>,
    ) -> Result<()> {
        let mut steps = 0;
        while steps < STEPS && self.enough - self.too_small > RESOLUTION {
            let size = (self.too_small + self.enough) / 2.0;
            let (mut reached, mut merged) = (None, false);
            for choice in choices(size) {
                // Neighbouring sizes may lead to the same choice.
                let known = self.tried.iter().find(|(other, _)| other.merges_as(&choice));
                reached = match known {
                    Some((_, reached)) => *reached,
                    None => {
                        merged = true;
                        let reached = merge(&choice)?;
                        self.tried.push((choice, reached));
                        reached
                    }
                };
                if reached.is_some() {
                    break;
                }
            }
            match reached {
                Some(reached) => self.enough = size.min(reached),
                None => self.too_small = size,
            }
            steps += usize::from(merged);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use super::*;
    use crate::mtz::matching::Share;
    use crate::mtz::options::Ranks;

    fn choice(own: &[usize], shares: &[usize]) -> Choice {
        let share = |count: &usize| ("layer".to_owned(), Share::Count(*count));
        let shares = shares.iter().map(share).collect();
        Choice { own: own.iter().copied().collect(), shares, ranks: Ranks::new(), probe: 0 }
    }

    /// Runs a bisection above a half, and returns the sizes of what it merged. Those of
    /// `least` or more are good enough.
    fn merged(least: f64, choices: impl Fn(f64) -> Vec<(Choice, f64)>) -> Vec<f64> {
        let mut sizes = Vec::new();
        let all = RefCell::new(Vec::new());
        let found = |size: f64| {
            let found = choices(size);
            all.borrow_mut().extend(found.clone());
            found.into_iter().map(|(choice, _)| choice).collect::<Vec<_>>()
        };
        let merge = |choice: &Choice| {
            let all = all.borrow();
            let size = all.iter().find(|(other, _)| other.merges_as(choice)).unwrap().1;
            sizes.push(size);
            Ok((size >= least).then_some(size))
        };
        Bisection::above(choice(&[], &[]), 0.5).run(found, merge).unwrap();
        sizes
    }

    #[test]
    fn choices_that_differ_in_their_neurons_alone_are_tried() {
        let neurons = |size: f64| {
            let count = ((1.0 - size) * 1000.0) as usize;
            vec![(choice(&[3], &[count]), 1.0 - count as f64 / 1000.0)]
        };
        let sizes = merged(0.8, neurons);
        assert_eq!(sizes.len(), STEPS, "{sizes:?}");
        let least = sizes.iter().copied().filter(|size| *size >= 0.8).fold(1.0, f64::min);
        assert!(least < 0.82, "{sizes:?}");
    }

    #[test]
    fn what_was_merged_is_not_merged_again_and_says_what_it_said() {
        let layers = |size: f64| match size {
            size if size < 0.7 => vec![(choice(&[], &[]), 0.5)],
            size if size < 0.9 => vec![(choice(&[1], &[]), 0.7)],
            _ => vec![(choice(&[1, 2], &[]), 0.9)],
        };
        assert_eq!(merged(0.6, layers), [0.7]);
        assert_eq!(merged(0.8, layers), [0.7, 0.9]);
        assert_eq!(merged(0.95, layers), [0.7, 0.9]);
    }

    #[test]
    fn a_size_is_enough_if_any_choice_is() {
        let both = |size: f64| {
            let at = (size * 1000.0) as usize;
            vec![(choice(&[1], &[]), 0.6), (choice(&[], &[at]), size)]
        };
        let sizes = merged(0.7, both);
        assert_eq!(sizes.iter().filter(|size| **size == 0.6).count(), 1);
        assert!(sizes.iter().skip(2).all(|size| *size < 0.75), "{sizes:?}");
        assert_eq!(merged(0.55, both), [0.6]);
    }
}
