//! The joint graph as a picture: layers, owners of weights, and connections.

#[cfg(feature = "html")]
mod drawing;
mod links;

use serde::{Deserialize, Serialize};

use crate::align::{Alignment, Site, TaskLayer};
use crate::couple::LayerId;
use crate::ir::NodeId;
use crate::mtz::joint::JointModel;
use crate::mtz::site::SiteRecord;

#[cfg(feature = "html")]
pub(super) use drawing::{COLOURS, drawing};

/// The layers of a joint model in order, and their connections.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Picture {
    /// The layers.
    pub boxes: Vec<LayerBox>,
    /// Pairs of boxes: producer and consumer.
    pub links: Vec<Link>,
}

/// Weights that one task or several tasks own.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct LayerBox {
    /// Its row from the inputs down. Corresponding layers are in one row.
    pub row: usize,
    /// Its owners.
    pub tasks: Vec<usize>,
    /// Its name in each owner's net.
    pub layers: Vec<String>,
    /// Weights and biases.
    pub parameters: u64,
    /// Neurons.
    pub neurons: usize,
    /// Inputs.
    pub inputs: usize,
    /// The predicted cost, if neurons were fused.
    pub cost: Option<f64>,
    /// The relative error of each owner's neurons, if they were fused.
    pub errors: Vec<f64>,
}

/// A connection of two boxes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Link {
    /// The producer.
    pub from: usize,
    /// The consumer.
    pub to: usize,
    /// The tasks that have the connection.
    pub tasks: Vec<usize>,
}

/// A layer of a task's net, while boxes are put together.
#[derive(Clone, Copy)]
struct Member {
    task: usize,
    id: LayerId,
    node: NodeId,
    out: usize,
    inputs: usize,
    parameters: u64,
}

impl Picture {
    /// The picture of a joint model; `records` are those of the sites of several nets.
    pub fn of(joint: &JointModel, alignment: &Alignment, records: &[SiteRecord]) -> Picture {
        let mut boxes: Vec<LayerBox> = Vec::new();
        let mut holders: Vec<Vec<(usize, NodeId)>> = Vec::new();
        let mut records = records.iter();
        let mut row = 0;
        // Weights that are applied several times are one box.
        for site in alignment.sites.iter().filter(|site| !site.repeats) {
            let record = if site.is_common() { records.next() } else { None };
            let members = members(joint, site);
            let known = |m: &Member| holders.iter().flatten().any(|h| *h == (m.task, m.node));
            // Gates of a recurrent node, and further groups of a node, share its box.
            if members.iter().all(known) {
                members.iter().for_each(|m| grow(&mut boxes, &holders, m));
                continue;
            }
            for group in by_owner(joint, &members) {
                let new = drawn(joint, &group, row, record);
                holders.extend(new.iter().map(|b| {
                    let owned = group.iter().filter(|m| b.tasks.contains(&m.task));
                    owned.map(|m| (m.task, m.node)).collect()
                }));
                boxes.extend(new);
            }
            row += 1;
        }
        let links = links::links(joint, &holders);
        Picture { boxes, links }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.boxes.iter().map(|b| b.row + 1).max().unwrap_or(0)
    }
}

fn members(joint: &JointModel, site: &Site) -> Vec<Member> {
    let member = |own: TaskLayer| {
        let (net, task, id) = (joint.task(own.task), own.task.0, own.layer);
        let layer = &net.layer(id).layer;
        let (out, inputs, taps) = layer.sizes(net.graph()).ok()?;
        let biases = if layer.bias.is_some() { out } else { 0 };
        let parameters = (out * inputs * taps + biases) as u64;
        Some(Member { task, id, node: layer.node, out, inputs, parameters })
    };
    site.members().filter_map(member).collect()
}

/// Members whose weights were fused with each other.
fn by_owner(joint: &JointModel, members: &[Member]) -> Vec<Vec<Member>> {
    let mut groups: Vec<(Option<u32>, Vec<Member>)> = Vec::new();
    for member in members {
        let fused = joint.fused().get(member.task).and_then(|all| all.get(member.id.0));
        let fused = fused.copied().flatten();
        match groups.iter_mut().find(|(other, _)| fused.is_some() && *other == fused) {
            Some((_, group)) => group.push(*member),
            None => groups.push((fused, vec![*member])),
        }
    }
    groups.into_iter().map(|(_, group)| group).collect()
}

/// The boxes of fused layers: one per set of owners.
fn drawn(
    joint: &JointModel,
    group: &[Member],
    row: usize,
    record: Option<&SiteRecord>,
) -> Vec<LayerBox> {
    let name = |m: &Member| {
        let layer = joint.tasks().get(m.task).map(|t| t.layer(m.id).name.clone());
        layer.unwrap_or_default()
    };
    let alone = |m: &Member, parameters: u64| LayerBox {
        row,
        tasks: vec![m.task],
        layers: vec![name(m)],
        parameters,
        neurons: m.out,
        inputs: m.inputs,
        ..LayerBox::default()
    };
    let [first, _, ..] = group else {
        return group.iter().map(|m| alone(m, m.parameters)).collect();
    };
    let smallest = group.iter().min_by_key(|m| m.parameters).unwrap_or(first);
    let part = record.filter(|record| record.rows.iter().any(|rows| *rows > 0)).map_or(1.0, |r| {
        let of = |shared: usize, all: usize| shared.min(all) as f64 / all.max(1) as f64;
        of(r.shared, smallest.out) * of(r.shared_inputs, smallest.inputs).max(0.0)
    });
    let part = if part > 0.0 { part } else { 1.0 };
    let shared = (smallest.parameters as f64 * part) as u64;
    let common = LayerBox {
        row,
        tasks: group.iter().map(|m| m.task).collect(),
        layers: group.iter().map(name).collect(),
        parameters: shared,
        neurons: record
            .map_or(smallest.out, |r| if r.shared > 0 { r.shared } else { smallest.out }),
        inputs: smallest.inputs,
        cost: record.map(|r| r.cost),
        errors: record.map(|r| r.relative_errors.clone()).unwrap_or_default(),
    };
    let rest = group.iter().filter(|m| m.parameters > shared + m.parameters / 100);
    let rest = rest.map(|m| alone(m, m.parameters - shared));
    std::iter::once(common).chain(rest).collect()
}

/// Adds the weights of a further layer of a node to the box that the node is in.
fn grow(boxes: &mut [LayerBox], holders: &[Vec<(usize, NodeId)>], member: &Member) {
    let node = (member.task, member.node);
    // Weights of several tasks count once.
    let at = holders.iter().position(|own| own.first() == Some(&node));
    if let Some(drawn) = at.and_then(|at| boxes.get_mut(at)) {
        drawn.parameters += member.parameters;
    }
}
