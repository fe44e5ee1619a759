//! Follows the nodes of a loop's body.

use std::collections::HashMap;
use std::rc::Rc;

use ndarray::Array1;

use crate::error::Result;
use crate::ir::{DataType, Dim, Graph, Node, NodeId, Tensor, ValueId, ValueKind};
use crate::ops::{self, NodeView, normal_axis};

use super::super::{types, zeros};
use super::constants;
use super::count::{Scalar, Scalars};
use super::terms::{Affine, Shared, Source, Term, select};

/// A body with more nodes is no cell of a recurrent layer.
const MOST_NODES: usize = 512;

/// Most captured matrices of which it is asked whether they are zero.
const MOST_MATRICES: usize = 16;

/// Most numbers in all terms together, per number of the weights.
const MOST_COPIES: usize = 32;

/// Which steps of which samples count.
#[derive(Default)]
pub(super) struct Mask {
    /// The mask of all steps, with one column, and the axis of the steps.
    pub(super) all: Option<(ValueId, usize)>,
    /// The values of the body that are that of the step, or its opposite.
    pub(super) flags: HashMap<ValueId, bool>,
}

/// What the values of a body are.
pub(super) struct Body<'a> {
    outer: &'a Graph,
    body: &'a Graph,
    scalars: &'a Scalars,
    pub(super) terms: HashMap<ValueId, Shared>,
    pub(super) constants: HashMap<ValueId, Tensor>,
    /// The sequence and the axis of its steps.
    sequence: Option<(ValueId, usize)>,
    /// Which steps count.
    pub(super) mask: Mask,
    /// Numbers that further terms may hold.
    pub(super) room: usize,
}

impl<'a> Body<'a> {
    /// A body whose inputs are not followed yet.
    pub(super) fn new(outer: &'a Graph, body: &'a Graph, scalars: &'a Scalars) -> Self {
        let constants: HashMap<ValueId, Tensor> =
            body.values().filter_map(|(id, _)| Some((id, constant(outer, body, id)?))).collect();
        let weights: usize = constants.values().map(Tensor::len).sum();
        let room = weights.saturating_mul(MOST_COPIES);
        let terms = zeros(outer, body).collect();
        let mask = Mask::default();
        Body { outer, body, scalars, terms, constants, sequence: None, mask, room }
    }

    /// Gives an input of the body a meaning.
    pub(super) fn set(&mut self, value: ValueId, source: Source, columns: usize) {
        self.terms.insert(value, Rc::new(Term::Whole(source, columns)));
    }

    /// Makes an input of the body the step's part of a sequence; `None` if there is another sequence, or its columns are
    /// not known.
    pub(super) fn set_step(
        &mut self,
        value: ValueId,
        sequence: ValueId,
        axis: usize,
    ) -> Option<()> {
        let columns = self.columns_of(sequence, axis)?;
        self.set(value, Source::Input, columns);
        Some(())
    }

    /// Follows all nodes; those that are not understood have no meaning.
    ///
    /// # Errors
    /// [`crate::error::ErrorKind::Format`] if the body has a cycle.
    pub(super) fn follow(&mut self) -> Result<()> {
        if self.body.nodes().count() > MOST_NODES {
            return Ok(());
        }
        for id in self.body.topological_order()? {
            let node = self.body.node(id);
            if node.domain.is_empty() && !self.follow_mask(id) {
                let results = self.results(id).unwrap_or_default();
                self.terms.extend(named(node, results));
            }
        }
        Ok(())
    }

    /// What a value is.
    pub(super) fn term(&self, value: ValueId) -> Option<&Shared> {
        self.terms.get(&value)
    }

    /// The sequence that the steps read, and the axis of its steps.
    pub(super) fn sequence(&self) -> Option<(ValueId, usize)> {
        self.sequence
    }

    fn results(&mut self, id: NodeId) -> Option<Vec<Shared>> {
        let view = NodeView::new(self.body, id, &[]);
        let node = view.node;
        if let Some(data) = node.input(0).and_then(|value| self.constants.get(&value))
            && let Some(moved) = constants::results(&view, data)
        {
            self.room = self.room.checked_sub(moved.iter().map(Tensor::len).sum())?;
            self.constants.extend(named(node, moved));
            return None;
        }
        if node.is("Split") {
            return self.split(&view);
        }
        let term = match node.op.as_str() {
            "Identity" => self.input(node, 0)?.clone(),
            "Cast" => self.input(node, 0).filter(|_| keeps_type(node))?.clone(),
            "Squeeze" | "Unsqueeze" | "Reshape" | "Flatten" => {
                self.input(node, 0).filter(|_| keeps_rows(&view))?.clone()
            }
            "Gather" => self.step(node)?,
            "Slice" => self.slice(&view)?,
            "Concat" => self.joined(&view)?,
            _ => self.computed(node)?,
        };
        Some(vec![term])
    }

    /// The graph around the body.
    pub(super) fn outer(&self) -> &'a Graph {
        self.outer
    }

    /// The body.
    pub(super) fn graph(&self) -> &'a Graph {
        self.body
    }

    /// The operand of a node, if it is a term.
    pub(super) fn input(&self, node: &Node, slot: usize) -> Option<&Shared> {
        self.terms.get(&node.input(slot)?)
    }

    fn columns_of(&mut self, sequence: ValueId, axis: usize) -> Option<usize> {
        let ty = self.outer.type_of(sequence).filter(|ty| ty.dtype == DataType::F32)?;
        let &[_, _, Dim::Known(columns)] = ty.shape?.as_slice() else { return None };
        let is_first = self.sequence.is_none_or(|own| own == (sequence, axis));
        (axis < 2 && is_first).then(|| {
            self.sequence = Some((sequence, axis));
            columns
        })
    }

    /// A captured sequence, and the axis along which a node picks the entry of the step.
    pub(super) fn picked_by_step(&self, node: &Node) -> Option<(ValueId, usize)> {
        let (data, index) = (node.input(0)?, node.input(1)?);
        let ValueKind::Captured(sequence) = self.body.value(data).kind else { return None };
        let is_scalar = types::shape(self.body, index).is_some_and(|shape| shape.is_empty());
        if !is_scalar || self.scalars.get(&index) != Some(&Scalar::Counted(0)) {
            return None;
        }
        Some((sequence, normal_axis(node.int("axis", 0), 3)?))
    }

    /// An entry of a captured sequence, picked by the number of the step.
    fn step(&mut self, node: &Node) -> Option<Shared> {
        let (sequence, axis) = self.picked_by_step(node)?;
        let columns = self.columns_of(sequence, axis)?;
        Some(Rc::new(Term::Whole(Source::Input, columns)))
    }

    /// The number of columns, if `axis` is the one that they are on.
    fn last_axis(&self, view: &NodeView<'_>, axis: i64) -> Option<usize> {
        let rank = view.shape(0)?.len();
        let is_last = normal_axis(axis, rank)? + 1 == rank;
        is_last.then(|| self.input(view.node, 0).map(|term| term.columns()))?
    }

    fn split(&mut self, view: &NodeView<'_>) -> Option<Vec<Shared>> {
        let columns = self.last_axis(view, view.node.int("axis", 0))?;
        let term = self.input(view.node, 0)?.clone();
        let (mut parts, mut start) = (Vec::new(), 0usize);
        for number in 0..view.node.outputs.len() {
            let end = start.checked_add(view.output_shape(number)?.last()?.known()?)?;
            let positions: Vec<usize> = (start..end).collect();
            parts.push(self.selected(&term, &positions)?);
            start = end;
        }
        (start == columns).then_some(parts)
    }

    fn slice(&mut self, view: &NodeView<'_>) -> Option<Shared> {
        let rank = view.shape(0)?.len();
        let mut term = self.input(view.node, 0)?.clone();
        for (axis, start, end, step) in ops::slices(view, rank)? {
            if axis + 1 == rank {
                let positions = ops::picked(term.columns(), start, end, step);
                term = self.selected(&term, &positions)?;
            } else if start != 0 || step != 1 || end < i64::from(i32::MAX) {
                return None;
            }
        }
        Some(term)
    }

    fn selected(&mut self, term: &Shared, columns: &[usize]) -> Option<Shared> {
        if columns.iter().any(|column| *column >= term.columns()) {
            return None;
        }
        select(term, columns, &mut self.room)
    }

    fn joined(&self, view: &NodeView<'_>) -> Option<Shared> {
        let node = view.node;
        self.last_axis(view, node.int("axis", 0))?;
        let parts: Option<Vec<Shared>> =
            (0..node.inputs.len()).map(|slot| self.input(node, slot).cloned()).collect();
        Some(Rc::new(Term::Joined(parts?)))
    }
}

/// Captured matrices of zeros.
fn zeros(outer: &Graph, body: &Graph) -> impl Iterator<Item = (ValueId, Shared)> {
    let matrices = body.values().filter_map(move |(id, value)| {
        let ValueKind::Captured(from) = value.kind else { return None };
        let ty = outer.type_of(from).filter(|ty| ty.dtype == DataType::F32)?;
        let &[_, Dim::Known(columns)] = ty.shape?.as_slice() else { return None };
        outer.producer(from).map(|_| (id, from, columns))
    });
    let is_zero = move |from: ValueId| zeros::is_zero(outer, from);
    let all = matrices.take(MOST_MATRICES).filter(move |(_, from, _)| is_zero(*from));
    all.map(|(id, _, columns)| {
        (id, Rc::new(Term::Affine(Affine::constant(Array1::zeros(columns)))))
    })
}

/// The results of a node by its outputs.
fn named<T>(node: &Node, results: Vec<T>) -> impl Iterator<Item = (ValueId, T)> {
    node.outputs.iter().zip(results).filter_map(|(output, result)| Some(((*output)?, result)))
}

/// A constant of a body: its own, or a captured one.
fn constant(outer: &Graph, body: &Graph, value: ValueId) -> Option<Tensor> {
    match body.value(value).kind {
        ValueKind::Captured(from) => outer.initializer(from).cloned(),
        _ => body.initializer(value).cloned(),
    }
}

/// Whether a `Cast` of floats in single precision changes nothing.
fn keeps_type(node: &Node) -> bool {
    i32::try_from(node.int("to", 0)).map(DataType::from_code) == Ok(DataType::F32)
}

/// Whether a node only adds or removes axes of one before the others.
fn keeps_rows(view: &NodeView<'_>) -> bool {
    let (Some(from), Some(to)) = (view.shape(0), view.output_shape(0)) else { return false };
    let [from, to] = [from, to].map(|shape| {
        let ones = shape.iter().take_while(|dim| dim.known() == Some(1)).count();
        shape[ones.min(shape.len().saturating_sub(1))..].to_vec()
    });
    Dim::are_surely(&from, &to)
}
