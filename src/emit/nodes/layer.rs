//! Writes layers as sums over pieces.

use crate::couple::{GroupId, LayerId};
use crate::emit::builder::Builder;
use crate::emit::forms::extents::Extents;
use crate::emit::task::TaskEmitter;
use crate::emit::value::partition::Part;
use crate::emit::value::pieces::{Held, Piece, join, pieces_of};
use crate::error::Result;
use crate::ir::{Attribute, DataType, Node, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::Layer;

impl TaskEmitter<'_> {
    /// Writes a layer: for each block of rows, the sum of its products with the input pieces.
    pub(crate) fn emit_layer(&mut self, layer: &Layer) -> Result<()> {
        let coupling = &self.source().coupling();
        let Some(outputs) = coupling.axis(layer.output) else {
            self.emit_whole(layer.node)?;
            return layer.addition.map_or(Ok(()), |addition| self.emit_whole(addition));
        };
        let held = self.held(layer.input)?;
        let columns = layer.sizes(self.graph())?.1;
        let first = coupling.layer_of(layer.node).map(|id| coupling.layer(id));
        let mut bundles = match first.is_some_and(|l| l.inputs.is_some()) {
            true => self.bundles(&held, layer.node, layer.input),
            false => Vec::new(),
        };
        if bundles.is_empty() {
            let value = self.whole(layer.input)?;
            // Untracked columns belong to all tasks that the layer was fused with.
            let owner = match first.is_some_and(|l| l.inputs.is_none()) {
                true => Owner::Input,
                false => Owner::Tasks(vec![self.task]),
            };
            bundles.push(Piece { value, owner, positions: (0..columns).collect() });
        }
        let name = self.graph().node(layer.node).name.clone();
        let mut pieces = Vec::new();
        for parts in self.rows_together(layer, self.rows(&outputs.channels)) {
            let rows = one_part(&parts);
            let value = self.emit_rows(layer, &bundles, &rows)?;
            let name = self.name(&rows.owner, &name);
            pieces.extend(pieces_of(self.builder, layer.out_axis, value, parts, &name));
        }
        let held = Held::Pieces { axis: layer.out_axis, len: outputs.channels.len(), pieces };
        self.hold(layer.output, held);
        Ok(())
    }

    /// Groups parts of a layer's rows by node: all parts with weights of this task alone are one node,
    /// and each other part is a node.
    pub(crate) fn rows_together(&self, layer: &Layer, parts: Vec<Part>) -> Vec<Vec<Part>> {
        let own = Owner::Tasks(vec![self.task]);
        let mut together: Vec<Vec<Part>> = Vec::new();
        let mut own_at = None;
        for part in parts {
            let id = self.source().coupling().layer_making(layer.node, part.group);
            let is_sum = part.first.is_some() && self.fused(id).is_some();
            if is_sum || self.common(id, &part.owner, &Owner::Input) != own {
                together.push(vec![part]);
            } else {
                let at = *own_at.get_or_insert(together.len());
                together.resize_with(together.len().max(at + 1), Vec::new);
                together[at].push(part);
            }
        }
        together
    }

    /// The number that a layer has in common with the layers that it was fused with, if any.
    pub(crate) fn fused(&self, layer: Option<LayerId>) -> Option<u32> {
        self.joint.fused()[self.task.0][layer?.0]
    }

    fn emit_rows(&mut self, layer: &Layer, bundles: &[Piece], rows: &Part) -> Result<ValueId> {
        let id = self.source().coupling().layer_making(layer.node, rows.group);
        let name = self.graph().node(layer.node).name.clone();
        let bias = layer.bias.filter(|bias| !self.adds_nothing(*bias, &rows.positions));
        let bias = match bias {
            Some(bias) => {
                let owner = self.bias_owner(id, &rows.owner);
                Some((self.block(bias, &[(0, rows.positions.as_slice())], &owner)?, owner))
            }
            None => None,
        };
        let bias = self.placed_bias((id, layer), rows, bias, &name);
        let mut terms = Vec::new();
        for (i, columns) in self.terms(layer, id, bundles, rows).iter().enumerate() {
            terms.push(self.product(layer, columns, rows, bias.within.filter(|_| i == 0))?);
        }
        terms.extend(bias.beside);
        let extents = self.extents.get(self.graph(), layer.output, layer.out_axis);
        Ok(self.sum(id, extents, &terms, rows, &name))
    }

    /// The columns of each product of some rows of layer `id`. All columns with weights of this task
    /// alone are one product.
    pub(crate) fn terms(
        &mut self,
        layer: &Layer,
        id: Option<LayerId>,
        bundles: &[Piece],
        rows: &Part,
    ) -> Vec<Piece> {
        let own = Owner::Tasks(vec![self.task]);
        let bundles: Vec<Piece> = bundles
            .iter()
            .map(|p| {
                let owner = self.column_owner(id, &p.owner, self.first_neuron(layer.input, p));
                Piece { owner, ..p.clone() }
            })
            .collect();
        let is_own = |p: &&Piece| self.common(id, &rows.owner, &p.owner) == own;
        let (alone, mut terms): (Vec<&Piece>, Vec<&Piece>) = bundles.iter().partition(is_own);
        match alone.as_slice() {
            [] | [_] => {
                terms.extend(alone);
                terms.into_iter().cloned().collect()
            }
            several => {
                let several: Vec<Piece> = several.iter().map(|p| (*p).clone()).collect();
                let mut terms: Vec<Piece> = terms.into_iter().cloned().collect();
                let name = self.name(&own, &self.graph().node(layer.node).name);
                let (value, positions) = join(self.builder, layer.in_axis, &several, &name);
                terms.push(Piece { value, owner: own, positions });
                terms
            }
        }
    }

    /// The sum of the products of some rows of layer `id`. In the masked form, other tasks may add terms.
    pub(crate) fn sum(
        &mut self,
        id: Option<LayerId>,
        extents: Extents,
        terms: &[ValueId],
        rows: &Part,
        name: &str,
    ) -> ValueId {
        let name = self.name(&rows.owner, name);
        let fused = self.fused(id);
        let weight = id.map(|id| self.source().coupling().layer(id).layer.weight);
        let dtype = weight.and_then(|weight| Some(self.graph().type_of(weight)?.dtype));
        match (self.sums.as_deref_mut(), rows.first.zip(fused)) {
            (Some(sums), Some((first, fused))) => {
                let key = (first, fused, extents, rows.positions.len());
                let key = (key, dtype.unwrap_or(DataType::F32));
                sums.add(self.builder, key, (&rows.owner, &name), (self.task.0, terms))
            }
            _ => add_up(self.builder, terms, &name),
        }
    }

    /// The tasks that a block of weights is common to: those with fused layers that own both its rows
    /// and its columns.
    pub(crate) fn common(&self, layer: Option<LayerId>, rows: &Owner, columns: &Owner) -> Owner {
        let mut tasks =
            layer.map_or(vec![self.task], |id| self.joint.partners(self.task.layer(id)));
        for owner in [rows, columns] {
            if let Owner::Tasks(own) = owner {
                tasks.retain(|t| own.contains(t));
            }
        }
        Owner::Tasks(if tasks.is_empty() { vec![self.task] } else { tasks })
    }

    /// The group of the channel at one index of a value's tracked axis.
    fn group_at(&self, value: ValueId, index: Option<&usize>) -> Option<GroupId> {
        Some(self.source().coupling().axis(value)?.channels.get(*index?)?.group)
    }

    /// The product of some rows with one input piece, plus an optional bias.
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
        let id = self.source().coupling().layer_making(layer.node, rows.group);
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

    /// Writes a depthwise convolution, one node per piece.
    pub(crate) fn emit_per_channel(&mut self, layer: &Layer) -> Result<()> {
        let graph = self.graph();
        let source = graph.node(layer.node);
        let Held::Pieces { axis, len, pieces } = self.held(layer.input)? else { return Ok(()) };
        let mut outputs = Vec::new();
        for piece in pieces {
            let mut node = source.clone();
            node.name = self.name(&piece.owner, &source.name);
            let group = self.group_at(layer.output, piece.positions.first());
            let id = group.and_then(|g| self.source().coupling().layer_making(layer.node, g));
            let common = self.common(id, &piece.owner, &Owner::Input);
            let left_out = layer.bias.filter(|bias| self.adds_nothing(*bias, &piece.positions));
            let constants = source.inputs.iter().skip(1).flatten().copied();
            node.inputs = vec![Some(piece.value)];
            for constant in constants.filter(|constant| Some(*constant) != left_out) {
                let part = self.block(constant, &[(0, piece.positions.as_slice())], &common)?;
                node.inputs.push(Some(part));
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

/// Concatenates parts.
pub(super) fn one_part(parts: &[Part]) -> Part {
    let positions = parts.iter().flat_map(|part| part.positions.iter().copied()).collect();
    match parts {
        [only] => only.clone(),
        [first, ..] => Part { owner: first.owner.clone(), first: None, positions, ..first.clone() },
        [] => unreachable!("a node computes some rows"),
    }
}

/// The sum of `terms` in order.
pub(crate) fn add_up(builder: &mut Builder, terms: &[ValueId], name: &str) -> ValueId {
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
