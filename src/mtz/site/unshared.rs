//! Says why corresponding layers share no input.

use std::collections::{HashSet, VecDeque};

use crate::align::Alignment;
use crate::mtz::joint::JointModel;
use crate::ops::Flow;

use super::layers::SiteLayer;

/// Limit of nodes between a layer and the operator at which channels end.
const LONGEST_WAY: usize = 64;

/// The reason why the layers of a site share no input.
pub(super) fn reason(joint: &JointModel, alignment: &Alignment, members: &[SiteLayer]) -> String {
    let refused = |m: &SiteLayer| {
        let mut groups = m.input_groups().into_iter();
        groups.find_map(|group| alignment.refused.get(&m.task.group(group)).cloned())
    };
    let why = members.iter().find_map(|m| end(joint, m).or_else(|| refused(m)));
    match why {
        Some(why) => format!("no input is shared: {why}"),
        None => "no input is shared".to_owned(),
    }
}

/// The operator at which the channels end that a layer would read, if it is known.
fn end(joint: &JointModel, member: &SiteLayer) -> Option<String> {
    if member.layer.inputs.is_some() {
        return None;
    }
    let task = joint.task(member.task);
    let (graph, coupling) = (task.graph(), task.coupling());
    let mut next = VecDeque::from([member.layer.layer.input]);
    let mut seen = HashSet::new();
    while let Some(value) = next.pop_front() {
        if seen.len() > LONGEST_WAY || !seen.insert(value) {
            continue;
        }
        let Some(id) = graph.producer(value) else { continue };
        if let Some(Flow::Whole(whole)) = coupling.flows.get(&id) {
            return Some(format!("{} ('{}')", whole.reason, graph.node(id).name));
        }
        next.extend(graph.node(id).reads());
    }
    None
}
