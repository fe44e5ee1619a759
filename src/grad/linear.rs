//! Gradients of matrix products.

use crate::ir::{Attribute, Node, NodeId, ValueId};

use super::{Grads, Tape, unsupported};

impl Tape {
    /// op(a)·op(b) of matrices, transposed where asked for, times `alpha`.
    fn product(
        &mut self,
        (a, trans_a): (ValueId, bool),
        (b, trans_b): (ValueId, bool),
        alpha: f32,
    ) -> ValueId {
        let attributes = [
            ("transA", Attribute::Int(trans_a.into())),
            ("transB", Attribute::Int(trans_b.into())),
            ("alpha", Attribute::Float(alpha)),
        ];
        self.op_with("Gemm", &[a, b], attributes)
    }

    /// The value with its last two of `rank` axes exchanged.
    pub(super) fn exchanged(&mut self, value: ValueId, rank: usize) -> ValueId {
        let mut perm: Vec<i64> = (0..rank as i64).collect();
        perm.swap(rank - 1, rank - 2);
        self.permuted(value, &perm)
    }

    /// The value with its axes in the order `perm`.
    pub(super) fn permuted(&mut self, value: ValueId, perm: &[i64]) -> ValueId {
        self.op_with("Transpose", &[value], [("perm", Attribute::Ints(perm.to_vec()))])
    }
}

pub(super) fn gemm(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let (trans_a, trans_b) = (node.int("transA", 0) != 0, node.int("transB", 0) != 0);
    let alpha = node.float("alpha", 1.0);
    let da = tape.wants(node, 0).then(|| match trans_a {
        false => tape.product((dy, false), (b, !trans_b), alpha),
        true => tape.product((b, trans_b), (dy, true), alpha),
    });
    let db = tape.wants(node, 1).then(|| match trans_b {
        false => tape.product((a, !trans_a), (dy, false), alpha),
        true => tape.product((dy, true), (a, trans_a), alpha),
    });
    let beta = node.float("beta", 1.0);
    let dc = tape.reduced(node, 2, |t| if beta == 1.0 { dy } else { t.scaled(dy, beta) })?;
    Ok(vec![da, db, dc])
}

pub(super) fn matmul(tape: &mut Tape, _: NodeId, node: &Node, dy: ValueId) -> Grads {
    let (a, b) = (tape.input(node, 0)?, tape.input(node, 1)?);
    let (rank_a, rank_b) = (tape.shape(a)?.len(), tape.shape(b)?.len());
    if rank_a < 2 || rank_b < 2 || (rank_b > 2 && rank_a != rank_b) {
        return Err(unsupported("a matrix product with a vector or with unlike batches"));
    }
    let da = tape.wants(node, 0).then(|| {
        let transposed = tape.exchanged(b, rank_b);
        tape.op("MatMul", &[dy, transposed])
    });
    let mut db = None;
    if tape.wants(node, 1) && rank_b == 2 {
        // All leading axes of a count rows.
        let (inner, outer) = (tape.sizes(b, 0)?[0] as i64, tape.sizes(b, 0)?[1] as i64);
        let (rows, drows) = (tape.reshaped(a, &[-1, inner]), tape.reshaped(dy, &[-1, outer]));
        db = Some(tape.product((rows, true), (drows, false), 1.0));
    } else if tape.wants(node, 1) {
        let transposed = tape.exchanged(a, rank_a);
        db = Some(tape.op("MatMul", &[transposed, dy]));
    }
    Ok(vec![da, db])
}
