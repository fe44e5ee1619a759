//! Light retraining of a joint model, in process, on any runtime.
//!
//! One step of training is one ONNX graph in standard operators: the joint net, the loss of each
//! task, the gradients ([`crate::grad`]) and the optimiser's update. Parameters and the optimiser's
//! state go in and come out, and stay on the device between steps. A shared weight is one value in
//! that graph, so it collects every task's gradient by itself.
//!
//! A merge retrains at its end or after each layer ([`Rounds`]).
//!
//! What trains are weights and biases of layers and scales and slopes of normalisation. Statistics,
//! shapes and plain arithmetic stay as they are, and so do weights that are exactly zero: a pruned
//! connection stays pruned.

mod batches;
mod checkpoint;
mod course;
mod examples;
mod graph;
mod loss;
mod mix;
mod optimizer;
mod options;
mod rounds;
mod run;
mod scores;
mod statistics;
mod teacher;
#[cfg(test)]
mod tests;
mod validate;

pub use options::{LossKind, OptimizerKind, RetrainOptions};
pub use rounds::{Retrained, Retraining, Rounds, When};
pub use run::{Ending, Lesson, Outcome, Point, TaskOutcome, retrain};
pub use validate::Quality;
