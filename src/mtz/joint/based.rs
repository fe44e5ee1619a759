//! Layers whose weights are those of other tasks plus a difference in few bits.
//!
//! Each net holds the sum as its weights, so no other code needs to know of differences. They are how
//! the weights are stored: `emit` writes the common part once, and every task's difference beside it. Weights
//! that are changed afterwards are stored as they are.

use std::collections::{BTreeMap, BTreeSet};

use ndarray::{Array1, Array2, ArrayView2};

use crate::align::{TaskId, TaskLayer};
use crate::couple::CoupledLayer;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Codes, DataType, Graph, Tensor, ValueId};
use crate::mtz::solver::correction::{Change, CorrectedRows};
use crate::ops::LayerKind;

use super::matrix;
use super::model::JointModel;
use super::sum::{Based, Difference};
use super::thin::{Corrections, may_have_correction};

/// Whether a layer's weights can be a sum with a difference.
pub(crate) fn may_have_difference(layer: &CoupledLayer, graph: &Graph) -> bool {
    let weight = layer.layer.weight;
    let is_float = graph.initializer(weight).is_some_and(|w| w.dtype == DataType::F32);
    let is_read_once = layer.tied.is_none() && !layer.is_repeated;
    let is_depthwise = layer.per_channel && matches!(layer.layer.kind, LayerKind::Conv(_));
    let is_fit = may_have_correction(layer) || is_depthwise && layer.layer.rows.is_none();
    is_float && graph.codes(weight).is_none() && is_read_once && is_fit
}

impl JointModel {
    /// How the weight of a layer is stored, if as a sum; `weight` is a constant of the task's net.
    pub(crate) fn based(&self, task: TaskId, weight: ValueId) -> Option<&Based> {
        self.based_layer(self.holder(task, weight)?)
    }

    /// The layer with a weight that is stored as a sum.
    fn holder(&self, task: TaskId, weight: ValueId) -> Option<TaskLayer> {
        let mut own = self.based.keys().filter(|own| own.task == task);
        own.find(|own| self.layer(**own).layer.weight == weight).copied()
    }

    /// How a layer's weight is stored, if as a sum.
    pub(crate) fn based_layer(&self, own: TaskLayer) -> Option<&Based> {
        self.based.get(&own)
    }

    /// The tasks that have a common part, ascending.
    pub(crate) fn base_tasks(&self, number: u32) -> Vec<TaskId> {
        let own = self.based.iter().filter(|(_, based)| based.number == number);
        let tasks: BTreeSet<TaskId> = own.map(|(own, _)| own.task).collect();
        tasks.into_iter().collect()
    }

    /// The least number above those of all common parts.
    pub(crate) fn next_base(&self) -> u32 {
        self.based.values().map(|based| based.number + 1).max().unwrap_or(0)
    }

    /// Whether any weight is a sum with a common part.
    pub(crate) fn has_sums(&self) -> bool {
        !self.based.is_empty()
    }

    /// Stores a layer's weight as a sum, which it must be; whether it is.
    pub(crate) fn set_based(&mut self, own: TaskLayer, based: Based) -> bool {
        let weight = self.task(own.task).graph().initializer(self.layer(own).layer.weight);
        let sum = based.sum();
        let is_sum = sum.is_some() && sum.as_ref() == weight;
        if is_sum {
            self.based.insert(own, based);
        }
        is_sum
    }

    /// Gives a constant of a task's net a new value; of a sum, a new common part.
    pub(crate) fn renew(&mut self, task: TaskId, constant: ValueId, value: Tensor) -> Result<()> {
        let own = self.holder(task, constant);
        let sum = match own.and_then(|own| self.based.get_mut(&own)) {
            Some(based) => {
                based.base = value;
                based.sum().ok_or_else(misshapen)?
            }
            None => value,
        };
        self.model_mut(task).graph.set_initializer(constant, sum);
        Ok(())
    }

    /// Makes sums of the weights that have differences. The layers are no longer fused with those whose
    /// weights are the common part.
    ///
    /// # Errors
    /// [`ErrorKind::Format`] if a layer's weight is not a matrix.
    pub(crate) fn with_differences(mut self, corrections: &Corrections) -> Result<JointModel> {
        let mut groups: BTreeMap<u32, Vec<TaskLayer>> = BTreeMap::new();
        for own in corrections.keys() {
            if let Some(number) = self.fused()[own.task.0][own.layer.0] {
                groups.insert(number, self.together(*own));
            }
        }
        for (number, layers) in (self.next_base()..).zip(groups.into_values()) {
            for own in layers {
                let layer = self.layer(own);
                let graph = self.task(own.task).graph();
                let (base, difference) = match corrections.get(&own) {
                    Some(rows) => sum_of(layer, graph, rows)?,
                    None => (stored(layer, graph)?, None),
                };
                let has_difference = difference.is_some();
                if !self.set_based(own, Based { number, base, difference }) {
                    return Err(misshapen());
                }
                if has_difference {
                    self.unfuse(own);
                }
            }
        }
        Ok(self)
    }
}

/// The common part of a layer's weights, and its difference.
fn sum_of(
    layer: &CoupledLayer,
    graph: &Graph,
    rows: &CorrectedRows,
) -> Result<(Tensor, Option<Difference>)> {
    let Change::Difference { bits, steps, .. } = &rows.change else {
        return Ok((stored(layer, graph)?, None));
    };
    let weights = matrix::read(layer, graph)?;
    let tensor = |values: ArrayView2<f32>| -> Result<Tensor> {
        let mut matrix = weights.clone();
        for (row, values) in rows.rows.iter().zip(values.rows()) {
            let entries = rows.columns.iter().zip(values);
            entries.for_each(|(column, value)| matrix[(*row, *column)] = *value);
        }
        let mut graph = graph.clone();
        matrix::write(layer, &mut graph, matrix.view())?;
        stored(layer, &graph)
    };
    let sum: Array2<f32> = rows.change.sum();
    let mut scale = Array1::<f32>::ones(weights.nrows());
    rows.rows.iter().zip(steps).for_each(|(row, step)| scale[*row] = *step);
    let codes = Codes::new(
        bits.dtype(),
        usize::from(layer.layer.in_first()),
        Tensor::from_f32(&scale.into_dyn()),
        None,
    );
    let floats = tensor(sum.view())?;
    Ok((tensor(rows.common.view())?, Some(Difference { floats, codes })))
}

fn stored(layer: &CoupledLayer, graph: &Graph) -> Result<Tensor> {
    graph.initializer(layer.layer.weight).cloned().ok_or_else(misshapen)
}

fn misshapen() -> Error {
    Error::new(ErrorKind::Format, "the difference of a layer's weights does not fit them")
        .hint("merge the original models again")
}
