//! Merge several pre-trained ONNX networks into one smaller multi-task network.

pub mod align;
pub mod calib;
pub mod canon;
pub mod cli;
pub mod couple;
pub mod emit;
pub mod error;
pub mod grad;
pub mod ir;
pub mod onnx;
pub mod ops;
pub mod progress;
pub mod report;
pub mod runtime;
pub mod verify;
pub mod zip;
pub mod zipper;
