//! An index of a graph, so that changes need no search.

use std::collections::HashMap;

use super::ids::{NodeId, ValueId};
use super::node::Node;

/// Consumers of values, and counters of names. The index follows from the graph and does not count in
/// comparisons.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// For each value, all nodes that have ever read it, possibly repeated.
    readers: Vec<Vec<NodeId>>,
    /// For each name that was taken, the last number appended to it.
    numbers: HashMap<String, u32>,
}

impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Index {
    /// Remembers what a node reads.
    pub(super) fn add(&mut self, id: NodeId, node: &Node) {
        for value in node.reads() {
            let readers = self.of(value);
            if readers.last() != Some(&id) {
                readers.push(id);
            }
        }
    }

    /// Forgets all nodes, which get other ids.
    pub(super) fn forget_readers(&mut self) {
        self.readers.clear();
    }

    /// Candidates for the consumers of a value, possibly repeated.
    pub(super) fn readers(&self, value: ValueId) -> &[NodeId] {
        self.readers.get(value.index()).map_or(&[], Vec::as_slice)
    }

    /// Candidates for the consumers of `old`, which will read `new`.
    pub(super) fn move_readers(&mut self, old: ValueId, new: ValueId) -> Vec<NodeId> {
        let mut moved = std::mem::take(self.of(old));
        moved.sort_unstable();
        moved.dedup();
        self.of(new).extend(&moved);
        moved
    }

    /// The first number to try for a free name with the prefix `base`.
    pub(super) fn first_number(&self, base: &str) -> u32 {
        self.numbers.get(base).map_or(1, |last| last.saturating_add(1))
    }

    /// Records that `name` was taken for `base`.
    pub(super) fn number(&mut self, base: &str, name: &str) {
        let number = name.strip_prefix(base).and_then(|rest| rest.strip_prefix('.')?.parse().ok());
        if let Some(number) = number {
            self.numbers.insert(base.to_owned(), number);
        }
    }

    fn of(&mut self, value: ValueId) -> &mut Vec<NodeId> {
        let index = value.index();
        if self.readers.len() <= index {
            self.readers.resize(index + 1, Vec::new());
        }
        &mut self.readers[index]
    }
}
