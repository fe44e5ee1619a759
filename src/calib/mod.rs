//! Calibration: data in, second moments of layer inputs out.

pub(crate) mod container;
pub mod data;
pub mod gram;
pub mod im2col;
mod positions;
pub mod product;
mod recurrent;
pub mod store;
pub mod stream;
pub mod taps;
pub mod window;
