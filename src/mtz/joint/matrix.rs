//! A layer's weight as one matrix [out × (inputs·taps + 1)]; the last column is the bias, or zeros
//! without one.

use ndarray::{Array2, Array3, ArrayView2, ArrayViewMut2, Axis, s};

use crate::couple::CoupledLayer;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Codes, Graph, Tensor};

use super::grid::{self, Grid, Rounding};

/// Rows per conversion. A large weight is never copied as a whole.
const BLOCK: usize = 256;

/// The matrix of a layer.
///
/// # Errors
/// [`ErrorKind::Format`] if the weight is not one of numbers in the layer's shape.
pub(crate) fn read(layer: &CoupledLayer, graph: &Graph) -> Result<Array2<f32>> {
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    let width = inputs * taps;
    let mut matrix = Array2::zeros((out, width + 1));
    match layer.layer.plain(graph) {
        Some(tensor) => {
            let blocks = matrix.axis_chunks_iter_mut(Axis(0), BLOCK).enumerate();
            for (i, mut rows) in blocks {
                let part =
                    tensor.rows(i * BLOCK..i * BLOCK + rows.nrows()).ok_or_else(misshapen)?;
                fill(rows.slice_mut(s![.., ..width]), part.to_f32()?.iter());
            }
        }
        None => fill(matrix.slice_mut(s![.., ..width]), layer.layer.read(graph)?.iter()),
    }
    if let Some(bias) = layer.layer.read_bias(graph)? {
        matrix.column_mut(width).assign(&bias);
    }
    Ok(matrix)
}

/// The codes with which a layer's weights are stored, if they are stored in few bits.
fn codes<'g>(layer: &CoupledLayer, graph: &'g Graph) -> Option<&'g Codes> {
    let weight = layer.layer.weight;
    let fit = |codes: &Codes| graph.initializer(weight).and_then(|w| codes.encode(w)).is_some();
    graph.codes(weight).filter(|codes| layer.layer.rows.is_none() && fit(codes))
}

/// The grid that a layer's weights are rounded to, if they are stored in few bits.
pub(crate) fn grid(layer: &CoupledLayer, graph: &Graph) -> Option<Grid> {
    Grid::of(codes(layer, graph)?, usize::from(layer.layer.in_first()))
}

/// Writes a matrix into a layer's weights, rounded if they are stored in few bits. Returns whether any weight has
/// changed.
///
/// # Errors
/// As [`read`].
pub(crate) fn write(
    layer: &CoupledLayer,
    graph: &mut Graph,
    matrix: ArrayView2<f32>,
) -> Result<bool> {
    write_rounded(layer, graph, matrix, &Rounding::Own)
}

/// [`write`] with the columns of blocks as `rounding` has them.
///
/// # Errors
/// As [`read`].
pub(crate) fn write_rounded(
    layer: &CoupledLayer,
    graph: &mut Graph,
    matrix: ArrayView2<f32>,
    rounding: &Rounding,
) -> Result<bool> {
    let weight = layer.layer.weight;
    let codes = codes(layer, graph).filter(|_| *rounding != Rounding::Nothing).cloned();
    let Some(codes) = codes else { return write_as_is(layer, graph, matrix) };
    let changed = write_as_is(layer, graph, matrix)?;
    let stored = graph.initializer(weight).and_then(|weight| codes.encode(weight));
    let axis = usize::from(layer.layer.in_first());
    let grid = match rounding {
        Rounding::Places(places) => Codes { places: Some(places.clone()), ..codes },
        Rounding::Nothing | Rounding::Own => codes,
    };
    match grid::rounded(matrix, &grid, axis).filter(|_| stored.is_none()) {
        Some((rounded, codes)) => {
            graph.set_codes(weight, codes);
            write_as_is(layer, graph, rounded.view()).map(|_| changed)
        }
        None => Ok(changed),
    }
}

/// Writes a matrix into a layer's weights. Returns whether any weight has changed.
///
/// # Errors
/// As [`read`].
pub(crate) fn write_as_is(
    layer: &CoupledLayer,
    graph: &mut Graph,
    matrix: ArrayView2<f32>,
) -> Result<bool> {
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    let (width, before) = (inputs * taps, layer.layer.stored(graph));
    let bias = matrix.column(width).to_owned();
    match layer.layer.plain(graph) {
        Some(old) => {
            let mut data = Vec::with_capacity(old.data.len());
            for rows in matrix.slice(s![.., ..width]).axis_chunks_iter(Axis(0), BLOCK) {
                let wide = rows.mapv(f64::from).into_dyn();
                data.extend_from_slice(&Tensor::from_f64(old.dtype, &wide)?.data);
            }
            let new = Tensor { dtype: old.dtype, dims: old.dims.clone(), data: data.into() };
            layer.layer.write_plain(graph, new, &bias)?;
        }
        None => {
            let w =
                Array3::from_shape_fn((out, inputs, taps), |(o, i, t)| matrix[[o, i * taps + t]]);
            layer.layer.write(graph, &w, Some(&bias))?;
        }
    }
    Ok(layer.layer.stored(graph) != before)
}

fn fill<'v>(mut matrix: ArrayViewMut2<f32>, values: impl Iterator<Item = &'v f32>) {
    matrix.iter_mut().zip(values).for_each(|(to, from)| *to = *from);
}

fn misshapen() -> Error {
    Error::new(ErrorKind::Format, "a layer's weight does not fill its shape")
        .hint("export the model again")
}
