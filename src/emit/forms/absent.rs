//! What stands for a task's output in a run that computes another task: zeros of the output's shape,
//! as far as that follows from the inputs.

use std::collections::BTreeMap;

use crate::ir::{Attribute, DataType, Dim, Graph, Tensor, TensorType, ValueId};
use crate::mtz::joint::Task;

/// An extent that is known before the output is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Extent {
    Fixed(i64),
    /// That of an input, by its number, along an axis.
    Of(usize, usize),
}

/// Zeros in place of one output.
pub(super) struct Absent {
    dtype: DataType,
    extents: Vec<Extent>,
}

impl Absent {
    /// Zeros in place of an output of `task` whose type is `ty`. An extent that neither is fixed nor
    /// stands among those of the task's inputs is nought; the first one counts samples.
    pub(super) fn of(task: &Task, ty: Option<&TensorType>) -> Absent {
        let inputs = &task.model.graph.inputs;
        let place = |dim: &Dim| {
            let shapes = inputs.iter().enumerate().filter_map(|(number, input)| {
                let ty = task.model.graph.value(*input).ty.as_ref()?;
                Some((number, ty.shape.as_ref()?))
            });
            let mut places = shapes.filter_map(|(number, shape)| {
                Some(Extent::Of(number, shape.iter().position(|d| d == dim)?))
            });
            places.next()
        };
        let samples = || {
            let first =
                |id: &ValueId| task.model.graph.value(*id).ty.as_ref()?.shape.as_ref()?.first();
            let number = inputs.iter().position(|id| matches!(first(id), Some(Dim::Symbol(_))))?;
            Some(Extent::Of(number, 0))
        };
        let extent = |(axis, dim): (usize, &Dim)| {
            let known = match dim {
                Dim::Known(size) => Some(Extent::Fixed(*size as i64)),
                Dim::Symbol(_) => place(dim),
                Dim::Unknown => None,
            };
            known.or_else(|| samples().filter(|_| axis == 0)).unwrap_or(Extent::Fixed(0))
        };
        let shape = ty.and_then(|ty| ty.shape.as_ref());
        Absent {
            dtype: ty.map_or(DataType::F32, |ty| ty.dtype),
            extents: shape.map_or(vec![Extent::Fixed(0)], |dims| {
                dims.iter().enumerate().map(extent).collect()
            }),
        }
    }

    /// Adds the zeros to a graph in which `input` gives the task's inputs by their numbers.
    pub(super) fn add(
        &self,
        graph: &mut Graph,
        name: &str,
        mut input: impl FnMut(&mut Graph, usize) -> ValueId,
    ) -> ValueId {
        let zero = constant(graph, name, Tensor::zero(self.dtype));
        if self.extents.is_empty() {
            return zero;
        }
        let mut shapes: BTreeMap<usize, ValueId> = BTreeMap::new();
        let mut parts = Vec::new();
        for run in self.extents.chunk_by(|a, b| a.is_fixed() && b.is_fixed()) {
            parts.push(match run.first() {
                Some(Extent::Of(number, axis)) => {
                    let shape = *shapes.entry(*number).or_insert_with(|| {
                        let input = input(graph, *number);
                        graph.add_op("Shape", name, &[input], [])
                    });
                    let axis = constant(graph, name, Tensor::from_i64(vec![1], &[*axis as i64]));
                    graph.add_op("Gather", name, &[shape, axis], [])
                }
                _ => {
                    let sizes: Vec<i64> = run.iter().filter_map(Extent::fixed).collect();
                    constant(graph, name, Tensor::from_i64(vec![sizes.len()], &sizes))
                }
            });
        }
        let shape = match parts.as_slice() {
            [only] => *only,
            several => graph.add_op("Concat", name, several, [("axis", Attribute::Int(0))]),
        };
        graph.add_op("Expand", name, &[zero, shape], [])
    }
}

impl Extent {
    fn fixed(&self) -> Option<i64> {
        match self {
            Extent::Fixed(size) => Some(*size),
            Extent::Of(..) => None,
        }
    }

    fn is_fixed(&self) -> bool {
        self.fixed().is_some()
    }
}

fn constant(graph: &mut Graph, name: &str, tensor: Tensor) -> ValueId {
    graph.add_op("Constant", name, &[], [("value", Attribute::Tensor(tensor))])
}
