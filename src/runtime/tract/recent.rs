//! The plans that were used last.

/// Limit of plans.
const MOST: usize = 8;

/// Values by their keys; only the ones that were used last stay.
pub(super) struct Recent<K, V> {
    /// The one that was used last stands last.
    all: Vec<(K, V)>,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    pub(super) fn new() -> Self {
        Recent { all: Vec::new() }
    }

    /// The value of `key`, which `make` makes where there is none.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn get<E>(&mut self, key: K, make: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        let value = match self.all.iter().position(|(own, _)| *own == key) {
            Some(place) => self.all.remove(place).1,
            None => make(&key)?,
        };
        self.all.push((key, value.clone()));
        if self.all.len() > MOST {
            self.all.remove(0);
        }
        Ok(value)
    }

    /// Whether there is a value of `key`.
    pub(super) fn has(&self, key: &K) -> bool {
        self.all.iter().any(|(own, _)| own == key)
    }

    /// Number of values.
    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// The value that was used last.
    pub(super) fn last(&self) -> Option<&V> {
        self.all.last().map(|(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_used_last_stays() {
        let mut made = Vec::new();
        let mut recent = Recent::new();
        let mut get = |key: usize| {
            let value = recent.get(key, |key| {
                made.push(*key);
                if *key == 99 { Err("no plan") } else { Ok(10 * key) }
            });
            (value, recent.all.len())
        };
        for key in (0..MOST).chain([0]) {
            assert_eq!(get(key).0, Ok(10 * key));
        }
        assert_eq!(get(99), (Err("no plan"), MOST));
        // It takes the place of 1, since 0 was used again.
        assert_eq!(get(MOST), (Ok(10 * MOST), MOST));
        assert_eq!((get(0).0, get(1).0), (Ok(0), Ok(10)));
        assert_eq!(recent.last(), Some(&10));
        let expected: Vec<usize> = (0..MOST).chain([99, MOST, 1]).collect();
        assert_eq!(made, expected);
    }
}
