//! The joint model: task nets, their shared neurons, and the layout that follows from them.

mod based;
mod common_weights;
mod filters;
mod fused;
mod grid;
mod layout;
pub(crate) mod matrix;
mod model;
mod neurons;
mod pairs;
mod places;
mod repeated;
mod sum;
mod task;
mod thin;
mod tied;

pub(crate) use based::may_have_difference;
pub(crate) use grid::Rounding;
pub use layout::{Block, Owner};
pub use model::{Fused, JointModel, Neuron, Sharing};
pub(crate) use places::{Part, Places};
pub(crate) use sum::{Based, Difference, added};
pub use task::Task;
pub(crate) use thin::{Corrections, may_have_correction, may_have_scale};
pub use tied::coupled;
