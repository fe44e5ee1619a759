//! The joint model: task nets, their shared neurons, and the layout that follows from them.

mod common_weights;
mod fused;
mod layout;
pub(crate) mod matrix;
mod model;
mod neurons;
mod task;

pub use layout::{Block, Owner};
pub use model::{Fused, JointModel, Neuron, Sharing};
pub use task::Task;
