//! Zipping: which neurons to share, and with which weights (sec. 3 of the paper).
//!
//! All approximation happens here. [`run`] walks through the layers; the mathematics beside it sees
//! matrices only: no graph, no file, no runtime.

pub mod allocate;
mod bridge;
pub mod channelwise;
mod columns;
mod depthwise;
pub mod fuse;
mod gather;
mod group;
pub mod hessian;
pub mod joint;
mod junction;
mod likeness;
pub mod matcher;
mod matrix;
mod members;
pub mod memory;
pub mod observations;
pub mod options;
pub mod pair;
mod paired;
mod party;
pub mod predict;
mod producers;
pub mod prune;
mod reading;
mod recurrent;
pub mod refit;
pub mod run;
pub mod samples;
mod site;
pub mod size;
pub mod solve;
