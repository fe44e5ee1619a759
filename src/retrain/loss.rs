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
    /// Divisor of a squared error: the mean energy of a sample's targets.
    pub(super) energy: f32,
    /// The opset.
    pub(super) opset: i64,
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
        let log = self.log_softmax(tape, z);
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
        let (log_q, log_p) = (self.log_softmax(tape, z), self.log_softmax(tape, t));
        let (q, p) = (tape.op("Exp", &[log_q]), tape.op("Exp", &[log_p]));
        let gap = tape.op("Sub", &[log_p, log_q]);
        let weighted = tape.op("Mul", &[p, gap]);
        let sum = total(tape, weighted, rank);
        let off = tape.op("Sub", &[q, p]);
        Ok(Written { value: tape.scaled(sum, heat * heat), gradient: tape.scaled(off, heat) })
    }

    /// z − max z − log Σ exp(z − max z). Some runtimes compute `LogSoftmax` as the logarithm of a softmax,
    /// which is −∞ for classes with low scores.
    fn log_softmax(&self, tape: &mut Tape, z: ValueId) -> ValueId {
        let axes = tape.ints(&[self.axis]);
        let keep = ("keepdims", Attribute::Int(1));
        let top = match self.opset {
            ..18 => {
                let axes = ("axes", Attribute::Ints(vec![self.axis]));
                tape.op_with("ReduceMax", &[z], [axes, keep.clone()])
            }
            _ => tape.op_with("ReduceMax", &[z, axes], [keep.clone()]),
        };
        let behind = tape.op("Sub", &[z, top]);
        let exp = tape.op("Exp", &[behind]);
        let sum = tape.op_with("ReduceSum", &[exp, axes], [keep]);
        let log = tape.op("Log", &[sum]);
        tape.op("Sub", &[behind, log])
    }
}

/// The sum over all axes, of shape [1].
fn total(tape: &mut Tape, value: ValueId, rank: usize) -> ValueId {
    let axes: Vec<usize> = (0..rank).collect();
    let sum = tape.summed(value, &axes, false);
    let one = tape.ints(&[1]);
    tape.op("Reshape", &[sum, one])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ir::builder::GraphBuilder;
    use crate::onnx;
    use crate::runtime::{self, HostArray, ModelSource, RuntimeChoice, RuntimeOptions};
    use ndarray::{Array2, array};

    /// A loss in both runtimes, at `opset`.
    fn values(kind: LossKind, opset: i64, scores: &Array2<f32>, targets: &Array2<f32>) -> Vec<f32> {
        let mut b = GraphBuilder::new("net", opset);
        let (z, t) = (b.input("z", "batch,3"), b.input("t", "batch,3"));
        let model = b.build(&[z]);
        let mut tape = Tape::new(model.graph.clone(), &[z]).unwrap();
        let loss = Loss { kind, axis: 1, temperature: 1.0, energy: 1.0, opset };
        let written = loss.write(&mut tape, (z, t), 2).unwrap();
        tape.graph.outputs = vec![written.value];
        let model = crate::ir::Model { graph: tape.graph, ..model.without_graph() };
        let bytes = onnx::encode(&model).unwrap();
        let fed: Vec<HostArray> =
            [scores, targets].map(|a| a.clone().into_dyn().into()).into_iter().collect();
        let run = |choice| {
            let options = RuntimeOptions { choice, ..RuntimeOptions::default() };
            let mut session =
                runtime::open(&options).unwrap().load(ModelSource::Bytes(&bytes)).unwrap();
            session.run(&[("z", &fed[0]), ("t", &fed[1])]).unwrap()[0].as_f32().unwrap()[[0]]
        };
        [RuntimeChoice::Ort, RuntimeChoice::Tract].map(run).to_vec()
    }

    #[test]
    fn classes_far_behind_the_first_one_have_a_loss() {
        let scores = array![[0.0f32, 300.0, -20.0], [1.0, 2.0, 3.0]];
        let targets = array![[90.0f32, -200.0, 0.0], [1.0, 2.0, 3.0]];
        let labels = array![[1.0f32, 0.0, 0.0], [0.0, 0.0, 1.0]];
        let last = (1.0 + (-1.0f32).exp() + (-2.0f32).exp()).ln();
        for opset in [13, 18] {
            for loss in values(LossKind::Divergence, opset, &scores, &targets) {
                assert!((loss - 300.0).abs() < 1e-3, "{loss}");
            }
            for loss in values(LossKind::CrossEntropy, opset, &scores, &labels) {
                assert!((loss - 300.0 - last).abs() < 1e-3, "{loss}");
            }
        }
    }
}
