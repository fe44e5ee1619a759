//! Merge several pre-trained ONNX networks into one smaller multi-task network.

pub mod calib;
pub mod error;
pub mod ir;
pub mod zip;
