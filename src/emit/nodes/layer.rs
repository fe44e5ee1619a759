//! Layers as sums over pieces.

use crate::couple::{GroupId, LayerId};
use crate::emit::task::TaskEmitter;
use crate::emit::value::parts::Part;
use crate::emit::value::pieces::{Held, Piece};
use crate::error::Result;
use crate::ir::{Attribute, Node, Tensor, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::{Layer, LayerKind};

impl TaskEmitter<'_> {
    /// A layer: for each block of rows, the sum of its products with the input pieces.
    pub(crate) fn emit_layer(&mut self, layer: &Layer) -> Result<()> {
        let coupling = &self.source().coupling;
        let Some(outputs) = coupling.axis(layer.output) else {
            return self.emit_whole(layer.node);
        };
        let held = self.held(layer.input)?;
        let columns = layer.sizes(self.graph())?.1;
        let first = coupling.layer_of(layer.node).map(|id| coupling.layer(id));
        let mut bundles = match first.is_some_and(|l| l.inputs.is_some()) {
            true => self.bundles(&held, &self.graph().node(layer.node).name),
            false => Vec::new(),
        };
        if bundles.is_empty() {
            let value = self.whole(layer.input)?;
            let owner = Owner::Tasks(vec![self.task]);
            bundles.push(Piece { value, owner, positions: (0..columns).collect() });
        }
        let mut pieces = Vec::new();
        for rows in self.parts(&outputs.channels) {
            let value = self.emit_rows(layer, &bundles, &rows)?;
            pieces.push(Piece { value, owner: rows.owner, positions: rows.positions });
        }
        let held = Held::Pieces { axis: layer.out_axis, len: outputs.channels.len(), pieces };
        self.hold(layer.output, held);
        Ok(())
    }

    fn emit_rows(&mut self, layer: &Layer, bundles: &[Piece], rows: &Part) -> Result<ValueId> {
        let id = self.source().coupling.layer_making(layer.node, rows.group);
        let fused = id.and_then(|id| self.joint.fused()[self.task][id.0]);
        let bias = self.bias(layer, rows)?;
        // A sum that tasks have in common must not hold what they have not.
        let is_sum = self.sums.is_some() && rows.first.is_some() && fused.is_some();
        let is_beside = is_sum && bias.as_ref().is_some_and(|(_, owner)| *owner != rows.owner);
        let bias = bias.map(|(value, _)| value);
        let (within, beside) = if is_beside { (None, bias) } else { (bias, None) };
        let mut terms = Vec::new();
        for (i, bundle) in bundles.iter().enumerate() {
            terms.push(self.product(layer, bundle, rows, within.filter(|_| i == 0))?);
        }
        let name = self.name(&rows.owner, &self.graph().node(layer.node).name);
        if let Some(bias) = beside {
            terms.push(self.along_channels(layer, bias, &name));
        }
        let extents = self.extents.get(self.graph(), layer.output, layer.out_axis);
        match (self.sums.as_deref_mut(), rows.first.zip(fused)) {
            (Some(sums), Some((first, fused))) => {
                let key = (first, fused, extents);
                Ok(sums.add(self.builder, key, &rows.owner, self.task, &terms, &name))
            }
            _ => Ok(add_up(self.builder, &terms, &name)),
        }
    }

    /// The tasks that have a block of weights in common: those that own its rows and its columns and
    /// whose layers were fused.
    pub(crate) fn common(&self, layer: Option<LayerId>, rows: &Owner, columns: &Owner) -> Owner {
        let mut tasks = layer.map_or(vec![self.task], |id| self.joint.partners(self.task, id));
        for owner in [rows, columns] {
            if let Owner::Tasks(own) = owner {
                tasks.retain(|t| own.contains(t));
            }
        }
        Owner::Tasks(if tasks.is_empty() { vec![self.task] } else { tasks })
    }

    /// The group of the channel at one index of a value's tracked axis.
    fn group_at(&self, value: ValueId, index: Option<&usize>) -> Option<GroupId> {
        Some(self.source().coupling.axis(value)?.channels.get(*index?)?.group)
    }

    /// The biases of some rows, with the tasks that have them in common.
    fn bias(&mut self, layer: &Layer, rows: &Part) -> Result<Option<(ValueId, Owner)>> {
        let Some(bias) = layer.bias else { return Ok(None) };
        let id = self.source().coupling.layer_making(layer.node, rows.group);
        let is_common = id.is_none_or(|id| self.common_biases.contains(&id));
        let owner = match is_common {
            true => self.common(id, &rows.owner, &Owner::Input),
            false => Owner::Tasks(vec![self.task]),
        };
        let block = self.block(bias, &[(0, rows.positions.as_slice())], &owner)?;
        Ok(Some((block, owner)))
    }

    /// One number per channel as a tensor that can be added to what the layer computes.
    fn along_channels(&mut self, layer: &Layer, values: ValueId, name: &str) -> ValueId {
        let (LayerKind::Conv(window) | LayerKind::ConvTranspose(window)) = &layer.kind else {
            return values;
        };
        let axes: Vec<i64> = (1..=window.kernel.len() as i64).collect();
        let axes = Tensor::from_i64(vec![axes.len()], &axes);
        let axes = self.builder.constant(&format!("{name}.axes"), axes);
        self.builder.op("Unsqueeze", &format!("{name}.bias"), &[values, axes], [])
    }

    /// The product of some rows with one input piece, and the bias added to it.
    fn product(
        &mut self,
        layer: &Layer,
        input: &Piece,
        rows: &Part,
        bias: Option<ValueId>,
    ) -> Result<ValueId> {
        let graph = self.graph();
        let source = graph.node(layer.node);
        let mut node = source.clone();
        let id = self.source().coupling.layer_making(layer.node, rows.group);
        let common = self.common(id, &rows.owner, &input.owner);
        node.name = self.name(&common, &source.name);
        let (row_axis, column_axis) = if layer.in_first() { (1, 0) } else { (0, 1) };
        let parts =
            [(row_axis, rows.positions.as_slice()), (column_axis, input.positions.as_slice())];
        let weight = self.block(layer.weight, &parts, &common)?;
        node.inputs = vec![Some(input.value), Some(weight)];
        node.inputs.extend(bias.map(Some));
        Ok(self.builder.single(node))
    }

    /// A depthwise convolution: each piece with its own rows.
    pub(crate) fn emit_per_channel(&mut self, layer: &Layer) -> Result<()> {
        let graph = self.graph();
        let source = graph.node(layer.node);
        let Held::Pieces { axis, len, pieces } = self.held(layer.input)? else { return Ok(()) };
        let mut outputs = Vec::new();
        for piece in pieces {
            let mut node = source.clone();
            node.name = self.name(&piece.owner, &source.name);
            node.inputs[0] = Some(piece.value);
            let group = self.group_at(layer.output, piece.positions.first());
            let id = group.and_then(|g| self.source().coupling.layer_making(layer.node, g));
            let common = self.common(id, &piece.owner, &Owner::Input);
            for input in node.inputs.iter_mut().skip(1).flatten() {
                *input = self.block(*input, &[(0, piece.positions.as_slice())], &common)?;
            }
            let groups = Attribute::Int(piece.positions.len() as i64);
            node.attributes.insert("group".to_owned(), groups);
            let value = self.builder.single(node);
            outputs.push(Piece { value, ..piece });
        }
        self.hold(layer.output, Held::Pieces { axis, len, pieces: outputs });
        Ok(())
    }
}

/// The sum of `terms` in order.
pub(crate) fn add_up(
    builder: &mut crate::emit::builder::Builder,
    terms: &[ValueId],
    name: &str,
) -> ValueId {
    let mut terms = terms.iter().copied();
    let Some(first) = terms.next() else { unreachable!("a layer has at least one input piece") };
    terms.fold(first, |sum, term| {
        let node = Node {
            name: format!("{name}.sum"),
            op: "Add".to_owned(),
            inputs: vec![Some(sum), Some(term)],
            ..Node::default()
        };
        builder.single(node)
    })
}
