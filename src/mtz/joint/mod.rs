//! The joint model: task nets, their shared neurons, and the layout that follows from them.

mod common_weights;
mod fused;
mod grid;
mod layout;
pub(crate) mod matrix;
mod model;
mod neurons;
mod task;
mod tied;

pub use layout::{Block, Owner};
pub use model::{Fused, JointModel, Neuron, Sharing};
pub use task::Task;
pub use tied::coupled;
