//! Writes grouped convolutions as one node. Canonical form has one convolution per group.
//!
//! The groups are called *lanes* here. They are ordered by the numbers of fused layers, so the order is
//! the same in every task. If lanes share unequal numbers of neurons, the convolution stays one node
//! per group, and so do the convolutions that it was fused with.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use crate::align::TaskId;
use crate::canon::{PerGroup, per_group};
use crate::couple::LayerId;
use crate::emit::task::TaskEmitter;
use crate::emit::value::block::Stacked;
use crate::emit::value::partition::{Part, Partition};
use crate::emit::value::pieces::{Held, Piece, pick};
use crate::emit::value::readers::Readers;
use crate::error::Result;
use crate::ir::{Attribute, Graph, NodeId, ValueId};
use crate::mtz::joint::{JointModel, Owner, Task};
use crate::ops::{Flow, Layer};

/// The convolution of one group.
#[derive(Debug)]
pub(crate) struct Lane {
    layer: Layer,
    /// Its channels of the grouped convolution's input.
    columns: Vec<usize>,
    /// Its channels of the grouped convolution's output.
    rows: Vec<usize>,
}

/// A grouped convolution.
#[derive(Debug)]
pub(crate) struct GroupedConv {
    input: ValueId,
    output: ValueId,
    lanes: Vec<Lane>,
}

/// The grouped convolutions of a net that are written as one node.
#[derive(Debug, Default)]
pub(crate) struct GroupedConvs {
    /// By the `Concat` of the groups' outputs.
    whole: BTreeMap<NodeId, GroupedConv>,
    /// The convolutions of the groups, and the splits before them.
    parts: BTreeSet<NodeId>,
}

impl GroupedConvs {
    /// The grouped convolution whose outputs node `id` concatenates.
    pub(crate) fn at(&self, id: NodeId) -> Option<&GroupedConv> {
        self.whole.get(&id)
    }

    /// Whether node `id` is part of a grouped convolution.
    pub(crate) fn is_part(&self, id: NodeId) -> bool {
        self.parts.contains(&id)
    }
}

/// The grouped convolutions of each task's net.
pub(crate) fn grouped_convs(
    joint: &JointModel,
    partitions: &[Partition],
    readers: &Readers,
) -> Vec<GroupedConvs> {
    let mut found: Vec<BTreeMap<NodeId, GroupedConv>> = Vec::new();
    for (task, partition) in joint.task_ids().zip(partitions) {
        let net = joint.task(task);
        let mut of_task = BTreeMap::new();
        for written in per_group(net.graph()) {
            let grouped = GroupedConv::of(net, &written);
            let grouped = grouped.filter(|grouped| {
                !grouped.reads_otherwise(joint, task, readers)
                    && grouped.is_even(joint, task, partition)
            });
            of_task.extend(grouped.map(|grouped| (written.concat, grouped)));
        }
        found.push(of_task);
    }
    while let Some((task, id)) = fused_with_others(joint, &found) {
        found[task.0].remove(&id);
    }
    let tasks = found.into_iter().zip(joint.tasks());
    tasks.map(|(whole, task)| GroupedConvs { parts: parts(&whole, task.graph()), whole }).collect()
}

/// A grouped convolution whose lanes are fused with more than one grouped convolution of a task, or with
/// layers outside such a convolution.
fn fused_with_others(
    joint: &JointModel,
    found: &[BTreeMap<NodeId, GroupedConv>],
) -> Option<(TaskId, NodeId)> {
    let mut home: HashMap<(TaskId, NodeId), NodeId> = HashMap::new();
    for (task, grouped) in joint.task_ids().zip(found) {
        for (id, conv) in grouped {
            home.extend(conv.lanes.iter().map(|lane| ((task, lane.layer.node), *id)));
        }
    }
    let mut homes: BTreeMap<u32, BTreeSet<(TaskId, Option<NodeId>)>> = BTreeMap::new();
    for (task, net) in joint.task_ids().zip(joint.tasks()) {
        for (layer, number) in net.coupling().layers.iter().zip(&joint.fused()[task.0]) {
            let Some(number) = number else { continue };
            let home = home.get(&(task, layer.layer.node)).copied();
            homes.entry(*number).or_default().insert((task, home));
        }
    }
    let strays = |task: TaskId, conv: &GroupedConv| {
        let own: BTreeSet<NodeId> = conv.lanes.iter().map(|lane| lane.layer.node).collect();
        let layers = joint.task(task).coupling().layers.iter().zip(&joint.fused()[task.0]);
        let numbers = layers.filter(|(l, _)| own.contains(&l.layer.node)).filter_map(|(_, n)| *n);
        let with: BTreeSet<&(TaskId, Option<NodeId>)> =
            numbers.filter_map(|n| homes.get(&n)).flatten().collect();
        let tasks: BTreeSet<TaskId> = with.iter().map(|(task, _)| *task).collect();
        with.iter().any(|(_, home)| home.is_none()) || tasks.len() < with.len()
    };
    let all = joint.task_ids().zip(found);
    let all = all.flat_map(|(task, convs)| convs.iter().map(move |(id, conv)| (task, id, conv)));
    let mut all = all.filter(|(task, _, conv)| strays(*task, conv));
    all.next().map(|(task, id, _)| (task, *id))
}

/// The nodes that grouped convolutions replace: convolutions of lanes, and splits without other
/// consumers.
fn parts(whole: &BTreeMap<NodeId, GroupedConv>, graph: &Graph) -> BTreeSet<NodeId> {
    let lanes = whole.values().flat_map(|conv| &conv.lanes);
    let mut parts: BTreeSet<NodeId> = lanes.map(|lane| lane.layer.node).collect();
    let readers = graph.consumers();
    let splits = whole.values().flat_map(|conv| &conv.lanes);
    let splits: BTreeSet<NodeId> =
        splits.filter_map(|lane| graph.producer(lane.layer.input)).collect();
    let is_unread = |v: &ValueId| {
        readers[v.index()].iter().all(|id| parts.contains(id)) && !graph.outputs.contains(v)
    };
    let unread = |id: &NodeId| graph.node(*id).outputs.iter().flatten().all(is_unread);
    let unread: Vec<NodeId> = splits.into_iter().filter(unread).collect();
    parts.extend(unread);
    parts
}

impl GroupedConv {
    /// The grouped convolution of a task's net, if its channels are tracked.
    fn of(task: &Task, found: &PerGroup) -> Option<GroupedConv> {
        let (graph, coupling) = (task.graph(), task.coupling());
        let input = graph.node(found.split).input(0)?;
        let output = graph.node(found.concat).output(0)?;
        let mut lanes = Vec::new();
        for (k, conv) in found.convs.iter().enumerate() {
            let Some(Flow::Layer(layer)) = coupling.flows.get(conv) else { return None };
            let (rows, columns, _) = layer.sizes(graph).ok()?;
            let own = |size: usize| (k * size..(k + 1) * size).collect();
            lanes.push(Lane { layer: layer.clone(), columns: own(columns), rows: own(rows) });
        }
        let fits = |value: ValueId, channels: fn(&Lane) -> &[usize]| {
            let all: usize = lanes.iter().map(|lane| channels(lane).len()).sum();
            coupling.axis(value).is_some_and(|axis| axis.axis == 1 && axis.channels.len() == all)
        };
        let fits = fits(input, |lane| &lane.columns) && fits(output, |lane| &lane.rows);
        fits.then_some(GroupedConv { input, output, lanes })
    }

    /// Whether layers fused with those of a lane read other neurons of an owner.
    fn reads_otherwise(&self, joint: &JointModel, task: TaskId, readers: &Readers) -> bool {
        let layers = joint.task(task).coupling().layers.iter().zip(&joint.fused()[task.0]);
        let mut differ = layers.filter(|(_, n)| n.is_some_and(|number| readers.differ(number)));
        differ.any(|(l, _)| self.lanes.iter().any(|lane| lane.layer.node == l.layer.node))
    }

    /// Whether every block of weights has the same number of rows and columns, and the same owners, in
    /// each lane.
    fn is_even(&self, joint: &JointModel, task: TaskId, partition: &Partition) -> bool {
        let coupling = joint.task(task).coupling();
        let axes = coupling.axis(self.input).zip(coupling.axis(self.output));
        let Some((read, made)) = axes.filter(|(read, made)| read.axis == 1 && made.axis == 1)
        else {
            return false;
        };
        let mut columns: BTreeMap<Owner, Vec<usize>> = BTreeMap::new();
        for part in partition.parts(&read.channels) {
            columns.entry(part.owner).or_default().extend(part.positions);
        }
        let of_lane = |own: &[usize], all: &[usize]| {
            let own: BTreeSet<&usize> = own.iter().collect();
            all.iter().filter(|p| own.contains(p)).count()
        };
        let counts = |lane: &Lane| {
            columns.values().map(|all| of_lane(&lane.columns, all)).collect::<Vec<_>>()
        };
        let is_even = |part: &Part| {
            let rows = |lane: &Lane| of_lane(&lane.rows, &part.positions);
            let common = |lane: &Lane| {
                let own: BTreeSet<&usize> = lane.rows.iter().collect();
                let row = part.positions.iter().find(|p| own.contains(p))?;
                let group = made.channels.get(*row)?.group;
                let layer = coupling.layer_making(lane.layer.node, group)?;
                let is_shared = part.owner.is_shared();
                let biases = is_shared.then(|| joint.shares_bias(task.layer(layer)).ok());
                Some((joint.partners(task.layer(layer)), biases))
            };
            same(self.lanes.iter().map(rows)) && same(self.lanes.iter().map(common))
        };
        let parts = partition.rows(&made.channels);
        same(self.lanes.iter().map(counts)) && parts.iter().all(is_even)
    }
}

/// Whether all items are equal.
fn same<T: PartialEq>(mut all: impl Iterator<Item = T>) -> bool {
    let first = all.next();
    all.all(|other| Some(&other) == first.as_ref())
}

impl TaskEmitter<'_> {
    /// Writes a grouped convolution: for each block of rows, the sum of its products with the input
    /// pieces.
    pub(crate) fn emit_grouped(&mut self, id: NodeId, grouped: &GroupedConv) -> Result<()> {
        let name = self.graph().node(id).name.clone();
        let Some(axis) = self.source().coupling().axis(grouped.output) else { return Ok(()) };
        let held = self.held(grouped.input)?;
        let bundles = self.bundles(&held, id, grouped.input);
        let parts = self.rows(&axis.channels);
        let order = parts.iter().flat_map(|part| &part.positions).enumerate();
        let order: HashMap<usize, usize> =
            order.map(|(rank, position)| (*position, rank)).collect();
        let mut lanes: Vec<&Lane> = grouped.lanes.iter().collect();
        lanes.sort_by_key(|lane| {
            let rank = lane.rows.iter().filter_map(|row| order.get(row)).min();
            (self.lane_number(lane), rank)
        });
        let mut pieces = Vec::new();
        for rows in parts {
            let value = self.emit_lanes(&lanes, &bundles, &rows, (grouped, &name))?;
            pieces.push(Piece { value, owner: rows.owner, positions: rows.positions });
        }
        self.hold(grouped.output, Held::Pieces { axis: 1, len: axis.channels.len(), pieces });
        Ok(())
    }

    /// The smallest number of the fused layers of a lane; it is the same in every task.
    fn lane_number(&self, lane: &Lane) -> Option<u32> {
        let layers = self.source().coupling().layers.iter().zip(&self.joint.fused()[self.task.0]);
        layers.filter(|(l, _)| l.layer.node == lane.layer.node).filter_map(|(_, n)| *n).min()
    }

    fn emit_lanes(
        &mut self,
        lanes: &[&Lane],
        bundles: &[Piece],
        rows: &Part,
        (grouped, name): (&GroupedConv, &str),
    ) -> Result<ValueId> {
        let of_lanes: Vec<Vec<(usize, usize)>> =
            lanes.iter().map(|lane| indices(&lane.rows, &rows.positions)).collect();
        let makes_first =
            |lane: &&&Lane| rows.positions.first().is_some_and(|p| lane.rows.contains(p));
        let layer = lanes.iter().find(makes_first).map_or(&lanes[0].layer, |lane| &lane.layer);
        let id = self.source().coupling().layer_making(layer.node, rows.group);
        let biases = lanes.iter().zip(&of_lanes).filter_map(|(lane, rows)| {
            let rows = rows.iter().map(|(_, row)| *row).collect();
            Some(Stacked { source: lane.layer.bias?, parts: vec![(0, rows)] })
        });
        let biases: Vec<Stacked> = biases.collect();
        let owner = self.bias_owner(id, &rows.owner);
        let is_idle = biases.iter().all(|b| self.adds_nothing(b.source, &b.parts[0].1));
        let bias = match biases.as_slice() {
            _ if is_idle => None,
            biases => Some((self.stack(biases, &format!("{name}.bias"), &owner)?, owner)),
        };
        let bias = self.placed_bias((id, layer), rows, bias, name);
        let block = LaneBlock { id, lanes, rows, of_lanes: &of_lanes };
        let mut terms = Vec::new();
        for (i, columns) in self.terms(layer, id, bundles, rows).iter().enumerate() {
            let bias = bias.within.filter(|_| i == 0);
            terms.push(self.lanes_product(&block, columns, bias, name)?);
        }
        terms.extend(bias.beside);
        let extents = self.extents.get(self.graph(), grouped.output, 1);
        let value = self.sum(id, extents, &terms, rows, name);
        let mut place = vec![0; rows.positions.len()];
        for (made, (at, _)) in of_lanes.iter().flatten().enumerate() {
            place[*at] = made as i64;
        }
        let name = self.name(&rows.owner, name);
        Ok(pick(self.builder, 1, value, &place, place.len(), &name))
    }

    /// The product of some rows of all lanes with one input piece.
    fn lanes_product(
        &mut self,
        block: &LaneBlock<'_>,
        input: &Piece,
        bias: Option<ValueId>,
        name: &str,
    ) -> Result<ValueId> {
        let LaneBlock { id, lanes, rows, of_lanes } = *block;
        let common = self.common(id, &rows.owner, &input.owner);
        let first = &lanes[0].layer;
        let (row_axis, column_axis) = if first.in_first() { (1, 0) } else { (0, 1) };
        let mut order = Vec::new();
        let mut weights = Vec::new();
        for (lane, rows) in lanes.iter().zip(of_lanes) {
            let columns = indices(&lane.columns, &input.positions);
            order.extend(columns.iter().map(|(at, _)| *at as i64));
            let rows: Vec<usize> = rows.iter().map(|(_, row)| *row).collect();
            let columns = columns.into_iter().map(|(_, column)| column).collect();
            let parts = vec![(row_axis, rows), (column_axis, columns)];
            weights.push(Stacked { source: lane.layer.weight, parts });
        }
        let own = self.name(&input.owner, name);
        let value = pick(self.builder, 1, input.value, &order, input.positions.len(), &own);
        let weight = self.stack(&weights, &format!("{name}.weight"), &common)?;
        let mut node = self.graph().node(first.node).clone();
        node.name = self.name(&common, name);
        node.inputs = vec![Some(value), Some(weight)];
        node.inputs.extend(bias.map(Some));
        node.attributes.insert("group".to_owned(), Attribute::Int(lanes.len() as i64));
        Ok(self.builder.single(node))
    }
}

/// Some rows of all lanes.
#[derive(Clone, Copy)]
struct LaneBlock<'a> {
    /// The layer that produces the first row.
    id: Option<LayerId>,
    lanes: &'a [&'a Lane],
    rows: &'a Part,
    /// For each lane, pairs of a place in `rows` and a row of the lane.
    of_lanes: &'a [Vec<(usize, usize)>],
}

/// For each of `positions` that is in `own`: its place in `positions`, and its place in `own`.
fn indices(own: &[usize], positions: &[usize]) -> Vec<(usize, usize)> {
    let place: HashMap<usize, usize> = own.iter().enumerate().map(|(i, p)| (*p, i)).collect();
    let at = positions.iter().enumerate();
    at.filter_map(|(at, position)| Some((at, *place.get(position)?))).collect()
}
