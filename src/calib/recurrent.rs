//! The inputs of recurrent gates at each step: the step's input, and the hidden units of the previous
//! step, as the net computes them.

use std::sync::Arc;

use ndarray::{Array, Array1, Array3, Array4, Axis, Dimension, Ix3, Ix4, s};

use super::product::times;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Graph, ValueId};
use crate::ops::{Gate, GateInputs, Layer, LayerKind, SEQUENCE_LENGTHS};
use crate::runtime::HostArray;

/// The probed values that form the rows of a gate.
pub(super) fn taps(layer: &Layer, gate: &Gate, graph: &Graph) -> Vec<ValueId> {
    let computed = |value: &ValueId| graph.initializer(*value).is_none();
    let others = [gate.initial, lengths(layer, graph)].into_iter().flatten().filter(computed);
    [layer.input, layer.output].into_iter().chain(others).collect()
}

/// The numbers of steps of a layer's sequences.
fn lengths(layer: &Layer, graph: &Graph) -> Option<ValueId> {
    graph.node(layer.node).input(SEQUENCE_LENGTHS)
}

/// Rows of a gate, [samples, steps, columns], from its node's probed values. Behind the end of a sequence, its rows
/// come again, so that nothing counts that the layer does not compute.
///
/// # Errors
/// [`ErrorKind::Calibration`] if the values do not have the layer's shapes.
pub(super) fn rows(
    layer: &Layer,
    gate: &Gate,
    graph: &Graph,
    taps: &[Arc<HostArray>],
) -> Result<Array3<f32>> {
    let x = shaped::<Ix3>(taps.first())?;
    let mut others = taps.iter().skip(2);
    let initial = match gate.initial {
        Some(value) => Some(match graph.initializer(value) {
            Some(constant) => constant.to_f32()?.into_dimensionality().map_err(|_| misfit())?,
            None => shaped::<Ix3>(others.next())?,
        }),
        None => None,
    };
    let lengths = match lengths(layer, graph) {
        Some(value) => Some(match graph.initializer(value) {
            Some(constant) => constant.to_i64().ok_or_else(misfit)?,
            None => integers(others.next())?,
        }),
        None => None,
    };
    let mut rows = whole_rows(layer, gate, graph, (x, taps.get(1), initial))?;
    if let Some(lengths) = lengths {
        repeat_steps(&mut rows, &lengths)?;
    }
    Ok(rows)
}

/// The rows of all steps, from the layer's input, its hidden units and those before the first step.
fn whole_rows(
    layer: &Layer,
    gate: &Gate,
    graph: &Graph,
    (x, hidden, initial): (Array3<f32>, Option<&Arc<HostArray>>, Option<Array3<f32>>),
) -> Result<Array3<f32>> {
    if gate.inputs == GateInputs::Input {
        return Ok(by_sample(x));
    }
    let hidden = before(shaped::<Ix4>(hidden)?, initial)?;
    if hidden.shape()[..2] != x.shape()[..2] {
        return Err(misfit());
    }
    let (x, hidden) = (by_sample(x), by_sample(hidden));
    match gate.inputs {
        GateInputs::Hidden => Ok(hidden),
        GateInputs::Reset => {
            let reset = reset(layer, gate, graph, &side_by_side(&x, &hidden)?)?;
            side_by_side(&x, &(hidden * reset))
        }
        GateInputs::All | GateInputs::Input => side_by_side(&x, &hidden),
    }
}

/// Puts the steps of each sequence in the place of those behind its end; zeros, if it has none.
fn repeat_steps(rows: &mut Array3<f32>, lengths: &[i64]) -> Result<()> {
    if lengths.len() != rows.len_of(Axis(0)) {
        return Err(misfit());
    }
    let steps = rows.len_of(Axis(1));
    for (mut sample, length) in rows.outer_iter_mut().zip(lengths) {
        let length = usize::try_from(*length).map_or(0, |length| length.min(steps));
        if length == 0 {
            sample.fill(0.0);
            continue;
        }
        for step in length..steps {
            let (own, mut behind) = sample.view_mut().split_at(Axis(0), step);
            behind.row_mut(0).assign(&own.row(step % length));
        }
    }
    Ok(())
}

/// W x + R h + b of a gate at its rows, [samples, steps, units], with the weights of `graph`.
///
/// # Errors
/// As [`Layer::read`].
pub(super) fn pre_activations(
    layer: &Layer,
    graph: &Graph,
    rows: &Array3<f32>,
) -> Result<Array3<f32>> {
    let all = Layer { rows: None, ..layer.clone() };
    let weights = all.read(graph)?.index_axis_move(Axis(2), 0);
    let bias = all.read_bias(graph)?.unwrap_or_else(|| Array1::zeros(weights.nrows()));
    let (samples, steps, columns) = rows.dim();
    let flat = rows.to_shape((samples * steps, columns)).map_err(|_| misfit())?;
    if columns != weights.ncols() {
        return Err(misfit());
    }
    let sums = times(flat.view(), weights.t()) + &bias;
    let dims = (samples, steps, weights.nrows());
    sums.into_shape_with_order(dims).map_err(|_| misfit())
}

/// The output of a GRU's reset gate, with the weights of `graph`.
fn reset(layer: &Layer, gate: &Gate, graph: &Graph, rows: &Array3<f32>) -> Result<Array3<f32>> {
    /// The second gate of a GRU.
    const RESET: usize = 1;
    let gate = Gate { index: RESET, inputs: GateInputs::All, ..gate.clone() };
    let layer = Layer { kind: LayerKind::Gate(gate), ..layer.clone() };
    Ok(pre_activations(&layer, graph, rows)?.mapv(|z| 1.0 / (1.0 + (-z).exp())))
}

/// The hidden units before each step, [steps, batch, units].
fn before(all: Array4<f32>, initial: Option<Array3<f32>>) -> Result<Array3<f32>> {
    let all = all.index_axis_move(Axis(1), 0);
    let mut hidden = Array3::zeros(all.dim());
    let steps = all.len_of(Axis(0));
    if steps == 0 {
        return Ok(hidden);
    }
    hidden.slice_mut(s![1.., .., ..]).assign(&all.slice(s![..steps - 1, .., ..]));
    if let Some(initial) = initial {
        let initial = initial.index_axis_move(Axis(0), 0);
        let mut first = hidden.index_axis_mut(Axis(0), 0);
        if initial.dim() != first.dim() {
            return Err(misfit());
        }
        first.assign(&initial);
    }
    Ok(hidden)
}

/// [steps, samples, …] as [samples, steps, …].
fn by_sample(values: Array3<f32>) -> Array3<f32> {
    let values = values.permuted_axes([1, 0, 2]);
    let mut ordered = Array3::zeros(values.dim());
    ordered.assign(&values);
    ordered
}

/// Both along the last axis, in row-major order. `concatenate` would make that axis the slowest one, and
/// every later copy would go element by element.
fn side_by_side(a: &Array3<f32>, b: &Array3<f32>) -> Result<Array3<f32>> {
    let ((samples, steps, first), (.., second)) = (a.dim(), b.dim());
    if a.shape()[..2] != b.shape()[..2] {
        return Err(misfit());
    }
    let mut both = Array3::zeros((samples, steps, first + second));
    both.slice_mut(s![.., .., ..first]).assign(a);
    both.slice_mut(s![.., .., first..]).assign(b);
    Ok(both)
}

fn integers(tapped: Option<&Arc<HostArray>>) -> Result<Vec<i64>> {
    let numbers = tapped.and_then(|tapped| HostArray::clone(tapped).integers());
    Ok(numbers.ok_or_else(misfit)?.into_iter().collect())
}

fn shaped<D: Dimension>(tapped: Option<&Arc<HostArray>>) -> Result<Array<f32, D>> {
    let tapped = tapped.ok_or_else(misfit)?;
    tapped.as_f32()?.into_dimensionality().map_err(|_| misfit())
}

fn misfit() -> Error {
    Error::new(ErrorKind::Calibration, "a recurrent layer's values do not fit its weights")
}

#[cfg(test)]
mod tests;
