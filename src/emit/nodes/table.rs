//! Writes look-ups in tables (embeddings): each block of columns is a table.

use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, pieces_of};
use crate::error::Result;
use crate::mtz::joint::Owner;
use crate::ops::Layer;

impl TaskEmitter<'_> {
    /// Writes a look-up in a table, once per block of channels.
    pub(crate) fn emit_table(&mut self, layer: &Layer) -> Result<()> {
        let coupling = self.source().coupling();
        let Some(outputs) = coupling.axis(layer.output) else {
            return self.emit_whole(layer.node);
        };
        let numbers = self.whole(layer.input)?;
        let source = self.graph().node(layer.node);
        let mut pieces = Vec::new();
        for parts in self.rows_together(layer, self.rows(&outputs.channels)) {
            let rows = super::layer::one_part(&parts);
            let id = coupling.layer_making(layer.node, rows.group);
            let owner = self.common(id, &rows.owner, &Owner::Input);
            let table = self.block(layer.weight, &[(1, rows.positions.as_slice())], &owner)?;
            let mut node = source.clone();
            node.name = self.name(&owner, &source.name);
            node.inputs = vec![Some(table), Some(numbers)];
            let value = self.builder.single(node);
            let name = self.name(&rows.owner, &source.name);
            pieces.extend(pieces_of(self.builder, layer.out_axis, value, parts, &name));
        }
        let held = Held::Pieces { axis: layer.out_axis, len: outputs.channels.len(), pieces };
        self.hold(layer.output, held);
        Ok(())
    }
}
