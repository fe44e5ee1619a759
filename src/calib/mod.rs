//! Calibration: data in, second moments of layer inputs out.

pub(crate) mod container;
mod counts;
mod cut;
pub mod data;
mod gathering;
pub mod gram;
pub mod im2col;
pub mod kept;
mod mask;
pub(crate) mod memory;
pub mod net;
mod positions;
mod probed;
pub mod product;
mod recurrent;
mod scores;
pub mod sensitivity;
pub mod store;
pub mod stream;
pub mod taps;
pub mod wide;
pub mod window;
