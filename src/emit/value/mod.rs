//! Values and constants of the joint graph as pieces: one tensor per block of channels.

pub(crate) mod block;
mod difference;
mod heads;
pub(crate) mod partition;
pub(crate) mod pieces;
pub(crate) mod readers;
