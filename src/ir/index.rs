//! What a graph remembers about itself so that changing it takes no search.

use std::collections::HashMap;

use super::ids::{NodeId, ValueId};
use super::node::Node;

/// Where values are read, and how far names are counted. It follows from the graph, so graphs that are
/// equal otherwise are equal.
#[derive(Debug, Clone, Default)]
pub(super) struct Index {
    /// For each value, the nodes that have read it at some time, perhaps more than once.
    readers: Vec<Vec<NodeId>>,
    /// For names that were taken when they were asked for, the last number that was put behind them.
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

    /// The nodes that may read a value, perhaps more than once each.
    pub(super) fn readers(&self, value: ValueId) -> &[NodeId] {
        self.readers.get(value.index()).map_or(&[], Vec::as_slice)
    }

    /// The nodes that may read `old` and are about to read `new`.
    pub(super) fn move_readers(&mut self, old: ValueId, new: ValueId) -> Vec<NodeId> {
        let mut moved = std::mem::take(self.of(old));
        moved.sort_unstable();
        moved.dedup();
        self.of(new).extend(&moved);
        moved
    }

    /// The number from which free names that begin with `base` are looked for.
    pub(super) fn first_number(&self, base: &str) -> u32 {
        self.numbers.get(base).map_or(1, |last| last.saturating_add(1))
    }

    /// Remembers that `name` was taken for `base`.
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
