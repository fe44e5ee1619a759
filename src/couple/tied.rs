//! Tables that are also the matrix of another layer: tied embeddings.

use crate::ir::{Graph, Tensor};
use crate::ops::LayerKind;

use super::{CoupledLayer, LayerId};

/// The reason to keep the weights of tied embeddings.
const TABLE: &str = "its matrix is a table and an output layer's weight";

/// Marks layers with a common matrix, which is both a table and an output layer's weight. Refits do not
/// change their weights, so that the matrix stays common.
pub(super) fn mark(graph: &Graph, layers: &mut [CoupledLayer]) {
    let weight = |layer: &CoupledLayer| graph.initializer(layer.layer.weight);
    let mut tied = Vec::new();
    for (at, layer) in layers.iter().enumerate().filter(|(_, l)| l.layer.is_table()) {
        let Some(table) = weight(layer) else { continue };
        for (other, matrix) in layers.iter().enumerate() {
            let is_same = |stored: &Tensor| match matrix.layer.kind {
                LayerKind::Gemm => stored == table,
                LayerKind::MatMul => is_transposed(stored, table),
                _ => false,
            };
            if weight(matrix).is_some_and(is_same) {
                tied.push((at, other));
            }
        }
    }
    for (table, matrix) in tied {
        let (first, later) = (table.min(matrix), table.max(matrix));
        layers[later].weights_of.get_or_insert(LayerId(first));
        [first, later].into_iter().for_each(|at| layers[at].tied = Some(TABLE));
    }
}

fn is_transposed(a: &Tensor, b: &Tensor) -> bool {
    let swapped =
        matches!((a.dims.as_slice(), b.dims.as_slice()), ([m, n], [p, q]) if m == q && n == p);
    swapped && a.transposed().as_ref() == Some(b)
}
