//! Gradients of operators that move elements.

use super::Tape;
use crate::error::{Error, ErrorKind, Result};
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};

type Grads = Result<Vec<Option<ValueId>>>;

pub(super) fn identity(_: &mut Tape, _: NodeId, _: &Node, dy: ValueId) -> Grads {
    Ok(vec![Some(dy)])
}

pub(super) fn reshape(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let x = tape.input(node, 0)?;
    let shape = tape.op("Shape", "grad.shape", &[x]);
    Ok(vec![Some(tape.op("Reshape", "grad", &[dy, shape]))])
}

pub(super) fn transpose(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let rank = tape.shape(id, tape.input(node, 0)?)?.len();
    let perm = node.ints("perm").map_or_else(|| (0..rank as i64).rev().collect(), <[i64]>::to_vec);
    let mut inverse = vec![0; perm.len()];
    for (to, from) in perm.iter().enumerate() {
        if let Some(slot) = usize::try_from(*from).ok().and_then(|f| inverse.get_mut(f)) {
            *slot = to as i64;
        }
    }
    Ok(vec![Some(tape.op_with("Transpose", &[dy], [("perm", Attribute::Ints(inverse))]))])
}

pub(super) fn concat(tape: &mut Tape, id: NodeId, node: &Node, dy: ValueId) -> Grads {
    let mut start = 0i64;
    let mut grads = Vec::new();
    for index in 0..node.inputs.len() {
        let shape = tape.shape(id, tape.input(node, index)?)?;
        let axis = node.int("axis", 0);
        let at = if axis < 0 { axis + shape.len() as i64 } else { axis };
        let extent = usize::try_from(at).ok().and_then(|a| shape.get(a)).and_then(Dim::known);
        let Some(extent) = extent else {
            return Err(Error::new(
                ErrorKind::Unsupported,
                "a join of extents known only at run time",
            ));
        };
        let end = start + extent as i64;
        let bounds = [tape.ints(&[start]), tape.ints(&[end]), tape.ints(&[at])];
        grads.push(Some(tape.op("Slice", "grad", &[dy, bounds[0], bounds[1], bounds[2]])));
        start = end;
    }
    Ok(grads)
}
