//! How a task's nodes are written, by how channels flow through them.

mod bias;
pub(crate) mod grouped;
pub(crate) mod layer;
mod partwise;
mod recurrent;
mod relabel;
mod table;
mod together;
