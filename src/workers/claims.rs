//! Divides the shards among the live workers.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;

use super::beat::Watch;
use super::layout::Layout;

/// The shards that one worker has claimed, each with its state `T`.
pub(super) struct Claims<T> {
    layout: Layout,
    name: String,
    shards: usize,
    held: BTreeMap<usize, T>,
}

impl<T: Default> Claims<T> {
    /// No claims yet; `shards` is the number of all shards.
    pub(super) fn new(layout: Layout, name: String, shards: usize) -> Claims<T> {
        Claims { layout, name, shards, held: BTreeMap::new() }
    }

    pub(super) fn held(&mut self) -> &mut BTreeMap<usize, T> {
        &mut self.held
    }

    /// Claims free shards up to an equal part, and releases shards beyond it.
    pub(super) fn settle(&mut self, watch: &mut Watch) {
        let alive = watch.alive(&self.layout.workers());
        let part = self.shards.div_ceil(alive.len().max(1));
        let lost: Vec<usize> = self
            .held
            .keys()
            .copied()
            .filter(|s| self.owner(*s).as_ref() != Some(&self.name))
            .collect();
        lost.iter().for_each(|shard| drop(self.held.remove(shard)));
        while self.held.len() > part {
            let Some((shard, _)) = self.held.pop_last() else { break };
            self.release(shard);
        }
        for shard in 0..self.shards {
            if self.held.len() >= part {
                break;
            }
            if self.held.contains_key(&shard) {
                continue;
            }
            let owner = self.owner(shard);
            let is_free = owner.as_ref().is_none_or(|owner| !alive.contains(owner));
            if is_free && self.claim(shard, owner.is_some()) {
                self.held.insert(shard, T::default());
            }
        }
    }

    /// Writes a claim; with `is_taken`, replaces that of a dead worker.
    fn claim(&self, shard: usize, is_taken: bool) -> bool {
        let path = self.layout.claim(shard);
        if is_taken {
            let _ = fs::remove_file(&path);
        }
        let made = File::create_new(&path);
        made.and_then(|mut file| file.write_all(self.name.as_bytes())).is_ok()
    }

    fn owner(&self, shard: usize) -> Option<String> {
        fs::read_to_string(self.layout.claim(shard)).ok()
    }

    fn release(&self, shard: usize) {
        if self.owner(shard).as_ref() == Some(&self.name) {
            let _ = fs::remove_file(self.layout.claim(shard));
        }
    }
}

impl<T> Drop for Claims<T> {
    fn drop(&mut self) {
        for shard in self.held.keys() {
            let path = self.layout.claim(*shard);
            if fs::read_to_string(&path).is_ok_and(|owner| owner == self.name) {
                let _ = fs::remove_file(path);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn held(claims: &mut Claims<()>) -> Vec<usize> {
        claims.held().keys().copied().collect()
    }

    #[test]
    fn shards_are_divided_among_those_that_live() {
        let folder = tempfile::tempdir().unwrap();
        let layout = Layout::new(folder.path());
        layout.make().unwrap();
        let mut watch = Watch::new(Duration::from_secs(60));
        let lives = |name: &str| fs::write(layout.workers().join(name), "0").unwrap();
        let worker = |name: &str| Claims::<()>::new(layout.clone(), name.to_owned(), 5);
        lives("a");
        let mut a = worker("a");
        a.settle(&mut watch);
        assert_eq!(held(&mut a), [0, 1, 2, 3, 4]);
        lives("b");
        let mut b = worker("b");
        b.settle(&mut watch);
        assert_eq!(held(&mut b), [0; 0]);
        a.settle(&mut watch);
        b.settle(&mut watch);
        assert_eq!((held(&mut a), held(&mut b)), (vec![0, 1, 2], vec![3, 4]));
        // A worker dies and leaves its claims behind.
        fs::remove_file(layout.workers().join("a")).unwrap();
        b.settle(&mut watch);
        assert_eq!(held(&mut b), [0, 1, 2, 3, 4]);
        a.settle(&mut watch);
        assert_eq!(held(&mut a), [0; 0]);
        // A worker that ends removes its claims.
        drop(b);
        assert!((0..5).all(|shard| !layout.claim(shard).exists()));
    }
}
