//! Brings fully connected layers to one form: `Gemm` with weight `[out, in]` and bias `[out]`.

use ndarray::{ArrayD, IxDyn, arr0};

use crate::error::Result;
use crate::ir::{
    Attribute, Codes, Consumers, DataType, Graph, Model, Node, NodeId, Tensor, ValueId, ValueKind,
};

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
            "Gemm" => {
                split_off_addend(graph, &readers, id).is_some()
                    || normalise(graph, &readers, id).unwrap_or(false)
            }
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
fn split_off_addend(graph: &mut Graph, readers: &Consumers, id: NodeId) -> Option<()> {
    let node = graph.node(id);
    let (addend, output, beta) = (node.input(2)?, node.output(0)?, node.float("beta", 1.0));
    let weight = weight(graph, id)?;
    let (columns, dtype) = (weight.dims[usize::from(node.int("transB", 0) == 0)], weight.dtype);
    if beta == 0.0 {
        graph.edit_node(id, without_addend);
        return Some(());
    }
    let constant = graph.initializer(addend);
    if let Some(row) = constant.and_then(only_row) {
        rewire::store(graph, readers, id, 2, "bias", row);
        return Some(());
    }
    if constant.is_some_and(|tensor| is_row(tensor, columns)) {
        return None;
    }
    let addend = match constant.cloned() {
        _ if beta == 1.0 => addend,
        Some(tensor) => scaled_constant(graph, id, &tensor, beta)?,
        None => scaled(graph, id, addend, (dtype, beta))?,
    };
    let name = graph.node(id).name.clone();
    let product = graph.add_value(&format!("{name}.product"), ValueKind::Detached, None);
    graph.edit_node(id, |node| {
        without_addend(node);
        node.outputs = vec![Some(product)];
    });
    graph.add_node(Node {
        name: format!("{name}.add"),
        op: "Add".to_owned(),
        inputs: vec![Some(product), Some(addend)],
        outputs: vec![Some(output)],
        ..Node::default()
    });
    Some(())
}

fn without_addend(node: &mut Node) {
    node.inputs.truncate(2);
    node.attributes.remove("beta");
}

/// The row of a constant with several equal rows.
fn only_row(tensor: &Tensor) -> Option<Tensor> {
    let rows = *tensor.dims.first().filter(|rows| tensor.dims.len() == 2 && **rows > 1)?;
    let first = tensor.rows(0..1)?;
    let is_first = |row| tensor.rows(row..row + 1).is_some_and(|own| own.data == first.data);
    (1..rows).all(is_first).then_some(first)
}

/// A new constant with the elements of an addend times `beta`; `None` if its precision cannot hold that.
fn scaled_constant(graph: &mut Graph, id: NodeId, tensor: &Tensor, beta: f32) -> Option<ValueId> {
    let values = tensor.to_f64().ok()?.mapv(|v| v * f64::from(beta));
    let scaled = Tensor::from_f64(tensor.dtype, &values).ok().filter(check::is_finite)?;
    Some(graph.add_initializer(&format!("{}.addend", graph.node(id).name), scaled))
}

/// A computed addend times `beta`; `None` if its precision may not hold that although it holds the sum.
fn scaled(
    graph: &mut Graph,
    id: NodeId,
    addend: ValueId,
    (dtype, beta): (DataType, f32),
) -> Option<ValueId> {
    let is_wide = matches!(dtype, DataType::F32 | DataType::F64);
    let factor = Tensor::from_f64(dtype, &arr0(f64::from(beta)).into_dyn()).ok()?;
    let name = graph.node(id).name.clone();
    (is_wide || beta.abs() <= 1.0).then(|| {
        let factor = graph.add_initializer(&format!("{name}.beta"), factor);
        graph.add_op("Mul", &format!("{name}.addend"), &[addend, factor], [])
    })
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
    let codes = graph.node(id).input(1).and_then(|value| graph.codes(value)).cloned();
    rewire::store(graph, readers, id, 1, "weight", new_weight);
    let stored = graph.node(id).input(1)?;
    // A factor other than one takes weights off their grid, which is found when the file is written.
    if let Some(codes) = if trans_b { codes } else { codes.as_ref().and_then(Codes::turned) } {
        graph.set_codes(stored, codes);
    }
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

    /// The operators of a layer with a factor and a constant addend of this shape, and the number of its biases.
    fn parts(beta: f32, addend: Tensor) -> (Vec<String>, usize) {
        let mut b = GraphBuilder::new("net", 17);
        let (x, w) = (b.input("x", "3,2"), b.weights("w", &[4, 2]));
        let c = b.constant("c", addend);
        let attributes = [("beta", beta.into()), ("transB", 1.into())];
        let y = b.op("Gemm", "y", &[x, w, c], attributes);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let graph = &model.graph;
        let (_, gemm) = graph.nodes().find(|(_, node)| node.is("Gemm")).unwrap();
        assert_eq!((gemm.float("beta", 1.0), gemm.int("transB", 0)), (1.0, 1));
        let nonzero = graph.initializer(gemm.input(2).unwrap()).unwrap().to_f32().unwrap();
        let nonzero = nonzero.iter().filter(|v| **v != 0.0).count();
        (graph.nodes().map(|(_, node)| node.op.clone()).collect(), nonzero)
    }

    #[test]
    fn addends_of_every_shape_leave_a_layer() {
        let constant = |dims: [usize; 2], step: f32| {
            let values = (0..dims[0] * dims[1]).map(|i| 1.0 + (i / dims[1]) as f32 * step);
            Tensor::from_f32(&ArrayD::from_shape_vec(dims.to_vec(), values.collect()).unwrap())
        };
        let scalar = Tensor::from_f32(&ndarray::arr0(2.0f32).into_dyn());
        for beta in [1.0, 0.5] {
            assert_eq!(parts(beta, scalar.clone()).1, 4);
            for dims in [[3, 1], [3, 4]] {
                assert_eq!(
                    parts(beta, constant(dims, 1.0)),
                    (vec!["Gemm".into(), "Add".into()], 0)
                );
                assert_eq!(parts(beta, constant(dims, 0.0)), (vec!["Gemm".into()], 4));
            }
        }
        assert_eq!(parts(0.0, constant([3, 4], 1.0)), (vec!["Gemm".into()], 0));
    }

    #[test]
    fn computed_addends_are_scaled_behind_the_product() {
        let ops = |dtype: DataType, beta: f32| {
            let mut b = GraphBuilder::new("net", 17);
            let x = b.typed_input("x", dtype, "n,2");
            let w = Tensor::from_f64(dtype, &arr2(&[[0.5, 1.0], [2.0, 0.25]]).into_dyn());
            let w = b.constant("w", w.unwrap());
            let c = b.op("Relu", "c", &[x], []);
            let attributes = [("beta", beta.into()), ("transB", 1.into())];
            let y = b.op("Gemm", "y", &[x, w, c], attributes);
            let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
            model.graph.nodes().map(|(_, node)| node.op.clone()).collect::<Vec<String>>()
        };
        assert_eq!(ops(DataType::F32, 4.0), ["Relu", "Gemm", "Mul", "Add"]);
        assert_eq!(ops(DataType::F16, 0.5), ["Relu", "Gemm", "Mul", "Add"]);
        assert_eq!(ops(DataType::F32, 1.0), ["Relu", "Gemm", "Add"]);
        // Twice a large number may be infinite although the sum is not.
        assert_eq!(ops(DataType::F16, 2.0), ["Relu", "Gemm"]);
    }

    #[test]
    fn factors_that_overflow_half_precision_stay() {
        assert_eq!(factors(0.5, 2.0), (1.0, 1.0));
        assert_eq!(factors(600.0, 1.0), (600.0, 1.0));
        assert_eq!(factors(1.0, 600.0), (1.0, 600.0));
    }
}
