//! Depths that are rows of a product whose columns go on, as those of keys in the context of linear attention.
//!
//! They have any order if a product with queries sums over them. Every other node that does not treat rows alone needs
//! them in their order.

use super::heads::{Kept, Rows};
use super::trace::Tracer;
use crate::ir::{Dim, NodeId, ValueId};
use crate::ops::{Atom, Labels, aligned_axis, normal_axis};

impl Tracer<'_> {
    /// Notes the depths of the left operand of a product that are rows behind it. Returns whether they are.
    pub(super) fn begin_rows(&mut self, id: NodeId, labels: &Labels) -> bool {
        let found = || {
            let node = self.graph.node(id);
            let (value, output) = (node.input(0)?, node.output(0)?);
            let (rank, width) = (self.rank(value)?, self.depth(value, labels)?);
            let axis = labels.within.filter(|within| within + 2 == rank)?;
            (self.rank(output) == Some(rank)).then_some((output, width, axis))
        };
        let Some((output, width, axis)) = found() else { return false };
        self.rows.insert(output, Rows { labels: labels.clone(), width, axis });
        true
    }

    /// The depths that are rows of an operand of a product, the context, if the product sums over them and as many
    /// depths of the other operand, whose channels are `own`.
    pub(super) fn met_rows(
        &mut self,
        id: NodeId,
        context: usize,
        own: &Labels,
    ) -> Option<Vec<Atom>> {
        let node = self.graph.node(id);
        // The product sums over the last axis of its left operand, and the last but one of the right one.
        let behind = if context == 1 { [1, 2] } else { [2, 1] };
        let (queries, context) = (node.input(1 - context)?, node.input(context)?);
        let rows = self.rows.get(&context)?;
        let ranks = [self.rank(queries)?, self.rank(context)?];
        let fits = own.within? + behind[0] == ranks[0]
            && rows.axis + behind[1] == ranks[1]
            && rows.labels.atoms.len() == own.atoms.len()
            && self.depth(queries, own) == Some(rows.width)
            && [&rows.labels, own].iter().all(|labels| self.are_distinct(labels));
        let atoms = fits.then(|| rows.labels.atoms.clone())?;
        self.met.insert(id);
        Some(atoms)
    }

    /// The depths that are rows of the left operand of a product that sums over its columns, with their heads: they are
    /// rows behind it, too.
    pub(super) fn rows_behind(&mut self, id: NodeId, kept: Kept) -> Option<(Labels, Vec<Atom>)> {
        let value = self.graph.node(id).input(0)?;
        let Rows { labels, width, axis } = self.rows.get(&value)?.clone();
        let columns = self.labels[value.index()].as_ref()?;
        let fits = Some(axis + 2) == self.rank(value) && self.are_distinct(&labels);
        let output = Labels { axis: columns.axis, within: Some(axis), ..labels };
        fits.then_some(())?;
        self.met.insert(id);
        let heads = self.heads.of(&mut self.atoms, id, &output, width, kept);
        Some((output, heads))
    }

    fn are_distinct(&self, labels: &Labels) -> bool {
        let mut roots: Vec<Atom> = labels.atoms.iter().map(|atom| self.atoms.root(*atom)).collect();
        roots.sort_unstable();
        roots.windows(2).all(|pair| pair[0] != pair[1])
    }

    /// Follows rows through a node that treats each alone. Others need them in their order, unless a product has met
    /// them.
    pub(super) fn carry_rows(&mut self, id: NodeId) {
        let node = self.graph.node(id);
        if self.met.contains(&id) || node.is("Shape") || node.is("Size") {
            return;
        }
        let read: Vec<(ValueId, Rows)> = node
            .reads()
            .filter_map(|value| Some((value, self.rows.get(&value)?.clone())))
            .collect();
        for (value, rows) in read {
            match self.place_of_rows(id, value, rows.axis).zip(node.output(0)) {
                Some((axis, output)) => {
                    self.rows.insert(output, Rows { axis, ..rows });
                }
                None => self.keep_rows(id, &rows),
            }
        }
    }

    /// Rows of outputs of the net have their order.
    pub(super) fn keep_shown_rows(&mut self) {
        for output in self.graph.outputs.clone() {
            if let (Some(rows), Some(id)) =
                (self.rows.get(&output).cloned(), self.graph.producer(output))
            {
                self.keep_rows(id, &rows);
            }
        }
    }

    fn keep_rows(&mut self, id: NodeId, rows: &Rows) {
        let kept = Kept { order: true, ..Kept::default() };
        self.heads.of(&mut self.atoms, id, &rows.labels, rows.width, kept);
    }

    /// The axis behind a node of rows that lie on an axis of one of its operands, if it treats each alone.
    fn place_of_rows(&self, id: NodeId, value: ValueId, axis: usize) -> Option<usize> {
        let node = self.graph.node(id);
        let rank = self.rank(value)?;
        match node.op.as_str() {
            "Identity" | "Cast" => Some(axis),
            "Softmax" => {
                normal_axis(node.int("axis", -1), rank).filter(|own| *own != axis).map(|_| axis)
            }
            "Transpose" => {
                let perm = node.ints("perm")?.iter().map(|own| normal_axis(*own, rank));
                perm.collect::<Option<Vec<usize>>>()?.iter().position(|own| *own == axis)
            }
            "Add" | "Sub" | "Mul" | "Div" if self.rank(node.output(0)?) == Some(rank) => {
                let is_same = |other: &ValueId| {
                    let shape = match self.graph.initializer(*other) {
                        Some(tensor) => tensor.dims.iter().map(|n| Dim::Known(*n)).collect(),
                        None => self.graph.value(*other).ty.clone()?.shape?,
                    };
                    let own = aligned_axis(axis, rank, shape.len());
                    Some(own.is_none_or(|own| shape.get(own) == Some(&Dim::Known(1))))
                };
                let mut others = node.inputs.iter().flatten().filter(|other| **other != value);
                let is_alone = others.clone().count() == 1;
                (is_alone && others.all(|other| is_same(other) == Some(true))).then_some(axis)
            }
            _ => None,
        }
    }
}
