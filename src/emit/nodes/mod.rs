//! How a task's nodes are written, by how channels flow through them.

pub(crate) mod layer;
mod partwise;
mod recurrent;
mod relabel;
