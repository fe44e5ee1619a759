//! Calibration: data in, statistics of layer inputs out.

pub mod data;
