//! Lists of indices as text. Each index is written as its distance from the successor of the previous
//! one.
//!
//! `0x4,3,-5` is 0, 1, 2, 3, 7, 3: `xN` repeats an item, so that a run of any length takes few
//! characters. `_` means no index.

/// Limit of indices in all lists of a recipe together, against hostile runs.
const MOST_INDICES: usize = 1 << 24;

/// Number of indices that may still be read.
#[derive(Debug)]
pub(super) struct Allowance(usize);

impl Allowance {
    /// Takes some of them; `None` if there are not as many.
    pub(super) fn take(&mut self, count: usize) -> Option<()> {
        self.0 = self.0.checked_sub(count)?;
        Some(())
    }
}

impl Default for Allowance {
    fn default() -> Self {
        Allowance(MOST_INDICES)
    }
}

/// The text of a list.
pub(super) fn write(list: impl IntoIterator<Item = Option<usize>>) -> String {
    let mut runs: Vec<(Option<i64>, usize)> = Vec::new();
    let mut next = 0;
    for index in list {
        let item = index.map(|index| index as i64 - next);
        next = index.map_or(next, |index| index as i64 + 1);
        // Only distances of 0 continue a run.
        match runs.last_mut() {
            Some((last, count)) if *last == item && item.is_none_or(|item| item == 0) => {
                *count += 1
            }
            _ => runs.push((item, 1)),
        }
    }
    let text = runs.into_iter().map(|(item, count)| {
        let item = item.map_or("_".to_owned(), |item| item.to_string());
        if count > 1 { format!("{item}x{count}") } else { item }
    });
    text.collect::<Vec<_>>().join(",")
}

/// The list in a text; `None` for invalid text, or for more indices than are allowed.
pub(super) fn read(text: &str, allowance: &mut Allowance) -> Option<Vec<Option<usize>>> {
    let mut list = Vec::new();
    let mut next: i64 = 0;
    for item in text.split(',').filter(|item| !item.is_empty()) {
        let (item, count) = match item.split_once('x') {
            Some((item, count)) => (item, count.parse().ok()?),
            None => (item, 1),
        };
        allowance.take(count)?;
        let step: Option<i64> = if item == "_" { None } else { Some(item.parse().ok()?) };
        for _ in 0..count {
            let Some(step) = step else {
                list.push(None);
                continue;
            };
            let index = next.checked_add(step)?;
            list.push(Some(usize::try_from(index).ok()?));
            next = index.checked_add(1)?;
        }
    }
    Some(list)
}

/// [`read`] for lists in which every index is given.
pub(super) fn read_all(text: &str, allowance: &mut Allowance) -> Option<Vec<usize>> {
    read(text, allowance)?.into_iter().collect()
}

/// The channels that are shared neurons, in the order of the neurons.
pub(super) fn in_order(neurons: &[Option<usize>]) -> Vec<usize> {
    let shared = neurons.iter().enumerate().filter_map(|(channel, n)| Some(((*n)?, channel)));
    let mut shared: Vec<(usize, usize)> = shared.collect();
    shared.sort_unstable();
    shared.into_iter().map(|(_, channel)| channel).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn lists_round_trip(
            list in proptest::collection::vec(proptest::option::of(0usize..50), 0..40),
        ) {
            let text = write(list.iter().copied());
            prop_assert_eq!(read(&text, &mut Allowance::default()), Some(list));
        }
    }

    #[test]
    fn runs_are_short() {
        assert_eq!(write((0..500).map(Some)), "0x500");
        assert_eq!(write([Some(3), Some(4), Some(5), None, None, Some(0)]), "3,0x2,_x2,-6");
    }

    #[test]
    fn channels_stand_in_the_order_of_their_neurons() {
        assert_eq!(in_order(&[Some(7), None, Some(2), Some(9), None]), [2, 0, 3]);
    }

    #[test]
    fn hostile_lists_are_refused() {
        for text in ["0x18446744073709551615", "-1", "x", "5x", "9223372036854775807,0", "0xx3"] {
            assert_eq!(read(text, &mut Allowance::default()), None, "{text}");
        }
        let mut allowance = Allowance::default();
        assert!(read(&format!("0x{}", MOST_INDICES), &mut allowance).is_some());
        assert_eq!(read("0", &mut allowance), None);
    }
}
