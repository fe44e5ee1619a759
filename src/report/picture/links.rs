//! Links between layers: paths through a graph without another layer.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::ir::{Graph, NodeId, ValueId};
use crate::mtz::joint::JointModel;

use super::Link;

/// The links between boxes, where `holders` names the nodes of each box.
pub(super) fn links(joint: &JointModel, holders: &[Vec<(usize, NodeId)>]) -> Vec<Link> {
    let mut found: BTreeMap<(usize, usize), BTreeSet<usize>> = BTreeMap::new();
    for (task, net) in joint.tasks().iter().enumerate() {
        let own = |b: &[(usize, NodeId)]| b.iter().find(|(t, _)| *t == task).map(|(_, n)| *n);
        let mut places: HashMap<NodeId, Vec<usize>> = HashMap::new();
        for (at, holder) in holders.iter().enumerate() {
            own(holder).into_iter().for_each(|node| places.entry(node).or_default().push(at));
        }
        for (node, readers) in &places {
            for source in sources(net.graph(), *node, &places) {
                let writers = places.get(&source).into_iter().flatten();
                for (from, to) in writers.flat_map(|w| readers.iter().map(move |r| (*w, *r))) {
                    found.entry((from, to)).or_default().insert(task);
                }
            }
        }
    }
    let link = |((from, to), tasks): ((usize, usize), BTreeSet<usize>)| Link {
        from,
        to,
        tasks: tasks.into_iter().collect(),
    };
    found.into_iter().map(link).collect()
}

/// The nodes among `places` from which a path leads to `node`.
fn sources(graph: &Graph, node: NodeId, places: &HashMap<NodeId, Vec<usize>>) -> BTreeSet<NodeId> {
    let mut sources = BTreeSet::new();
    let mut seen: BTreeSet<ValueId> = BTreeSet::new();
    let mut open: Vec<ValueId> = graph.node(node).reads().collect();
    while let Some(value) = open.pop() {
        let Some(producer) = graph.producer(value).filter(|_| seen.insert(value)) else { continue };
        match places.contains_key(&producer) {
            true => drop(sources.insert(producer)),
            false => open.extend(graph.node(producer).reads()),
        }
    }
    sources
}
