//! The joint model: task nets, their shared neurons, and the layout that follows from them.

mod layout;
pub(crate) mod matrix;
mod model;
mod thin;

pub use layout::{Block, Owner};
pub use model::{Fused, JointModel, Neuron, Sharing, Task};
pub(crate) use thin::{Corrections, Thin, may_have_correction, may_have_scale};
