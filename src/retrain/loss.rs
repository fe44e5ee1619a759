//! Losses and their gradients with respect to the scores, as operators.

use crate::error::Result;
use crate::grad::Tape;
use crate::ir::{Attribute, ValueId};

use super::options::LossKind;

/// The loss of one output.
pub(super) struct Loss {
    pub(super) kind: LossKind,
    /// Axis of the classes.
    pub(super) axis: i64,
    /// Temperature of a divergence.
    pub(super) temperature: f32,
    /// What a squared error is divided by: the mean energy of a sample's targets.
    pub(super) energy: f32,
}

/// A loss in a graph.
pub(super) struct Written {
    /// Σ over the batch, of shape [1].
    pub(super) value: ValueId,
    /// Its gradient with respect to the scores.
    pub(super) gradient: ValueId,
}

impl Loss {
    /// Writes the loss of `scores` against `targets`, which have the same shape of `rank` axes.
    pub(super) fn write(
        &self,
        tape: &mut Tape,
        (scores, targets): (ValueId, ValueId),
        rank: usize,
    ) -> Result<Written> {
        match self.kind {
            LossKind::Distillation | LossKind::Scores | LossKind::Mse => {
                self.squares(tape, scores, targets, rank)
            }
            LossKind::Divergence => self.divergence(tape, scores, targets, rank),
            LossKind::CrossEntropy => self.entropy(tape, scores, targets, rank),
        }
    }

    /// Σ (z − t)² / energy
    fn squares(&self, tape: &mut Tape, z: ValueId, t: ValueId, rank: usize) -> Result<Written> {
        let off = tape.op("Sub", &[z, t]);
        let square = tape.op("Mul", &[off, off]);
        let sum = total(tape, square, rank);
        let value = tape.scaled(sum, 1.0 / self.energy);
        Ok(Written { value, gradient: tape.scaled(off, 2.0 / self.energy) })
    }

    /// −Σ p·log softmax(z), where p are probabilities.
    fn entropy(&self, tape: &mut Tape, z: ValueId, p: ValueId, rank: usize) -> Result<Written> {
        let log = self.along(tape, "LogSoftmax", z);
        let weighted = tape.op("Mul", &[p, log]);
        let sum = total(tape, weighted, rank);
        let value = tape.op("Neg", &[sum]);
        let q = tape.op("Exp", &[log]);
        Ok(Written { value, gradient: tape.op("Sub", &[q, p]) })
    }

    /// T²·Σ p·(log p − log q), p = softmax(t/T), q = softmax(z/T); its gradient is T·(q − p).
    fn divergence(&self, tape: &mut Tape, z: ValueId, t: ValueId, rank: usize) -> Result<Written> {
        let heat = self.temperature;
        let (z, t) = (tape.scaled(z, 1.0 / heat), tape.scaled(t, 1.0 / heat));
        let (log_q, log_p) = (self.along(tape, "LogSoftmax", z), self.along(tape, "LogSoftmax", t));
        let (q, p) = (tape.op("Exp", &[log_q]), tape.op("Exp", &[log_p]));
        let gap = tape.op("Sub", &[log_p, log_q]);
        let weighted = tape.op("Mul", &[p, gap]);
        let sum = total(tape, weighted, rank);
        let off = tape.op("Sub", &[q, p]);
        Ok(Written { value: tape.scaled(sum, heat * heat), gradient: tape.scaled(off, heat) })
    }

    fn along(&self, tape: &mut Tape, op: &str, value: ValueId) -> ValueId {
        tape.op_with(op, &[value], [("axis", Attribute::Int(self.axis))])
    }
}

/// The sum over all axes, of shape [1].
fn total(tape: &mut Tape, value: ValueId, rank: usize) -> ValueId {
    let axes: Vec<usize> = (0..rank).collect();
    let sum = tape.summed(value, &axes, false);
    let one = tape.ints(&[1]);
    tape.op("Reshape", &[sum, one])
}
