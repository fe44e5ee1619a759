//! The mathematics of Multi-Task Zipping: which neurons to share, and with which weights.
//!
//! Everything here sees matrices only: no graph, no file, no runtime.

pub mod channelwise;
pub mod fuse;
pub mod matcher;
pub mod pair;
pub mod refit;
pub mod solve;
