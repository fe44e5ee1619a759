//! Values and constants of the joint graph as pieces: one tensor per block of channels.

mod block;
pub(crate) mod parts;
pub(crate) mod pieces;
