//! Outputs of tasks that a run does not compute: zeros of the output's shape, as far as the shape follows
//! from the inputs.

use std::collections::BTreeMap;

use crate::ir::size::{Arithmetic, Size};
use crate::ir::{Attribute, DataType, Dim, Graph, Tensor, TensorType, ValueId};
use crate::mtz::joint::Task;

/// Zeros in place of outputs of one task, inside a graph.
pub(super) struct Zeros<'a, I> {
    pub(super) task: &'a Task,
    pub(super) graph: &'a mut Graph,
    pub(super) name: String,
    /// Returns the value of the task's input of a given number inside the graph.
    pub(super) input: I,
    /// Shapes of inputs, by their numbers.
    pub(super) shapes: BTreeMap<usize, ValueId>,
}

impl<I: FnMut(&mut Graph, usize) -> ValueId> Zeros<'_, I> {
    /// Zeros in place of an output of type `ty`. If an extent does not follow from the inputs, it is 0,
    /// or the number of samples if it is the first one.
    pub(super) fn add(&mut self, ty: Option<&TensorType>) -> ValueId {
        let zero = Tensor::zero(ty.map_or(DataType::F32, |ty| ty.dtype));
        let zero = self.constant(zero);
        let unknown = vec![Dim::Unknown];
        let dims = ty.and_then(|ty| ty.shape.as_ref()).unwrap_or(&unknown);
        if dims.is_empty() {
            return zero;
        }
        let mut parts = Vec::new();
        for (place, run) in dims.chunk_by(|a, b| is_fixed(a) && is_fixed(b)).enumerate() {
            let fixed: Vec<i64> = run.iter().filter_map(|d| Some(d.known()? as i64)).collect();
            parts.push(match fixed.is_empty() {
                true => self.extent(&run[0], place == 0),
                false => self.constant(Tensor::from_i64(vec![fixed.len()], &fixed)),
            });
        }
        let shape = match parts.as_slice() {
            [only] => *only,
            several => {
                self.graph.add_op("Concat", &self.name, several, [("axis", Attribute::Int(0))])
            }
        };
        self.graph.add_op("Expand", &self.name, &[zero, shape], [])
    }

    fn extent(&mut self, dim: &Dim, is_first: bool) -> ValueId {
        let known = Size::of(dim).and_then(|size| size.compute(self));
        let samples = |zeros: &mut Self| {
            let is_open = |dims: &[Dim]| matches!(dims.first(), Some(Dim::Symbol(_)));
            let number = zeros.dims().position(is_open)?;
            Some(zeros.read(number, 0))
        };
        let known = known.or_else(|| if is_first { samples(self) } else { None });
        known.unwrap_or_else(|| self.number(0))
    }

    /// The shapes of the task's inputs, empty where not known.
    fn dims(&self) -> impl Iterator<Item = &[Dim]> {
        let graph = self.task.graph();
        let dims = |id: &ValueId| graph.value(*id).ty.as_ref().and_then(|ty| ty.shape.as_deref());
        graph.inputs.iter().map(move |id| dims(id).unwrap_or_default())
    }

    /// The extent of an input along an axis.
    fn read(&mut self, input: usize, axis: usize) -> ValueId {
        let shape = match self.shapes.get(&input) {
            Some(shape) => *shape,
            None => {
                let value = (self.input)(self.graph, input);
                let shape = self.graph.add_op("Shape", &self.name, &[value], []);
                self.shapes.insert(input, shape);
                shape
            }
        };
        let axis = self.number(axis as i64);
        self.graph.add_op("Gather", &self.name, &[shape, axis], [])
    }

    fn constant(&mut self, tensor: Tensor) -> ValueId {
        self.graph.add_op("Constant", &self.name, &[], [("value", Attribute::Tensor(tensor))])
    }
}

impl<I: FnMut(&mut Graph, usize) -> ValueId> Arithmetic for Zeros<'_, I> {
    type Value = ValueId;

    fn named(&mut self, name: &str) -> Option<ValueId> {
        let is_named = |dim: &Dim| matches!(dim, Dim::Symbol(own) if own == name);
        let place = |(input, dims): (usize, &[Dim])| Some((input, dims.iter().position(is_named)?));
        let (input, axis) = self.dims().enumerate().find_map(place)?;
        Some(self.read(input, axis))
    }

    fn number(&mut self, number: i64) -> ValueId {
        self.constant(Tensor::from_i64(vec![1], &[number]))
    }

    fn op(&mut self, op: &'static str, a: ValueId, b: ValueId) -> ValueId {
        self.graph.add_op(op, &self.name, &[a, b], [])
    }
}

fn is_fixed(dim: &Dim) -> bool {
    dim.known().is_some()
}
