//! The range of integer inputs: the rows of the tables that they index.

use std::collections::{BTreeMap, HashSet};

use crate::ir::{Graph, ValueId};

/// Operators that pass numbers on unchanged.
const PASSES: &[&str] = &[
    "Cast",
    "Identity",
    "Reshape",
    "Flatten",
    "Squeeze",
    "Unsqueeze",
    "Slice",
    "Transpose",
    "Gather",
    "Split",
    "Expand",
];

/// For each input that indexes tables, the number of rows of the smallest table.
pub fn tables(graph: &Graph) -> BTreeMap<String, usize> {
    let readers = graph.consumers();
    let mut found = BTreeMap::new();
    for input in &graph.inputs {
        let mut seen: HashSet<ValueId> = HashSet::new();
        let mut waiting = vec![*input];
        let mut rows: Option<usize> = None;
        while let Some(value) = waiting.pop().filter(|_| seen.len() < graph.value_count()) {
            if !seen.insert(value) {
                continue;
            }
            for id in &readers[value.index()] {
                let node = graph.node(*id);
                let picks = node.is("Gather") && node.input(1) == Some(value);
                let table = node.input(0).filter(|_| picks).and_then(|v| graph.initializer(v));
                let axis = usize::try_from(node.int("axis", 0)).ok();
                let own = table.zip(axis).and_then(|(t, axis)| t.dims.get(axis).copied());
                rows = match (rows, own) {
                    (Some(a), Some(b)) => Some(a.min(b)),
                    (a, b) => a.or(b),
                };
                let passes = node.domain.is_empty() && PASSES.contains(&node.op.as_str());
                if passes && node.input(0) == Some(value) {
                    waiting.extend(node.outputs.iter().flatten());
                }
            }
        }
        found.extend(rows.map(|rows| (graph.value(*input).name.clone(), rows)));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;

    #[test]
    fn numbers_are_those_of_the_smallest_table() {
        let mut b = GraphBuilder::new("net", 17);
        let ids = b.typed_input("ids", crate::ir::DataType::I64, "n,t");
        let x = b.input("x", "n,t,3");
        let (small, large) = (b.weights("small", &[5, 3]), b.weights("large", &[9, 3]));
        let cast = b.op("Cast", "cast", &[ids], [("to", 6.into())]);
        let a = b.op("Gather", "a", &[large, ids], []);
        let c = b.op("Gather", "c", &[small, cast], []);
        let y = b.op("Sum", "y", &[a, c, x], []);
        let found = tables(&b.build(&[y]).graph);
        assert_eq!(found.into_iter().collect::<Vec<_>>(), [("ids".to_owned(), 5)]);
    }
}
