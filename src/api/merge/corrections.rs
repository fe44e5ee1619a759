//! Corrections of shared weights, as options of a merge.

use std::sync::Arc;

use ndarray::Array2;

use super::Merger;
use crate::api::options::Corrections;
use crate::error::{Error, ErrorKind, Hint, Result};
use crate::ir::builder::GraphBuilder;
use crate::ir::{Codes, Model, Tensor};
use crate::mtz::options::{Biases, Bits, MergeOptions, Ranks, Unit};
use crate::onnx;
use crate::retrain::When;
use crate::runtime::{Backend, ModelSource};
use crate::zipper::Goal;

impl Merger {
    /// Enters the requested corrections into the options of a merge.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] if other options exclude corrections, or no size limits their ranks.
    pub(super) fn correct(&self, options: &mut MergeOptions) -> Result<()> {
        let sharing = &self.options.sharing;
        if sharing.corrections.is_none() && sharing.delta.is_none() {
            return Ok(());
        }
        let neurons = self.counts_neurons();
        let usage =
            |message: &str, hint: Hint| Err(Error::new(ErrorKind::Usage, message).hint(hint));
        // Retraining between layers changes weights that later corrections refer to.
        let weights_change = self.options.retraining.retrain == Some(When::PerLayer);
        if sharing.unit(neurons) != Unit::Layer || weights_change {
            let message = "corrections need whole layers as the unit, and weights that stay after a layer is merged";
            let hint = Hint::from("use ").option_as("unit", "layer").then(" and ");
            return usage(message, hint.option_as("retrain", "end"));
        }
        if sharing.delta.is_some() {
            if sharing.corrections.is_some() {
                let message = "a layer has either a correction or a difference";
                let hint = Hint::from("leave out ").option("corrections").then(" or ");
                return usage(message, hint.option("delta"));
            }
            if sharing.biases == Some(Biases::Shared) {
                let message = "differences need biases per task";
                return usage(message, Hint::from("leave out ").option_as("biases", "shared"));
            }
        }
        let goal = self.options.goal.goal().or_else(|| sharing.goal(neurons));
        let limits_size = goal.is_some_and(|goal| !matches!(goal, Goal::Drop(_)));
        let chooses = sharing.corrections != Some(Corrections::Scale);
        if chooses && !limits_size {
            let message = match sharing.delta {
                Some(_) => "differences need a size limit",
                None => "corrections of low rank need a size limit",
            };
            return usage(message, Hint::from("give a size: ").option("target-size"));
        }
        options.corrections = Some(Ranks::new());
        options.delta = sharing.delta;
        options.choose_ranks = chooses;
        Ok(())
    }

    /// Refuses differences of so few bits that no runtime could verify the joint model; `first` is the
    /// runtime of calibration.
    ///
    /// # Errors
    /// [`ErrorKind::Usage`] for such differences; as [`crate::runtime::open`].
    pub(super) fn check_bits(&self, first: &Arc<dyn Backend>) -> Result<()> {
        let Some(bits) = self.options.sharing.delta.filter(|_| !self.options.result.no_verify)
        else {
            return Ok(());
        };
        let model = onnx::encode(&in_few_bits(bits))?;
        let mut refusals = Vec::new();
        for backend in self.options.runtime.all(first)? {
            match backend.load(ModelSource::Bytes(&model)) {
                Ok(_) => return Ok(()),
                Err(error) => refusals.push(format!("{}: {}", backend.describe(), error.fault())),
            }
        }
        let message = format!("no runtime here reads weights of {} bits", bits.count());
        let error = Error::new(ErrorKind::Usage, message).because(refusals.join("; "));
        let other = match bits {
            Bits::Four => Hint::from("give ").option_as("delta", "int8").then(", use "),
            Bits::Eight => Hint::from("use "),
        };
        let hint = other.then("a newer ONNX Runtime, or skip the verification: ");
        Err(error.hint(hint.option("no-verify")))
    }
}

/// A model that adds a constant of so few bits to its input.
fn in_few_bits(bits: Bits) -> Model {
    let mut net = GraphBuilder::new("numbers", bits.opset());
    let input = net.input("x", "2,2");
    let number = net.constant("number", Tensor::from_f32(&Array2::ones((2, 2)).into_dyn()));
    let scale = Tensor::from_f32(&ndarray::arr1(&[1.0, 1.0]).into_dyn());
    net.graph().set_codes(number, Codes::new(bits.dtype(), 0, scale, None));
    let sum = net.op("Add", "sum", &[input, number], []);
    net.build(&[sum])
}
