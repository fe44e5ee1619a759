//! Writes layers side by side as one node.

use std::collections::BTreeMap;

use crate::couple::LayerId;
use crate::emit::task::TaskEmitter;
use crate::emit::value::block::Interleaved;
use crate::emit::value::partition::Part;
use crate::emit::value::pieces::{Held, Piece, pieces_of};
use crate::error::Result;
use crate::ir::{Attribute, ValueId};
use crate::mtz::joint::Owner;
use crate::ops::Layer;

use super::layer::one_part;
use super::row_parts::WholeLayer;

/// A constant, its axis of rows, and another axis with indices along it.
type Source<'p> = (ValueId, usize, Option<(usize, &'p [usize])>);

impl TaskEmitter<'_> {
    /// Writes the rows of several layers: for each block of rows, the sum of its products with the input
    /// pieces.
    pub(crate) fn emit_whole_layer(&mut self, whole: &WholeLayer) -> Result<()> {
        let name = whole.name.as_str();
        if whole.per_channel {
            return self.emit_channels(whole, name);
        }
        let coupling = self.source().coupling();
        let (Some(axis), Some(first)) = (coupling.axis(whole.output), whole.layers.first()) else {
            return Ok(());
        };
        let columns = self.columns(first)?;
        let parts = self.parts(&axis.channels);
        let mut pieces = Vec::new();
        for parts in self.together(parts, |part| self.layer_of_rows(whole, part)) {
            let rows = one_part(&parts);
            let value = self.emit_whole_rows(whole, &columns, &rows, name)?;
            let name = self.name(&rows.owner, name);
            pieces.extend(pieces_of(self.builder, axis.axis, value, parts, &name));
        }
        self.hold(whole.output, Held::Pieces { axis: axis.axis, len: axis.channels.len(), pieces });
        Ok(())
    }

    /// The layer of the first of some rows.
    fn layer_of_rows(&self, whole: &WholeLayer, rows: &Part) -> Option<LayerId> {
        whole.layer_making(self.source().coupling(), *rows.positions.first()?)
    }

    fn emit_whole_rows(
        &mut self,
        whole: &WholeLayer,
        columns: &[Piece],
        rows: &Part,
        name: &str,
    ) -> Result<ValueId> {
        let id = self.layer_of_rows(whole, rows);
        let Some(layer) = rows.positions.first().and_then(|p| whole.rows.get(*p)) else {
            unreachable!("a node computes some rows")
        };
        let layer = &whole.layers[layer.0];
        let biases = self
            .rows_of_layers(whole, &rows.positions, |layer| layer.bias.map(|bias| (bias, 0, None)));
        let owner = self.bias_owner(id, &rows.owner);
        let bias = match self.all_add_nothing(&biases) {
            true => None,
            false => Some((self.interleave(0, &biases, &format!("{name}.bias"), &owner)?, owner)),
        };
        let bias = self.placed_bias((id, layer), rows, bias, name);
        let mut terms = Vec::new();
        for (i, columns) in self.terms(layer, id, columns, rows).iter().enumerate() {
            let bias = bias.within.filter(|_| i == 0);
            terms.push(self.whole_product(whole, columns, rows, (layer, id, bias, name))?);
        }
        terms.extend(bias.beside);
        let extents = self.extents.get(self.graph(), whole.output, layer.out_axis);
        Ok(self.sum(id, extents, &terms, rows, name))
    }

    /// The product of some rows with one input piece, plus an optional bias.
    fn whole_product(
        &mut self,
        whole: &WholeLayer,
        input: &Piece,
        rows: &Part,
        (layer, id, bias, name): (&Layer, Option<LayerId>, Option<ValueId>, &str),
    ) -> Result<ValueId> {
        let common = self.common(id, &rows.owner, &input.owner);
        let (row_axis, column_axis) = if layer.in_first() { (1, 0) } else { (0, 1) };
        let weights = self.rows_of_layers(whole, &rows.positions, |layer| {
            Some((layer.weight, row_axis, Some((column_axis, input.positions.as_slice()))))
        });
        let weight = self.interleave(row_axis, &weights, &format!("{name}.weight"), &common)?;
        let mut node = self.graph().node(layer.node).clone();
        node.name = self.name(&common, name);
        node.inputs = vec![Some(input.value), Some(weight)];
        node.inputs.extend(bias.map(Some));
        Ok(self.builder.single(node))
    }

    /// Writes depthwise layers, one node per piece.
    fn emit_channels(&mut self, whole: &WholeLayer, name: &str) -> Result<()> {
        let Held::Pieces { axis, len, pieces } = self.held(whole.input)? else { return Ok(()) };
        let mut outputs = Vec::new();
        for piece in pieces {
            let Some(first) = piece.positions.first().copied() else { continue };
            let id = whole.layer_making(self.source().coupling(), first);
            let common = self.common(id, &piece.owner, &Owner::Input);
            let weights =
                self.rows_of_layers(whole, &piece.positions, |layer| Some((layer.weight, 0, None)));
            let biases = self.rows_of_layers(whole, &piece.positions, |layer| {
                layer.bias.map(|bias| (bias, 0, None))
            });
            let weight = self.interleave(0, &weights, &format!("{name}.weight"), &common)?;
            let mut node = self.graph().node(whole.layers[whole.rows[first].0].node).clone();
            node.name = self.name(&piece.owner, name);
            node.inputs = vec![Some(piece.value), Some(weight)];
            if !self.all_add_nothing(&biases) {
                let bias = self.interleave(0, &biases, &format!("{name}.bias"), &common)?;
                node.inputs.push(Some(bias));
            }
            let groups = Attribute::Int(piece.positions.len() as i64);
            node.attributes.insert("group".to_owned(), groups);
            let value = self.builder.single(node);
            outputs.push(Piece { value, ..piece });
        }
        self.hold(whole.output, Held::Pieces { axis, len, pieces: outputs });
        Ok(())
    }

    /// Whether biases are all 0, or there are none.
    fn all_add_nothing(&self, biases: &[Interleaved]) -> bool {
        let mut rows = biases.iter().filter_map(|b| Some((b.source, &b.parts.first()?.1)));
        rows.all(|(source, rows)| self.adds_nothing(source, rows))
    }

    /// Blocks of a constant of each layer with some rows of it; `of` gives the constant.
    fn rows_of_layers<'p>(
        &self,
        whole: &WholeLayer,
        positions: &[usize],
        of: impl Fn(&Layer) -> Option<Source<'p>>,
    ) -> Vec<Interleaved> {
        let mut by_layer: BTreeMap<usize, (Vec<usize>, Vec<usize>)> = BTreeMap::new();
        for (at, position) in positions.iter().enumerate() {
            let Some((layer, row)) = whole.rows.get(*position) else { continue };
            let (rows, places) = by_layer.entry(*layer).or_default();
            rows.push(*row);
            places.push(at);
        }
        let block = |(layer, (rows, places)): (usize, (Vec<usize>, Vec<usize>))| {
            let (source, axis, other) = of(whole.layers.get(layer)?)?;
            let mut parts = vec![(axis, rows)];
            parts.extend(other.map(|(axis, indices)| (axis, indices.to_vec())));
            Some(Interleaved { source, parts, places })
        };
        by_layer.into_iter().filter_map(block).collect()
    }
}
