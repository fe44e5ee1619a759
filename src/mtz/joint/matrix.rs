//! A layer's weight as one matrix: [out × (inputs·taps + 1)], the bias last, zero where there is none.

use ndarray::{Array2, Array3};

use crate::couple::CoupledLayer;
use crate::error::Result;
use crate::ir::Graph;

/// The matrix of a layer.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the weight is not one of numbers in the layer's shape.
pub(crate) fn read(layer: &CoupledLayer, graph: &Graph) -> Result<Array2<f64>> {
    let w = layer.layer.read(graph)?;
    let (out, inputs, taps) = w.dim();
    let mut matrix = Array2::zeros((out, inputs * taps + 1));
    for (mut row, source) in matrix.outer_iter_mut().zip(w.outer_iter()) {
        row.iter_mut().zip(source).for_each(|(to, from)| *to = f64::from(*from));
    }
    if let Some(bias) = layer.layer.read_bias(graph)? {
        matrix.column_mut(inputs * taps).assign(&bias.mapv(f64::from));
    }
    Ok(matrix)
}

/// Gives a layer the weights of a matrix.
///
/// # Errors
/// As [`read`].
pub(crate) fn write(layer: &CoupledLayer, graph: &mut Graph, matrix: &Array2<f64>) -> Result<()> {
    let (out, inputs, taps) = layer.layer.sizes(graph)?;
    let w =
        Array3::from_shape_fn((out, inputs, taps), |(o, i, t)| matrix[[o, i * taps + t]] as f32);
    let bias = matrix.column(inputs * taps).mapv(|v| v as f32);
    layer.layer.write(graph, &w, Some(&bias))
}
