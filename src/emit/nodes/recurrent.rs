//! Writes recurrent layers: one node per task, with weights concatenated from blocks.
//!
//! A recurrence needs all hidden units of its task at once, so it cannot be a sum over pieces. If all
//! units belong to the same tasks, W, R and B are one initializer each, and tasks with the same input
//! have one node. Else the weights are concatenations of blocks, which runtimes compute when they load
//! the model.

use std::collections::BTreeSet;

use crate::align::{TaskId, TaskLayer};
use crate::couple::{GroupId, LayerId};
use crate::emit::task::TaskEmitter;
use crate::emit::value::partition::Part;
use crate::emit::value::pieces::{Held, Piece, concat, join, pick};
use crate::error::Result;
use crate::ir::{Node, NodeId, ValueId};
use crate::mtz::joint::{Neuron, Owner};
use crate::ops::{Gate, Layer, LayerKind, SEQUENCE_LENGTHS};

/// Columns of a weight with the same owner.
#[derive(Clone)]
struct Columns {
    owner: Owner,
    /// The first neuron, if they are shared.
    first: Option<Neuron>,
    positions: Vec<usize>,
}

/// Rows of a weight whose blocks have the same owners, and which are stored together.
struct Run {
    owners: Vec<Owner>,
    rows: Vec<usize>,
}

/// A weight of the node.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Weight {
    Input,
    Recurrence,
}

impl TaskEmitter<'_> {
    /// Writes a recurrent node over the joint order of its input's channels and of its hidden units.
    pub(crate) fn emit_recurrent(&mut self, id: NodeId, layers: &[Layer]) -> Result<()> {
        let coupling = &self.source().coupling();
        let first = layers.first().and_then(|l| match &l.kind {
            LayerKind::Gate(gate) => Some((l, gate, coupling.axis(l.output)?)),
            _ => None,
        });
        let Some((layer, gate, axis)) = first else { return self.emit_whole(id) };
        let units = self.rows(&axis.channels);
        let order: Vec<usize> = units.iter().flat_map(|p| p.positions.iter().copied()).collect();
        let (x, inputs) = self.joint_input(layer)?;
        let hidden: Vec<Columns> = units
            .iter()
            .map(|p| {
                let Part { owner, first, positions, .. } = p.clone();
                Columns { owner, first, positions }
            })
            .collect();
        let source = self.graph().node(id).clone();
        let owner = self.common_unit_owner(layer, &units);
        let name = self.name(&owner, &source.name);
        let w = self.weight(layer.weight, gate, id, (Weight::Input, &units, &inputs), &name)?;
        let recurrent = (Weight::Recurrence, units.as_slice(), hidden.as_slice());
        let r = self.weight(gate.recurrence, gate, id, recurrent, &name)?;
        let mut node = Node { name, outputs: Vec::new(), ..source.clone() };
        node.inputs = vec![Some(x), Some(w), Some(r), self.biases(layer, gate, &units)?];
        for slot in SEQUENCE_LENGTHS..source.inputs.len() {
            let operand = match source.input(slot) {
                Some(lengths) if slot == SEQUENCE_LENGTHS => Some(self.whole(lengths)?),
                Some(state) => Some(self.state(state, &order)?),
                None => None,
            };
            node.inputs.push(operand);
        }
        self.hold_outputs(node, &source, &units, layer.out_axis)
    }

    /// The node's input with the channels of each owner side by side.
    fn joint_input(&mut self, layer: &Layer) -> Result<(ValueId, Vec<Columns>)> {
        let own = Owner::Tasks(vec![self.task]);
        let name = self.graph().node(layer.node).name.clone();
        let bundles = match self.held(layer.input)? {
            Held::Pieces { axis, pieces, .. } if axis == layer.in_axis => {
                self.side_by_side(pieces, layer.node, layer.input)
            }
            _ => Vec::new(),
        };
        if bundles.is_empty() {
            let value = self.whole(layer.input)?;
            let channels = self.graph().initializer(layer.weight).and_then(|w| w.dims.get(2));
            let positions = (0..channels.copied().unwrap_or(0)).collect();
            return Ok((value, vec![Columns { owner: own, first: None, positions }]));
        }
        let columns = bundles.iter().map(|pieces| Columns {
            owner: pieces[0].owner.clone(),
            first: self.first_neuron(layer.input, &pieces[0]),
            positions: pieces.iter().flat_map(|p| p.positions.iter().copied()).collect(),
        });
        let columns = columns.collect();
        let pieces = bundles.concat();
        let name = self.name(if pieces.len() == 1 { &pieces[0].owner } else { &own }, &name);
        Ok((join(self.builder, layer.in_axis, &pieces, &name).0, columns))
    }

    /// The owner of the node: the tasks that all hidden units are common to.
    fn common_unit_owner(&self, layer: &Layer, units: &[Part]) -> Owner {
        match units {
            [only] => {
                let id = self.gate_at(layer.node, 0, Weight::Recurrence, only.group);
                self.common(id, &only.owner, &Owner::Input)
            }
            _ => Owner::Tasks(vec![self.task]),
        }
    }

    /// The layer that holds the rows of a gate, for hidden units of one group.
    fn gate_at(
        &self,
        node: NodeId,
        index: usize,
        weight: Weight,
        group: GroupId,
    ) -> Option<LayerId> {
        let coupling = &self.source().coupling();
        let mut makers = coupling.group(group).producers.iter().copied();
        makers.find(|id| {
            let layer = &coupling.layer(*id).layer;
            let LayerKind::Gate(gate) = &layer.kind else { return false };
            let reads = match weight {
                Weight::Input => gate.reads_input(),
                Weight::Recurrence => gate.reads_hidden(),
            };
            layer.node == node && gate.index == index && reads
        })
    }

    /// The rows of W or R in joint order, by gate, in as few blocks as their owners allow.
    fn weight(
        &mut self,
        source: ValueId,
        gate: &Gate,
        node: NodeId,
        (which, units, columns): (Weight, &[Part], &[Columns]),
        name: &str,
    ) -> Result<ValueId> {
        let mut runs: Vec<Run> = Vec::new();
        for index in 0..gate.gates {
            for (at, part) in units.iter().enumerate() {
                let id = self.gate_at(node, index, which, part.group);
                let owner = |c: &Columns| {
                    let columns = self.column_owner(id, &c.owner, c.first);
                    self.common(id, &part.owner, &columns)
                };
                let owners = columns.iter().map(owner).collect();
                let rows = part.positions.iter().map(|unit| index * gate.units + unit);
                add_rows(&mut runs, (owners, self.joins(id, at == 0)), rows);
            }
        }
        let mut stacked = Vec::new();
        for run in &runs {
            let mut side_by_side = Vec::new();
            for columns in with_one_owner(&run.owners, columns) {
                let parts = [(1, run.rows.as_slice()), (2, columns.positions.as_slice())];
                side_by_side.push(self.block(source, &parts, &columns.owner)?);
            }
            stacked.push(self.concat(2, &side_by_side, name));
        }
        Ok(self.concat(1, &stacked, name))
    }

    /// B in joint order: the biases of W, then those of R.
    fn biases(&mut self, layer: &Layer, gate: &Gate, units: &[Part]) -> Result<Option<ValueId>> {
        let Some(source) = layer.bias else { return Ok(None) };
        let name = self.graph().node(layer.node).name.clone();
        let mut runs: Vec<Run> = Vec::new();
        for (half, which) in [Weight::Input, Weight::Recurrence].into_iter().enumerate() {
            for index in 0..gate.gates {
                for (at, part) in units.iter().enumerate() {
                    let id = self.gate_at(layer.node, index, which, part.group);
                    let owner = self.common(id, &part.owner, &Owner::Input);
                    let start = (half * gate.gates + index) * gate.units;
                    let rows = part.positions.iter().map(|unit| start + unit);
                    add_rows(&mut runs, (vec![owner], self.joins(id, at == 0)), rows);
                }
            }
        }
        let mut blocks = Vec::new();
        for run in &runs {
            blocks.push(self.block(source, &[(1, &run.rows)], &run.owners[0])?);
        }
        Ok(Some(self.concat(1, &blocks, &name)))
    }

    /// Whether common rows of layer `id` stand behind the rows before them in all tasks that it was fused
    /// with: those of the gate before, or of units of the same gate.
    fn joins(&self, id: Option<LayerId>, begins_gate: bool) -> bool {
        let Some(own) = id.map(|id| self.task.layer(id)) else { return true };
        let partners = self.joint.partners(own);
        self.joint.together(own).into_iter().all(|other| {
            let owners = self.unit_owners(other, &partners);
            let distinct: BTreeSet<&Vec<TaskId>> = owners.iter().collect();
            if begins_gate { owners.len() < 2 } else { distinct.len() == owners.len() }
        })
    }

    /// The owners among `partners` of the units of a layer, in their order; neighbouring units with the same
    /// owners count once.
    fn unit_owners(&self, own: TaskLayer, partners: &[TaskId]) -> Vec<Vec<TaskId>> {
        let coupling = self.joint.task(own.task).coupling();
        let Some(axis) = coupling.axis(coupling.layer(own.layer).layer.output) else {
            return Vec::new();
        };
        let parts = self.partitions[own.task.0].rows(&axis.channels).into_iter();
        let owners = parts.map(|part| match part.owner {
            Owner::Tasks(tasks) => tasks.into_iter().filter(|t| partners.contains(t)).collect(),
            Owner::Input => partners.to_vec(),
        });
        let mut owners: Vec<Vec<TaskId>> = owners.collect();
        owners.dedup();
        owners
    }

    fn concat(&mut self, axis: usize, values: &[ValueId], name: &str) -> ValueId {
        concat(self.builder, axis, values, &format!("{name}.weights"))
    }

    /// An initial state [1, batch, units] in joint order.
    fn state(&mut self, value: ValueId, order: &[usize]) -> Result<ValueId> {
        let own = Owner::Tasks(vec![self.task]);
        if self.graph().initializer(value).is_some() {
            return self.block(value, &[(2, order)], &own);
        }
        let name = self.name(&own, &self.graph().value(value).name);
        let whole = self.whole(value)?;
        let place: Vec<i64> = order.iter().map(|unit| *unit as i64).collect();
        Ok(pick(self.builder, 2, whole, &place, order.len(), &name))
    }

    /// Adds the node, and cuts its used outputs into pieces.
    fn hold_outputs(
        &mut self,
        node: Node,
        source: &Node,
        units: &[Part],
        out_axis: usize,
    ) -> Result<()> {
        let graph = self.graph();
        let readers = graph.consumers();
        let is_read = |v: ValueId| !readers[v.index()].is_empty() || graph.outputs.contains(&v);
        let wanted: Vec<bool> =
            source.outputs.iter().map(|output| output.is_some_and(is_read)).collect();
        let name = node.name.clone();
        let outputs = self.builder.node(node, &wanted);
        let len: usize = units.iter().map(|part| part.positions.len()).sum();
        for (slot, output) in outputs.into_iter().enumerate() {
            let (Some(value), Some(source)) = (output, source.output(slot)) else { continue };
            let axis = if slot == 0 { out_axis } else { out_axis - 1 };
            let mut start = 0;
            let mut pieces = Vec::new();
            for part in units {
                let end = start + part.positions.len();
                let place: Vec<i64> = (start..end).map(|at| at as i64).collect();
                let value = pick(self.builder, axis, value, &place, len, &name);
                let (owner, positions) = (part.owner.clone(), part.positions.clone());
                pieces.push(Piece { value, owner, positions });
                start = end;
            }
            self.hold(source, Held::Pieces { axis, len, pieces });
        }
        Ok(())
    }
}

/// Appends rows to the last run if their blocks have the same owners, else begins a new run. Common rows
/// are appended only if they join the rows before them in all tasks.
fn add_rows(
    runs: &mut Vec<Run>,
    (owners, joins): (Vec<Owner>, bool),
    rows: impl Iterator<Item = usize>,
) {
    let joins = joins || !owners.iter().any(Owner::is_shared);
    match runs.last_mut() {
        Some(run) if joins && run.owners == owners => run.rows.extend(rows),
        _ => runs.push(Run { owners, rows: rows.collect() }),
    }
}

/// Joins neighbouring columns whose blocks have the same owner.
fn with_one_owner(owners: &[Owner], columns: &[Columns]) -> Vec<Columns> {
    let mut joined: Vec<Columns> = Vec::new();
    for (owner, columns) in owners.iter().zip(columns) {
        match joined.last_mut() {
            Some(last) if last.owner == *owner => last.positions.extend(&columns.positions),
            _ => joined.push(Columns { owner: owner.clone(), ..columns.clone() }),
        }
    }
    joined
}
