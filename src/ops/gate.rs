//! Gates of recurrent layers, as layers.
//!
//! A gate computes W x + R h + b from the input x of a step and the hidden units h of the step before.
//! Its rows are hidden units: every gate of a node produces the same channels and consumes them.

use std::ops::Range;

use ndarray::{Array1, Array2, Array3, ArrayD, Axis, concatenate, s};

use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Graph, Tensor, ValueId};

use super::Layer;

/// The columns of a gate: the values that its weights multiply, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum GateInputs {
    /// The step's input, and the hidden units of the step before.
    All,
    /// As `All`, but the node's reset gate multiplies the hidden units first.
    Reset,
    /// The step's input.
    Input,
    /// The hidden units of the step before.
    Hidden,
}

/// One gate of a recurrent node.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Gate {
    /// The node's operator.
    pub op: &'static str,
    /// The gate's letter in the ONNX standard.
    pub name: &'static str,
    /// Its index among the node's gates.
    pub index: usize,
    /// Number of the node's gates.
    pub gates: usize,
    /// Number of hidden units.
    pub units: usize,
    /// The values that its weights multiply.
    pub inputs: GateInputs,
    /// The initializer R [1, gates·units, units]; W is the layer's weight, B its bias.
    pub recurrence: ValueId,
    /// Hidden units before the first step, [1, batch, units]; `None` for zeros.
    pub initial: Option<ValueId>,
}

impl Gate {
    /// Whether hidden units are among the columns.
    pub fn reads_hidden(&self) -> bool {
        self.inputs != GateInputs::Input
    }

    /// Whether the step's input is among the columns.
    pub fn reads_input(&self) -> bool {
        self.inputs != GateInputs::Hidden
    }

    /// The gate's first row in W and R.
    fn first(&self) -> usize {
        self.index * self.units
    }

    /// The gate's first entry in B: in the first half for biases of W, else in the second half.
    fn first_bias(&self) -> usize {
        self.first() + if self.reads_input() { 0 } else { self.gates * self.units }
    }

    /// Sizes `(units, columns, 1)`.
    pub(super) fn sizes(&self, layer: &Layer, graph: &Graph) -> Result<(usize, usize, usize)> {
        let columns = self.tensors(layer, graph)?.last().map_or(0, |(_, columns)| columns.end);
        Ok((self.units, columns, 1))
    }

    /// The tensors that hold the gate's weights, each with its columns.
    fn tensors(&self, layer: &Layer, graph: &Graph) -> Result<Vec<(ValueId, Range<usize>)>> {
        let weight = self.reads_input().then_some(layer.weight);
        let recurrence = self.reads_hidden().then_some(self.recurrence);
        let mut tensors = Vec::new();
        let mut start = 0;
        for value in weight.into_iter().chain(recurrence) {
            let dims = &constant(graph, value)?.dims;
            let &[1, rows, columns] = dims.as_slice() else { return Err(misfit()) };
            if rows != self.gates * self.units {
                return Err(misfit());
            }
            tensors.push((value, start..start + columns));
            start += columns;
        }
        Ok(tensors)
    }

    /// The weights of all units, [units, columns, 1].
    pub(super) fn read(&self, layer: &Layer, graph: &Graph) -> Result<Array3<f32>> {
        let mut parts: Vec<Array2<f32>> = Vec::new();
        for (value, _) in self.tensors(layer, graph)? {
            let all = constant(graph, value)?.to_f32()?;
            let all = all.into_dimensionality().map_err(|_| misfit())?;
            let all: Array3<f32> = all;
            parts.push(all.slice(s![0, self.first()..self.first() + self.units, ..]).to_owned());
        }
        let views: Vec<_> = parts.iter().map(|p| p.view()).collect();
        let weights = concatenate(Axis(1), &views).map_err(|_| misfit())?;
        Ok(weights.insert_axis(Axis(2)))
    }

    /// The biases of all units.
    pub(super) fn read_bias(&self, bias: &Tensor) -> Result<Array1<f32>> {
        let all: Array1<f32> = bias.to_f32()?.into_iter().collect();
        let start = self.first_bias();
        if all.len() < start + self.units {
            return Err(misfit());
        }
        Ok(all.slice(s![start..start + self.units]).to_owned())
    }

    /// Stores the weights [rows, columns, 1] and biases [rows] of the layer's rows.
    pub(super) fn write(
        &self,
        layer: &Layer,
        graph: &mut Graph,
        w: &Array3<f32>,
        bias: Option<&Array1<f32>>,
    ) -> Result<()> {
        let rows: Vec<usize> = (0..w.len_of(Axis(0))).map(|row| layer.row(row)).collect();
        for (value, columns) in self.tensors(layer, graph)? {
            let part = w.slice(s![.., columns, 0]);
            change(graph, value, |all| {
                for (row, own) in rows.iter().zip(part.outer_iter()) {
                    for (column, weight) in own.iter().enumerate() {
                        all[[0, self.first() + row, column]] = f64::from(*weight);
                    }
                }
            })?;
        }
        let (Some(value), Some(bias)) = (layer.bias, bias) else { return Ok(()) };
        change(graph, value, |all| {
            for (row, own) in rows.iter().zip(bias) {
                all[[0, self.first_bias() + row]] = f64::from(*own);
            }
        })
    }
}

/// Changes the values of a constant, but not its element type.
fn change(graph: &mut Graph, value: ValueId, edit: impl FnOnce(&mut ArrayD<f64>)) -> Result<()> {
    let tensor = constant(graph, value)?;
    let (dtype, mut all) = (tensor.dtype, tensor.to_f64()?);
    edit(&mut all);
    graph.set_initializer(value, Tensor::from_f64(dtype, &all)?);
    Ok(())
}

fn constant(graph: &Graph, value: ValueId) -> Result<&Tensor> {
    graph.initializer(value).ok_or_else(|| {
        Error::new(ErrorKind::Unsupported, "a recurrent layer's weight is not a constant")
    })
}

fn misfit() -> Error {
    Error::new(ErrorKind::Format, "a recurrent layer's weights do not fit together")
}
