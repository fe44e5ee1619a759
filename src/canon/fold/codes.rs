//! Says how a constant is stored whose elements were moved.
//!
//! Scales follow the elements, so that the file gets the same integers in their new order.

use ndarray::{ArrayD, IxDyn};

use crate::ir::{Codes, Graph, NodeId, Tensor};

use super::movement::{Movement, movement, product};

/// The codes of the result of a node that moves elements of constants; `None` where no scales along one axis give
/// them back.
pub(super) fn moved(graph: &Graph, id: NodeId) -> Option<Codes> {
    let direct = |codes: Codes| Codes { direct: codes.direct && is_turn(graph, id), ..codes };
    in_new_places(graph, id).map(direct)
}

/// Whether a node swaps the axes of a matrix with one scale per index, which ONNX Runtime does with the integers.
fn is_turn(graph: &Graph, id: NodeId) -> bool {
    let node = graph.node(id);
    let codes = node.input(0).and_then(|value| graph.codes(value));
    node.is("Transpose") && codes.is_some_and(|codes| !codes.is_blocked())
}

fn in_new_places(graph: &Graph, id: NodeId) -> Option<Codes> {
    let node = graph.node(id);
    let first = graph.codes(node.input(0)?)?;
    let values = node.inputs.iter().flatten();
    let inputs: Option<Vec<&Tensor>> = values.clone().map(|v| graph.initializer(*v)).collect();
    let inputs = inputs?;
    let from = &inputs.first()?.dims;
    let plain = !first.is_blocked();
    match movement(graph, id, &inputs, usize::MAX)? {
        Movement::Concat(axis) => {
            let extents = inputs.iter().map(|tensor| tensor.dims.get(axis).copied());
            let parts = values.zip(extents).map(|(v, extent)| Some((graph.codes(*v)?, extent?)));
            Codes::joined(&parts.collect::<Option<Vec<_>>>()?, axis)
        }
        _ if first.is_uniform() => Some(first.clone()),
        Movement::Reshape(to) => reshaped(first, from, &to),
        Movement::Transpose(order) => transposed(first, &order),
        Movement::Gather(axis, indices, shape) if plain => gathered(first, axis, &indices, &shape),
        Movement::Gather(axis, indices, shape) if shape.len() == 1 => first.select(axis, &indices),
        Movement::Pick(axes) => {
            axes.iter().try_fold(first.clone(), |codes, (axis, places)| codes.select(*axis, places))
        }
        Movement::Expand(to) if plain => {
            let axis = (first.axis + to.len()).checked_sub(from.len())?;
            Some(Codes { axis, ..first.clone() })
        }
        _ => None,
    }
}

/// The codes of a constant of the extents `from` whose axes are put into an `order`, and then have the extents `to`.
pub(in crate::canon) fn rearranged(
    codes: &Codes,
    from: &[usize],
    order: &[usize],
    to: &[usize],
) -> Option<Codes> {
    let between: Option<Vec<usize>> = order.iter().map(|axis| from.get(*axis).copied()).collect();
    let rearranged = match codes.is_uniform() {
        true => codes.clone(),
        false => reshaped(&transposed(codes, order)?, &between?, to)?,
    };
    Some(Codes { direct: false, ..rearranged })
}

/// The codes of a constant whose axes change places.
fn transposed(codes: &Codes, order: &[usize]) -> Option<Codes> {
    let axis = order.iter().position(|axis| *axis == codes.axis)?;
    if !codes.is_blocked() {
        return Some(Codes { axis, ..codes.clone() });
    }
    if codes.scale.dims.len() != order.len() {
        return None;
    }
    let scale = codes.scale.to_f64().ok()?.permuted_axes(order);
    let zero = match &codes.zero {
        Some(zero) => {
            let numbers = ArrayD::from_shape_vec(IxDyn(&zero.dims), zero.to_i64()?).ok()?;
            Some(Tensor::from_ints(zero.dtype, &numbers.permuted_axes(order))?)
        }
        None => None,
    };
    let scale = Tensor::from_f64(codes.scale.dtype, &scale).ok()?;
    Some(Codes { axis, scale, zero, ..codes.clone() })
}

/// The codes of a constant whose elements keep their order. The axis of the scales must stay as it is.
fn reshaped(codes: &Codes, from: &[usize], to: &[usize]) -> Option<Codes> {
    let (before, extent) = (product(from.get(..codes.axis)?)?, *from.get(codes.axis)?);
    let is_same = |axis: &usize| to.get(..*axis).and_then(product) == Some(before);
    let axis = (0..to.len()).find(|axis| to.get(*axis) == Some(&extent) && is_same(axis))?;
    if !codes.is_blocked() {
        return Some(Codes { axis, ..codes.clone() });
    }
    let mut dims = to.to_vec();
    *dims.get_mut(axis)? = *codes.scale.dims.get(codes.axis)?;
    let like = |tensor: &Tensor| Tensor { dims: dims.clone(), ..tensor.clone() };
    let (scale, zero) = (like(&codes.scale), codes.zero.as_ref().map(like));
    (dims.len() > 1).then_some(Codes { axis, scale, zero, ..codes.clone() })
}

/// The codes of entries along an axis, which indices of this `shape` name.
fn gathered(codes: &Codes, axis: usize, indices: &[usize], shape: &[usize]) -> Option<Codes> {
    let picked = codes.select(axis, indices)?;
    let fits = axis != codes.axis || shape.len() == 1 || picked.is_uniform();
    let behind = codes.axis.checked_sub(axis).is_some_and(|distance| distance > 0);
    let axis = if behind { (codes.axis + shape.len()).checked_sub(1)? } else { codes.axis };
    fits.then_some(Codes { axis, ..picked })
}

#[cfg(test)]
mod tests {
    use crate::canon::{CanonOptions, canonicalise};
    use crate::ir::builder::GraphBuilder;
    use crate::ir::{Attribute, DataType, Tensor};
    use ndarray::{Array1, ArrayD};

    /// Whether the file of a net stores integers, if a node moves the elements of a constant with one scale per index
    /// of `axis`.
    fn stores_integers<const N: usize>(
        axis: i64,
        op: &str,
        operands: &[Tensor],
        attributes: [(&'static str, Attribute); N],
    ) -> bool {
        let mut b = GraphBuilder::new("net", 17);
        let numbers = ArrayD::from_shape_fn(vec![4, 6], |at| (at[0] * 6 + at[1]) as i64 - 11);
        let w = b.constant("w", Tensor::from_ints(DataType::I8, &numbers).unwrap());
        let scales = Array1::from_shape_fn([4, 6][axis as usize], |at| 0.1 + at as f32 / 7.0);
        let scale = b.constant("scale", Tensor::from_f32(&scales.into_dyn()));
        let floats = b.op("DequantizeLinear", "floats", &[w, scale], [("axis", axis.into())]);
        let mut inputs = vec![floats];
        inputs.extend(operands.iter().map(|tensor| b.constant("operand", tensor.clone())));
        let moved = b.op(op, "moved", &inputs, attributes);
        let x = b.input("x", "1");
        let y = b.op("Add", "y", &[x, moved], []);
        let model = canonicalise(b.build(&[y]), &CanonOptions::default()).unwrap();
        let ops: Vec<&str> = model.graph.nodes().map(|(_, node)| node.op.as_str()).collect();
        assert_eq!(ops, ["Add"], "{op} of {operands:?} is folded");
        let bytes = crate::onnx::encode(&model).unwrap();
        let read = crate::onnx::decode(bytes.into(), None, "read").unwrap().graph;
        let mut stored = read.values().filter_map(|(id, _)| read.initializer(id));
        stored.any(|tensor| tensor.dtype == DataType::I8)
    }

    fn list(values: &[i64]) -> Tensor {
        Tensor::from_i64(vec![values.len()], values)
    }

    #[test]
    fn integers_stay_where_they_move() {
        for axis in [0, 1] {
            assert!(stores_integers(axis, "Transpose", &[], [("perm", [1, 0].into())]));
            let bounds = [list(&[1]), list(&[3]), list(&[axis])];
            assert!(stores_integers(axis, "Slice", &bounds, []));
            assert!(stores_integers(
                axis,
                "Slice",
                &[list(&[1]), list(&[3]), list(&[1 - axis])],
                []
            ));
            assert!(stores_integers(axis, "Unsqueeze", &[list(&[0])], []));
            let index = Tensor::from_i64(vec![], &[2]);
            for along in [0i64, 1] {
                let along = || [("axis", along.into())];
                assert!(stores_integers(axis, "Gather", &[list(&[2, 0])], along()));
                assert!(stores_integers(axis, "Gather", std::slice::from_ref(&index), along()));
            }
        }
        assert!(stores_integers(0, "Reshape", &[list(&[4, 2, 3])], []));
        assert!(stores_integers(1, "Reshape", &[list(&[2, 2, 6])], []));
        assert!(!stores_integers(1, "Reshape", &[list(&[4, 2, 3])], []), "scales lie on two axes");
    }
}
