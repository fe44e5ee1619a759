//! Writes a task's nodes; one file per flow of channels.

mod bias;
mod columns;
mod depths;
pub(crate) mod grouped;
pub(crate) mod layer;
mod partwise;
mod recurrent;
mod relabel;
mod table;
mod together;
