//! Common tables, where everything is shared.
//!
//! A [table](crate::mtz::site::Tables) is no layer: there is no sum of products that the next refit could fit it to. Its
//! common numbers are the means over the tasks, in the order of the paired channels; layers behind are fitted to
//! what these give. Tables that are far from their mean stay, since nothing could make up for it. A merge that shares
//! only a part leaves tables to the tasks.

use std::collections::HashMap;

use ndarray::{ArrayD, Axis};

use crate::align::TaskId;
use crate::error::Result;
use crate::ir::Tensor;
use crate::mtz::joint::Neuron;
use crate::mtz::options::{MergeOptions, Method};
use crate::mtz::site::{Tables, corresponding_tables};

use super::Driver;

/// Tables stay each task's own if what differs from their mean is more than this part of their energy. Independent
/// numbers around zero have half of it, scales near one a small part.
const FAR: f64 = 0.1;

/// The numbers of one task's table, with the place of each entry's neuron in the first task's table.
struct Numbers {
    all: ArrayD<f64>,
    places: Vec<usize>,
}

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
            match self.numbers(&tables)? {
                Some(numbers) => changed |= self.fuse_table(&tables, &numbers)?,
                None => left.push(tables),
            }
        }
        *waiting = left;
        Ok(changed)
    }

    /// The numbers of corresponding tables; `None` if their channels are not all paired with each other.
    fn numbers(&self, tables: &Tables) -> Result<Option<Vec<Numbers>>> {
        let mut first: HashMap<Neuron, usize> = HashMap::new();
        let mut found = Vec::new();
        for (task, table) in tables {
            let Some(neurons) = table.neurons(self.joint) else { return Ok(None) };
            if first.is_empty() {
                first = neurons.iter().copied().zip(0..).collect();
            }
            let places = neurons.iter().map(|neuron| first.get(neuron).copied()).collect();
            let places: Option<Vec<usize>> = places;
            let tensor = self.joint.task(*task).graph().initializer(table.value);
            let (Some(places), Some(tensor)) = (places, tensor) else { return Ok(None) };
            // Channels that stand on the axis several times have no single place.
            if first.len() != places.len() {
                return Ok(None);
            }
            found.push(Numbers { all: tensor.to_f64()?, places });
        }
        Ok(Some(found))
    }

    /// Writes the mean of corresponding tables into all of them, unless they are far from it. Equal ones stay, bit
    /// for bit.
    fn fuse_table(&mut self, tables: &Tables, numbers: &[Numbers]) -> Result<bool> {
        let ordered: Vec<ArrayD<f64>> =
            tables.iter().zip(numbers).map(|((_, table), own)| in_order(own, table.axis)).collect();
        if ordered.windows(2).all(|pair| pair[0] == pair[1]) {
            return Ok(false);
        }
        let alpha = self.options.task_weights(self.joint.tasks().len());
        let weight = |task: TaskId| alpha.get(task.0).copied().unwrap_or(0.0);
        let total: f64 = tables.iter().map(|(task, _)| weight(*task)).sum();
        let Some(shape) = ordered.first().map(|own| own.raw_dim()).filter(|_| total > 0.0) else {
            return Ok(false);
        };
        let mut mean = ArrayD::zeros(shape);
        for ((task, _), own) in tables.iter().zip(&ordered) {
            mean.scaled_add(weight(*task) / total, own);
        }
        let energy = |numbers: &ArrayD<f64>| numbers.iter().map(|v| v * v).sum::<f64>();
        let differs: f64 = ordered.iter().map(|own| energy(&(own - &mean))).sum();
        if differs > FAR * ordered.iter().map(energy).sum::<f64>() {
            return Ok(false);
        }
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

/// The numbers in the order of the first task's channels.
fn in_order(numbers: &Numbers, axis: Option<usize>) -> ArrayD<f64> {
    let Some(axis) = axis else { return numbers.all.clone() };
    let mut order = vec![0; numbers.places.len()];
    numbers.places.iter().enumerate().for_each(|(own, place)| order[*place] = own);
    numbers.all.select(Axis(axis), &order)
}
