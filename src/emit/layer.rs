//! Layers as sums over pieces.

use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::ir::{Attribute, Node, ValueId};
use crate::ops::Layer;
use crate::zip::joint::{Neuron, Owner};

use super::pieces::{Held, Piece};
use super::task::TaskEmitter;

/// Rows of a layer with the same owner.
struct Rows {
    owner: Owner,
    first: Option<Neuron>,
    rows: Vec<usize>,
}

impl TaskEmitter<'_> {
    /// A layer: for each block of rows, the sum of its products with the input pieces.
    pub(super) fn emit_layer(&mut self, coupled: &CoupledLayer) -> Result<Held> {
        let layer = &coupled.layer;
        let held = self.held(layer.input)?;
        let columns = layer.sizes(self.graph())?.1;
        let mut bundles = match coupled.inputs {
            Some(_) => self.bundles(&held, &coupled.name),
            None => Vec::new(),
        };
        if bundles.is_empty() {
            let value = self.whole(layer.input)?;
            let owner = Owner::Tasks(vec![self.task]);
            bundles.push(Piece { value, owner, positions: (0..columns).collect() });
        }
        let mut pieces = Vec::new();
        for rows in self.rows(coupled) {
            let value = self.emit_rows(coupled, &bundles, &rows)?;
            pieces.push(Piece { value, owner: rows.owner, positions: rows.rows });
        }
        Ok(Held::Pieces { axis: layer.out_axis, len: coupled.outputs.len(), pieces })
    }

    /// The layer's rows by owner, in joint order.
    fn rows(&self, coupled: &CoupledLayer) -> Vec<Rows> {
        let mut groups = Vec::new();
        for channel in &coupled.outputs {
            if !groups.contains(&channel.group) {
                groups.push(channel.group);
            }
        }
        let mut all = Vec::new();
        for group in groups {
            let size = self.source().coupling.group(group).size;
            let mut row_of = vec![Vec::new(); size];
            for (row, channel) in coupled.outputs.iter().enumerate() {
                if channel.group == group {
                    row_of[channel.index].push(row);
                }
            }
            for block in self.blocks(group) {
                let mut rows: Vec<usize> =
                    block.channels.iter().flat_map(|c| row_of[*c].iter().copied()).collect();
                if block.first.is_none() {
                    rows.sort_unstable();
                }
                all.push(Rows { owner: block.owner.clone(), first: block.first, rows });
            }
        }
        all
    }

    fn emit_rows(
        &mut self,
        coupled: &CoupledLayer,
        bundles: &[Piece],
        rows: &Rows,
    ) -> Result<ValueId> {
        let mut terms = Vec::new();
        for (i, bundle) in bundles.iter().enumerate() {
            let with_bias = i == 0;
            terms.push(self.product(&coupled.layer, bundle, rows, with_bias)?);
        }
        let name = self.name(&rows.owner, &coupled.name);
        let fused = self.source().coupling.layer_of(coupled.layer.node);
        let fused = fused.and_then(|id| self.joint.fused()[self.task][id.0]);
        match (self.sums.as_deref_mut(), rows.first.zip(fused)) {
            (Some(sums), Some(key)) => {
                Ok(sums.add(self.builder, key, &rows.owner, self.task, &terms, &name))
            }
            _ => Ok(add_up(self.builder, &terms, &name)),
        }
    }

    /// The tasks that have a block of weights in common: those that own its rows and its columns and
    /// whose layers were fused.
    fn common(&self, layer: &Layer, rows: &Owner, columns: &Owner) -> Owner {
        let id = self.source().coupling.layer_of(layer.node);
        let mut tasks = id.map_or(vec![self.task], |id| self.joint.partners(self.task, id));
        for owner in [rows, columns] {
            if let Owner::Tasks(own) = owner {
                tasks.retain(|t| own.contains(t));
            }
        }
        Owner::Tasks(if tasks.is_empty() { vec![self.task] } else { tasks })
    }

    /// The product of some rows with one input piece.
    fn product(
        &mut self,
        layer: &Layer,
        input: &Piece,
        rows: &Rows,
        with_bias: bool,
    ) -> Result<ValueId> {
        let graph = self.graph();
        let source = graph.node(layer.node);
        let mut node = source.clone();
        let common = self.common(layer, &rows.owner, &input.owner);
        node.name = self.name(&common, &source.name);
        let (row_axis, column_axis) = if layer.in_first() { (1, 0) } else { (0, 1) };
        let parts = [(row_axis, rows.rows.as_slice()), (column_axis, input.positions.as_slice())];
        let weight = self.block(layer.weight, &parts, &common)?;
        node.inputs = vec![Some(input.value), Some(weight)];
        if let (true, Some(bias)) = (with_bias, layer.bias) {
            let owner = self.common(layer, &rows.owner, &Owner::Input);
            node.inputs.push(Some(self.block(bias, &[(0, rows.rows.as_slice())], &owner)?));
        }
        Ok(self.builder.single(node))
    }

    /// A depthwise convolution: each piece with its own rows.
    pub(super) fn emit_per_channel(&mut self, layer: &Layer) -> Result<()> {
        let graph = self.graph();
        let source = graph.node(layer.node);
        let Held::Pieces { axis, len, pieces } = self.held(layer.input)? else { return Ok(()) };
        let mut outputs = Vec::new();
        for piece in pieces {
            let mut node = source.clone();
            node.name = self.name(&piece.owner, &source.name);
            node.inputs[0] = Some(piece.value);
            let common = self.common(layer, &piece.owner, &Owner::Input);
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
pub(super) fn add_up(
    builder: &mut super::builder::Builder,
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
