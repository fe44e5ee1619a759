//! Calibration: what the nets' layers see on data, as second moments.

pub mod gram;
pub mod im2col;
pub mod product;
pub mod window;
