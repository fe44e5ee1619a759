//! Writes a task's nodes; one file per flow of channels.

mod bias;
mod columns;
mod depths;
pub(crate) mod grouped;
pub(crate) mod layer;
mod partwise;
mod recurrent;
mod relabel;
pub(crate) mod row_parts;
mod table;
mod together;
mod whole_layer;
