//! Writes one task's net into the joint graph, piece by piece.

use std::collections::{BTreeMap, HashMap};

use crate::couple::GroupId;
use crate::error::{Context, Error, ErrorKind, Result};
use crate::ir::{Attribute, Graph, Node, NodeId, Tensor, ValueId, ValueKind};
use crate::ops::{Flow, Operand, Partwise, Pick};
use crate::zip::joint::{Block, JointModel, Owner, Task};

use super::builder::Builder;
use super::masked::Sums;
use super::parameters::parameters;
use super::pieces::{Held, Piece, join, pick};

/// Writes one task.
pub(super) struct TaskEmitter<'a> {
    pub(super) joint: &'a JointModel,
    pub(super) task: usize,
    pub(super) builder: &'a mut Builder,
    pub(super) sums: Option<&'a mut Sums>,
    /// The net's parameters with a node that reads each; empty where nothing will be trained.
    pub(super) parameters: BTreeMap<ValueId, NodeId>,
    layout: Vec<Vec<Block>>,
    values: HashMap<ValueId, Held>,
}

impl<'a> TaskEmitter<'a> {
    pub(super) fn new(
        joint: &'a JointModel,
        task: usize,
        builder: &'a mut Builder,
        sums: Option<&'a mut Sums>,
    ) -> Self {
        let layout = joint.layout(task);
        let parameters = match builder.untied {
            true => parameters(&joint.tasks[task].model.graph),
            false => BTreeMap::new(),
        };
        TaskEmitter { joint, task, builder, sums, parameters, layout, values: HashMap::new() }
    }

    /// Writes the task's nodes; `inputs` are its inputs in the joint graph. Returns its outputs.
    pub(super) fn run(mut self, inputs: &[ValueId]) -> Result<Vec<ValueId>> {
        let task = self.source();
        for (input, value) in task.model.graph.inputs.iter().zip(inputs) {
            let held = match task.coupling.axis(*input) {
                Some(axis) => Held::intact(axis.axis, axis.channels.len(), *value, Owner::Input),
                None => Held::Whole(*value),
            };
            self.values.insert(*input, held);
        }
        for id in task.model.graph.topological_order()? {
            self.emit(id).at_node(&task.model.graph.node(id).name).in_model(&task.name)?;
        }
        task.model.graph.outputs.iter().map(|v| self.whole(*v)).collect()
    }

    pub(super) fn source(&self) -> &'a Task {
        &self.joint.tasks[self.task]
    }

    pub(super) fn graph(&self) -> &'a Graph {
        &self.source().model.graph
    }

    /// The blocks of a group, in joint order.
    pub(super) fn blocks(&self, group: GroupId) -> &[Block] {
        &self.layout[group.0]
    }

    /// A name that says whose weights or values it is about.
    pub(super) fn name(&self, owner: &Owner, base: &str) -> String {
        let tasks = &self.joint.tasks;
        match owner {
            Owner::Tasks(only) if only.len() == 1 => format!("{}/{base}", tasks[only[0]].name),
            Owner::Tasks(some) if some.len() < tasks.len() => {
                let names: Vec<&str> = some.iter().map(|t| tasks[*t].name.as_str()).collect();
                format!("{}/{base}", names.join("+"))
            }
            _ => format!("shared/{base}"),
        }
    }

    /// A value of the task's net as pieces or whole.
    pub(super) fn held(&mut self, value: ValueId) -> Result<Held> {
        if let Some(held) = self.values.get(&value) {
            return Ok(held.clone());
        }
        let source = self.graph().value(value);
        let ValueKind::Initializer(tensor) = &source.kind else {
            return Err(Error::new(
                ErrorKind::Format,
                format!("value '{}' is read before it is computed", source.name),
            ));
        };
        let (own, tensor) = (Owner::Tasks(vec![self.task]), tensor.clone());
        let id = self.place(value, tensor, Vec::new(), &own);
        self.values.insert(value, Held::Whole(id));
        Ok(Held::Whole(id))
    }

    /// A value of the task's net as one tensor in its original order.
    pub(super) fn whole(&mut self, value: ValueId) -> Result<ValueId> {
        let held = self.held(value)?;
        let name = self.name(&Owner::Tasks(vec![self.task]), &self.graph().value(value).name);
        Ok(held.whole(self.builder, &name))
    }

    /// Records a value of the task's net.
    pub(super) fn hold(&mut self, value: ValueId, held: Held) {
        self.values.insert(value, held);
    }

    fn emit(&mut self, id: NodeId) -> Result<()> {
        let task = self.source();
        match task.coupling.flows.get(&id) {
            None | Some(Flow::Untracked | Flow::Freeze(_)) => self.emit_whole(id),
            Some(Flow::Layer(layer)) => match task.coupling.layer_of(id) {
                Some(layer_id) => {
                    let held = self.emit_layer(task.coupling.layer(layer_id))?;
                    self.values.insert(layer.output, held);
                    Ok(())
                }
                None => self.emit_whole(id),
            },
            Some(Flow::PerChannel(layer)) => self.emit_per_channel(layer),
            Some(Flow::Partwise(partwise)) => self.emit_partwise(id, partwise),
            Some(Flow::Relabel(picks)) => self.emit_relabel(id, picks),
        }
    }

    /// A node that reads whole tensors.
    fn emit_whole(&mut self, id: NodeId) -> Result<()> {
        let graph = self.graph();
        let mut node = graph.node(id).clone();
        for input in node.inputs.iter_mut().flatten() {
            *input = self.whole(*input)?;
        }
        self.capture(&mut node)?;
        let owner = Owner::Tasks(vec![self.task]);
        node.name = self.name(&owner, &node.name);
        let wanted: Vec<bool> = node.outputs.iter().map(Option::is_some).collect();
        let sources = std::mem::take(&mut node.outputs);
        let outputs = self.builder.node(node, &wanted);
        for (source, output) in sources.into_iter().zip(outputs) {
            let (Some(source), Some(output)) = (source, output) else { continue };
            let held = match self.source().coupling.axis(source) {
                Some(axis) => Held::intact(axis.axis, axis.channels.len(), output, owner.clone()),
                None => Held::Whole(output),
            };
            self.values.insert(source, held);
        }
        Ok(())
    }

    /// Points the sub-graphs of a copied node at values of the joint graph.
    fn capture(&mut self, node: &mut Node) -> Result<()> {
        let prefix = self.source().name.clone();
        for attribute in node.attributes.values_mut() {
            let Attribute::Graph(sub) = attribute else { continue };
            let mut captured = HashMap::new();
            for outer in sub.captures().collect::<Vec<_>>() {
                captured.insert(outer, self.whole(outer)?);
            }
            sub.recapture(|outer| captured.get(&outer).copied().unwrap_or(outer));
            sub.prefix_names(&prefix);
        }
        Ok(())
    }

    /// A node that treats every channel alone, once per piece.
    fn emit_partwise(&mut self, id: NodeId, partwise: &Partwise) -> Result<()> {
        let node = self.graph().node(id);
        let Some(output) = node.output(0) else { return Ok(()) };
        let mut operands: Vec<Option<Held>> = Vec::new();
        for input in &node.inputs {
            operands.push(match input {
                Some(value) => Some(self.held(*value)?),
                None => None,
            });
        }
        let Some(partition) = common_partition(partwise, &operands) else {
            return self.emit_whole(id);
        };
        let mut pieces = Vec::new();
        for (index, (owner, positions)) in partition.iter().enumerate() {
            let mut copy = node.clone();
            copy.name = self.name(owner, &node.name);
            let expanded = expand(positions, partwise.output.atoms.len(), partwise.expand);
            for (i, operand) in partwise.operands.iter().enumerate() {
                let (Some(Some(held)), Some(source)) = (operands.get(i), node.input(i)) else {
                    continue;
                };
                let value = match (operand, held) {
                    (Operand::Channels, Held::Pieces { pieces, .. }) => pieces[index].value,
                    (Operand::Param { axis }, _) => self.param(source, *axis, owner, positions)?,
                    (Operand::Shape { entry }, _) => {
                        self.resized(source, *entry, owner, expanded.len())?
                    }
                    _ => self.whole(source)?,
                };
                copy.inputs[i] = Some(value);
            }
            let value = self.builder.single(copy);
            pieces.push(Piece { value, owner: owner.clone(), positions: expanded });
        }
        let held =
            Held::Pieces { axis: partwise.output.axis, len: partwise.output.atoms.len(), pieces };
        self.values.insert(output, held);
        Ok(())
    }

    /// A target shape in which entry `entry` counts the channels of one piece.
    fn resized(
        &mut self,
        source: ValueId,
        entry: usize,
        owner: &Owner,
        n: usize,
    ) -> Result<ValueId> {
        let value = self.graph().value(source);
        let target = self.graph().initializer(source).and_then(Tensor::to_i64);
        let Some(mut target) = target else { return self.whole(source) };
        if let Some(count) = target.get_mut(entry).filter(|c| **c > 0) {
            *count = n as i64;
        }
        let tensor = Tensor::from_i64(vec![target.len()], &target);
        Ok(self.builder.constant(&self.name(owner, &value.name), tensor))
    }

    /// Channels joined, split or reordered: bookkeeping, except where a piece is cut.
    fn emit_relabel(&mut self, id: NodeId, picks: &[Pick]) -> Result<()> {
        let node = self.graph().node(id);
        let mut sources = Vec::new();
        for input in &node.inputs {
            sources.push(match input {
                Some(value) => Some(self.held(*value)?),
                None => None,
            });
        }
        for (i, picked) in picks.iter().enumerate() {
            let Some(output) = node.output(i) else { continue };
            let mut pieces = Vec::new();
            for (input, held) in sources.iter().enumerate() {
                let Some(Held::Pieces { axis, pieces: sources, .. }) = held else { continue };
                for piece in sources {
                    pieces.extend(self.picked(*axis, piece, input, picked, &node.name));
                }
            }
            let held = Held::Pieces { axis: picked.axis, len: picked.from.len(), pieces };
            self.values.insert(output, held);
        }
        Ok(())
    }

    /// The part of `piece` that a pick takes.
    fn picked(
        &mut self,
        axis: usize,
        piece: &Piece,
        input: usize,
        pick_: &Pick,
        name: &str,
    ) -> Option<Piece> {
        let at: HashMap<usize, usize> =
            piece.positions.iter().enumerate().map(|(at, p)| (*p, at)).collect();
        let mut taken: Vec<(usize, usize)> = pick_
            .from
            .iter()
            .enumerate()
            .filter(|(_, (from, _))| *from == input)
            .filter_map(|(out, (_, index))| Some((*at.get(index)?, out)))
            .collect();
        taken.sort_unstable();
        if taken.is_empty() {
            return None;
        }
        let place: Vec<i64> = taken.iter().map(|(at, _)| *at as i64).collect();
        let name = self.name(&piece.owner, name);
        let value = pick(self.builder, axis, piece.value, &place, piece.positions.len(), &name);
        let positions = taken.into_iter().map(|(_, out)| out).collect();
        Some(Piece { value, owner: piece.owner.clone(), positions })
    }

    /// Pieces with the same owner side by side, so that a layer has one term per owner.
    pub(super) fn bundles(&mut self, held: &Held, name: &str) -> Vec<Piece> {
        let (axis, pieces) = match held {
            Held::Whole(_) => return Vec::new(),
            Held::Pieces { axis, pieces, .. } => (*axis, pieces),
        };
        let mut owners: Vec<&Owner> = Vec::new();
        for piece in pieces {
            if !owners.contains(&&piece.owner) {
                owners.push(&piece.owner);
            }
        }
        owners
            .into_iter()
            .map(|owner| {
                let own: Vec<Piece> =
                    pieces.iter().filter(|p| p.owner == *owner).cloned().collect();
                let name = self.name(owner, name);
                let (value, positions) = join(self.builder, axis, &own, &name);
                Piece { value, owner: owner.clone(), positions }
            })
            .collect()
    }
}

/// The pieces that all operands with channels are cut into; `None` if they are cut differently.
fn common_partition(
    partwise: &Partwise,
    operands: &[Option<Held>],
) -> Option<Vec<(Owner, Vec<usize>)>> {
    let mut partition: Option<Vec<(Owner, Vec<usize>)>> = None;
    for (operand, held) in partwise.operands.iter().zip(operands) {
        if *operand != Operand::Channels {
            continue;
        }
        let Some(Held::Pieces { pieces, .. }) = held else { return None };
        let own: Vec<_> = pieces.iter().map(|p| (p.owner.clone(), p.positions.clone())).collect();
        match &partition {
            None => partition = Some(own),
            Some(first) if *first == own => {}
            Some(_) => return None,
        }
    }
    partition
}

/// Where `positions` of an axis end up when the axis is repeated outside and inside.
fn expand(positions: &[usize], len: usize, (outer, inner): (usize, usize)) -> Vec<usize> {
    let n = len / (outer * inner).max(1);
    let mut out = Vec::with_capacity(positions.len() * outer * inner);
    for o in 0..outer {
        for p in positions {
            out.extend((0..inner).map(|i| (o * n + p) * inner + i));
        }
    }
    out
}
