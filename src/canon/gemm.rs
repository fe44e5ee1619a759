//! Brings fully connected layers to one form: `Gemm` with weight `[out, in]` and bias `[out]`.

use ndarray::{ArrayD, IxDyn};

use crate::error::Result;
use crate::ir::{Attribute, Consumers, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind};

use super::{CanonOptions, check, rewire, types};

/// Runs the pass.
///
/// # Errors
/// [`crate::error::ErrorKind::Format`] if the graph has a cycle.
pub(super) fn run(model: &mut Model, _: &CanonOptions) -> Result<bool> {
    let graph = &mut model.graph;
    let readers = graph.consumers();
    let mut modified = false;
    for id in graph.topological_order()? {
        modified |= match graph.node(id).op.as_str() {
            _ if !graph.node(id).domain.is_empty() => false,
            "MatMul" => from_matmul(graph, id),
            "Gemm" => split_off_bias(graph, id) || normalise(graph, &readers, id).unwrap_or(false),
            _ => false,
        };
    }
    Ok(modified)
}

/// The weight of a layer: a constant matrix of floats.
fn weight(graph: &Graph, id: NodeId) -> Option<&Tensor> {
    let value = graph.node(id).input(1)?;
    graph.initializer(value).filter(|t| t.dims.len() == 2 && t.dtype.is_float())
}

/// Turns a product of a matrix with a constant matrix into a `Gemm` without bias. With more than two
/// axes it stays a `MatMul`, which works on the last axis.
fn from_matmul(graph: &mut Graph, id: NodeId) -> bool {
    let data = graph.node(id).input(0);
    let is_matrix = data.and_then(|x| types::shape(graph, x)).is_some_and(|s| s.len() == 2);
    let fits = is_matrix && weight(graph, id).is_some();
    if fits {
        graph.edit_node(id, |node| node.op = "Gemm".to_owned());
    }
    fits
}

/// Moves an addend that is not one number per column into an `Add` after the product.
fn split_off_bias(graph: &mut Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let (Some(addend), Some(output)) = (node.input(2), node.output(0)) else { return false };
    let Some(weight) = weight(graph, id) else { return false };
    let columns = weight.dims[usize::from(node.int("transB", 0) == 0)];
    let constant = graph.initializer(addend);
    if constant.is_some_and(|t| is_row(t, columns)) || node.float("beta", 1.0) != 1.0 {
        return false;
    }
    let product = graph.add_value(&format!("{}.product", node.name), ValueKind::Detached, None);
    graph.edit_node(id, |node| {
        node.inputs.truncate(2);
        node.outputs = vec![Some(product)];
    });
    let name = format!("{}.add", graph.node(id).name);
    graph.add_node(Node {
        name,
        op: "Add".to_owned(),
        inputs: vec![Some(product), Some(addend)],
        outputs: vec![Some(output)],
        ..Node::default()
    });
    true
}

/// Whether the tensor broadcasts to equal rows of `columns` elements.
fn is_row(tensor: &Tensor, columns: usize) -> bool {
    match tensor.dims.as_slice() {
        [] | [1] | [1, 1] => true,
        [n] | [1, n] => *n == columns,
        _ => false,
    }
}

/// Folds the transpositions and factors of a `Gemm` into its constants.
fn normalise(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<bool> {
    let node = graph.node(id);
    let (alpha, beta) = (node.float("alpha", 1.0), node.float("beta", 1.0));
    let (trans_a, trans_b) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
    let weight = weight(graph, id)?;
    let columns = weight.dims[usize::from(!trans_b)];
    let bias = match node.input(2) {
        Some(bias) => Some(graph.initializer(bias).filter(|t| is_row(t, columns))?),
        None => None,
    };
    let bias_done = beta == 1.0 && bias.is_none_or(|t| t.dims == [columns]);
    if trans_b && !trans_a && alpha == 1.0 && bias_done {
        return Some(false);
    }
    let new_weight = folded(weight, !trans_b, alpha)?;
    let new_bias = match bias {
        Some(tensor) => Some(row(tensor, columns, beta)?),
        None => None,
    };
    rewire::store(graph, readers, id, 1, "weight", new_weight);
    if let Some(bias) = new_bias {
        rewire::store(graph, readers, id, 2, "bias", bias);
    }
    if trans_a {
        let data = transposed(graph, id)?;
        graph.edit_node(id, |node| node.inputs[0] = Some(data));
    }
    let attributes = [("transB".to_owned(), Attribute::Int(1))];
    graph.edit_node(id, |node| node.attributes = attributes.into());
    Some(true)
}

/// The matrix, transposed if requested, times a factor; `None` if its precision cannot hold that.
fn folded(weight: &Tensor, transpose: bool, factor: f32) -> Option<Tensor> {
    let mut matrix = weight.to_f64().ok()?;
    if transpose {
        matrix.swap_axes(0, 1);
    }
    if factor != 1.0 {
        matrix.mapv_inplace(|v| v * f64::from(factor));
    }
    Tensor::from_f64(weight.dtype, &matrix).ok().filter(check::is_finite)
}

/// The bias as a vector with one element per column, times a factor; `None` if its precision cannot hold
/// that.
fn row(bias: &Tensor, columns: usize, factor: f32) -> Option<Tensor> {
    let flat: Vec<f64> = bias.to_f64().ok()?.iter().map(|v| v * f64::from(factor)).collect();
    let flat = ArrayD::from_shape_vec(IxDyn(&[flat.len()]), flat).ok()?;
    let wide = flat.broadcast(IxDyn(&[columns]))?.to_owned();
    Tensor::from_f64(bias.dtype, &wide).ok().filter(check::is_finite)
}

fn transposed(graph: &mut Graph, id: NodeId) -> Option<ValueId> {
    let data = graph.node(id).input(0)?;
    let name = format!("{}.transposed", graph.node(id).name);
    Some(graph.add_op("Transpose", &name, &[data], [("perm", Attribute::Ints(vec![1, 0]))]))
}

#[cfg(test)]
mod tests {
    use ndarray::{ArrayD, arr1, arr2};

    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{DataType, Tensor};

    /// The factors of a layer in half precision after canonicalisation.
    fn factors(alpha: f32, beta: f32) -> (f32, f32) {
        let constant = |array: ArrayD<f64>| Tensor::from_f64(DataType::F16, &array).unwrap();
        let mut b = GraphBuilder::new("net", 17);
        let x = b.typed_input("x", DataType::F16, "n,2");
        let w = b.constant("w", constant(arr2(&[[200.0, 0.0], [0.0, 1.0]]).into_dyn()));
        let bias = b.constant("bias", constant(arr1(&[200.0, 1.0]).into_dyn()));
        let attributes = [("alpha", alpha.into()), ("beta", beta.into()), ("transB", 1.into())];
        let y = b.op("Gemm", "y", &[x, w, bias], attributes);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let (_, node) = model.graph.nodes().find(|(_, node)| node.is("Gemm")).unwrap();
        (node.float("alpha", 1.0), node.float("beta", 1.0))
    }

    #[test]
    fn factors_that_overflow_half_precision_stay() {
        assert_eq!(factors(0.5, 2.0), (1.0, 1.0));
        assert_eq!(factors(600.0, 1.0), (600.0, 1.0));
        assert_eq!(factors(1.0, 600.0), (1.0, 600.0));
    }
}
