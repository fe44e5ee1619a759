//! Channels that begin where every number of a model input gets a row of weights.
//!
//! Nets for tables make a token of each feature: they multiply its number by the feature's own vector. The entries of
//! the vectors are channels, in the order of the constant.

use super::summed::PAIRWISE;
use super::trace::Tracer;
use crate::ir::{Dim, NodeId, Tensor, ValueId};
use crate::ops::{Flow, Labels, aligned_axis};

impl Tracer<'_> {
    /// The flow of a node that combines each number of a model input with a row of a constant.
    pub(super) fn spread(&mut self, id: NodeId) -> Option<Flow> {
        let node = self.graph.node(id);
        let is_pair = node.inputs.len() == 2 && PAIRWISE.iter().any(|op| node.is(op));
        let output = node.output(0).filter(|_| is_pair)?;
        let rows = |slot: &usize| {
            let tensor = self.graph.initializer(node.input(*slot)?)?;
            (tensor.dtype.is_float() && tensor.dims.len() > 1).then_some(tensor)
        };
        let slot = [1, 0].into_iter().find(|slot| rows(slot).is_some())?;
        let (table, numbers) = (rows(&slot)?, node.input(1 - slot)?);
        if !self.is_of_inputs(numbers) || self.rank(numbers) != self.rank(output) {
            return None;
        }
        let axis = self.new_axis(numbers, table)?;
        self.begun_along(id, slot, axis)
    }

    /// Whether a value follows from model inputs without any layer.
    fn is_of_inputs(&self, value: ValueId) -> bool {
        let labels = self.labels[value.index()].as_ref();
        let is_input = |labels: &Labels| {
            labels.within.is_none() && labels.atoms.iter().all(|atom| self.atoms.is_input(*atom))
        };
        let is_computed = self.graph.initializer(value).is_none();
        is_computed && !self.learned.contains(&value) && labels.is_none_or(is_input)
    }

    /// The only axis along which a table has several entries for each number, if it has a row for each number along
    /// another axis, and that is not the first one, which counts samples.
    fn new_axis(&self, numbers: ValueId, table: &Tensor) -> Option<usize> {
        let shape = self.graph.value(numbers).ty.as_ref()?.shape.as_ref()?;
        let entries = |axis: usize| {
            let own = aligned_axis(axis, shape.len(), table.dims.len());
            own.and_then(|own| table.dims.get(own).copied()).unwrap_or(1)
        };
        let several = || (0..shape.len()).filter(|axis| entries(*axis) > 1);
        let mut new = several().filter(|axis| shape[*axis] == Dim::Known(1));
        let axis = new.next().filter(|axis| *axis > 0)?;
        let has_rows = several().any(|at| at > 0 && shape[at] == Dim::Known(entries(at)));
        (new.next().is_none() && has_rows).then_some(axis)
    }
}
