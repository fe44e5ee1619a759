//! Gradients of matrix products.

use crate::error::Result;
use crate::ir::{Attribute, Dim, Node, NodeId, ValueId};

use super::{Grads, Tape, unsupported};

impl Tape {
    /// op(a)·op(b)·`alpha` of matrices, where op transposes or not.
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

    /// The gradient of an operand of a batched product, summed over the axes along which it was
    /// broadcast.
    fn over_batches(
        &mut self,
        node: &Node,
        operand: ValueId,
        gradient: ValueId,
    ) -> Result<ValueId> {
        let (own, all) = (self.shape(operand)?, self.shape(self.output(node)?)?);
        let lead = all.len().saturating_sub(own.len());
        let is_repeated = |axis: usize| {
            let extent = axis.checked_sub(lead).and_then(|own_axis| own.get(own_axis));
            extent.is_none_or(|n| *n == Dim::Known(1) && all.get(axis) != Some(&Dim::Known(1)))
        };
        let axes: Vec<usize> =
            (0..all.len().saturating_sub(2)).filter(|a| is_repeated(*a)).collect();
        match axes.is_empty() {
            true => Ok(gradient),
            false => {
                let sum = self.summed(gradient, &axes, true);
                Ok(self.shaped_like(sum, operand))
            }
        }
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
    if rank_a < 2 || rank_b < 2 {
        return Err(unsupported("a matrix product with a vector"));
    }
    let mut da = None;
    if tape.wants(node, 0) {
        let transposed = tape.exchanged(b, rank_b);
        let product = tape.op("MatMul", &[dy, transposed]);
        da = Some(tape.over_batches(node, a, product)?);
    }
    let mut db = None;
    if tape.wants(node, 1) && rank_b == 2 {
        // All leading axes of `a` are rows.
        let (inner, outer) = (tape.sizes(b, 0)?[0] as i64, tape.sizes(b, 0)?[1] as i64);
        let (rows, drows) = (tape.reshaped(a, &[-1, inner]), tape.reshaped(dy, &[-1, outer]));
        db = Some(tape.product((rows, true), (drows, false), 1.0));
    } else if tape.wants(node, 1) {
        let transposed = tape.exchanged(a, rank_a);
        let product = tape.op("MatMul", &[transposed, dy]);
        db = Some(tape.over_batches(node, b, product)?);
    }
    Ok(vec![da, db])
}
