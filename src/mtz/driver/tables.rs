//! Common tables, where everything is shared.
//!
//! A [table](crate::mtz::site::Tables) is no layer: there is no sum of products that the next refit could fit it to. Its
//! common numbers are the means over the tasks, in the order of the paired channels; layers behind are fitted to
//! what these give. Tables that are far from their mean stay, since nothing could make up for it. A merge that shares
//! only a part leaves tables to the tasks.

use ndarray::Axis;

use crate::align::TaskId;
use crate::error::Result;
use crate::ir::Tensor;
use crate::mtz::options::{MergeOptions, Method};
use crate::mtz::site::{Agreement, Numbers, Tables, agreement, corresponding_tables, numbers};

use super::Driver;

impl Driver<'_> {
    /// The tables that become common on this walk, when their channels are paired.
    pub(super) fn tables(&self) -> Result<Vec<Tables>> {
        let MergeOptions { common_tables, budget, method, .. } = self.options;
        match *common_tables && *method == Method::Refit && budget.shares_everything() {
            true => corresponding_tables(self.joint, self.alignment),
            false => Ok(Vec::new()),
        }
    }

    /// Makes those of the `waiting` tables common whose channels are all paired by now. Returns whether numbers have
    /// changed.
    pub(super) fn fuse_tables(&mut self, waiting: &mut Vec<Tables>) -> Result<bool> {
        let mut changed = false;
        let mut left = Vec::new();
        for tables in std::mem::take(waiting) {
            match numbers(self.joint, &tables)? {
                Some(found) => changed |= self.fuse_table(&tables, &found)?,
                None => left.push(tables),
            }
        }
        *waiting = left;
        Ok(changed)
    }

    /// Writes the mean of corresponding tables into all of them, unless they are far from it. Equal ones stay, bit
    /// for bit.
    fn fuse_table(&mut self, tables: &Tables, numbers: &[Numbers]) -> Result<bool> {
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let weight = |task: TaskId| alpha.get(task.0).copied().unwrap_or(0.0);
        let Agreement::Near(mean) = agreement(tables, numbers, weight) else { return Ok(false) };
        for ((task, table), own) in tables.iter().zip(numbers) {
            let common = match table.axis {
                Some(axis) => mean.select(Axis(axis), &own.places),
                None => mean.clone(),
            };
            let graph = &mut self.joint.model_mut(*task).graph;
            let Some(dtype) = graph.initializer(table.value).map(|tensor| tensor.dtype) else {
                continue;
            };
            graph.set_initializer(table.value, Tensor::from_f64(dtype, &common)?);
        }
        Ok(true)
    }
}
