//! Turns matrices that a layer makes for each sample if a product sums over their rows.
//!
//! The feature transform of PointNet is such a matrix. Its rows are the features that meet it, in one order for all columns,
//! and its columns are those that it makes. So each column is written as a block of consecutive rows of the layer, as the
//! channels of a head are.

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Graph, Model, NodeId, ValueId};

use super::flattened::is_layer;
use super::types::shape;
use super::{CanonOptions, rewire};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= turned(graph, &readers, id).is_some();
    }
    Ok(modified)
}

/// A matrix of a product's right operand, cut from the features of a layer.
struct Matrix {
    value: ValueId,
    layer: NodeId,
    reshape: NodeId,
    rows: usize,
    columns: usize,
}

impl Matrix {
    fn of(graph: &Graph, readers: &Consumers, product: NodeId) -> Option<Matrix> {
        let node = graph.node(product);
        let value = node.input(1).filter(|_| node.is("MatMul"))?;
        let maker = |value: ValueId| graph.producer(value);
        let are_weights = graph.node(maker(node.input(0)?)?).is("Softmax");
        let reshape = maker(value).filter(|_| !are_weights)?;
        let view = graph.node(reshape);
        let features = view.input(0).filter(|_| view.is("Reshape"))?;
        let layer = maker(features)?;
        let extents = shape(graph, value)?;
        let [.., rows, columns] = extents.as_slice() else { return None };
        let (rows, columns) = (rows.known()?, columns.known()?);
        let is_cut = shape(graph, features)?.last()?.known() == rows.checked_mul(columns);
        let is_own = rewire::only_reader(graph, readers, features) == Some(reshape);
        let fits = rows > 1 && columns > 1 && is_cut && is_own && is_plain(graph, layer);
        fits.then_some(Matrix { value, layer, reshape, rows, columns })
    }
}

/// Whether a node is a layer in canonical form, with weights and a bias of floats.
fn is_plain(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let is_plain = |slot: usize| {
        let value = node.input(slot).filter(|value| graph.codes(*value).is_none());
        value.and_then(|value| graph.initializer(value)).is_some_and(|t| t.dtype.is_float())
    };
    is_layer(graph, node) && [1, 2].into_iter().all(is_plain)
}

fn turned(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<()> {
    let Matrix { value, layer, reshape, rows, columns } = Matrix::of(graph, readers, id)?;
    let order: Vec<usize> =
        (0..columns).flat_map(|column| (0..rows).map(move |row| row * columns + column)).collect();
    let rank = shape(graph, value)?.len();
    let target = graph.initializer(graph.node(reshape).input(1)?)?.to_i64()?;
    let front = target.get(..rank - 2).filter(|_| target.len() == rank)?.to_vec();
    for slot in [1, 2] {
        let operand = graph.node(layer).input(slot)?;
        let moved = graph.initializer(operand)?.select(0, &order)?;
        rewire::store(graph, readers, layer, slot, "weight", moved);
    }
    let name = graph.node(reshape).name.clone();
    let features = graph.node(reshape).input(0)?;
    let sizes = [front, vec![columns as i64, rows as i64]].concat();
    let sizes = rewire::ints(graph, &format!("{name}.sizes"), &sizes);
    let columns =
        rewire::added(graph, "Reshape", &format!("{name}.columns"), &[features, sizes], []);
    let mut perm: Vec<i64> = (0..rank as i64).collect();
    perm.swap(rank - 2, rank - 1);
    let perm = [("perm", Attribute::Ints(perm))];
    let back = rewire::added(graph, "Transpose", &format!("{name}.rows"), &[columns], perm);
    rewire::bypass(graph, value, back).then_some(())
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;

    /// The operators of a net that multiplies with a matrix of 2 rows and 3 columns that a layer makes, on either side.
    fn ops(is_right: bool) -> Vec<String> {
        let mut b = GraphBuilder::new("net", 17);
        let (x, z) = (b.input("x", "n,4,2"), b.input("z", "n,5"));
        let (w, bias) = (b.weights("w", &[6, 5]), b.weights("b", &[6]));
        let sizes = b.ints("sizes", if is_right { &[-1, 2, 3] } else { &[-1, 3, 2] });
        let m = b.op("Gemm", "made", &[z, w, bias], [("transB", 1.into())]);
        let m = b.op("Reshape", "matrix", &[m, sizes], []);
        let x = b.op("Relu", "bent", &[x], []);
        let y = match is_right {
            true => b.op("MatMul", "y", &[x, m], []),
            false => {
                let x = b.op("Transpose", "turned", &[x], [("perm", [0, 2, 1].into())]);
                b.op("MatMul", "y", &[m, x], [])
            }
        };
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let order = model.graph.topological_order().unwrap();
        order.into_iter().map(|id| model.graph.node(id).op.clone()).collect()
    }

    #[test]
    fn columns_of_a_matrix_become_blocks_of_rows() {
        let made = |ops: &[String]| ops.iter().filter(|op| *op == "Transpose").count();
        assert_eq!(made(&ops(true)), 1);
        assert_eq!(made(&ops(false)), 1);
        assert!(ops(true).iter().any(|op| op == "Gemm"));
    }
}
