//! Groups the columns of layers by the tasks that have their weights in common.

use crate::couple::LayerId;
use crate::emit::task::TaskEmitter;
use crate::emit::value::pieces::{Held, Piece, join};
use crate::emit::value::readers::ReadBy;
use crate::ir::{NodeId, ValueId};
use crate::mtz::joint::{Neuron, Owner};

impl TaskEmitter<'_> {
    /// Joins pieces of the input `value` of a node so that its layers have one term per owner, or more
    /// if fused layers read different neurons of an owner.
    pub(crate) fn bundles(&mut self, held: &Held, node: NodeId, value: ValueId) -> Vec<Piece> {
        let (axis, pieces) = match held {
            Held::Whole(_) => return Vec::new(),
            Held::Pieces { axis, pieces, .. } => (*axis, pieces.clone()),
        };
        let name = self.graph().node(node).name.clone();
        let bundles = self.side_by_side(pieces, node, value).into_iter().map(|own| {
            let owner = own[0].owner.clone();
            let name = self.name(&owner, &name);
            let (value, positions) = join(self.builder, axis, &own, &name);
            Piece { value, owner, positions }
        });
        bundles.collect()
    }

    /// Groups pieces of the input `value` of a node by their owner and the fused layers that read them.
    pub(crate) fn side_by_side(
        &self,
        pieces: Vec<Piece>,
        node: NodeId,
        value: ValueId,
    ) -> Vec<Vec<Piece>> {
        let mut bundles: Vec<(ReadBy, Vec<Piece>)> = Vec::new();
        for piece in pieces {
            let readers = self.readers_in(node, self.first_neuron(value, &piece));
            let same = |(of, own): &&mut (ReadBy, Vec<Piece>)| {
                own[0].owner == piece.owner && *of == readers
            };
            match bundles.iter_mut().find(same) {
                Some((_, own)) => own.push(piece),
                None => bundles.push((readers, vec![piece])),
            }
        }
        bundles.into_iter().map(|(_, own)| own).collect()
    }

    /// The tasks that read a neuron in the layers fused with those of a node, by their number, where they
    /// differ between neurons of an owner.
    fn readers_in(&self, node: NodeId, neuron: Option<Neuron>) -> ReadBy {
        let Some(all) = neuron.and_then(|neuron| self.readers.of_neuron(neuron)) else {
            return ReadBy::new();
        };
        let layers = self.source().coupling().layers.iter().zip(&self.joint.fused()[self.task.0]);
        let numbers = layers.filter(|(l, _)| l.layer.node == node).filter_map(|(_, n)| *n);
        numbers.filter_map(|number| Some((number, all.get(&number)?.clone()))).collect()
    }

    /// The neuron of the first channel of a piece of `value`, if it is shared.
    pub(crate) fn first_neuron(&self, value: ValueId, piece: &Piece) -> Option<Neuron> {
        let axis = self.source().coupling().axis(value)?;
        let channel = axis.channels.get(*piece.positions.first()?)?;
        self.joint.neuron(self.task.channel(*channel))
    }

    /// The owners of columns, whose first neuron is given, that read them in the layers fused with layer
    /// `id`.
    pub(crate) fn column_owner(
        &self,
        id: Option<LayerId>,
        owner: &Owner,
        first: Option<Neuron>,
    ) -> Owner {
        let readers = first.and_then(|neuron| self.readers.of_neuron(neuron));
        let readers = readers.zip(self.fused(id)).and_then(|(all, number)| all.get(&number));
        match (owner, readers) {
            (Owner::Tasks(tasks), Some(readers)) => {
                Owner::Tasks(tasks.iter().filter(|t| readers.contains(t)).copied().collect())
            }
            _ => owner.clone(),
        }
    }
}
