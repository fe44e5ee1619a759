//! Merge several pre-trained ONNX networks into one smaller multi-task network.

pub mod canon;
pub mod couple;
pub mod error;
pub mod ir;
pub mod ops;
