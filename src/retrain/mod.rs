//! Light retraining of a joint model, in process, on any runtime.
//!
//! One training step is one ONNX graph in standard operators: the joint net, the loss of each
//! task, the gradients ([`crate::grad`]) and the optimiser's update. Parameters and the optimiser's
//! state are inputs and outputs, and stay on the device between steps. A shared weight is one value in
//! this graph, so its gradient is the sum of all tasks' gradients.
//!
//! A merge retrains at its end or after each layer ([`Rounds`]).
//!
//! Training changes weights and biases of layers, and scales and slopes of normalisation. Statistics,
//! shapes and plain arithmetic do not change, nor do weights that are exactly zero: a pruned
//! connection stays pruned.

mod batches;
mod checkpoint;
mod course;
mod energy;
mod exam;
mod examples;
mod fingerprint;
mod graph;
mod lesson;
mod loss;
mod mix;
mod optimizer;
mod options;
mod outcome;
mod rounds;
mod run;
mod scores;
mod statistics;
mod teacher;
#[cfg(test)]
mod tests;
mod validate;

pub use exam::ErrorChange;
pub use lesson::Lesson;
pub use options::{LossKind, OptimizerKind, Rate, RetrainOptions};
pub use outcome::{Ending, Outcome, Point, TaskOutcome};
pub use rounds::{Retrained, Retraining, Round, Rounds, When};
pub use run::retrain;
pub(crate) use statistics::{has_statistics, without_statistics};
pub use validate::Quality;
