//! Stores large constants of one number as the number and a shape.
//!
//! Canonical form computes what models compute from shapes alone, such as the zeros that others are scattered into.
//! Such a value can be larger than all weights. Runtimes compute it when they load the model.

use crate::ir::{Attribute, DataType, Graph, Node, Tensor, ValueId};

/// Elements from which a shape and a node take less than the constant.
const FEWEST: usize = 1024;

/// Operators to which a computed operand is as good as a constant.
const READERS: &[&str] = &[
    "Add",
    "And",
    "Concat",
    "Div",
    "Equal",
    "Expand",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Min",
    "Mul",
    "Or",
    "Pow",
    "ScatterElements",
    "ScatterND",
    "Sub",
    "Where",
];

/// Replaces the constants by nodes.
pub(super) fn fill(graph: &mut Graph) {
    let readers = graph.consumers();
    let is_plain = |id: ValueId| {
        let all = &readers[id.index()];
        let fits = |node: &Node| node.domain.is_empty() && READERS.contains(&node.op.as_str());
        let is_read = !all.is_empty() && !graph.outputs.contains(&id);
        is_read && graph.codes(id).is_none() && all.iter().all(|reader| fits(graph.node(*reader)))
    };
    let number = |id: ValueId| graph.initializer(id).and_then(only_number);
    let found: Vec<(ValueId, Tensor)> = graph
        .values()
        .filter(|(id, _)| is_plain(*id))
        .filter_map(|(id, _)| Some((id, number(id)?)))
        .collect();
    for (id, number) in found {
        let Some(tensor) = graph.initializer(id) else { continue };
        let (ty, name) = (tensor.ty(), graph.value(id).name.clone());
        let extents: Vec<i64> = tensor.dims.iter().map(|extent| *extent as i64).collect();
        let shape = Tensor::from_i64(vec![extents.len()], &extents);
        let shape = graph.add_initializer(&format!("{name}.shape"), shape);
        let value = [("value", Attribute::Tensor(number))];
        let node = Node::standard("ConstantOfShape", &format!("{name}.filled"), &[shape], value);
        graph.add_node(Node { outputs: vec![Some(id)], ..node });
        graph.set_type(id, Some(ty));
    }
}

/// The number that all elements of a large tensor are.
fn only_number(tensor: &Tensor) -> Option<Tensor> {
    use DataType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    let can_fill = matches!(
        tensor.dtype,
        Bool | F16 | F32 | F64 | I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64
    );
    let size = tensor.dtype.size().filter(|size| *size > 0 && can_fill)?;
    let mut elements = tensor.data.chunks_exact(size);
    let first = elements.next().filter(|_| tensor.len() >= FEWEST)?;
    let is_same = elements.all(|element| element == first);
    is_same.then(|| Tensor { dtype: tensor.dtype, dims: vec![1], data: first.to_vec().into() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::canon::compute_filled;
    use crate::ir::builder::GraphBuilder;
    use ndarray::{ArrayD, IxDyn};

    #[test]
    fn constants_of_one_number_are_stored_as_a_shape_unless_layers_read_them() {
        let mut b = GraphBuilder::new("net", 13);
        let x = b.input("x", "n,2048");
        let same = |dims: &[usize]| Tensor::from_f32(&ArrayD::from_elem(IxDyn(dims), 0.5));
        let (halves, weight) =
            (b.constant("halves", same(&[2048])), b.constant("w", same(&[3, 2048])));
        let few = b.constant("few", same(&[16]));
        let y = b.op("Add", "sum", &[x, halves], []);
        let y = b.op("Gemm", "layer", &[y, weight], [("transB", 1.into())]);
        let z = b.op("Mul", "scaled", &[few, few], []);
        let mut graph = b.build(&[y, z]).graph;
        fill(&mut graph);
        assert!(graph.initializer(halves).is_none() && graph.producer(halves).is_some());
        assert!(graph.initializer(weight).is_some() && graph.initializer(few).is_some());
        compute_filled(&mut graph, 2).unwrap();
        assert_eq!(graph.initializer(halves), Some(&same(&[2048])));
    }
}
