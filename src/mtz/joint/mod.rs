//! The joint model: task nets, their shared neurons, and the layout that follows from them.

mod grid;
mod layout;
pub(crate) mod matrix;
mod model;
mod tied;

pub use layout::{Block, Owner};
pub use model::{Fused, JointModel, Neuron, Sharing, Task};
pub use tied::coupled;
