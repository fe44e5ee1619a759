//! The plans that were used last.

/// Values by their keys; only the ones that were used last stay.
pub(super) struct Recent<K, V> {
    /// The one that was used last stands last.
    all: Vec<(K, V)>,
    /// Limit of values, at least 1.
    most: usize,
    /// Number of values that were made.
    made: usize,
}

impl<K: PartialEq, V: Clone> Recent<K, V> {
    /// Keeps `most` values, at least one.
    pub(super) fn new(most: usize) -> Self {
        Recent { all: Vec::new(), most: most.max(1), made: 0 }
    }

    /// The value of `key`, which `make` makes where there is none. It takes the place of another before it is made,
    /// since values are large.
    ///
    /// # Errors
    /// Those of `make`.
    pub(super) fn get<E>(&mut self, key: K, make: impl FnOnce(&K) -> Result<V, E>) -> Result<V, E> {
        let value = match self.all.iter().position(|(own, _)| *own == key) {
            Some(place) => self.all.remove(place).1,
            None => {
                if self.all.len() >= self.most {
                    self.all.remove(0);
                }
                let value = make(&key)?;
                self.made += 1;
                value
            }
        };
        self.all.push((key, value.clone()));
        Ok(value)
    }

    /// Whether there is a value of `key`.
    pub(super) fn has(&self, key: &K) -> bool {
        self.all.iter().any(|(own, _)| own == key)
    }

    /// Number of values that were made so far.
    pub(super) fn made(&self) -> usize {
        self.made
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
        const MOST: usize = 3;
        let mut recent = Recent::new(MOST);
        let mut made = Vec::new();
        let mut get = |key: usize| {
            let value = recent.get(key, |key| {
                made.push(*key);
                if *key == 99 { Err("no plan") } else { Ok(10 * key) }
            });
            (value, recent.all.len())
        };
        for key in [0, 1, 2, 0] {
            assert_eq!(get(key).0, Ok(10 * key));
        }
        // It takes the place of 1, since 0 was used again.
        assert_eq!(get(3), (Ok(30), MOST));
        assert_eq!((get(0).0, get(1).0), (Ok(0), Ok(10)));
        // What fails has freed the place of 3.
        assert_eq!(get(99), (Err("no plan"), MOST - 1));
        assert_eq!(get(3), (Ok(30), MOST));
        assert_eq!((recent.last(), recent.made()), (Some(&30), 6));
        assert_eq!(made, [0, 1, 2, 3, 1, 99, 3]);
    }
}
